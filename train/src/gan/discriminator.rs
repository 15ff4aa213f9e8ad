//! The common interface of the discriminators.

use candle_core::Tensor;
use srfilter::ops::prelu;

/// Slope of every leaky ReLU of the discriminators.
pub(super) const SLOPE: f64 = 0.2;

/// Leaky ReLU of (N, C, H, W), in one pass over memory, and another for its gradient.
///
/// # Errors
///
/// A tensor of another shape.
pub(super) fn leaky_relu(x: &Tensor) -> candle_core::Result<Tensor> {
    prelu(x, &Tensor::new(&[SLOPE as f32], x.device())?)
}

/// A network that tells real images from generated ones.
pub trait Discriminator: Send + Sync {
    /// Logits that images (N, 3, H, W), 0 to 1, are real, in training.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor>;
}
