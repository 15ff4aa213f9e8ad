//! ImageNet's normalisation of images.

use candle_core::Tensor;

/// Mean and standard deviation of R, G and B over ImageNet.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// (N, 3, H, W), 0 to 1, normalised by mean and spread of ImageNet.
///
/// # Errors
///
/// A tensor of another shape.
pub fn normalised(image: &Tensor) -> candle_core::Result<Tensor> {
    let [mean, spread] = IMAGENET;
    scaled(image, &spread.map(|s| 1.0 / s), &mean)
}

/// `(x - mean) * factor`, channel by channel.
pub(crate) fn scaled(
    x: &Tensor,
    factor: &[f32; 3],
    mean: &[f32; 3],
) -> candle_core::Result<Tensor> {
    let plane = |values: &[f32; 3]| Tensor::new(values, x.device())?.reshape((1, 3, 1, 1));
    x.broadcast_sub(&plane(mean)?)?
        .broadcast_mul(&plane(factor)?)
}
