//! Layers shared by several networks.
//!
//! Part of the [training interface](crate#training-interface).

mod bicubic;
mod dynamic;
mod norm;
mod rows;
mod window;

pub use bicubic::Bicubic;
pub(crate) use dynamic::conv_no_bias;
pub use dynamic::{DynamicConv, DynamicSpec};
pub use norm::BatchNorm;
pub(crate) use window::leaky_relu;
pub use window::{LayerNorm, Linear, WindowAttention, WindowSpec};

use crate::ops::{ChainedConv, ConvSpec, conv2d, conv2d_chain};
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
    /// MACs for each output sample of a plane.
    pub fn macs(&self) -> u64 {
        self.weight.elem_count() as u64
    }

    /// Applies the layer.
    ///
    /// # Errors
    ///
    /// Shapes that do not match.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, self.bias.as_ref(), self.spec)
    }

    /// Convolves by one layer after the other.
    ///
    /// # Errors
    ///
    /// Shapes that do not match.
    pub fn forward_all(layers: &[Self], x: &Tensor) -> Result<Tensor> {
        let convs: Vec<_> = layers
            .iter()
            .map(|layer| ChainedConv {
                weights: &layer.weight,
                bias: layer.bias.as_ref(),
                spec: layer.spec,
            })
            .collect();
        conv2d_chain(x, &convs)
    }
}

/// PyTorch's default initialisation: uniform within 1 / sqrt(inputs).
pub fn pytorch_uniform(inputs: usize) -> Init {
    let up = 1.0 / (inputs as f64).sqrt();
    Init::Uniform { lo: -up, up }
}
