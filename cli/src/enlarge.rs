//! One picture through a model.

use anyhow::Result;
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::{Color, Image};
use srfilter::weights::Model;
use std::sync::Arc;

/// The picture, `scale` times as wide and high.
pub(crate) fn enlarge(
    picture: &Image,
    model: &Arc<Model>,
    scale: Scale,
    options: &UpscaleOptions,
) -> Result<Image> {
    let shape = FrameSpec {
        format: picture.format(),
        size: (picture.width, picture.height),
        color: Color::default(),
    };
    let job = UpscaleSpec::scaled(shape, scale);
    let (width, height) = job.output;
    let mut upscaler = Upscaler::new(Arc::clone(model), job, options)?;
    let mut result = Image::new(width, height, picture.channels);
    upscaler.process(&picture.frame()?, &mut result.frame_mut()?)?;
    Ok(result)
}
