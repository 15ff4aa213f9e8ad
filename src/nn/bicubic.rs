//! Bicubic enlargement as convolutions.

use super::Conv;
use crate::frame::resample::{PHASE_REACH, mirror, phases};
use crate::ops::{Activation, Border, ConvSpec};
use candle_core::{Device, Result, Tensor};

/// Enlarges one plane by a whole factor, as [`Resampler`] does (Keys cubic,
/// a = -0.5, mirrored border), on tensors: with gradients, on any device, and
/// with the same result for a sample in any part of a picture that holds its
/// surroundings of 2 samples.
///
/// [`Resampler`]: crate::frame::resample::Resampler
#[derive(Debug, Clone)]
pub struct Bicubic {
    /// Makes the rows between rows.
    down: Conv,
    /// Makes the columns between columns, of each of those.
    across: Conv,
}

impl Bicubic {
    /// Enlargement by `factor`.
    ///
    /// # Errors
    ///
    /// A device without memory.
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

    /// (N, 1, H, W) in, (N, r * r, H, W) out: the enlarged picture as pixel
    /// shuffle takes it, channel `i * r + j` for row i, column j of each block.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = mirrored(&mirrored(x, 2)?, 3)?;
        self.across.forward(&self.down.forward(&x)?)
    }
}

/// Continues a dimension at both ends by its mirror image.
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

    fn enlarged(samples: &[f32], (width, height): (usize, usize), factor: usize) -> Vec<f32> {
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
                let got = enlarged(&samples, (width, height), factor);
                for (got, expected) in got.iter().zip(&expected) {
                    assert!((got - expected).abs() < 1e-6, "x{factor} {width}x{height}");
                }
            }
        }
    }

    #[test]
    fn is_the_same_in_any_part() {
        let (size, factor) = (16, 3);
        let whole = samples(size * size);
        let made = enlarged(&whole, (size, size), factor);
        // Columns 4 to 16, all rows: those from column 6 on have their surroundings.
        let rows = whole.chunks_exact(size);
        let part: Vec<f32> = rows.flat_map(|row| row[4..].to_vec()).collect();
        let made_part = enlarged(&part, (size - 4, size), factor);
        let rows = made.chunks_exact(factor * size);
        for (row, part) in rows.zip(made_part.chunks_exact(factor * (size - 4))) {
            assert_eq!(row[factor * 6..], part[factor * 2..]);
        }
    }
}
