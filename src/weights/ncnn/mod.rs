//! Networks of ncnn (`.param` with `.bin`): <https://github.com/Tencent/ncnn>.
//!
//! A `.param` lists layers with their operands, a `.bin` holds their weights one after
//! the other. Both come as one sequence of bytes: the text, a zero, the weights.

mod bin;
mod layer;

use super::graph_file::{Contents, Tensors, try_out, untried};
use crate::models::Channels;
use crate::models::graph::{Config, ConvSettings, Integers, Node, Op};
use bin::Bin;
use candle_core::Tensor;
use layer::Layer;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The first line of a `.param`.
pub(super) const MAGIC: &[u8] = b"7767517";

/// Planes of an image if neither the input nor a convolution of it tells them.
const PLANES: usize = 3;

/// Reads a network from its `.param`, a zero and its `.bin`.
///
/// # Errors
///
/// What is wrong with the files, or what of them is not served, with the layer's name.
pub(super) fn read(bytes: &[u8]) -> Result<Contents, String> {
    let end = bytes.iter().position(|&byte| byte == 0);
    let (text, weights) = bytes.split_at(end.unwrap_or(bytes.len()));
    let text = std::str::from_utf8(text).map_err(|_| "a .param that is no text".to_owned())?;
    let mut graph = Graph {
        bin: Bin::new(weights.get(1..).unwrap_or_default()),
        aliases: HashMap::new(),
        channels: HashMap::new(),
        nodes: Vec::new(),
        tensors: Vec::new(),
        integers: BTreeMap::new(),
        input: None,
    };
    let layers = layers(text)?;
    for layer in &layers {
        crate::background::give_way();
        graph
            .add(layer)
            .map_err(|e| format!("layer {} ({}): {e}", layer.name, layer.kind))?;
    }
    let rest = graph.bin.rest();
    if rest > 0 {
        return Err(format!(
            "its .bin holds {rest} bytes more than its layers: it belongs to another .param"
        ));
    }
    let note = last_resampling(&graph.nodes);
    let kind = graph.bin.kind();
    let (mut config, mut tensors) = graph.finish(&layers)?;
    try_out(&mut config, &mut tensors, None)?;
    let format = match note {
        Some(factor) => format!(
            "ncnn, {kind}, a network for x{} whose result is resampled to x{}",
            (config.factor as f64 / factor).round(),
            config.factor
        ),
        None => format!("ncnn, {kind}"),
    };
    Ok(Contents {
        format,
        config,
        tensors,
    })
}

/// The layers of a `.param`.
fn layers(text: &str) -> Result<Vec<Layer<'_>>, String> {
    let mut lines = text.lines();
    if lines.next().map(str::trim).map(str::as_bytes) != Some(MAGIC) {
        return Err("a .param of another format".to_owned());
    }
    let counts = lines.next().unwrap_or_default();
    let count = counts.split_whitespace().next();
    let count: usize = count
        .and_then(|word| word.parse().ok())
        .ok_or("its .param does not state the number of its layers")?;
    let layers: Vec<Layer> = lines
        .filter(|line| !line.trim().is_empty())
        .map(Layer::parse)
        .collect::<Result<_, _>>()?;
    if layers.len() != count {
        return Err(format!(
            "its .param holds {} layers instead of {count}",
            layers.len()
        ));
    }
    let mut names = HashSet::new();
    match layers.iter().find(|layer| !names.insert(layer.name)) {
        Some(layer) => Err(format!("it has two layers {}", layer.name)),
        None => Ok(layers),
    }
}

/// The factor by which the last operation of all shrinks its operand.
fn last_resampling(nodes: &[Node]) -> Option<f64> {
    let last = nodes.last()?;
    matches!(last.op, Op::Resize(_)).then_some(())?;
    let factor: f64 = last.name.rsplit_once('*')?.1.parse().ok()?;
    (factor < 1.0).then_some(factor)
}

/// A graph as far as it is read.
struct Graph<'a> {
    bin: Bin<'a>,
    /// The values that copies are of.
    aliases: HashMap<&'a str, &'a str>,
    /// The channels of values, where they are known.
    channels: HashMap<&'a str, usize>,
    nodes: Vec<Node>,
    tensors: Tensors,
    integers: BTreeMap<String, Integers>,
    input: Option<&'a str>,
}

impl<'a> Graph<'a> {
    /// What a value is a copy of.
    fn source(&self, name: &'a str) -> &'a str {
        self.aliases.get(name).copied().unwrap_or(name)
    }

    fn weights(&mut self, name: String, tensor: Tensor) -> String {
        self.tensors
            .push((name.clone(), self.bin.last_kind(), tensor));
        name
    }

    fn node(&mut self, layer: &Layer<'_>, op: Op, inputs: Vec<String>, output: &str) {
        self.nodes.push(Node {
            name: layer.name.to_owned(),
            op,
            inputs,
            outputs: vec![output.to_owned()],
        });
    }

    /// Constant integers, of one axis.
    fn numbers(&mut self, name: String, values: Vec<i64>) -> String {
        let shape = vec![values.len()];
        self.integers
            .extend(Integers::new(shape, values).map(|values| (name.clone(), values)));
        name
    }

    fn add(&mut self, layer: &Layer<'a>) -> Result<(), String> {
        let inputs: Vec<&'a str> = layer.inputs.iter().map(|name| self.source(name)).collect();
        match layer.kind {
            "Input" => {
                let [output] = layer.outputs.as_slice() else {
                    return Err("an input without a value".to_owned());
                };
                if self.input.replace(output).is_some() {
                    return Err("a second input; served is one image in and one out".to_owned());
                }
                if let Some(planes) = layer.size(2)?.filter(|&planes| planes > 0) {
                    self.channels.insert(output, planes);
                }
                return Ok(());
            }
            "Split" | "Noop" | "Dropout" => {
                let [input] = inputs.as_slice() else {
                    return Err("copies of several values".to_owned());
                };
                let known = self.channels.get(input).copied();
                for output in &layer.outputs {
                    self.aliases.insert(output, input);
                    self.channels.extend(known.map(|known| (*output, known)));
                }
                return Ok(());
            }
            "Slice" => return self.slice(layer, &inputs),
            _ => {}
        }
        let [output] = layer.outputs.as_slice() else {
            return Err("several results".to_owned());
        };
        let first = inputs.first().ok_or("no operand")?;
        let before = self.channels.get(first).copied();
        // What it is before the activation.
        let plain = match layer.has_activation()? {
            true => format!("{output}.plain"),
            false => (*output).to_owned(),
        };
        let names: Vec<String> = inputs.iter().map(|name| (*name).to_owned()).collect();
        let channels = match layer.kind {
            "Convolution" | "ConvolutionDepthWise" | "InnerProduct" => {
                let count = layer.number(0)?.ok_or("no number of channels")?;
                let (settings, kernel) = match layer.kind {
                    "InnerProduct" => (ConvSettings::plain(), [1, 1]),
                    _ => layer.conv()?,
                };
                let size = match layer.kind {
                    "InnerProduct" => layer.size(2)?,
                    _ => layer.size(6)?,
                };
                let size = size.ok_or("no number of weights")?;
                let taps = kernel[0] * kernel[1];
                let fan = size.checked_div(count * taps).unwrap_or(0);
                if fan == 0 || size != count * taps * fan {
                    return Err(format!("{size} weights for {count} channels"));
                }
                let planes = fan * settings.group;
                self.channels.entry(first).or_insert(planes);
                let weight = self.bin.weights(&[count, fan, kernel[0], kernel[1]])?;
                let bias_at = if layer.kind == "InnerProduct" { 1 } else { 5 };
                self.convolve(
                    layer,
                    Op::Conv(settings),
                    weight,
                    bias_at,
                    &names[0],
                    &plain,
                )?;
                Some(count)
            }
            "Deconvolution" | "DeconvolutionDepthWise" => {
                let count = layer.number(0)?.ok_or("no number of channels")?;
                let (settings, [rows, columns]) = layer.transposed()?;
                let size = layer.size(6)?.ok_or("no number of weights")?;
                let group = settings.group;
                let fan = size.checked_div(count * rows * columns).unwrap_or(0);
                if fan == 0 || size != count * rows * columns * fan || count % group != 0 {
                    return Err(format!("{size} weights for {count} channels"));
                }
                let weight = self
                    .bin
                    .weights(&[group, count / group, fan, rows * columns])?;
                let turned = weight.transpose(1, 2).and_then(|weight| {
                    weight
                        .contiguous()?
                        .reshape((group * fan, count / group, rows, columns))
                });
                let weight = turned.map_err(|e| e.to_string())?;
                self.convolve(
                    layer,
                    Op::ConvTranspose(settings),
                    weight,
                    5,
                    &names[0],
                    &plain,
                )?;
                Some(count)
            }
            "PReLU" => {
                let count = layer.number(0)?.ok_or("no number of slopes")?;
                let slopes = self.bin.floats(&[count, 1, 1])?;
                let slopes = self.weights(format!("{}.slope", layer.name), slopes);
                self.node(layer, Op::PRelu, vec![names[0].clone(), slopes], &plain);
                before
            }
            "Scale" if inputs.len() == 2 => {
                self.node(layer, Op::Mul, names, &plain);
                before
            }
            "Scale" => {
                let count = layer.number(0)?.ok_or("no number of factors")?;
                let factors = self.bin.floats(&[count, 1, 1])?;
                let factors = self.weights(format!("{}.scale", layer.name), factors);
                let has_bias = layer.number(1)?.unwrap_or(0) != 0;
                let scaled = match has_bias {
                    true => format!("{output}.scaled"),
                    false => plain.clone(),
                };
                self.node(layer, Op::Mul, vec![names[0].clone(), factors], &scaled);
                if has_bias {
                    let bias = self.bin.floats(&[count, 1, 1])?;
                    let bias = self.weights(format!("{}.bias", layer.name), bias);
                    self.node(layer, Op::Add, vec![scaled, bias], &plain);
                }
                before
            }
            "BatchNorm" => {
                let count = layer.number(0)?.ok_or("no number of channels")?;
                let epsilon = layer.float(1)?.unwrap_or(0.0);
                let mut operands = vec![names[0].clone()];
                let [scale, mean, variance, offset] = ["scale", "mean", "variance", "offset"]
                    .map(|what| (what, self.bin.floats(&[count])));
                for (what, tensor) in [scale, offset, mean, variance] {
                    let name = format!("{}.{what}", layer.name);
                    let tensor = self.weights(name, tensor?);
                    operands.push(tensor);
                }
                self.node(layer, Op::BatchNormalization { epsilon }, operands, &plain);
                before
            }
            "Clip" => {
                let bounds = [
                    layer.float(0)?.unwrap_or(f32::MIN),
                    layer.float(1)?.unwrap_or(f32::MAX),
                ];
                self.clip(layer, names[0].clone(), bounds, &plain)?;
                before
            }
            "HardSwish" => {
                let settings = [
                    layer.float(0)?.unwrap_or(0.2),
                    layer.float(1)?.unwrap_or(0.5),
                ];
                self.hard_swish(layer, names[0].clone(), settings, &plain);
                before
            }
            "Swish" => {
                let gate = format!("{output}.gate");
                self.node(layer, Op::Sigmoid, vec![names[0].clone()], &gate);
                self.node(layer, Op::Mul, vec![names[0].clone(), gate], &plain);
                before
            }
            "Concat" => {
                let axis = layer.integer(0)?.unwrap_or(0);
                let axis = if axis < 0 { axis } else { axis + 1 };
                let counts = inputs.iter().map(|name| self.channels.get(name).copied());
                let sum = counts.sum::<Option<usize>>();
                self.node(layer, Op::Concat { axis }, names, &plain);
                sum.filter(|_| axis == 1)
            }
            "Eltwise" => {
                self.eltwise(layer, names, &plain)?;
                before
            }
            "BinaryOp" => {
                self.binary(layer, names, &plain)?;
                before
            }
            "Crop" => {
                self.crop(layer, names, &plain)?;
                before
            }
            "Padding" => {
                self.pad(layer, &names[0], &plain)?;
                before
            }
            "Interp" => {
                let (settings, scales) = layer.interp(inputs.len())?;
                let name = format!("{}.scales", layer.name);
                let factors = [1.0, 1.0, scales[0], scales[1]];
                let factors = Tensor::from_slice(&factors, 4, &candle_core::Device::Cpu);
                let factors = factors.map_err(|e| e.to_string())?;
                self.tensors.push((name.clone(), "F32", factors));
                let inputs = vec![names[0].clone(), String::new(), name];
                self.nodes.push(Node {
                    name: format!("{}*{}", layer.name, scales[0]),
                    op: Op::Resize(settings),
                    inputs,
                    outputs: vec![plain.clone()],
                });
                before
            }
            "PixelShuffle" => {
                let block = layer.number(0)?.unwrap_or(1);
                let op = Op::DepthToSpace {
                    block,
                    columns_first: layer.number(1)?.unwrap_or(0) == 0,
                };
                self.node(layer, op, names, &plain);
                before.and_then(|count| count.checked_div(block * block))
            }
            _ => {
                let op = layer.of_samples()?;
                self.node(layer, op, names, &plain);
                before
            }
        };
        self.channels.extend(channels.map(|count| (*output, count)));
        if layer.has_activation()? {
            self.activate(layer, &plain, output)?;
        }
        Ok(())
    }

    /// A convolution with its weights, and its bias if the setting `bias_at` says so.
    fn convolve(
        &mut self,
        layer: &Layer<'_>,
        op: Op,
        weight: Tensor,
        bias_at: i64,
        x: &str,
        output: &str,
    ) -> Result<(), String> {
        let count = layer.number(0)?.unwrap_or(0);
        let weight = self.weights(format!("{}.weight", layer.name), weight);
        let mut operands = vec![x.to_owned(), weight];
        if layer.number(bias_at)?.unwrap_or(0) != 0 {
            let bias = self.bin.floats(&[count])?;
            let bias = self.weights(format!("{}.bias", layer.name), bias);
            operands.push(bias);
        }
        self.node(layer, op, operands, output);
        Ok(())
    }

    /// Parts of the channels.
    fn slice(&mut self, layer: &Layer<'a>, inputs: &[&'a str]) -> Result<(), String> {
        const REST: i64 = -233;
        let [input] = inputs else {
            return Err("slices of several values".to_owned());
        };
        if layer.integer(1)?.unwrap_or(0) != 0 {
            return Err("served are parts of the channels".to_owned());
        }
        let mut sizes = layer.integers(0)?;
        if sizes.last() == Some(&REST) {
            let known = self.channels.get(input).copied();
            let all = known.ok_or("its number of channels is not known")? as i64;
            let equal = sizes.iter().all(|&size| size == REST);
            let count = sizes.len() as i64;
            let others: i64 = sizes.iter().filter(|&&size| size != REST).sum();
            for size in &mut sizes {
                if *size == REST {
                    *size = if equal { all / count } else { all - others };
                }
            }
        }
        for (output, size) in layer.outputs.iter().zip(&sizes) {
            self.channels
                .extend(usize::try_from(*size).ok().map(|size| (*output, size)));
        }
        self.nodes.push(Node {
            name: layer.name.to_owned(),
            op: Op::Split {
                axis: 1,
                sizes: Some(sizes),
            },
            inputs: vec![(*input).to_owned()],
            outputs: layer
                .outputs
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
        });
        Ok(())
    }

    /// A product, a sum with factors, or the largest of values.
    fn eltwise(
        &mut self,
        layer: &Layer<'_>,
        mut names: Vec<String>,
        output: &str,
    ) -> Result<(), String> {
        let op = match layer.integer(0)?.unwrap_or(0) {
            0 => Op::Mul,
            1 => Op::Add,
            2 => Op::Max,
            other => return Err(format!("op_type {other}")),
        };
        let factors = layer.floats(1)?;
        if !factors.is_empty() && (op != Op::Add || factors.len() != names.len()) {
            return Err(format!(
                "{} factors for {} values",
                factors.len(),
                names.len()
            ));
        }
        for (i, factor) in factors.into_iter().enumerate() {
            if factor != 1.0 {
                let (value, scaled) =
                    (format!("{}.factor{i}", layer.name), format!("{output}.{i}"));
                let tensor = Tensor::new(factor, &candle_core::Device::Cpu);
                let tensor = tensor.map_err(|e| e.to_string())?;
                self.tensors.push((value.clone(), "F32", tensor));
                self.node(layer, Op::Mul, vec![names[i].clone(), value], &scaled);
                names[i] = scaled;
            }
        }
        self.node(layer, op, names, output);
        Ok(())
    }

    fn binary(
        &mut self,
        layer: &Layer<'_>,
        mut names: Vec<String>,
        output: &str,
    ) -> Result<(), String> {
        let (op, turned) = match layer.integer(0)?.unwrap_or(0) {
            0 => (Op::Add, false),
            1 => (Op::Sub, false),
            2 => (Op::Mul, false),
            3 => (Op::Div, false),
            4 => (Op::Max, false),
            5 => (Op::Min, false),
            6 => (Op::Pow, false),
            7 => (Op::Sub, true),
            8 => (Op::Div, true),
            other => return Err(format!("op_type {other}")),
        };
        if layer.number(1)?.unwrap_or(0) != 0 {
            let name = format!("{}.operand", layer.name);
            let value = layer.float(2)?.unwrap_or(0.0);
            let tensor = Tensor::new(value, &candle_core::Device::Cpu);
            self.tensors
                .push((name.clone(), "F32", tensor.map_err(|e| e.to_string())?));
            names.push(name);
        }
        if names.len() != 2 {
            return Err(format!("{} operands", names.len()));
        }
        if turned {
            names.swap(0, 1);
        }
        self.node(layer, op, names, output);
        Ok(())
    }

    /// A part of rows and columns: as large as another value, or with given ends.
    fn crop(&mut self, layer: &Layer<'_>, names: Vec<String>, output: &str) -> Result<(), String> {
        let name = |what: &str| format!("{}.{what}", layer.name);
        if let [x, like] = names.as_slice() {
            if layer.integer(2)?.unwrap_or(0) != 0 {
                return Err("served are parts of rows and columns".to_owned());
            }
            let starts = vec![
                layer.integer(1)?.unwrap_or(0),
                layer.integer(0)?.unwrap_or(0),
            ];
            let starts = self.numbers(name("starts"), starts);
            let axes = self.numbers(name("axes"), vec![2, 3]);
            let shape = Op::Shape {
                start: 2,
                end: Some(4),
            };
            self.node(layer, shape, vec![like.clone()], &name("size"));
            self.node(
                layer,
                Op::Add,
                vec![name("size"), starts.clone()],
                &name("ends"),
            );
            let operands = vec![x.clone(), starts, name("ends"), axes];
            self.node(layer, Op::Slice, operands, output);
            return Ok(());
        }
        const TO_END: i64 = -233;
        let (starts, mut ends, axes) =
            (layer.integers(9)?, layer.integers(10)?, layer.integers(11)?);
        if names.len() != 1 || starts.is_empty() || starts.len() != axes.len() {
            return Err(
                "served are crops to another value, and with starts, ends and axes".to_owned(),
            );
        }
        for end in &mut ends {
            if *end == TO_END {
                *end = i64::from(i32::MAX);
            }
        }
        // Axes are counted without the batch.
        let axes = axes
            .into_iter()
            .map(|axis| if axis < 0 { axis } else { axis + 1 });
        let axes = axes.collect();
        let operands = vec![
            names[0].clone(),
            self.numbers(name("starts"), starts),
            self.numbers(name("ends"), ends),
            self.numbers(name("axes"), axes),
        ];
        self.node(layer, Op::Slice, operands, output);
        Ok(())
    }

    fn pad(&mut self, layer: &Layer<'_>, x: &str, output: &str) -> Result<(), String> {
        let mode = layer.pad_mode()?;
        let sides = [0, 2, 1, 3].map(|at| layer.integer(at).map(Option::unwrap_or_default));
        let [top, left, bottom, right] = sides;
        let pads = vec![0, 0, top?, left?, 0, 0, bottom?, right?];
        let pads = self.numbers(format!("{}.pads", layer.name), pads);
        let mut operands = vec![x.to_owned(), pads];
        let value = layer.float(5)?.unwrap_or(0.0);
        if value != 0.0 {
            let name = format!("{}.value", layer.name);
            let tensor = Tensor::new(value, &candle_core::Device::Cpu);
            self.tensors
                .push((name.clone(), "F32", tensor.map_err(|e| e.to_string())?));
            operands.push(name);
        }
        self.node(layer, Op::Pad { mode }, operands, output);
        Ok(())
    }

    /// The activation that a layer ends in.
    fn activate(&mut self, layer: &Layer<'_>, x: &str, output: &str) -> Result<(), String> {
        let settings = layer.floats(10)?;
        let setting = |i: usize, default: f32| settings.get(i).copied().unwrap_or(default);
        let x = x.to_owned();
        let op = match layer.integer(9)?.unwrap_or(0) {
            1 => Op::Relu,
            2 => Op::LeakyRelu {
                alpha: setting(0, 0.0),
            },
            3 => {
                let bounds = [setting(0, f32::MIN), setting(1, f32::MAX)];
                return self.clip(layer, x, bounds, output);
            }
            4 => Op::Sigmoid,
            5 => Op::Mish,
            6 => {
                self.hard_swish(layer, x, [setting(0, 0.2), setting(1, 0.5)], output);
                return Ok(());
            }
            other => return Err(format!("activation {other}")),
        };
        self.node(layer, op, vec![x], output);
        Ok(())
    }

    /// A value times a ramp of itself.
    fn hard_swish(&mut self, layer: &Layer<'_>, x: String, [alpha, beta]: [f32; 2], output: &str) {
        let gate = format!("{output}.gate");
        let ramp = Op::HardSigmoid { alpha, beta };
        self.node(layer, ramp, vec![x.clone()], &gate);
        self.node(layer, Op::Mul, vec![x, gate], output);
    }

    fn clip(
        &mut self,
        layer: &Layer<'_>,
        x: String,
        bounds: [f32; 2],
        output: &str,
    ) -> Result<(), String> {
        let mut operands = vec![x];
        for (what, bound) in ["min", "max"].iter().zip(bounds) {
            let name = format!("{}.{what}", layer.name);
            let tensor = Tensor::new(bound, &candle_core::Device::Cpu);
            self.tensors
                .push((name.clone(), "F32", tensor.map_err(|e| e.to_string())?));
            operands.push(name);
        }
        self.node(layer, Op::Clip, operands, output);
        Ok(())
    }

    /// The description, with the input and the one value that no layer reads.
    fn finish(self, layers: &[Layer<'a>]) -> Result<(Config, Tensors), String> {
        let input = self.input.ok_or("no input")?;
        let read: HashSet<&str> = layers
            .iter()
            .flat_map(|layer| layer.inputs.clone())
            .collect();
        let outputs = layers.iter().flat_map(|layer| layer.outputs.clone());
        let results: Vec<&str> = outputs.filter(|name| !read.contains(name)).collect();
        let [output] = results.as_slice() else {
            return Err(format!(
                "{} results ({}); served is one image out",
                results.len(),
                results.join(", ")
            ));
        };
        let planes = self.channels.get(input).copied().unwrap_or(PLANES);
        let channels = match planes {
            1 => Channels::Luma,
            3 => Channels::Rgb,
            _ => {
                return Err(format!(
                    "an input of {planes} planes; served are luma and RGB"
                ));
            }
        };
        let ends = [input, self.source(output)];
        let config = untried(channels, ends, self.nodes, &self.tensors, self.integers);
        Ok((config, self.tensors))
    }
}
