//! Downscales images, upscales them with models, and compares.

use crate::damage::adapted;
use crate::protocol::{Degradation, Method, Protocol};
use crate::quality::{Perceptual, Quality};
use crate::upscale_image::upscale_image;
use anyhow::{Result, anyhow, bail};
use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleSpec, Upscaler};
use srfilter::frame::resample::{Resampler, pillow};
use srfilter::frame::{Image, PixelFormat};
use srfilter::metrics;
use srfilter::models::Channels;
use srfilter::weights::Model;
use srfilter_train::degrade::chain::second_order_by_seed;
use srfilter_train::degrade::raster::Raster;
use srfilter_train::fnv;
use std::sync::Arc;

/// The smallest side that SSIM is defined for, in pixels.
const SSIM_SIDE: usize = 11;

/// The smallest side whose features have a sample after all poolings, in pixels.
const FEATURES_SIDE: usize = 32;

/// Largest 8-bit value.
const PEAK: f32 = 255.0;

/// The compared images, 8 bit.
pub(crate) struct Compared {
    pub(crate) quality: Quality,
    /// The reference: luma or RGB of the original.
    pub(crate) reference: Image,
    pub(crate) low: Image,
    /// The low-resolution image in all its channels, where another degradation than bicubic computed it.
    pub(crate) degraded: Option<Image>,
    pub(crate) bicubic: Image,
    pub(crate) result: Image,
}

/// Border in pixels that is not measured, as results there depend on the padding.
fn shaved(scale: Scale, protocol: Protocol) -> usize {
    match protocol {
        Protocol::Y => scale.factor().ceil() as usize,
        Protocol::Rgb => 0,
    }
}

/// The upper left part whose sides, divided by the scale, are whole numbers.
pub(crate) fn crop(image: &Image, scale: Scale) -> Image {
    let whole = scale.num() as usize;
    let side = |length: usize| length - length % whole;
    image.crop(0, 0, side(image.width), side(image.height))
}

/// Width and height of the downscaled image.
fn downscaled_size(image: &Image, scale: Scale) -> (usize, usize) {
    let side = |length: usize| length / scale.num() as usize * scale.den() as usize;
    (side(image.width), side(image.height))
}

impl Method {
    /// Ensures that an image is large enough to be measured.
    ///
    /// # Errors
    ///
    /// An image that is too small.
    pub(crate) fn check_size(&self, image: &Image, scale: Scale) -> Result<()> {
        let &Image { width, height, .. } = image;
        let whole = scale.num() as usize;
        let compared = SSIM_SIDE + 2 * shaved(scale, self.protocol);
        let least = match self.features {
            Some(_) => compared.max(FEATURES_SIDE),
            None => compared,
        };
        let least = least.next_multiple_of(whole);
        if width < least || height < least {
            bail!(
                "{width}x{height} pixels are too small to measure scale {scale}: \
                 each side must have at least {least}"
            );
        }
        Ok(())
    }

    /// Downscales an image, upscales it again and compares.
    pub(crate) fn compare(
        &self,
        original: &Image,
        model: &Arc<Model>,
        scale: Scale,
    ) -> Result<Compared> {
        let mut compared = match self.protocol {
            Protocol::Y => self.compare_luma(original, model, scale)?,
            Protocol::Rgb => self.compare_rgb(&original.to_rgb(), model, scale)?,
        };
        if let Some(features) = &self.features {
            let images = [tensor(&compared.result)?, tensor(&compared.bicubic)?];
            let distances = features.distances(&images, &tensor(&compared.reference)?)?;
            if let [distance, bicubic_distance] = distances[..] {
                compared.quality.perceptual = Some(Perceptual {
                    distance,
                    bicubic_distance,
                });
            }
        }
        Ok(compared)
    }

    /// The low-resolution image in all channels, if the degradation is not the protocol's bicubic.
    fn degraded(&self, original: &Image, scale: Scale) -> Result<Option<Image>> {
        if self.degradation == Degradation::Bicubic {
            return Ok(None);
        }
        let seed = fnv(&original.data) ^ fnv(scale.to_string());
        let scaled = |plane: Vec<f64>| plane.iter().map(|v| *v as f32 / PEAK).collect();
        let raster = Raster {
            size: (original.width, original.height),
            planes: planes(original).into_iter().map(scaled).collect(),
        };
        let size = downscaled_size(original, scale);
        let small = second_order_by_seed(&raster, size, seed)?;
        let wide = |plane: &Vec<f32>| plane.iter().map(|&v| f64::from(v * PEAK)).collect();
        let small: Vec<Vec<f64>> = small.planes.iter().map(wide).collect();
        Ok(Some(image(&small, size)))
    }

    /// Protocol y. A luma network gets downscaled luma, and luma is 8-bit as
    /// SRCNN's authors have it; an RGB network gets downscaled RGB, and luma of the
    /// results is not rounded, as is usual for such networks. Bicubic
    /// interpolation goes the same way, so that the two can be compared.
    fn compare_luma(&self, original: &Image, model: &Arc<Model>, scale: Scale) -> Result<Compared> {
        let (size, low_size) = (
            (original.width, original.height),
            downscaled_size(original, scale),
        );
        let (shrink, grow) = (
            Resampler::resize(size, low_size),
            Resampler::resize(low_size, size),
        );
        let in_channels = |image: &Image| match model.channels() {
            Channels::Luma => eight_bit_luma(image),
            Channels::Rgb => image.to_rgb(),
        };
        let degraded = self.degraded(original, scale)?;
        let original = in_channels(original);
        let low: Vec<Vec<f64>> = match &degraded {
            Some(low) => planes(&in_channels(low)),
            None => planes(&original)
                .into_iter()
                .map(|plane| self.rounded(shrink.apply(&plane)))
                .collect(),
        };
        let small = image(&low, low_size);
        let model = &adapted(model, self.damage, &small.frame()?)?;
        let bicubic: Vec<Vec<f64>> = low.iter().map(|plane| grow.apply(plane)).collect();
        let result = self.run_planes(&low, low_size, size, model, scale)?;
        let (bicubic, result) = (image(&bicubic, size), image(&result, size));
        let border = shaved(scale, self.protocol);
        let quality = |result| complete(luma_quality(&original, result, border));
        Ok(Compared {
            quality: Quality::new(quality(&result)?, quality(&bicubic)?),
            reference: original,
            low: small,
            degraded,
            bicubic,
            result,
        })
    }

    /// Upscales planes with the model.
    fn run_planes(
        &self,
        low: &[Vec<f64>],
        from: (usize, usize),
        to: (usize, usize),
        model: &Arc<Model>,
        scale: Scale,
    ) -> Result<Vec<Vec<f64>>> {
        let format = match model.channels() {
            Channels::Luma => PixelFormat::Gray8,
            Channels::Rgb => PixelFormat::Rgb,
        };
        let input = FrameSpec::new(format, from.0, from.1);
        let job = UpscaleSpec::scaled(input, scale).with_output(to.0, to.1);
        let mut upscaler = Upscaler::new(Arc::clone(model), job, &self.options)?;
        let narrow = |plane: &Vec<f64>| plane.iter().map(|&v| v as f32).collect();
        let result = upscaler.process_planes(&low.iter().map(narrow).collect::<Vec<_>>())?;
        let wide = |plane: Vec<f32>| plane.into_iter().map(f64::from).collect();
        Ok(result.into_iter().map(wide).collect())
    }

    /// Protocol rgb, as HyperSRCNN's authors measure.
    fn compare_rgb(&self, original: &Image, model: &Arc<Model>, scale: Scale) -> Result<Compared> {
        let (width, height) = downscaled_size(original, scale);
        let low = match self.degraded(original, scale)? {
            Some(low) => low,
            None => pillow(original, width, height),
        };
        let bicubic = pillow(&low, original.width, original.height);
        let model = &adapted(model, self.damage, &low.frame()?)?;
        let result = match model.cascade(scale).is_empty() {
            true => bicubic.clone(),
            false => upscale_image(&low, model, scale, &self.options)?,
        };
        Ok(Compared {
            quality: Quality::new(
                complete(rgb_quality(original, &result))?,
                complete(rgb_quality(original, &bicubic))?,
            ),
            reference: original.clone(),
            low,
            degraded: None,
            bicubic,
            result,
        })
    }

    /// PSNR and SSIM of a part of the compared images, to its edges; no SSIM
    /// where the part is too small for one.
    pub(crate) fn part(&self, reference: &Image, result: &Image) -> (f64, Option<f64>) {
        match self.protocol {
            Protocol::Y => luma_quality(reference, result, 0),
            Protocol::Rgb => rgb_quality(reference, result),
        }
    }

    /// Rounds downscaled samples where the method does.
    pub(crate) fn rounded(&self, mut plane: Vec<f64>) -> Vec<f64> {
        if self.round {
            plane.iter_mut().for_each(|v| *v = f64::from(to_u8(*v)));
        }
        plane
    }
}

/// PSNR and SSIM of luma without `border` samples on each side. There is no
/// SSIM of less than 11x11 samples.
fn luma_quality(a: &Image, b: &Image, border: usize) -> (f64, Option<f64>) {
    let (a, width) = metrics::shave(&luma(a), a.width, border);
    let (b, _) = metrics::shave(&luma(b), b.width, border);
    (metrics::psnr(&a, &b), metrics::ssim(&a, &b, width))
}

/// PSNR over all samples and scikit-image's SSIM, the channels' mean.
fn rgb_quality(a: &Image, b: &Image) -> (f64, Option<f64>) {
    let (a, b, width) = (planes(a), planes(b), a.width);
    let ssim = a
        .iter()
        .zip(&b)
        .map(|(a, b)| metrics::ssim_uniform(a, b, width));
    let sum: Option<f64> = ssim.sum();
    let psnr = metrics::psnr(&a.concat(), &b.concat());
    (psnr, sum.map(|sum| sum / a.len() as f64))
}

/// PSNR and SSIM; an error if SSIM is not defined.
fn complete((psnr, ssim): (f64, Option<f64>)) -> Result<(f64, f64)> {
    let ssim = ssim
        .ok_or_else(|| anyhow!("too small for SSIM, which needs {SSIM_SIDE}x{SSIM_SIDE} pixels"))?;
    Ok((psnr, ssim))
}

/// The channels of an image.
fn planes(image: &Image) -> Vec<Vec<f64>> {
    let channel = |i: usize| {
        let samples = image.data.iter().skip(i).step_by(image.channels);
        samples.map(|&v| f64::from(v)).collect()
    };
    (0..image.channels).map(channel).collect()
}

/// An image of rounded planes.
fn image(planes: &[Vec<f64>], (width, height): (usize, usize)) -> Image {
    let mut out = Image::new(width, height, planes.len());
    for (i, plane) in planes.iter().enumerate() {
        let targets = out.data.iter_mut().skip(i).step_by(planes.len());
        targets.zip(plane).for_each(|(t, &v)| *t = to_u8(v));
    }
    out
}

/// An image as a tensor (1, 3, H, W), 0 to 1; grey as three equal planes.
fn tensor(image: &Image) -> Result<Tensor> {
    let shape = (image.height, image.width, image.channels);
    let samples = image.data.iter().map(|&v| f32::from(v) / PEAK);
    let tensor = Tensor::from_iter(samples, &Device::Cpu)?.reshape(shape)?;
    let tensor = tensor.permute((2, 0, 1))?.unsqueeze(0)?;
    Ok(tensor
        .expand((1, 3, image.height, image.width))?
        .contiguous()?)
}

/// An image's luma, rounded. A grey image is its own luma: what the test
/// sets hold of those was never in studio range.
fn eight_bit_luma(original: &Image) -> Image {
    match original.channels {
        1 => original.clone(),
        _ => image(&[original.luma()], (original.width, original.height)),
    }
}

/// Luma of a compared image, which is luma already if it has one channel.
fn luma(image: &Image) -> Vec<f64> {
    match image.channels {
        1 => image.data.iter().map(|&v| f64::from(v)).collect(),
        _ => image.luma(),
    }
}

/// Rounds to nearest, halves up, and clamps to 0..=255.
fn to_u8(value: f64) -> u8 {
    // `as` saturates.
    (value + 0.5) as u8
}
