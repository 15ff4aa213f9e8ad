//! Operators of ONNX and their attributes.

use super::proto::{Attribute, Node};
use super::tensor::{Constant, constant, is_integer, value_type};
use crate::models::graph::{
    ConvSettings, Coordinates, Op, PadMode, ResizeMode, ResizeSettings, Rounding, Same,
};

/// The attributes of a node.
pub(super) struct Attributes<'a>(pub(super) &'a [Attribute]);

impl Attributes<'_> {
    fn find(&self, name: &str) -> Option<&Attribute> {
        self.0.iter().find(|attribute| attribute.name == name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).and_then(|a| a.int).unwrap_or(default)
    }

    fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).and_then(|a| a.float).unwrap_or(default)
    }

    fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.find(name).map(|a| a.ints.clone())
    }

    fn text(&self, name: &str, default: &str) -> String {
        let text = self.find(name).and_then(|a| a.text.as_deref());
        text.map_or(default.to_owned(), |text| {
            String::from_utf8_lossy(text).into_owned()
        })
    }

    /// A number that is not negative.
    fn size(&self, name: &str, default: i64) -> Result<usize, String> {
        size(name, self.int(name, default))
    }

    fn sizes<const N: usize>(&self, name: &str, default: usize) -> Result<[usize; N], String> {
        let Some(ints) = self.ints(name).filter(|ints| !ints.is_empty()) else {
            return Ok([default; N]);
        };
        let sizes: Result<Vec<usize>, String> = ints.iter().map(|&n| size(name, n)).collect();
        let expected = |found: Vec<usize>| format!("{name} {found:?}: images have two axes");
        sizes?.try_into().map_err(expected)
    }

    fn same(&self) -> Result<Option<Same>, String> {
        match self.text("auto_pad", "NOTSET").as_str() {
            "NOTSET" | "" => Ok(None),
            "VALID" => Ok(None),
            "SAME_UPPER" => Ok(Some(Same::Upper)),
            "SAME_LOWER" => Ok(Some(Same::Lower)),
            other => Err(format!("auto_pad {other}")),
        }
    }

    fn conv(&self) -> Result<ConvSettings, String> {
        if self.find("output_shape").is_some() {
            return Err("output_shape is not served".to_owned());
        }
        let settings = ConvSettings {
            strides: self.sizes("strides", 1)?,
            dilations: self.sizes("dilations", 1)?,
            pads: self.sizes("pads", 0)?,
            same: self.same()?,
            group: self.size("group", 1)?,
            output_padding: self.sizes("output_padding", 0)?,
        };
        let positive = [settings.strides, settings.dilations, [settings.group; 2]];
        match positive.as_flattened().contains(&0) {
            true => Err("strides, dilations or groups of 0".to_owned()),
            false => Ok(settings),
        }
    }

    fn resize(&self) -> Result<ResizeSettings, String> {
        let coordinates = match self
            .text("coordinate_transformation_mode", "half_pixel")
            .as_str()
        {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_crop_and_resize" => Coordinates::TfCropAndResize,
            other => return Err(format!("coordinate_transformation_mode {other}")),
        };
        let rounding = match self.text("nearest_mode", "round_prefer_floor").as_str() {
            "round_prefer_floor" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => return Err(format!("nearest_mode {other}")),
        };
        let mode = match self.text("mode", "nearest").as_str() {
            "nearest" => ResizeMode::Nearest(rounding),
            "linear" => ResizeMode::Linear,
            "cubic" => ResizeMode::Cubic,
            other => return Err(format!("mode {other}")),
        };
        let policy = self.text("keep_aspect_ratio_policy", "stretch");
        if policy != "stretch" {
            return Err(format!("keep_aspect_ratio_policy {policy}"));
        }
        Ok(ResizeSettings {
            mode,
            coordinates,
            antialias: self.int("antialias", 0) != 0,
            cubic: self.float("cubic_coeff_a", -0.75),
            exclude_outside: self.int("exclude_outside", 0) != 0,
            extrapolation: self.float("extrapolation_value", 0.0),
            axes: self.ints("axes"),
        })
    }
}

fn size(name: &str, number: i64) -> Result<usize, String> {
    // Sizes of layers, far from what overflows.
    const MOST: i64 = 1 << 20;
    match (0..=MOST).contains(&number) {
        true => Ok(number as usize),
        false => Err(format!("{name} {number}")),
    }
}

/// The operation of a node, or what of it is not served. `Constant` is none.
pub(super) fn operation(node: &Node, opset: i64) -> Result<Op, String> {
    let a = Attributes(&node.attributes);
    if !node.domain.is_empty() && node.domain != "ai.onnx" {
        return Err(format!("an operator of {}", node.domain));
    }
    Ok(match node.op.as_str() {
        "Abs" => Op::Abs,
        "Add" => Op::Add,
        "BatchNormalization" => {
            if a.int("training_mode", 0) != 0 {
                return Err("training_mode".to_owned());
            }
            Op::BatchNormalization {
                epsilon: a.float("epsilon", 1e-5),
            }
        }
        "Cast" => {
            let to = a.int("to", 0) as i32;
            let kind = value_type(to).ok_or_else(|| format!("a cast to type {to}"))?;
            Op::Cast {
                integers: is_integer(kind),
            }
        }
        "Clip" => Op::Clip,
        "Concat" => Op::Concat {
            axis: a.int("axis", 0),
        },
        "ConstantOfShape" => {
            let value = a.find("value").and_then(|a| a.tensor.as_ref());
            match value.map(constant).transpose()? {
                None => Op::ConstantOfShape {
                    value: 0.0,
                    integers: false,
                },
                Some(Constant::Floats(_, tensor)) => Op::ConstantOfShape {
                    value: tensor
                        .flatten_all()
                        .and_then(|t| t.to_vec1::<f32>())
                        .ok()
                        .and_then(|values| values.first().copied())
                        .unwrap_or(0.0),
                    integers: false,
                },
                Some(Constant::Integers(integers)) => Op::ConstantOfShape {
                    value: integers.first().unwrap_or(0) as f32,
                    integers: true,
                },
            }
        }
        "Conv" => Op::Conv(a.conv()?),
        "ConvTranspose" => Op::ConvTranspose(a.conv()?),
        "DepthToSpace" => Op::DepthToSpace {
            block: a.size("blocksize", 1)?,
            columns_first: match a.text("mode", "DCR").as_str() {
                "CRD" => true,
                "DCR" => false,
                other => return Err(format!("mode {other}")),
            },
        },
        "Div" => Op::Div,
        // Of networks that run.
        "Dropout" => Op::Identity,
        "Elu" => Op::Elu {
            alpha: a.float("alpha", 1.0),
        },
        "Erf" => Op::Erf,
        "Exp" => Op::Exp,
        "Expand" => Op::Expand,
        "Flatten" => Op::Flatten {
            axis: a.int("axis", 1),
        },
        "Gather" => Op::Gather {
            axis: a.int("axis", 0),
        },
        "Gelu" => Op::Gelu {
            tanh: match a.text("approximate", "none").as_str() {
                "none" => false,
                "tanh" => true,
                other => return Err(format!("approximate {other}")),
            },
        },
        "GlobalAveragePool" => Op::GlobalAveragePool,
        // Before, scale and offset are those of groups.
        "GroupNormalization" if opset >= 21 => Op::GroupNormalization {
            groups: a.size("num_groups", 1)?,
            epsilon: a.float("epsilon", 1e-5),
        },
        "HardSigmoid" => Op::HardSigmoid {
            alpha: a.float("alpha", 0.2),
            beta: a.float("beta", 0.5),
        },
        "HardSwish" => Op::HardSwish,
        "Identity" => Op::Identity,
        "InstanceNormalization" => Op::InstanceNormalization {
            epsilon: a.float("epsilon", 1e-5),
        },
        "LayerNormalization" => Op::LayerNormalization {
            axis: a.int("axis", -1),
            epsilon: a.float("epsilon", 1e-5),
        },
        "LeakyRelu" => Op::LeakyRelu {
            alpha: a.float("alpha", 0.01),
        },
        "MatMul" => Op::MatMul,
        "Max" => Op::Max,
        "Min" => Op::Min,
        "Mish" => Op::Mish,
        "Mul" => Op::Mul,
        "Neg" => Op::Neg,
        "PRelu" => Op::PRelu,
        "Pad" => Op::Pad {
            mode: match a.text("mode", "constant").as_str() {
                "constant" => PadMode::Constant,
                "edge" => PadMode::Edge,
                "reflect" => PadMode::Reflect,
                "wrap" => PadMode::Wrap,
                other => return Err(format!("mode {other}")),
            },
        },
        "Pow" => Op::Pow,
        "ReduceMean" => Op::ReduceMean {
            axes: a.ints("axes"),
            keep: a.int("keepdims", 1) != 0,
            all_if_empty: a.int("noop_with_empty_axes", 0) == 0,
        },
        "Relu" => Op::Relu,
        "Reshape" => Op::Reshape {
            allow_zero: a.int("allowzero", 0) != 0,
        },
        "Resize" => Op::Resize(a.resize()?),
        "Shape" => Op::Shape {
            start: a.int("start", 0),
            end: a.find("end").and_then(|a| a.int),
        },
        "Sigmoid" => Op::Sigmoid,
        "Slice" => Op::Slice,
        "Softmax" => Op::Softmax {
            axis: a.int("axis", if opset < 13 { 1 } else { -1 }),
            flatten: opset < 13,
        },
        "Softplus" => Op::Softplus,
        "SpaceToDepth" => Op::SpaceToDepth {
            block: a.size("blocksize", 1)?,
        },
        "Split" => Op::Split {
            axis: a.int("axis", 0),
            sizes: a.ints("split"),
        },
        "Sqrt" => Op::Sqrt,
        "Squeeze" => Op::Squeeze {
            axes: a.ints("axes"),
        },
        "Sub" => Op::Sub,
        "Tanh" => Op::Tanh,
        "Transpose" => {
            let order = a.ints("perm").map(|order| {
                let axes = order.into_iter().map(|axis| size("perm", axis));
                axes.collect::<Result<Vec<_>, _>>()
            });
            Op::Transpose {
                order: order.transpose()?,
            }
        }
        "Unsqueeze" => Op::Unsqueeze {
            axes: a.ints("axes"),
        },
        _ => return Err("an operator that is not served".to_owned()),
    })
}
