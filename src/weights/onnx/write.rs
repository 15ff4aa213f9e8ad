//! Graphs as ONNX files.

use super::proto::{
    Attribute, Dimension, Entry, Graph, Model, Node, OperatorSet, TensorData, TensorShape,
    TensorType, ValueInfo, ValueType,
};
use crate::models::graph::{
    self, Config, ConvSettings, Coordinates, Op, PadMode, ResizeMode, ResizeSettings, Rounding,
    Same,
};
use candle_core::Tensor;
use prost::Message;
use std::collections::HashMap;

/// The version of the operators, if none needs a later one.
const OPSET: i64 = 17;

const F32: i32 = 1;
const I64: i32 = 7;

/// A file with a graph, its weights in f32 and lines of metadata.
///
/// # Errors
///
/// An operation that has no operator of ONNX.
pub(in crate::weights) fn write(
    config: &Config,
    weights: &HashMap<String, Tensor>,
    metadata: &[(&str, String)],
) -> Result<Vec<u8>, String> {
    let versions = config.nodes.iter().map(since);
    let opset = versions.fold(OPSET, i64::max);
    let mut file = File {
        opset,
        nodes: Vec::new(),
        initializers: Vec::new(),
    };
    let mut names: Vec<&String> = weights.keys().collect();
    names.sort();
    for name in names {
        let floats = values(&weights[name]).map_err(|e| format!("{name}: {e}"))?;
        file.initializers.push(TensorData {
            dims: weights[name].dims().iter().map(|&n| n as i64).collect(),
            dtype: F32,
            name: plain(name),
            raw: Some(
                floats
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ),
            ..TensorData::default()
        });
    }
    for (name, integers) in &config.integers {
        file.list(plain(name), integers.shape(), integers.values());
    }
    for (i, node) in config.nodes.iter().enumerate() {
        file.add(node, i)
            .map_err(|e| format!("node {}: {e}", node.name))?;
    }
    let image = |name: &str, factor: usize, sides: [&str; 2]| {
        let side = |i: usize| match config.size {
            Some(size) => fixed(factor * size[i]),
            None => free(sides[i]),
        };
        let batch = match config.size {
            Some(_) => fixed(1),
            None => free("batch"),
        };
        let dims = vec![batch, fixed(config.channels.count()), side(0), side(1)];
        ValueInfo {
            name: plain(name),
            kind: Some(ValueType {
                tensor: Some(TensorType {
                    dtype: F32,
                    shape: Some(TensorShape { dims }),
                }),
            }),
        }
    };
    let model = Model {
        // The versions that came with the operators.
        ir_version: match opset {
            ..=18 => 8,
            19..=20 => 9,
            _ => 10,
        },
        producer: "srfilter".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(Graph {
            nodes: file.nodes,
            name: "srfilter".to_owned(),
            initializers: file.initializers,
            inputs: vec![image(&config.input, 1, ["height", "width"])],
            outputs: vec![image(
                &config.output,
                config.factor,
                ["output_height", "output_width"],
            )],
        }),
        opsets: vec![OperatorSet {
            domain: String::new(),
            version: opset,
        }],
        metadata: metadata
            .iter()
            .map(|(key, value)| Entry {
                key: (*key).to_owned(),
                value: value.clone(),
            })
            .collect(),
    };
    Ok(model.encode_to_vec())
}

/// Names of lowered operations hold zeros.
fn plain(name: &str) -> String {
    name.replace('\0', ".")
}

fn fixed(length: usize) -> Dimension {
    Dimension {
        value: Some(length as i64),
        name: None,
    }
}

fn free(name: &str) -> Dimension {
    Dimension {
        value: None,
        name: Some(name.to_owned()),
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>, String> {
    tensor
        .flatten_all()
        .and_then(|flat| flat.to_vec1())
        .map_err(|e| e.to_string())
}

/// The first version with an operator as it is here.
fn since(node: &graph::Node) -> i64 {
    match &node.op {
        Op::ReduceMean { axes: None, .. } if node.inputs.len() > 1 => 18,
        Op::Resize(settings) if settings.antialias || settings.axes.is_some() => 18,
        Op::Resize(settings) if settings.coordinates == Coordinates::HalfPixelSymmetric => 19,
        Op::Mish => 18,
        Op::Pad {
            mode: PadMode::Wrap,
        } => 19,
        Op::Gelu { .. } => 20,
        Op::GroupNormalization { .. } => 21,
        _ => OPSET,
    }
}

struct File {
    opset: i64,
    nodes: Vec<Node>,
    initializers: Vec<TensorData>,
}

impl File {
    /// Constant integers.
    fn list(&mut self, name: String, shape: &[usize], values: &[i64]) {
        self.initializers.push(TensorData {
            dims: shape.iter().map(|&n| n as i64).collect(),
            dtype: I64,
            name,
            raw: Some(
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ),
            ..TensorData::default()
        });
    }

    fn add(&mut self, node: &graph::Node, place: usize) -> Result<(), String> {
        let mut inputs: Vec<String> = node.inputs.iter().map(|name| plain(name)).collect();
        // What was a setting and is an operand now.
        let mut operand = |file: &mut Self, at: usize, values: Option<&Vec<i64>>| {
            if let Some(values) = values {
                let name = format!("setting.{place}");
                file.list(name.clone(), &[values.len()], values);
                inputs.resize(at, String::new());
                inputs.push(name);
            }
        };
        let mut attributes = Vec::new();
        match &node.op {
            Op::Split { sizes, .. } => operand(self, 1, sizes.as_ref()),
            Op::Squeeze { axes } | Op::Unsqueeze { axes } => operand(self, 1, axes.as_ref()),
            Op::ReduceMean { axes, .. } if self.opset >= 18 => operand(self, 1, axes.as_ref()),
            Op::ReduceMean {
                axes: Some(axes), ..
            } => attributes.push(ints("axes", axes)),
            _ => {}
        }
        let op = kind(&node.op, &mut attributes)?;
        self.nodes.push(Node {
            inputs,
            outputs: node.outputs.iter().map(|name| plain(name)).collect(),
            name: format!("{}_{place}", plain(&node.name)),
            op: op.to_owned(),
            attributes,
            domain: String::new(),
        });
        Ok(())
    }
}

fn int(name: &str, value: i64) -> Attribute {
    Attribute {
        name: name.to_owned(),
        int: Some(value),
        kind: 2,
        ..Attribute::default()
    }
}

fn float(name: &str, value: f32) -> Attribute {
    Attribute {
        name: name.to_owned(),
        float: Some(value),
        kind: 1,
        ..Attribute::default()
    }
}

fn text(name: &str, value: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        text: Some(value.as_bytes().to_vec()),
        kind: 3,
        ..Attribute::default()
    }
}

fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute {
        name: name.to_owned(),
        ints: values.to_vec(),
        kind: 7,
        ..Attribute::default()
    }
}

fn sizes(name: &str, values: &[usize]) -> Attribute {
    ints(name, &values.iter().map(|&n| n as i64).collect::<Vec<_>>())
}

/// The operator of an operation, and its settings.
fn kind(op: &Op, attributes: &mut Vec<Attribute>) -> Result<&'static str, String> {
    let mut set = |attribute: Attribute| attributes.push(attribute);
    Ok(match op {
        Op::Abs => "Abs",
        Op::Add => "Add",
        Op::BatchNormalization { epsilon } => {
            set(float("epsilon", *epsilon));
            "BatchNormalization"
        }
        Op::Cast { integers } => {
            set(int("to", i64::from(if *integers { I64 } else { F32 })));
            "Cast"
        }
        Op::Clip => "Clip",
        Op::Concat { axis } => {
            set(int("axis", *axis));
            "Concat"
        }
        Op::ConstantOfShape { value, integers } => {
            let (dtype, raw) = match integers {
                true => (I64, (*value as i64).to_le_bytes().to_vec()),
                false => (F32, value.to_le_bytes().to_vec()),
            };
            set(Attribute {
                name: "value".to_owned(),
                tensor: Some(TensorData {
                    dims: vec![1],
                    dtype,
                    raw: Some(raw),
                    ..TensorData::default()
                }),
                kind: 4,
                ..Attribute::default()
            });
            "ConstantOfShape"
        }
        Op::Conv(settings) => {
            convolution(settings, attributes);
            "Conv"
        }
        Op::ConvTranspose(settings) => {
            convolution(settings, attributes);
            attributes.push(sizes("output_padding", &settings.output_padding));
            "ConvTranspose"
        }
        Op::DepthToSpace {
            block,
            columns_first,
        } => {
            set(int("blocksize", *block as i64));
            set(text("mode", if *columns_first { "CRD" } else { "DCR" }));
            "DepthToSpace"
        }
        Op::Div => "Div",
        Op::Elu { alpha } => {
            set(float("alpha", *alpha));
            "Elu"
        }
        Op::Erf => "Erf",
        Op::Exp => "Exp",
        Op::Expand => "Expand",
        Op::Flatten { axis } => {
            set(int("axis", *axis));
            "Flatten"
        }
        Op::Gather { axis } => {
            set(int("axis", *axis));
            "Gather"
        }
        Op::Gelu { tanh } => {
            set(text("approximate", if *tanh { "tanh" } else { "none" }));
            "Gelu"
        }
        Op::GlobalAveragePool => "GlobalAveragePool",
        Op::GroupNormalization { groups, epsilon } => {
            set(int("num_groups", *groups as i64));
            set(float("epsilon", *epsilon));
            "GroupNormalization"
        }
        Op::HardSigmoid { alpha, beta } => {
            set(float("alpha", *alpha));
            set(float("beta", *beta));
            "HardSigmoid"
        }
        Op::HardSwish => "HardSwish",
        Op::Identity => "Identity",
        Op::InstanceNormalization { epsilon } => {
            set(float("epsilon", *epsilon));
            "InstanceNormalization"
        }
        Op::LayerNormalization { axis, epsilon } => {
            set(int("axis", *axis));
            set(float("epsilon", *epsilon));
            "LayerNormalization"
        }
        Op::LeakyRelu { alpha } => {
            set(float("alpha", *alpha));
            "LeakyRelu"
        }
        Op::MatMul => "MatMul",
        Op::Max => "Max",
        Op::Min => "Min",
        Op::Mish => "Mish",
        Op::Mul => "Mul",
        Op::Neg => "Neg",
        Op::PRelu => "PRelu",
        Op::Pad { mode } => {
            set(text(
                "mode",
                match mode {
                    PadMode::Constant => "constant",
                    PadMode::Edge => "edge",
                    PadMode::Reflect => "reflect",
                    PadMode::Wrap => "wrap",
                },
            ));
            "Pad"
        }
        Op::Pow => "Pow",
        Op::ReduceMean {
            keep, all_if_empty, ..
        } => {
            set(int("keepdims", i64::from(*keep)));
            if !all_if_empty {
                set(int("noop_with_empty_axes", 1));
            }
            "ReduceMean"
        }
        Op::Relu => "Relu",
        Op::Reshape { allow_zero } => {
            set(int("allowzero", i64::from(*allow_zero)));
            "Reshape"
        }
        Op::Resize(settings) => {
            resampling(settings, attributes);
            "Resize"
        }
        Op::Shape { start, end } => {
            set(int("start", *start));
            if let Some(end) = end {
                set(int("end", *end));
            }
            "Shape"
        }
        Op::Sigmoid => "Sigmoid",
        Op::Slice => "Slice",
        Op::Softmax { flatten: true, .. } => {
            return Err("a Softmax over several axes, as before opset 13".to_owned());
        }
        Op::Softmax { axis, .. } => {
            set(int("axis", *axis));
            "Softmax"
        }
        Op::Softplus => "Softplus",
        Op::SpaceToDepth { block } => {
            set(int("blocksize", *block as i64));
            "SpaceToDepth"
        }
        Op::Split { axis, .. } => {
            set(int("axis", *axis));
            "Split"
        }
        Op::Sqrt => "Sqrt",
        Op::Squeeze { .. } => "Squeeze",
        Op::Sub => "Sub",
        Op::Tanh => "Tanh",
        Op::Transpose { order } => {
            if let Some(order) = order {
                set(sizes("perm", order));
            }
            "Transpose"
        }
        Op::Unsqueeze { .. } => "Unsqueeze",
    })
}

fn convolution(settings: &ConvSettings, attributes: &mut Vec<Attribute>) {
    attributes.push(sizes("strides", &settings.strides));
    attributes.push(sizes("dilations", &settings.dilations));
    attributes.push(int("group", settings.group as i64));
    attributes.push(match settings.same {
        Some(Same::Upper) => text("auto_pad", "SAME_UPPER"),
        Some(Same::Lower) => text("auto_pad", "SAME_LOWER"),
        None => sizes("pads", &settings.pads),
    });
}

fn resampling(settings: &ResizeSettings, attributes: &mut Vec<Attribute>) {
    let mode = match settings.mode {
        ResizeMode::Nearest(rounding) => {
            let rounding = match rounding {
                Rounding::PreferFloor => "round_prefer_floor",
                Rounding::PreferCeil => "round_prefer_ceil",
                Rounding::Floor => "floor",
                Rounding::Ceil => "ceil",
            };
            attributes.push(text("nearest_mode", rounding));
            "nearest"
        }
        ResizeMode::Linear => "linear",
        ResizeMode::Cubic => "cubic",
    };
    attributes.push(text("mode", mode));
    let coordinates = match settings.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::Asymmetric => "asymmetric",
        Coordinates::TfCropAndResize => "tf_crop_and_resize",
    };
    attributes.push(text("coordinate_transformation_mode", coordinates));
    attributes.push(float("cubic_coeff_a", settings.cubic));
    attributes.push(int("exclude_outside", i64::from(settings.exclude_outside)));
    attributes.push(float("extrapolation_value", settings.extrapolation));
    if settings.antialias {
        attributes.push(int("antialias", 1));
    }
    if let Some(axes) = &settings.axes {
        attributes.push(ints("axes", axes));
    }
}
