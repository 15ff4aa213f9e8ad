//! Real-ESRGAN's second-order degradation: blur, resizing, noise and JPEG,
//! twice, at random strengths, so that a network learns to restore images from
//! the web.
//!
//! Xintao Wang et al., "Real-ESRGAN: Training Real-World Blind
//! Super-Resolution with Pure Synthetic Data", ICCV 2021 workshops.

use super::kernel;
use super::raster::{Kernel, Raster, Resize};
use crate::params::normal;
use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageFormat};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use srfilter::frame::to_u8;
use std::collections::HashSet;
use std::ops::Range;

/// Weights of R, G and B in the grey that noise may go by.
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

/// Probability that noise is the same in all planes.
const GREY_SHARE: f64 = 0.4;

/// JPEG qualities, of 100.
const QUALITY: Range<f64> = 30.0..95.0;

/// Largest 8-bit value.
const PEAK: f32 = 255.0;

/// One of the two rounds.
struct Round {
    /// Probability of a blur.
    blurred: f64,
    /// The largest standard deviation of its kernel.
    sigma: f64,
    /// Probabilities of upscaling and of downscaling, with the ranges of their
    /// factors.
    grows: (f64, Range<f64>),
    shrinks: (f64, Range<f64>),
    /// Standard deviation of Gaussian noise in 8-bit steps.
    gaussian: Range<f64>,
    /// Strength of Poisson's.
    poisson: Range<f64>,
}

const FIRST: Round = Round {
    blurred: 1.0,
    sigma: 3.0,
    grows: (0.2, 1.0..1.5),
    shrinks: (0.7, 0.15..1.0),
    gaussian: 1.0..30.0,
    poisson: 0.05..3.0,
};

const SECOND: Round = Round {
    blurred: 0.8,
    sigma: 1.5,
    grows: (0.3, 1.0..1.2),
    shrinks: (0.4, 0.3..1.0),
    gaussian: 1.0..25.0,
    poisson: 0.05..2.5,
};

/// [`second_order`] by random numbers of their own, which depend on `seed` alone.
///
/// # Errors
///
/// An image that JPEG cannot hold.
pub fn second_order_by_seed(large: &Raster, size: (usize, usize), seed: u64) -> Result<Raster> {
    second_order(large, size, &mut ChaCha8Rng::seed_from_u64(seed))
}

/// Degrades an image to another size, as a function of the random numbers.
///
/// # Errors
///
/// An image that JPEG cannot hold.
pub fn second_order(large: &Raster, size: (usize, usize), rng: &mut ChaCha8Rng) -> Result<Raster> {
    let mut image = FIRST.applied(large, large.size, rng)?;
    image = jpeg(&image, quality(rng))?;
    image = SECOND.applied(&image, size, rng)?;
    let end = kernel::last(rng);
    let settle = |image: &Raster, rng: &mut ChaCha8Rng| {
        let resized = image.resized(size, random_resize(rng));
        let mut result = match &end {
            Some(kernel) => resized.filtered(kernel),
            None => resized,
        };
        result.clamp();
        result
    };
    let mut result = if rng.random::<bool>() {
        let settled = settle(&image, rng);
        jpeg(&settled, quality(rng))?
    } else {
        let stored = jpeg(&image, quality(rng))?;
        settle(&stored, rng)
    };
    result.round();
    Ok(result)
}

impl Round {
    /// Blur, resizing (to a random multiple of `size`) and noise.
    fn applied(
        &self,
        image: &Raster,
        size: (usize, usize),
        rng: &mut ChaCha8Rng,
    ) -> Result<Raster> {
        let mut result = image.clone();
        if rng.random::<f64>() < self.blurred {
            let kernel: Kernel = kernel::random(rng, self.sigma);
            result = result.filtered(&kernel);
        }
        let factor = self.factor(rng);
        let scaled = |length: usize| ((length as f64 * factor) as usize).max(1);
        result = result.resized((scaled(size.0), scaled(size.1)), random_resize(rng));
        result.clamp();
        let grey = rng.random::<f64>() < GREY_SHARE;
        if rng.random::<bool>() {
            let sigma = rng.random_range(self.gaussian.clone()) as f32 / PEAK;
            gaussian_noise(&mut result, sigma, grey, rng);
        } else {
            let strength = rng.random_range(self.poisson.clone()) as f32;
            poisson_noise(&mut result, strength, grey, rng);
        }
        Ok(result)
    }

    fn factor(&self, rng: &mut ChaCha8Rng) -> f64 {
        let ball = rng.random::<f64>();
        if ball < self.grows.0 {
            rng.random_range(self.grows.1.clone())
        } else if ball < self.grows.0 + self.shrinks.0 {
            rng.random_range(self.shrinks.1.clone())
        } else {
            1.0
        }
    }
}

fn random_resize(rng: &mut ChaCha8Rng) -> Resize {
    let all = [Resize::Area, Resize::Bilinear, Resize::Bicubic];
    all[rng.random_range(0..all.len())]
}

fn quality(rng: &mut ChaCha8Rng) -> u8 {
    rng.random_range(QUALITY) as u8
}

/// Adds noise of one standard deviation, and clips.
fn gaussian_noise(image: &mut Raster, sigma: f32, grey: bool, rng: &mut ChaCha8Rng) {
    let mut shared: Option<Vec<f32>> = None;
    for plane in &mut image.planes {
        let mut drawn = || -> Vec<f32> {
            let one = |_| sigma * normal(rng) as f32;
            (0..plane.len()).map(one).collect()
        };
        let noise = match shared.take().filter(|_| grey) {
            Some(noise) => noise,
            None => drawn(),
        };
        plane.iter_mut().zip(&noise).for_each(|(v, n)| *v += n);
        shared = Some(noise);
    }
    image.clamp();
}

/// Adds shot noise times `strength`, and clips.
fn poisson_noise(image: &mut Raster, strength: f32, grey: bool, rng: &mut ChaCha8Rng) {
    let mut clean = image.clone();
    if let ([r, g, b], true) = (clean.planes.as_slice(), grey) {
        let samples = r.iter().zip(g).zip(b);
        let samples = samples.map(|((r, g), b)| GREY[0] * r + GREY[1] * g + GREY[2] * b);
        clean.planes = vec![samples.collect()];
    }
    clean.round();
    // As many photons at full light as the image has distinct levels, up to
    // a power of two.
    let levels: HashSet<u8> = clean
        .planes
        .iter()
        .flatten()
        .map(|v| to_u8(v * PEAK))
        .collect();
    let photons = levels.len().next_power_of_two() as f32;
    let mut noise = clean.clone();
    let distribution = |level: u8| match levels.contains(&level) {
        true => poisson(f64::from(level) / f64::from(PEAK) * f64::from(photons)),
        false => Vec::new(),
    };
    let distributions: Vec<_> = (0..=u8::MAX).map(distribution).collect();
    for v in noise.planes.iter_mut().flatten() {
        let distribution = &distributions[usize::from(to_u8(*v * PEAK))];
        let drawn = rng.random::<f64>();
        let counted = distribution.partition_point(|&below| below <= drawn);
        *v = strength * (counted as f32 / photons - *v);
    }
    let last = noise.planes.len() - 1;
    for (i, plane) in image.planes.iter_mut().enumerate() {
        let noise = &noise.planes[i.min(last)];
        plane.iter_mut().zip(noise).for_each(|(v, n)| *v += n);
    }
    image.clamp();
}

/// The probabilities of counting at most 0, 1, 2, ... where `expected`, some
/// hundreds at most, are expected: Poisson's distribution, as far as it matters.
fn poisson(expected: f64) -> Vec<f64> {
    const LEAST: f64 = 1e-17;
    let mut probability = libm::exp(-expected);
    let mut at_most = vec![probability];
    while probability > LEAST || at_most.len() as f64 <= expected {
        probability *= expected / at_most.len() as f64;
        at_most.push(at_most[at_most.len() - 1] + probability);
    }
    at_most
}

/// The image after JPEG of that quality. Chroma has every sample: `image`
/// writes no other.
fn jpeg(image: &Raster, quality: u8) -> Result<Raster> {
    let (width, height) = image.size;
    let count = image.planes.len();
    let mut samples = vec![0u8; count * width * height];
    for (i, plane) in image.planes.iter().enumerate() {
        let targets = samples.iter_mut().skip(i).step_by(count);
        targets.zip(plane).for_each(|(t, v)| *t = to_u8(v * PEAK));
    }
    let color = match count {
        1 => ExtendedColorType::L8,
        _ => ExtendedColorType::Rgb8,
    };
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, quality)
        .encode(&samples, width as u32, height as u32, color)
        .context("cannot encode a JPEG")?;
    let decoded = image::load_from_memory_with_format(&file, ImageFormat::Jpeg);
    let decoded = decoded.context("cannot decode a JPEG")?;
    let samples = match count {
        1 => decoded.into_luma8().into_raw(),
        _ => decoded.into_rgb8().into_raw(),
    };
    let plane = |i: usize| {
        let samples = samples.iter().skip(i).step_by(count);
        samples.map(|&v| f32::from(v) / PEAK).collect()
    };
    Ok(Raster {
        size: image.size,
        planes: (0..count).map(plane).collect(),
    })
}

/// The degradation of `Ling1304/SRCNN-Implementation`: a slight 3x3 blur, then
/// OpenCV's bicubic without antialiasing; 8 bit.
pub fn opencv(large: &Raster, size: (usize, usize)) -> Raster {
    /// OpenCV's standard deviation for a side of 3.
    const SIGMA: f64 = 0.8;
    let mut soft = large.blurred(&super::raster::gaussian(3, SIGMA));
    soft.round();
    let mut small = soft.resized(size, Resize::Bicubic);
    small.round();
    small
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::TrainingImage;
    use crate::data::synthetic;
    use crate::degrade::raster::distance;
    use rand::SeedableRng;
    use srfilter::models::Channels;

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    fn flat(value: f32, planes: usize) -> Raster {
        Raster {
            size: (200, 150),
            planes: vec![vec![value; 200 * 150]; planes],
        }
    }

    /// Mean, standard deviation and correlation of the first two planes.
    fn statistics(image: &Raster) -> (f32, f32, f32) {
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
        let [a, b] = [0, 1].map(|i| {
            let plane = &image.planes[i.min(image.planes.len() - 1)];
            let mean = mean(plane);
            plane.iter().map(|v| v - mean).collect::<Vec<f32>>()
        });
        let product = |x: &[f32], y: &[f32]| {
            let products: Vec<f32> = x.iter().zip(y).map(|(x, y)| x * y).collect();
            mean(&products)
        };
        let (aa, bb, ab) = (product(&a, &a), product(&b, &b), product(&a, &b));
        (mean(&image.planes[0]), aa.sqrt(), ab / (aa * bb).sqrt())
    }

    #[test]
    fn gaussian_noise_has_its_spread_and_its_colour() {
        for (grey, correlation) in [(false, 0.0), (true, 1.0)] {
            let mut image = flat(0.5, 3);
            gaussian_noise(&mut image, 0.05, grey, &mut rng(1));
            let (mean, spread, found) = statistics(&image);
            assert!((mean - 0.5).abs() < 1e-3 && (spread - 0.05).abs() < 1e-3);
            assert!((found - correlation).abs() < 0.02, "{found}");
        }
        let mut dark = flat(0.0, 1);
        gaussian_noise(&mut dark, 0.1, true, &mut rng(1));
        assert!(dark.planes[0].iter().all(|v| *v >= 0.0));
    }

    /// On an image of 16 levels light is counted in sixteenths: the variance
    /// of a level is itself over 16, times the strength squared.
    #[test]
    fn poisson_noise_grows_with_the_light() {
        let mut image = flat(0.0, 3);
        for plane in &mut image.planes {
            for (i, v) in plane.iter_mut().enumerate() {
                *v = (i / 200 * 16 / 150) as f32 / 16.0;
            }
        }
        for (grey, correlation) in [(false, 0.0), (true, 1.0)] {
            let mut noisy = image.clone();
            poisson_noise(&mut noisy, 0.5, grey, &mut rng(2));
            for level in [4usize, 8] {
                let from = (level * 150).div_ceil(16);
                let part = noisy.crop(0, from, 200, 9);
                let (mean, spread, found) = statistics(&part);
                let light = level as f32 / 16.0;
                assert!((mean - light).abs() < 0.01, "{mean} {light}");
                let expected = 0.5 * (light / 16.0).sqrt();
                assert!((spread / expected - 1.0).abs() < 0.1, "{spread} {expected}");
                assert!((found - correlation).abs() < 0.1, "{found}");
            }
        }
    }

    fn drawing() -> Raster {
        let image = synthetic::image(1, 0);
        let image = TrainingImage::new("d", &image, Channels::Rgb, 1.0);
        image.window(0, 0, 0, image.size)
    }

    #[test]
    fn jpeg_loses_more_at_lower_quality() {
        let image = drawing();
        let losses = [30, 60, 95].map(|quality| distance(&jpeg(&image, quality).unwrap(), &image));
        assert!(losses[0] > losses[1] && losses[1] > losses[2], "{losses:?}");
        assert!(losses[2] > 0.001 && losses[0] < 0.1, "{losses:?}");
        let mut grey = image;
        grey.planes.truncate(1);
        assert!(distance(&jpeg(&grey, 90).unwrap(), &grey) < 0.03);
    }

    #[test]
    fn the_chain_depends_on_its_random_numbers_only() {
        let large = drawing();
        let small = |seed| second_order(&large, (64, 64), &mut rng(seed)).unwrap();
        assert_eq!(small(3), small(3));
        assert_ne!(small(3), small(4));
        assert_eq!((small(5).size, small(5).planes.len()), ((64, 64), 3));
    }

    /// What comes out resembles the plainly downscaled image, much more than it
    /// resembles another, and is worse than it in every sample drawn.
    #[test]
    fn the_chain_keeps_what_is_to_be_seen() {
        let large = drawing();
        let plain = large.resized((64, 64), Resize::Area);
        let turned = plain.moved(32, 32);
        let off: Vec<f32> = (0..12)
            .map(|seed| {
                let small = second_order(&large, (64, 64), &mut rng(seed)).unwrap();
                assert!(
                    small
                        .planes
                        .iter()
                        .flatten()
                        .all(|v| (0.0..=1.0).contains(v))
                );
                let (near, far) = (distance(&small, &plain), distance(&small, &turned));
                assert!(near < 0.7 * far, "{seed}: {near} {far}");
                near
            })
            .collect();
        let (least, most) = (
            off.iter().fold(1f32, |a, &b| a.min(b)),
            off.iter().fold(0f32, |a, &b| a.max(b)),
        );
        assert!(least > 0.01 && most > 1.5 * least, "{off:?}");
    }

    #[test]
    fn factors_keep_their_shares() {
        let mut rng = rng(7);
        for round in [FIRST, SECOND] {
            let factors: Vec<f64> = (0..2000).map(|_| round.factor(&mut rng)).collect();
            let share = |of: &dyn Fn(f64) -> bool| {
                factors.iter().filter(|&&f| of(f)).count() as f64 / factors.len() as f64
            };
            assert!((share(&|f| f > 1.0) - round.grows.0).abs() < 0.04);
            assert!((share(&|f| f < 1.0) - round.shrinks.0).abs() < 0.04);
            let (low, high) = (round.shrinks.1.start, round.grows.1.end);
            assert!(factors.iter().all(|&f| f >= low && f < high));
        }
    }

    /// A checkerboard of single samples: the blur makes it grey, and what is
    /// left is not averaged away.
    #[test]
    fn the_seeds_shrinking_leaves_samples_out() {
        let columns: Vec<f32> = (0..64).map(|x| (x / 2 % 2) as f32).collect();
        let large = Raster {
            size: (64, 8),
            planes: vec![columns.repeat(8)],
        };
        let small = opencv(&large, (16, 2));
        let mean = large.resized((16, 2), Resize::Area);
        assert_eq!(small.size, (16, 2));
        assert!(mean.planes[0].iter().all(|v| (v - 0.5).abs() < 1e-6));
        assert!(distance(&small, &mean) < 0.01);
        let shifted = opencv(&large.moved(1, 0), (16, 2));
        assert!(distance(&shifted, &mean) > 0.2);
    }
}
