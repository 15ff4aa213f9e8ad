//! Layers that more than one network uses.

mod bicubic;

pub use bicubic::Bicubic;

use crate::ops::{ConvSpec, conv2d};
use candle_core::{Result, Tensor};

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
    /// Applies the layer.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, self.bias.as_ref(), self.spec)
    }
}
