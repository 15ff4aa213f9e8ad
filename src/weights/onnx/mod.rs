//! Graphs in ONNX (`.onnx`): <https://onnx.ai>.
//!
//! Channels and scale are told by a trial run on small images: the graph is not
//! believed.

mod operator;
mod proto;
mod tensor;

use crate::models::Channels;
use crate::models::graph::{Config, Graph, Node};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use tensor::{Constant, constant};

/// The versions of ONNX's operators that are served.
const OPSETS: std::ops::RangeInclusive<i64> = 11..=23;

/// Multiples that the sizes of images are tried at, in this order.
const MULTIPLES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Side of the smallest image that is tried.
const TRIAL: usize = 24;

/// Most samples of an image of a trial run.
const MOST_SAMPLES: usize = 1 << 22;

/// A graph, with its weights by name: the type in the file and the values.
pub(super) struct Contents {
    pub(super) format: String,
    pub(super) config: Config,
    pub(super) tensors: Vec<(String, &'static str, Tensor)>,
}

/// Reads a graph.
///
/// # Errors
///
/// What is wrong with the file, or what of it is not served, with the node's name.
pub(super) fn read(bytes: &[u8]) -> Result<Contents, String> {
    let model = proto::Model::decode(bytes).map_err(|e| format!("not a whole ONNX file: {e}"))?;
    let graph = model.graph.ok_or("an ONNX file without a graph")?;
    let opset = model
        .opsets
        .iter()
        .find(|o| matches!(o.domain.as_str(), "" | "ai.onnx"));
    let opset = opset.map_or(0, |opset| opset.version);
    if !OPSETS.contains(&opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        return Err(format!(
            "operators of opset {opset}; served are {first} to {last}: export it again with one \
             of those"
        ));
    }
    let (mut tensors, mut integers) = (Vec::new(), BTreeMap::new());
    let mut add = |name: &str, value: Constant| match value {
        Constant::Floats(kind, tensor) => tensors.push((name.to_owned(), kind, tensor)),
        Constant::Integers(values) => drop(integers.insert(name.to_owned(), values)),
    };
    for data in &graph.initializers {
        let value = constant(data).map_err(|e| format!("tensor {}: {e}", data.name))?;
        add(&data.name, value);
    }
    let mut nodes = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        crate::background::give_way();
        let name = match node.name.as_str() {
            "" => format!("{i}"),
            name => name.to_owned(),
        };
        let problem = |e: String| format!("node {name} ({}): {e}", node.op);
        if node.op == "Constant" {
            let output = node
                .outputs
                .first()
                .ok_or_else(|| problem("no result".to_owned()))?;
            add(output, constant_of(node).map_err(problem)?);
            continue;
        }
        nodes.push(Node {
            op: operator::operation(node, opset).map_err(problem)?,
            name,
            inputs: node.inputs.clone(),
            outputs: node.outputs.clone(),
        });
    }
    let known = |name: &str| graph.initializers.iter().any(|data| data.name == name);
    let inputs: Vec<_> = graph
        .inputs
        .iter()
        .filter(|input| !known(&input.name))
        .collect();
    let ([input], [output]) = (inputs.as_slice(), graph.outputs.as_slice()) else {
        return Err(format!(
            "{} inputs and {} outputs; served is one image in and one out",
            inputs.len(),
            graph.outputs.len()
        ));
    };
    let (channels, size) = image_of(input)?;
    let shape = |(name, _, tensor): &(String, _, Tensor)| (name.clone(), tensor.dims().to_vec());
    let mut config = Config {
        channels,
        factor: 1,
        multiple: 1,
        crop: 0,
        size: None,
        fused: false,
        full_range: model
            .metadata
            .iter()
            .any(|line| line.key == "range" && line.value == "full"),
        working_set: 0,
        input: input.name.clone(),
        output: output.name.clone(),
        nodes,
        weights: tensors.iter().map(shape).collect(),
        integers,
    };
    try_out(&mut config, &tensors, size)?;
    Ok(Contents {
        format: match model.producer.as_str() {
            "" => format!("ONNX, opset {opset}"),
            producer => format!("ONNX, opset {opset}, of {producer}"),
        },
        config,
        tensors,
    })
}

/// The value of a node `Constant`.
fn constant_of(node: &proto::Node) -> Result<Constant, String> {
    let attribute = node.attributes.first().ok_or("no value")?;
    let floats = |values: Vec<f32>, shape: Vec<usize>| {
        Tensor::from_vec(values, shape, &Device::Cpu)
            .map(|tensor| Constant::Floats("F32", tensor))
            .map_err(|e| e.to_string())
    };
    let integers = |values: Vec<i64>, shape: Vec<usize>| {
        crate::models::graph::Integers::new(shape, values)
            .map(Constant::Integers)
            .ok_or_else(|| "values that do not fill their shape".to_owned())
    };
    match (attribute.name.as_str(), &attribute.tensor) {
        ("value", Some(data)) => constant(data),
        ("value_float", _) => floats(vec![attribute.float.unwrap_or(0.0)], vec![]),
        ("value_floats", _) => floats(attribute.floats.clone(), vec![attribute.floats.len()]),
        ("value_int", _) => integers(vec![attribute.int.unwrap_or(0)], vec![]),
        ("value_ints", _) => integers(attribute.ints.clone(), vec![attribute.ints.len()]),
        (other, _) => Err(format!("a constant as {other}")),
    }
}

/// The planes of the input, and its size if that is stated.
fn image_of(input: &proto::ValueInfo) -> Result<(Channels, Option<[usize; 2]>), String> {
    let kind = input.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
    let shape = kind.and_then(|kind| kind.shape.as_ref());
    let dims: Vec<Option<i64>> = shape.map_or(Vec::new(), |shape| {
        shape
            .dims
            .iter()
            .map(|dim| dim.value.filter(|&n| n > 0))
            .collect()
    });
    let [batch, planes, height, width] = dims.as_slice() else {
        return Err(format!(
            "the input {} has {} axes; served are images (N, C, H, W)",
            input.name,
            dims.len()
        ));
    };
    let is_float = |kind: &&proto::TensorType| matches!(kind.dtype, 1 | 10 | 11 | 16);
    if kind.filter(is_float).is_none() {
        return Err(format!("the input {} is not of floats", input.name));
    }
    if batch.is_some_and(|batch| batch != 1) {
        return Err(format!("batches of {}", batch.unwrap_or(0)));
    }
    let channels = match planes {
        Some(1) => Channels::Luma,
        Some(3) => Channels::Rgb,
        Some(planes) => {
            return Err(format!(
                "the input {} has {planes} planes; served are luma and RGB",
                input.name
            ));
        }
        None => {
            return Err(format!(
                "the input {} does not state its planes; served are 1 (luma) and 3 (RGB)",
                input.name
            ));
        }
    };
    let side = |n: &Option<i64>| n.and_then(|n| usize::try_from(n).ok());
    let size = side(height).zip(side(width)).map(|(h, w)| [h, w]);
    Ok((channels, size))
}

/// Runs the graph on small images: its factor, the sizes that it takes, the values that
/// it holds, and whether it is a chain.
fn try_out(
    config: &mut Config,
    tensors: &[(String, &'static str, Tensor)],
    declared: Option<[usize; 2]>,
) -> Result<(), String> {
    let map: HashMap<String, Tensor> = tensors
        .iter()
        .map(|(name, _, tensor)| (name.clone(), tensor.clone()))
        .collect();
    let vb = VarBuilder::from_tensors(map, DType::F32, &Device::Cpu);
    let line =
        |e: &dyn std::fmt::Display| e.to_string().lines().next().unwrap_or_default().to_owned();
    let graph = |config: &Config| Graph::new(&vb, config).map_err(|e| line(&e));
    let planes = config.channels.count();
    let run = |graph: &Graph, [height, width]: [usize; 2]| -> Result<(Vec<usize>, usize), String> {
        crate::background::give_way();
        let y = noise(planes, [height, width]).and_then(|x| graph.run(&x));
        let (y, held) = y.map_err(|e| line(&e))?;
        match y.dims() {
            [1, out, rows, columns] if *out == planes => {
                Ok((vec![*rows, *columns], held.div_ceil(height * width)))
            }
            [1, out, ..] => Err(format!(
                "{out} planes come out of {planes}; served are as many as go in"
            )),
            other => Err(format!("its output has the shape {other:?}")),
        }
    };
    let trial = graph(config)?;
    let mut problem = None;
    for multiple in MULTIPLES {
        // Odd multiples, of two lengths.
        let odd = (TRIAL.div_ceil(multiple)) | 1;
        let [height, width] = [odd * multiple, (odd + 2) * multiple];
        match run(&trial, [height, width]) {
            Ok((out, held)) => {
                let Some((factor, crop)) = enlargement([height, width], [out[0], out[1]]) else {
                    problem = problem.or(Some(format!(
                        "{width}x{height} becomes {}x{}; served are whole factors",
                        out[1], out[0]
                    )));
                    continue;
                };
                config.factor = factor;
                config.crop = crop;
                config.multiple = multiple;
                config.working_set = held;
                config.fused = is_chain(config, &graph)?;
                return Ok(());
            }
            Err(e) => problem = problem.or(Some(e)),
        }
    }
    let Some([height, width]) = declared.filter(|[h, w]| {
        h.checked_mul(*w)
            .is_some_and(|samples| samples <= MOST_SAMPLES)
    }) else {
        return Err(problem.unwrap_or_default());
    };
    let (out, held) = run(&trial, [height, width])?;
    let factor = out[0] / height;
    if factor == 0 || out != [factor * height, factor * width] {
        return Err(format!(
            "{width}x{height} becomes {}x{}; served are whole factors",
            out[1], out[0]
        ));
    }
    config.factor = factor;
    config.size = Some([height, width]);
    config.working_set = held;
    Ok(())
}

/// The factor, and the samples of the input that are lost on each side; `None` if it is
/// no whole one.
fn enlargement([height, width]: [usize; 2], [tall, wide]: [usize; 2]) -> Option<(usize, usize)> {
    let factor = wide.checked_sub(tall)? / (width - height);
    let lost = (factor * height).checked_sub(tall)?;
    let fits = factor > 0 && factor * width - lost == wide && lost % (2 * factor) == 0;
    fits.then(|| (factor, lost / (2 * factor)))
}

/// Whether the graph is a chain that computes the same.
fn is_chain(
    config: &Config,
    graph: &dyn Fn(&Config) -> Result<Graph, String>,
) -> Result<bool, String> {
    const EQUAL: f32 = 1e-4;
    // In the range that both are in then.
    let fused = graph(&Config {
        fused: true,
        full_range: false,
        ..config.clone()
    })?;
    let largest = || -> candle_core::Result<Option<f32>> {
        let Some(chain) = fused.chain() else {
            return Ok(None);
        };
        let x = noise(config.channels.count(), [TRIAL + 1, TRIAL + 4])?;
        let (ours, (theirs, _)) = (chain.forward(&x)?, fused.run(&x)?);
        // The chain leaves the last clamping to the frame.
        let ours = if theirs.dims() == ours.dims() {
            ours
        } else {
            return Ok(None);
        };
        let range = |y: Tensor| y.clamp(0f32, 1f32);
        let off = (range(ours)? - range(theirs)?)?.abs()?;
        off.flatten_all()?.max(0)?.to_scalar::<f32>().map(Some)
    };
    Ok(matches!(largest(), Ok(Some(off)) if off < EQUAL))
}

/// An image of noise.
fn noise(planes: usize, [height, width]: [usize; 2]) -> candle_core::Result<Tensor> {
    let value = |i: usize| ((i * 7919 + 31) % 1009) as f32 / 1009.0;
    let values: Vec<f32> = (0..planes * height * width).map(value).collect();
    Tensor::from_vec(values, (1, planes, height, width), &Device::Cpu)
}
