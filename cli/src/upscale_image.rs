//! Upscaling of one image.

use anyhow::Result;
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::Image;
use srfilter::weights::Model;
use std::sync::Arc;

/// The image at `scale` times its width and height.
pub(crate) fn upscale_image(
    image: &Image,
    model: &Arc<Model>,
    scale: Scale,
    options: &UpscaleOptions,
) -> Result<Image> {
    let shape = FrameSpec::new(image.format(), image.width, image.height);
    let job = UpscaleSpec::scaled(shape, scale);
    let (width, height) = job.output;
    let mut upscaler = Upscaler::new(Arc::clone(model), job, options)?;
    let mut result = Image::new(width, height, image.channels);
    upscaler.process(&image.frame()?, &mut result.frame_mut()?)?;
    Ok(result)
}
