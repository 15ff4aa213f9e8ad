//! Upscaling of one image.

use anyhow::Result;
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::Image;
use srfilter::image_files::{Animation, AnimationFrame, DeepImage, ImageFile, encode_animation};
use srfilter::weights::Model;
use std::path::Path;
use std::sync::Arc;

/// What is computed for images of that size, channels and depth.
pub(crate) fn spec(
    (width, height): (usize, usize),
    (channels, deep): (usize, bool),
    scale: Scale,
) -> UpscaleSpec {
    let format = match deep {
        true => DeepImage::format(channels),
        false => Image::new(0, 0, channels).format(),
    };
    UpscaleSpec::scaled(FrameSpec::new(format, width, height), scale)
}

/// The image at `scale` times its width and height.
pub(crate) fn upscale_image(
    image: &Image,
    model: &Arc<Model>,
    scale: Scale,
    options: &UpscaleOptions,
) -> Result<Image> {
    let job = spec((image.width, image.height), (image.channels, false), scale);
    let mut upscaler = Upscaler::new(Arc::clone(model), job, options)?;
    Ok(enlarged(&mut upscaler, image)?)
}

/// As [`upscale_image`], with 16 bits a sample.
pub(crate) fn upscale_deep(
    image: &DeepImage,
    model: &Arc<Model>,
    scale: Scale,
    options: &UpscaleOptions,
) -> Result<DeepImage> {
    let job = spec((image.width, image.height), (image.channels, true), scale);
    let mut upscaler = Upscaler::new(Arc::clone(model), job, options)?;
    let (width, height) = job.output;
    let mut result = DeepImage::new(width, height, image.channels);
    upscaler.process(&image.frame()?, &mut result.frame_mut()?)?;
    Ok(result)
}

/// An animation, frame by frame, as the bytes of a file of that name.
pub(crate) fn upscale_animation(
    file: &ImageFile,
    to: &Path,
    model: &Arc<Model>,
    scale: Scale,
    options: &UpscaleOptions,
) -> Result<Vec<u8>> {
    let (animation, frames) = file.frames()?;
    let job = spec(animation.size, (Animation::CHANNELS, false), scale);
    let mut upscaler = Upscaler::new(Arc::clone(model), job, options)?;
    let larger = Animation {
        size: job.output,
        ..animation
    };
    let frames = frames.map(|frame| {
        let AnimationFrame { image, delay } = frame?;
        let image = enlarged(&mut upscaler, &image)?;
        Ok(AnimationFrame { image, delay })
    });
    Ok(encode_animation(to, &larger, file.metadata(), frames)?)
}

fn enlarged(upscaler: &mut Upscaler, image: &Image) -> srfilter::Result<Image> {
    let (width, height) = upscaler.spec().output;
    let mut result = Image::new(width, height, image.channels);
    upscaler.process(&image.frame()?, &mut result.frame_mut()?)?;
    Ok(result)
}
