//! Bicubic upscaling as convolutions.

use super::Conv;
use crate::frame::resample::{PHASE_REACH, mirror, phases};
use crate::ops::{Activation, Border, ConvSpec};
use candle_core::{Device, Result, Tensor};

/// Upscales one plane by an integer factor, as [`Resampler`] does (Keys cubic,
/// a = -0.5, mirrored border), on tensors: differentiable, on any device, and
/// with the same result for a sample in every crop that holds its 2 neighbours
/// on each side.
///
/// [`Resampler`]: crate::frame::resample::Resampler
#[derive(Debug, Clone)]
pub struct Bicubic {
    /// Interpolates rows.
    down: Conv,
    /// Interpolates columns of each of those.
    across: Conv,
}

impl Bicubic {
    /// Upscaling by `factor`.
    ///
    /// # Errors
    ///
    /// The device is out of memory.
    pub fn new(factor: usize, device: &Device) -> Result<Self> {
        let taps: Vec<f32> = phases(factor).flatten().map(|w| w as f32).collect();
        let count = 2 * PHASE_REACH + 1;
        let conv = |weight, groups| Conv {
            weight,
            bias: None,
            spec: ConvSpec {
                border: Border::Valid,
                activation: Activation::None,
                groups,
                ..ConvSpec::default()
            },
        };
        let across = taps.repeat(factor);
        Ok(Self {
            down: conv(Tensor::from_vec(taps, (factor, 1, count, 1), device)?, 1),
            across: conv(
                Tensor::from_vec(across, (factor * factor, 1, 1, count), device)?,
                factor,
            ),
        })
    }

    /// (N, 1, H, W) in, (N, r * r, H, W) out: the upscaled image before a pixel
    /// shuffle, channel `i * r + j` for row i, column j of each block.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = mirrored(&mirrored(x, 2)?, 3)?;
        self.across.forward(&self.down.forward(&x)?)
    }
}

/// Pads a dimension by reflection at both ends (edge sample repeated).
fn mirrored(x: &Tensor, dim: usize) -> Result<Tensor> {
    let (len, reach) = (x.dim(dim)?, PHASE_REACH as i64);
    let indices = (-reach..len as i64 + reach).map(|i| mirror(i, len) as u32);
    let indices = Tensor::from_iter(indices, x.device())?;
    x.index_select(&indices, dim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::resample::Resampler;
    use candle_nn::ops::pixel_shuffle;

    fn upscaled(samples: &[f32], (width, height): (usize, usize), factor: usize) -> Vec<f32> {
        let x = Tensor::from_slice(samples, (1, 1, height, width), &Device::Cpu).unwrap();
        let y = Bicubic::new(factor, &Device::Cpu).unwrap();
        let y = pixel_shuffle(&y.forward(&x).unwrap(), factor).unwrap();
        y.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn samples(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 67 % 256) as f32 / 255.0).collect()
    }

    #[test]
    fn equals_the_resampler() {
        for factor in 2..=8 {
            for (width, height) in [(13, 9), (1, 1), (2, 5), (3, 1)] {
                let samples = samples(width * height);
                let to = (factor * width, factor * height);
                let expected = Resampler::resize((width, height), to).apply(&samples);
                let got = upscaled(&samples, (width, height), factor);
                for (got, expected) in got.iter().zip(&expected) {
                    assert!((got - expected).abs() < 1e-6, "x{factor} {width}x{height}");
                }
            }
        }
    }

    #[test]
    fn is_the_same_in_any_crop() {
        let (size, factor) = (16, 3);
        let full = samples(size * size);
        let output = upscaled(&full, (size, size), factor);
        // Columns 4 to 16, all rows: those from column 6 on have all neighbours.
        let rows = full.chunks_exact(size);
        let part: Vec<f32> = rows.flat_map(|row| row[4..].to_vec()).collect();
        let part_output = upscaled(&part, (size - 4, size), factor);
        let rows = output.chunks_exact(factor * size);
        for (row, part) in rows.zip(part_output.chunks_exact(factor * (size - 4))) {
            assert_eq!(row[factor * 6..], part[factor * 2..]);
        }
    }
}
