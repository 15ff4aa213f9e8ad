//! A test image for networks that start training close to bilinear upscaling.

use candle_core::{Device, Tensor};

/// Its sides.
const SIDE: usize = 24;

/// (1, 3, 24, 24): a horizontal ramp, a vertical one and a constant.
pub(super) fn image() -> Tensor {
    let samples = (0..3 * SIDE * SIDE).map(|i| {
        let (plane, y, x) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
        [x as f32 / 30.0 + 0.1, y as f32 / 30.0 + 0.1, 0.7][plane]
    });
    let image = Tensor::from_iter(samples, &Device::Cpu).unwrap();
    image.reshape((1, 3, SIDE, SIDE)).unwrap()
}
