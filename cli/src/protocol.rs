//! How results are measured.

use clap::ValueEnum;
use serde::Serialize;
use srfilter::engine::UpscaleOptions;

/// How pictures are shrunk, and what is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// PSNR and SSIM of BT.601 studio luma, but for edges as wide as the scale; shrunk by MATLAB's
    /// bicubic
    Y,
    /// PSNR and SSIM (scikit-image's) of RGB; shrunk by Pillow's bicubic
    Rgb,
}

/// How to measure.
pub(crate) struct Method {
    pub(crate) protocol: Protocol,
    /// Whether shrunk pictures are rounded to 8 bits.
    pub(crate) round: bool,
    pub(crate) options: UpscaleOptions,
}

impl Method {
    /// The method in a line.
    pub(crate) fn describe(&self) -> &'static str {
        match (self.protocol, self.round) {
            (Protocol::Y, true) => "protocol y: luma, low resolution rounded to 8 bits",
            (Protocol::Y, false) => "protocol y: luma, low resolution not rounded",
            (Protocol::Rgb, _) => "protocol rgb: 8-bit RGB, Pillow's bicubic",
        }
    }
}
