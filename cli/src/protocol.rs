//! Evaluation protocols.

use clap::ValueEnum;
use serde::Serialize;
use srfilter::engine::UpscaleOptions;
use srfilter::models::DamageSource;
use srfilter_train::loss::features::Features;

/// How images are downscaled and results measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// PSNR and SSIM of BT.601 studio luma without a border of ceil(scale) pixels;
    /// downscaling by MATLAB's bicubic
    Y,
    /// PSNR and SSIM (scikit-image's) of RGB; downscaling by Pillow's bicubic
    Rgb,
}

/// How low-resolution images are computed from the originals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Degradation {
    /// The protocol's bicubic
    Bicubic,
    /// Real-ESRGAN's second-order degradation: blur, resizing, noise and JPEG, twice, at random
    /// strengths, which depend on the image and the scale alone
    #[value(name = "realesrgan")]
    RealEsrgan,
}

/// A protocol with its options.
pub(crate) struct Method {
    pub(crate) protocol: Protocol,
    /// Whether low-resolution images are rounded to 8 bits.
    pub(crate) round: bool,
    pub(crate) degradation: Degradation,
    /// The network that perceptual distances are measured by.
    pub(crate) features: Option<Features>,
    /// How strongly the low-resolution images are said to be encoded.
    pub(crate) damage: DamageSource,
    pub(crate) options: UpscaleOptions,
}

impl Method {
    /// One line for tables and sheets.
    pub(crate) fn describe(&self) -> &'static str {
        if self.degradation == Degradation::RealEsrgan {
            return match self.protocol {
                Protocol::Y => "protocol y: luma, degraded as for Real-ESRGAN",
                Protocol::Rgb => "protocol rgb: 8-bit RGB, degraded as for Real-ESRGAN",
            };
        }
        match (self.protocol, self.round) {
            (Protocol::Y, true) => "protocol y: luma, low resolution rounded to 8 bits",
            (Protocol::Y, false) => "protocol y: luma, low resolution not rounded",
            (Protocol::Rgb, _) => "protocol rgb: 8-bit RGB, Pillow's bicubic",
        }
    }
}
