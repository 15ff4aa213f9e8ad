//! The description of a graph.

use super::value::Integers;
use crate::models::{Channels, Shapes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A graph without its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The planes in and out.
    pub channels: Channels,
    /// How much larger the output is than the input.
    pub factor: usize,
    /// What heights and widths of its input are multiples of.
    pub multiple: usize,
    /// Samples of the input that are lost on each side.
    pub crop: usize,
    /// Height and width of the input, if the graph takes no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Whether it is a chain of convolutions that computes the same.
    pub fused: bool,
    /// Of luma, whether 0 is black and 1 is white: not as in BT.601 studio range.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full_range: bool,
    /// Values that are computed for each sample of a plane of the input, at most at a
    /// time; by a trial run.
    #[serde(default)]
    pub working_set: usize,
    /// The name of the input.
    pub input: String,
    /// The name of the output.
    pub output: String,
    /// The operations, each after those that it depends on.
    pub nodes: Vec<Node>,
    /// The shapes of the weights.
    pub weights: Shapes,
    /// Constant integers.
    pub integers: BTreeMap<String, Integers>,
}

/// An operation with its operands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The name in the file.
    pub name: String,
    /// The operation.
    pub op: Op,
    /// The names of its operands; empty for one that is left out.
    pub inputs: Vec<String>,
    /// The names of its results.
    pub outputs: Vec<String>,
}

/// An operation, with the settings of ONNX.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Op {
    Abs,
    Add,
    BatchNormalization {
        epsilon: f32,
    },
    Cast {
        integers: bool,
    },
    Clip,
    Concat {
        axis: i64,
    },
    ConstantOfShape {
        value: f32,
        integers: bool,
    },
    Conv(ConvSettings),
    ConvTranspose(ConvSettings),
    DepthToSpace {
        block: usize,
        columns_first: bool,
    },
    Div,
    Elu {
        alpha: f32,
    },
    Erf,
    Exp,
    Expand,
    Flatten {
        axis: i64,
    },
    Gather {
        axis: i64,
    },
    Gelu {
        tanh: bool,
    },
    GlobalAveragePool,
    GroupNormalization {
        groups: usize,
        epsilon: f32,
    },
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    Identity,
    InstanceNormalization {
        epsilon: f32,
    },
    LayerNormalization {
        axis: i64,
        epsilon: f32,
    },
    LeakyRelu {
        alpha: f32,
    },
    MatMul,
    Max,
    Min,
    Mish,
    Mul,
    Neg,
    PRelu,
    Pad {
        mode: PadMode,
    },
    Pow,
    ReduceMean {
        axes: Option<Vec<i64>>,
        keep: bool,
        all_if_empty: bool,
    },
    Relu,
    Reshape {
        allow_zero: bool,
    },
    Resize(ResizeSettings),
    Shape {
        start: i64,
        end: Option<i64>,
    },
    Sigmoid,
    Slice,
    Softmax {
        axis: i64,
        /// Whether it is over all axes from there on, as before opset 13.
        flatten: bool,
    },
    Softplus,
    SpaceToDepth {
        block: usize,
    },
    Split {
        axis: i64,
        sizes: Option<Vec<i64>>,
    },
    Sqrt,
    Squeeze {
        axes: Option<Vec<i64>>,
    },
    Sub,
    Tanh,
    Transpose {
        order: Option<Vec<usize>>,
    },
    Unsqueeze {
        axes: Option<Vec<i64>>,
    },
}

/// The settings of a convolution. Pairs are height and width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvSettings {
    /// Distance of neighbouring results (transposed: of samples in the result).
    pub strides: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilations: [usize; 2],
    /// Zeros above, left, below and right.
    pub pads: [usize; 4],
    /// Whether `pads` come from the size instead, and where an odd one goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same: Option<Same>,
    /// Equal parts of the channels.
    pub group: usize,
    /// Rows and columns added at the end of a transposed convolution.
    #[serde(default)]
    pub output_padding: [usize; 2],
}

impl ConvSettings {
    /// Of 1x1.
    pub(crate) fn plain() -> Self {
        Self {
            strides: [1, 1],
            dilations: [1, 1],
            pads: [0; 4],
            same: None,
            group: 1,
            output_padding: [0, 0],
        }
    }
}

/// Where the odd row or column of a padding to the same size goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Same {
    /// To the end.
    Upper,
    /// To the start.
    Lower,
}

/// What lies around a padded tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum PadMode {
    Constant,
    Edge,
    /// Mirrored; the edge is not repeated.
    Reflect,
    Wrap,
}

/// The settings of a resampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeSettings {
    /// How samples are interpolated.
    pub mode: ResizeMode,
    /// Where the samples of the result lie.
    pub coordinates: Coordinates,
    /// Whether the kernel is widened when shrinking.
    pub antialias: bool,
    /// `a` of the cubic.
    pub cubic: f32,
    /// Whether samples outside have no weight, instead of those at the edge.
    pub exclude_outside: bool,
    /// What lies outside, for [`Coordinates::TfCropAndResize`].
    pub extrapolation: f32,
    /// The axes that the sizes are for; `None`: all.
    pub axes: Option<Vec<i64>>,
}

/// How samples are interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ResizeMode {
    Nearest(Rounding),
    Linear,
    Cubic,
}

/// Which sample is the nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Rounding {
    /// Halves down.
    PreferFloor,
    /// Halves up.
    PreferCeil,
    Floor,
    Ceil,
}

/// Where the samples of a resampled tensor lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfCropAndResize,
}
