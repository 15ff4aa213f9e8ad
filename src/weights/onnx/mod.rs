//! Graphs in ONNX (`.onnx`): <https://onnx.ai>.
//!
mod operator;
mod proto;
mod tensor;
mod write;

pub(super) use write::write;

use super::graph_file::{Contents, Trial, try_out, untried};
use crate::models::Channels;
use crate::models::graph::Node;
use candle_core::{Device, Tensor};
use prost::Message;
use std::collections::BTreeMap;
use tensor::{Constant, constant};

/// The versions of ONNX's operators that are served.
const OPSETS: std::ops::RangeInclusive<i64> = 11..=23;

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
    let ends = [input.name.as_str(), output.name.as_str()];
    let mut config = untried(channels, ends, nodes, &tensors, integers);
    let mut metadata = model.metadata.iter();
    config.full_range = metadata.any(|line| line.key == "range" && line.value == "full");
    let trial = try_out(&mut config, &mut tensors, size)?;
    let producer = match model.producer.as_str() {
        "" => String::new(),
        producer => format!(", of {producer}"),
    };
    let planes = match trial {
        Trial::Image => "",
        Trial::Chroma => ", a network of chroma (run on RGB by the matrix of BT.709)",
    };
    Ok(Contents {
        format: format!("ONNX, opset {opset}{producer}{planes}"),
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
