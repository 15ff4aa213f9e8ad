//! The builder of upscalers.

use super::{DeviceChoice, FrameSpec, Precision, UpscaleOptions, UpscaleSpec, Upscaler};
use crate::weights::Model;
use crate::{Error, Result, Scale};
use std::sync::Arc;

/// Builds an [`Upscaler`]: see [`Upscaler::builder`].
#[derive(Debug)]
#[must_use = "nothing is prepared before `build`"]
pub struct UpscalerBuilder {
    model: Arc<Model>,
    scale: Result<Scale>,
    output: Option<(usize, usize)>,
    options: UpscaleOptions,
}

impl Upscaler {
    /// Starts to build an upscaler of `model`.
    pub fn builder(model: Arc<Model>) -> UpscalerBuilder {
        UpscalerBuilder {
            model,
            scale: Ok(Scale::whole(2)),
            output: None,
            options: UpscaleOptions::default(),
        }
    }
}

impl UpscalerBuilder {
    /// The factor, such as `2` or `Scale::new(3, 2)?`. Default: 2. An invalid
    /// one is an error of [`UpscalerBuilder::build`].
    pub fn scale<S>(mut self, scale: S) -> Self
    where
        S: TryInto<Scale>,
        Error: From<S::Error>,
    {
        self.scale = scale.try_into().map_err(Error::from);
        self
    }

    /// Width and height in pixels of the output; the network's output is
    /// resampled to it if necessary. Default: the input's size times the scale.
    pub fn output_size(mut self, width: usize, height: usize) -> Self {
        self.output = Some((width, height));
        self
    }

    /// The device. Default: [`DeviceChoice::Auto`].
    pub fn device(mut self, device: DeviceChoice) -> Self {
        self.options.device = device;
        self
    }

    /// The networks' precision. Default: [`Precision::Auto`].
    pub fn precision(mut self, precision: Precision) -> Self {
        self.options.precision = precision;
        self
    }

    /// CPU threads; 0, the default: one for each core.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// All other options.
    pub fn options(mut self, options: UpscaleOptions) -> Self {
        self.options = options;
        self
    }

    /// Prepares the model for frames of a format, size and colorimetry.
    ///
    /// # Errors
    ///
    /// As [`Upscaler::new`], and an invalid scale.
    pub fn build(self, input: FrameSpec) -> Result<Upscaler> {
        let mut spec = UpscaleSpec::scaled(input, self.scale?);
        spec.output = self.output.unwrap_or(spec.output);
        Upscaler::new(self.model, spec, &self.options)
    }
}
