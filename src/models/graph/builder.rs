//! Graphs of networks whose layers are known, from their weights.

use super::config::{
    Config, ConvSettings, Coordinates, Node, Op, PadMode, ResizeMode, ResizeSettings, Rounding,
};
use super::{Graph, Integers};
use crate::models::Channels;
use crate::tensor_error::Result;
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use std::collections::{BTreeMap, HashMap};

/// A value of a graph that is being built: (N, channels, height, width).
#[derive(Debug, Clone)]
pub(crate) struct Value {
    name: String,
    channels: usize,
    /// Its samples for one of the input, along an axis.
    scale: f64,
}

/// A convolution other than one of 3x3 with a bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) kernel: usize,
    pub(crate) group: usize,
    pub(crate) bias: bool,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            kernel: 3,
            group: 1,
            bias: true,
        }
    }
}

impl Form {
    /// Of kernels of that side.
    pub(crate) fn sized(kernel: usize) -> Self {
        Self {
            kernel,
            ..Self::default()
        }
    }
}

/// A graph that is built operation by operation.
pub(crate) struct Builder<'a> {
    vb: &'a VarBuilder<'a>,
    channels: Channels,
    nodes: Vec<Node>,
    weights: HashMap<String, Tensor>,
    integers: BTreeMap<String, Integers>,
    /// What sizes are multiples of.
    multiple: usize,
    /// Samples of each value for one of a plane of the input.
    samples: HashMap<String, f64>,
}

const INPUT: &str = "input";

impl<'a> Builder<'a> {
    pub(crate) fn new(vb: &'a VarBuilder<'a>, channels: Channels) -> Self {
        Self {
            vb,
            channels,
            nodes: Vec::new(),
            weights: HashMap::new(),
            integers: BTreeMap::new(),
            multiple: 1,
            samples: HashMap::from([(INPUT.to_owned(), channels.count() as f64)]),
        }
    }

    pub(crate) fn input(&self) -> Value {
        Value {
            name: INPUT.to_owned(),
            channels: self.channels.count(),
            scale: 1.0,
        }
    }

    /// Adds an operation with results of `channels` each.
    fn results(
        &mut self,
        op: Op,
        inputs: Vec<String>,
        results: &[usize],
        scale: f64,
    ) -> Vec<Value> {
        let name = self.nodes.len();
        let values: Vec<Value> = results
            .iter()
            .enumerate()
            .map(|(i, &channels)| Value {
                name: format!("{name}.{i}"),
                channels,
                scale,
            })
            .collect();
        for value in &values {
            let samples = value.channels as f64 * scale * scale;
            self.samples.insert(value.name.clone(), samples);
        }
        self.nodes.push(Node {
            name: name.to_string(),
            op,
            inputs,
            outputs: values.iter().map(|value| value.name.clone()).collect(),
        });
        values
    }

    fn node(&mut self, op: Op, inputs: Vec<String>, channels: usize, scale: f64) -> Value {
        self.results(op, inputs, &[channels], scale).swap_remove(0)
    }

    fn constant(&mut self, tensor: Tensor) -> String {
        let name = format!("constant.{}", self.weights.len());
        self.weights.insert(name.clone(), tensor);
        name
    }

    /// A value for each channel, as (1, C, 1, 1); one for all: ().
    fn numbers(&mut self, values: &[f32]) -> Result<String> {
        let tensor = match values {
            [value] => Tensor::new(*value, self.vb.device())?,
            _ => Tensor::from_slice(values, (1, values.len(), 1, 1), self.vb.device())?,
        };
        Ok(self.constant(tensor))
    }

    /// A tensor of the file.
    fn weight(&mut self, name: String, shape: &[usize]) -> Result<String> {
        if !self.weights.contains_key(&name) {
            let tensor = self.vb.get(shape, &name)?;
            self.weights.insert(name.clone(), tensor);
        }
        Ok(name)
    }

    /// A convolution of 3x3 with a bias: `name.weight`, `name.bias`.
    pub(crate) fn conv(&mut self, x: &Value, name: &str, outputs: usize) -> Result<Value> {
        self.conv_of(x, name, outputs, Form::default())
    }

    pub(crate) fn conv_of(
        &mut self,
        x: &Value,
        name: &str,
        outputs: usize,
        form: Form,
    ) -> Result<Value> {
        let Form {
            kernel,
            group,
            bias,
        } = form;
        let shape = [outputs, x.channels / group, kernel, kernel];
        let mut inputs = vec![
            x.name.clone(),
            self.weight(format!("{name}.weight"), &shape)?,
        ];
        if bias {
            inputs.push(self.weight(format!("{name}.bias"), &[outputs])?);
        }
        let op = Op::Conv(ConvSettings {
            pads: [kernel / 2; 4],
            group,
            ..ConvSettings::plain()
        });
        Ok(self.node(op, inputs, outputs, x.scale))
    }

    /// A convolution by tensors that are no weights of the file as they are there.
    pub(crate) fn conv_with(&mut self, x: &Value, weight: Tensor, bias: Tensor) -> Result<Value> {
        let half = weight.dim(3)? / 2;
        self.conv_spec(x, weight, bias, half, (1, 1))
    }

    /// A convolution by tensors with `pad` zeros on each side, of a dilation and groups.
    pub(crate) fn conv_spec(
        &mut self,
        x: &Value,
        weight: Tensor,
        bias: Tensor,
        pad: usize,
        (dilation, group): (usize, usize),
    ) -> Result<Value> {
        let outputs = weight.dim(0)?;
        let inputs = vec![x.name.clone(), self.constant(weight), self.constant(bias)];
        let op = Op::Conv(ConvSettings {
            dilations: [dilation; 2],
            pads: [pad; 4],
            group,
            ..ConvSettings::plain()
        });
        Ok(self.node(op, inputs, outputs, x.scale))
    }

    /// Negative values times `slope`, of all channels or of each.
    pub(crate) fn prelu(&mut self, x: &Value, slope: &Tensor) -> Result<Value> {
        let slope = slope.reshape(((), 1, 1))?;
        let inputs = vec![x.name.clone(), self.constant(slope)];
        Ok(self.node(Op::PRelu, inputs, x.channels, x.scale))
    }

    /// A transposed convolution of 4x4 and stride 2 without bias.
    pub(crate) fn doubled(&mut self, x: &Value, name: &str, outputs: usize) -> Result<Value> {
        let weight = self.weight(format!("{name}.weight"), &[x.channels, outputs, 4, 4])?;
        let op = Op::ConvTranspose(ConvSettings {
            strides: [2, 2],
            pads: [1; 4],
            ..ConvSettings::plain()
        });
        Ok(self.node(op, vec![x.name.clone(), weight], outputs, 2.0 * x.scale))
    }

    /// Means and variances over groups of channels: `name.weight`, `name.bias`.
    pub(crate) fn group_norm(&mut self, x: &Value, name: &str, groups: usize) -> Result<Value> {
        let op = Op::GroupNormalization {
            groups,
            epsilon: 1e-5,
        };
        let shape = [x.channels];
        let inputs = vec![
            x.name.clone(),
            self.weight(format!("{name}.weight"), &shape)?,
            self.weight(format!("{name}.bias"), &shape)?,
        ];
        Ok(self.node(op, inputs, x.channels, x.scale))
    }

    /// Means and variances over the channels of each sample: `name.weight`, `name.bias`.
    pub(crate) fn channel_norm(&mut self, x: &Value, name: &str, epsilon: f32) -> Result<Value> {
        let mean = |builder: &mut Self, x: &Value| {
            let op = Op::ReduceMean {
                axes: Some(vec![1]),
                keep: true,
                all_if_empty: true,
            };
            builder.node(op, vec![x.name.clone()], 1, x.scale)
        };
        let average = mean(self, x);
        let centered = self.pair(Op::Sub, x, &average);
        let squared = self.pair(Op::Mul, &centered, &centered);
        let variance = mean(self, &squared);
        let variance = self.plus(&variance, &[epsilon])?;
        let spread = self.map(Op::Sqrt, &variance);
        let y = self.pair(Op::Div, &centered, &spread);
        let shape = [x.channels];
        let mut of_channels = |part: &str| -> Result<String> {
            let tensor = self.vb.get(shape.as_slice(), &format!("{name}.{part}"))?;
            Ok(self.constant(tensor.reshape((1, (), 1, 1))?))
        };
        let (weight, bias) = (of_channels("weight")?, of_channels("bias")?);
        let y = self.node(Op::Mul, vec![y.name, weight], x.channels, x.scale);
        Ok(self.node(Op::Add, vec![y.name, bias], x.channels, x.scale))
    }

    /// An operation on each sample.
    pub(crate) fn map(&mut self, op: Op, x: &Value) -> Value {
        self.node(op, vec![x.name.clone()], x.channels, x.scale)
    }

    pub(crate) fn leaky(&mut self, x: &Value, alpha: f32) -> Value {
        self.map(Op::LeakyRelu { alpha }, x)
    }

    /// An operation on the samples of two values; those of `b` may have one channel.
    pub(crate) fn pair(&mut self, op: Op, a: &Value, b: &Value) -> Value {
        let inputs = vec![a.name.clone(), b.name.clone()];
        self.node(op, inputs, a.channels, a.scale)
    }

    pub(crate) fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.pair(Op::Add, a, b)
    }

    /// Plus a constant, or one for each channel.
    pub(crate) fn plus(&mut self, x: &Value, values: &[f32]) -> Result<Value> {
        let inputs = vec![x.name.clone(), self.numbers(values)?];
        Ok(self.node(Op::Add, inputs, x.channels, x.scale))
    }

    pub(crate) fn times(&mut self, x: &Value, factor: f32) -> Result<Value> {
        self.times_each(x, &[factor])
    }

    /// Times a constant, or one for each channel.
    pub(crate) fn times_each(&mut self, x: &Value, factors: &[f32]) -> Result<Value> {
        let inputs = vec![x.name.clone(), self.numbers(factors)?];
        Ok(self.node(Op::Mul, inputs, x.channels, x.scale))
    }

    pub(crate) fn concat(&mut self, values: &[&Value]) -> Value {
        let inputs = values.iter().map(|value| value.name.clone()).collect();
        let channels = values.iter().map(|value| value.channels).sum();
        self.node(Op::Concat { axis: 1 }, inputs, channels, values[0].scale)
    }

    /// The first channels, and the others.
    pub(crate) fn split(&mut self, x: &Value, first: usize) -> [Value; 2] {
        let counts = [first, x.channels.saturating_sub(first)];
        let op = Op::Split {
            axis: 1,
            sizes: Some(counts.map(|count| count as i64).to_vec()),
        };
        let mut parts = self
            .results(op, vec![x.name.clone()], &counts, x.scale)
            .into_iter();
        [(); 2].map(|()| parts.next().unwrap_or_else(|| x.clone()))
    }

    /// PyTorch's `PixelShuffle`.
    pub(crate) fn shuffle(&mut self, x: &Value, block: usize) -> Value {
        let op = Op::DepthToSpace {
            block,
            columns_first: true,
        };
        let channels = x.channels / (block * block);
        self.node(op, vec![x.name.clone()], channels, x.scale * block as f64)
    }

    /// Blocks as channels: the channels of its first sample, of its second one and so
    /// on, other than PyTorch's `PixelUnshuffle`.
    pub(crate) fn unshuffle(&mut self, x: &Value, block: usize) -> Value {
        self.multiple *= block;
        let channels = x.channels * block * block;
        let op = Op::SpaceToDepth { block };
        self.node(op, vec![x.name.clone()], channels, x.scale / block as f64)
    }

    /// More samples on all sides.
    pub(crate) fn padded(&mut self, x: &Value, pad: usize, mode: PadMode) -> Value {
        let pad = pad as i64;
        let pads = self.list(&[0, 0, pad, pad, 0, 0, pad, pad]);
        let inputs = vec![x.name.clone(), pads];
        self.node(Op::Pad { mode }, inputs, x.channels, x.scale)
    }

    /// More samples on all sides: those inside, from the edge.
    pub(crate) fn mirrored(&mut self, x: &Value, reach: usize) -> Value {
        let reach = reach as i64;
        let mut x = x.clone();
        for axis in [2, 3] {
            let start = self.slice(&x, (reach - 1, -i64::from(i32::MAX)), axis, -1);
            let end = self.slice(&x, (-1, -1 - reach), axis, -1);
            let inputs = [&start, &x, &end].map(|part| part.name.clone()).to_vec();
            x = self.node(Op::Concat { axis }, inputs, x.channels, x.scale);
        }
        x
    }

    /// Fewer samples on all sides.
    pub(crate) fn cropped(&mut self, x: &Value, less: usize) -> Value {
        let less = less as i64;
        let rows = self.slice(x, (less, -less), 2, 1);
        self.slice(&rows, (less, -less), 3, 1)
    }

    fn slice(&mut self, x: &Value, (start, end): (i64, i64), axis: i64, step: i64) -> Value {
        let lists = [start, end, axis, step].map(|value| self.list(&[value]));
        let inputs = std::iter::once(x.name.clone()).chain(lists).collect();
        self.node(Op::Slice, inputs, x.channels, x.scale)
    }

    fn list(&mut self, values: &[i64]) -> String {
        let name = format!("integers.{}", self.integers.len());
        let integers = Integers::new(vec![values.len()], values.to_vec());
        self.integers
            .extend(integers.map(|integers| (name.clone(), integers)));
        name
    }

    /// Each sample `factor` times in both directions.
    pub(crate) fn repeat(&mut self, x: &Value, factor: usize) -> Result<Value> {
        let mode = ResizeMode::Nearest(Rounding::Floor);
        self.resized(x, factor, mode, Coordinates::Asymmetric)
    }

    /// Larger by Keys' cubic with a = -0.5.
    pub(crate) fn cubic(&mut self, x: &Value, factor: usize) -> Result<Value> {
        self.resized(x, factor, ResizeMode::Cubic, Coordinates::HalfPixel)
    }

    fn resized(
        &mut self,
        x: &Value,
        factor: usize,
        mode: ResizeMode,
        coordinates: Coordinates,
    ) -> Result<Value> {
        let op = Op::Resize(ResizeSettings {
            mode,
            coordinates,
            antialias: false,
            cubic: -0.5,
            exclude_outside: false,
            extrapolation: 0.0,
            axes: None,
        });
        let factors = [1.0, 1.0, factor as f32, factor as f32];
        let factors = Tensor::from_slice(&factors, 4, &Device::Cpu)?;
        let inputs = vec![x.name.clone(), String::new(), self.constant(factors)];
        Ok(self.node(op, inputs, x.channels, x.scale * factor as f64))
    }

    /// The graph whose output is `y`.
    pub(crate) fn finish(self, y: &Value) -> Result<Graph> {
        let shape = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.dims().to_vec());
        let config = Config {
            channels: self.channels,
            factor: y.scale as usize,
            multiple: self.multiple,
            crop: 0,
            size: None,
            fused: true,
            full_range: false,
            working_set: self.working_set(&y.name),
            input: INPUT.to_owned(),
            output: y.name.clone(),
            weights: self.weights.iter().map(shape).collect(),
            nodes: self.nodes,
            integers: self.integers,
        };
        Graph::of_weights(config, self.weights)
    }

    /// Values that are held for each sample of a plane of the input, at most at a time.
    fn working_set(&self, output: &str) -> usize {
        let mut uses: HashMap<&str, usize> = HashMap::from([(output, 1)]);
        for name in self.nodes.iter().flat_map(|node| &node.inputs) {
            *uses.entry(name).or_default() += 1;
        }
        let samples = |name: &str| self.samples.get(name).copied().unwrap_or(0.0);
        let (mut held, mut most) = (samples(INPUT), 0.0f64);
        for node in &self.nodes {
            held += node.outputs.iter().map(|name| samples(name)).sum::<f64>();
            most = most.max(held);
            for name in &node.inputs {
                if let Some(left) = uses.get_mut(name.as_str()) {
                    *left -= 1;
                    held -= if *left == 0 { samples(name) } else { 0.0 };
                }
            }
        }
        libm::ceil(most) as usize
    }
}
