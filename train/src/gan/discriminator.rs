//! The common interface of the discriminators.

use candle_core::Tensor;

/// Slope of every leaky ReLU of the discriminators.
pub(super) const SLOPE: f64 = 0.2;

/// A network that tells real images from generated ones.
pub trait Discriminator: Send + Sync {
    /// Logits that images (N, 3, H, W), 0 to 1, are real, in training.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor>;
}
