//! Layers that more than one network uses.

mod bicubic;
mod chain;
mod dynamic;
mod norm;
mod packed;
mod window;

pub use bicubic::Bicubic;
pub(crate) use dynamic::bare_conv;
pub use dynamic::{DynamicConv, DynamicSpec};
pub use norm::BatchNorm;
pub use packed::Packed;
pub(crate) use packed::{Layer, Method};
pub(crate) use window::leaky_relu;
pub use window::{LayerNorm, Linear, WindowAttention, WindowSpec};

use crate::ops::{ConvSpec, conv2d};
use candle_core::{Result, Tensor};
use candle_nn::Init;

/// A convolution with its weights: (N, C, H, W) in and out.
#[derive(Debug, Clone)]
pub struct Conv {
    /// (out, in / groups, kernel height, kernel width).
    pub weight: Tensor,
    /// (out).
    pub bias: Option<Tensor>,
    /// Border, stride, dilation, groups, activation.
    pub spec: ConvSpec,
}

impl Conv {
    /// Multiplications for each sample of a plane of the result.
    pub fn macs(&self) -> u64 {
        self.weight.elem_count() as u64
    }

    /// Applies the layer.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, self.bias.as_ref(), self.spec)
    }
}

/// A network that is one convolution after the other, as the fused engine
/// runs it. Boundary 0 is the input; boundary `i` follows link `i - 1`.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// The convolutions.
    pub links: Vec<Link>,
    /// Subtracted from every sample before the first convolution.
    pub shift: f32,
    /// Whether the input, enlarged to the size of the result, is added to it.
    pub base: bool,
    /// What each plane that comes in is multiplied by and what is then added,
    /// after `shift`: borders of zeros are zeros of what this makes. Empty
    /// where samples stay as they are.
    pub input: Vec<(f32, f32)>,
    /// Whether the input, every sample repeated to a square, is added.
    pub nearest: bool,
    /// Whether the result `y` becomes `(tanh(y) + 1) / 2`, after all additions.
    pub tanh: bool,
}

/// One convolution of a [`Chain`] and what follows it, in this order.
#[derive(Debug, Clone)]
pub struct Link {
    /// Weights, bias, border, ReLU.
    pub conv: Conv,
    /// PReLU: one factor for what is negative, for all channels or for each.
    pub slope: Option<Tensor>,
    /// The boundary that is added.
    pub skip: Option<usize>,
    /// Pixel shuffle: r * r channels become squares of side r. 1: none.
    pub shuffle: usize,
}

/// PyTorch's own first values: uniform within 1 / sqrt(inputs).
pub fn narrow_init(inputs: usize) -> Init {
    let up = 1.0 / (inputs as f64).sqrt();
    Init::Uniform { lo: -up, up }
}

impl From<Conv> for Link {
    /// The convolution alone.
    fn from(conv: Conv) -> Self {
        Self {
            conv,
            slope: None,
            skip: None,
            shuffle: 1,
        }
    }
}
