//! Losses: means over all samples of a batch.

pub mod features;
pub mod imagenet;

use crate::recipe::Loss;
use candle_core::{Device, Result, Tensor, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use srfilter::ops::{log, separable};

/// Epsilon of the Charbonnier loss (Lai et al., CVPR 2017).
const CHARBONNIER_EPS: f64 = 1e-3;

/// Bounds the PSNR of an exact batch to 100 dB.
const PSNR_EPS: f64 = 1e-10;

/// Decibels per natural logarithm of the squared error.
const DECIBELS: f64 = 10.0 / std::f64::consts::LN_10;

/// Samples on either side of the middle of SSIM's window, and the standard
/// deviation of its weights.
const SSIM_REACH: usize = 5;
const SSIM_SIGMA: f64 = 1.5;

/// SSIM's guards against division by zero: (0.01)^2 and (0.03)^2 of the range.
const SSIM_GUARDS: [f64; 2] = [1e-4, 9e-4];

/// The part of the images that perceptual and adversarial losses see in a step.
#[derive(Debug, Clone, Copy)]
pub struct Shift {
    /// Samples less in height and width.
    pub samples: usize,
    /// What the place follows from.
    pub seed: u32,
    /// The step.
    pub step: u64,
}

impl Shift {
    /// The same part of images (N, C, H, W).
    ///
    /// # Errors
    ///
    /// Images that are not larger than the shift.
    pub fn of<const N: usize>(self, images: [&Tensor; N]) -> Result<[Tensor; N]> {
        let Self { samples, .. } = self;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.into());
        rng.set_stream(self.step);
        let [top, left] = [0; 2].map(|_| rng.random_range(0..=samples));
        let mut parts = images.map(Tensor::clone);
        for part in &mut parts {
            let (_, _, height, width) = part.dims4()?;
            if height.min(width) <= samples {
                bail!("shift: {samples} samples less than {width}x{height} leave nothing")
            }
            *part = part
                .narrow(2, top, height - samples)?
                .narrow(3, left, width - samples)?;
        }
        Ok(parts)
    }
}

/// How strong a grid the output has, a scalar: the variance of the mean error over the phases of a
/// pixel shuffle by `factor`, a mean over images and channels (N, C, H, W). 0 for errors that do not
/// depend on the phase.
///
/// # Errors
///
/// Tensors of different shapes, images smaller than `factor`.
pub fn grid(output: &Tensor, target: &Tensor, factor: usize) -> Result<Tensor> {
    let error = (output - target)?;
    let (batch, channels, height, width) = error.dims4()?;
    let (rows, columns) = (height / factor, width / factor);
    if rows == 0 || columns == 0 {
        bail!("{width}x{height} is smaller than {factor}x{factor}")
    }
    let error = error.narrow(2, 0, rows * factor)?;
    let error = error.narrow(3, 0, columns * factor)?.contiguous()?;
    let by_phase = error.reshape(&[batch * channels, rows, factor, columns, factor])?;
    let means = by_phase.mean(3)?.mean(1)?.flatten_from(1)?;
    let difference = means.broadcast_sub(&means.mean_keepdim(1)?)?;
    difference.sqr()?.mean_all()
}

impl Loss {
    /// The loss of `output` against `target`, a scalar.
    ///
    /// # Errors
    ///
    /// Tensors of different shapes, or too small ones.
    pub fn of(self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        let difference = (output - target)?;
        match self {
            Self::Mse => difference.sqr()?.mean_all(),
            Self::L1 => difference.abs()?.mean_all(),
            Self::Charbonnier => {
                let square = CHARBONNIER_EPS * CHARBONNIER_EPS;
                (difference.sqr()? + square)?.sqrt()?.mean_all()
            }
            Self::Dssim => dssim(output, target),
            Self::Psnr => log(&(difference.sqr()?.mean_all()? + PSNR_EPS)?)? * DECIBELS,
        }
    }
}

/// (1 - SSIM) / 2 of samples from 0 to 1: Gaussian windows of 11x11, edges
/// mirrored, as torchmetrics computes it.
///
/// Zhou Wang et al., "Image Quality Assessment: From Error Visibility to
/// Structural Similarity", IEEE Transactions on Image Processing, 2004.
fn dssim(output: &Tensor, target: &Tensor) -> Result<Tensor> {
    let (batch, _, height, width) = output.dims4()?;
    let window = |length: usize| {
        let windows = windows(length)?.to_dtype(output.dtype())?;
        windows.to_device(output.device())
    };
    let [columns, rows] = [window(height)?, window(width)?];
    let products = [output.sqr()?, target.sqr()?, (output * target)?];
    let all: Vec<&Tensor> = [output, target].into_iter().chain(&products).collect();
    let means = separable(&Tensor::cat(&all, 0)?, &columns, &rows)?;
    let mean = |i: usize| means.narrow(0, i * batch, batch);
    let (x, y) = (mean(0)?, mean(1)?);
    let (xx, yy, xy) = (x.sqr()?, y.sqr()?, (&x * &y)?);
    // By rounding, a variance may be negative.
    let variances = ((mean(2)? - &xx)?.relu()? + (mean(3)? - &yy)?.relu()?)?;
    let covariance = (mean(4)? - &xy)?;
    let [c1, c2] = SSIM_GUARDS;
    let above = (((xy * 2.0)? + c1)? * ((covariance * 2.0)? + c2)?)?;
    let below = ((xx + yy)? + c1)? * (variances + c2)?;
    ((above / below?)?.mean_all()? * -0.5)? + 0.5
}

/// The means in Gaussian windows around each of `length` samples, as a matrix.
fn windows(length: usize) -> Result<Tensor> {
    if length <= SSIM_REACH {
        bail!("dssim needs patches of more than {SSIM_REACH} samples per side, not {length}")
    }
    let reach = SSIM_REACH as i64;
    let weight = |i: i64| libm::exp(-0.5 * (i as f64 / SSIM_SIGMA).powi(2));
    let sum: f64 = (-reach..=reach).map(weight).sum();
    let mut weights = vec![0f32; length * length];
    for (center, row) in weights.chunks_exact_mut(length).enumerate() {
        for i in -reach..=reach {
            let (at, last) = (center as i64 + i, length as i64 - 1);
            let mirrored = last - (last - at.abs()).abs();
            row[mirrored as usize] += (weight(i) / sum) as f32;
        }
    }
    Tensor::from_vec(weights, (length, length), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn known_values() {
        let output = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let target = Tensor::new(&[4f32, 2.0], &Device::Cpu).unwrap();
        let value = |loss: Loss| {
            loss.of(&output, &target)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert_eq!((value(Loss::Mse), value(Loss::L1)), (4.5, 1.5));
        assert!((value(Loss::Charbonnier) - 1.5005).abs() < 1e-5);
        // 10 log10(4.5), and no error at all.
        assert!((value(Loss::Psnr) - 6.53213).abs() < 1e-4);
        let none = Loss::Psnr.of(&target, &target).unwrap();
        assert!((none.to_scalar::<f32>().unwrap() + 100.0).abs() < 1e-3);
    }

    /// A scale whose errors are larger pulls no harder than another.
    #[test]
    fn the_gradient_of_psnr_does_not_grow_with_the_error() {
        let gradient = |size: f32| {
            let output = Var::new(&[0.5 + size, 0.5 - size], &Device::Cpu).unwrap();
            let target = Tensor::new(&[0.5f32, 0.5], &Device::Cpu).unwrap();
            let loss = Loss::Psnr.of(&output, &target).unwrap();
            let gradients = loss.backward().unwrap();
            gradients.get(&output).unwrap().to_vec1::<f32>().unwrap()[0] * size
        };
        assert!((gradient(0.1) - gradient(0.01)).abs() < 1e-3);
    }

    /// Planes without structure: SSIM is that of their means alone.
    #[test]
    fn dssim_of_flat_planes() {
        let plane = |v: f32| Tensor::full(v, (1, 1, 8, 9), &Device::Cpu).unwrap();
        let value = |a, b| {
            let loss = Loss::Dssim.of(&plane(a), &plane(b)).unwrap();
            loss.to_scalar::<f32>().unwrap()
        };
        assert!(value(0.5, 0.5).abs() < 1e-6);
        let ssim = (2.0 * 0.2 * 0.4 + 1e-4) / (0.2 * 0.2 + 0.4 * 0.4 + 1e-4);
        assert!((value(0.2, 0.4) - (1.0 - ssim) / 2.0).abs() < 1e-4);
        let small = plane(0.5).narrow(2, 0, 5).unwrap();
        let error = Loss::Dssim.of(&small, &small).unwrap_err().to_string();
        assert!(error.contains("more than 5"), "{error}");
    }

    /// Images are cut alike, and over the steps at all places.
    #[test]
    fn images_shift_from_step_to_step() {
        let samples = Tensor::arange(0f32, 3.0 * 64.0, &Device::Cpu).unwrap();
        let image = samples.reshape((1, 3, 8, 8)).unwrap();
        let first = |image: &Tensor| image.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        let shift = |samples, step| Shift {
            samples,
            seed: 1,
            step,
        };
        let places: std::collections::BTreeSet<u32> = (0..200)
            .map(|step| {
                let [a, b] = shift(3, step).of([&image, &image]).unwrap();
                assert_eq!(a.dims(), [1, 3, 5, 5]);
                assert_eq!(first(&a), first(&b));
                first(&a) as u32
            })
            .collect();
        let all = (0..4).flat_map(|y| (0..4).map(move |x| 8 * y + x));
        assert_eq!(places, all.collect());
        let [whole] = shift(0, 7).of([&image]).unwrap();
        assert_eq!(whole.dims(), image.dims());
        let error = shift(8, 0).of([&image]).unwrap_err().to_string();
        assert!(error.contains("shift: 8"), "{error}");
    }

    /// Sees errors that depend on the phase, and no others, and has their gradient.
    #[test]
    fn a_grid_is_seen() {
        let image = |by_phase: f32, ramp: f32| {
            let samples = (0..8 * 6).map(|i| {
                let (y, x) = (i / 6, i % 6);
                let corner = f32::from(u8::from(y % 2 == 1 && x % 2 == 1));
                by_phase * corner + ramp * (y / 2) as f32
            });
            Tensor::from_iter(samples, &Device::Cpu)
                .unwrap()
                .reshape((1, 1, 8, 6))
                .unwrap()
        };
        let target = image(0.0, 0.0);
        let value = |output: &Tensor, factor| {
            let loss = grid(output, &target, factor).unwrap();
            loss.to_scalar::<f32>().unwrap()
        };
        assert!(value(&image(0.0, 0.3), 2) < 1e-12);
        // Means of 0, 0, 0 and 0.4, less 0.1: (3 * 0.01 + 0.09) / 4.
        assert!((value(&image(0.4, 0.3), 2) - 0.03).abs() < 1e-6);
        let output = Var::from_tensor(&image(0.4, 0.0)).unwrap();
        let gradients = grid(&output, &target, 2).unwrap().backward().unwrap();
        let gradient = gradients.get(&output).unwrap().flatten_all().unwrap();
        let gradient = gradient.to_vec1::<f32>().unwrap();
        // 2 / 4 * 0.3 over the 12 samples of the corner, and -0.1 elsewhere.
        assert!((gradient[7] - 0.0125).abs() < 1e-6, "{gradient:?}");
        assert!(
            (gradient[0] + 0.5 * 0.1 / 12.0).abs() < 1e-6,
            "{gradient:?}"
        );
        assert!(grid(&output, &target, 7).is_err());
    }
}
