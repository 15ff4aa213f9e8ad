//! The section `[data]`: the images and what degrades them.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Side of the training patches in samples of the network's input: pixels of
    /// the upscaled image for pre-upsampling networks, of the low-resolution one
    /// for post-upsampling networks.
    pub patch: usize,
    /// How low-resolution images are computed from the originals.
    pub degradation: Degradation,
    /// Whether the targets are sharpened, as in Real-ESRGAN (degradation
    /// `realesrgan`). A discriminator's real images are not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sharpen: bool,
    /// Settings of the degradation `video`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// Augmentation of colours, for RGB networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colors: Option<Colors>,
    /// Images for validation: a fraction if below 1, else a number.
    pub validation: f64,
    /// Number of synthetic images where `dirs` is empty.
    pub drawn: usize,
    /// Folders, including all subfolders.
    pub dirs: Vec<Dir>,
}

/// Augmentation of colours: photographs hold few saturated ones, and what a network
/// never saw it changes. Shares of the patches, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Colors {
    /// Patches whose red, green and blue are permuted.
    pub permute: f64,
    /// Patches whose saturation is raised, up to four times.
    pub saturate: f64,
    /// Patches that are replaced by a flat colour, a gradient or an edge between two
    /// colours, mostly at the faces of the colour cube.
    pub flat: f64,
}

/// A folder of images and clips.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dir {
    /// The folder, relative to the current one, or to the one where a resumed run
    /// began.
    pub path: PathBuf,
    /// Weight of its images and frames in sampling.
    #[serde(default = "once")]
    pub repeat: f64,
}

/// A factor that changes nothing.
pub(super) fn once() -> f64 {
    1.0
}

/// Settings of the degradation `video`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Video {
    /// Codecs, one chosen at random per batch; empty for all that are installed.
    pub codecs: Vec<Codec>,
    /// Minimum and maximum of the uniformly distributed strength of artefacts: 0 is
    /// hardly visible, 1 is blocks.
    pub strength: [f64; 2],
    /// Frames up to and including the one that is used.
    pub frames: usize,
    /// Maximum motion of images from frame to frame, in low-resolution pixels.
    pub motion: f64,
    /// Share of H.264 that is encoded as for files, at a rate factor and with as many
    /// frames after the one that is used; the rest is as for live streams, at a
    /// quantiser and without lookahead.
    #[serde(skip_serializing_if = "is_zero")]
    pub lookahead: f64,
}

impl Default for Video {
    fn default() -> Self {
        Self {
            codecs: Vec::new(),
            strength: [0.1, 0.7],
            frames: 5,
            motion: 2.0,
            lookahead: 0.0,
        }
    }
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// H.264, by x264.
    H264,
    /// VP8, by libvpx.
    Vp8,
    /// VP9, by libvpx.
    Vp9,
    /// MPEG-4 part 2, by libavcodec.
    Mpeg4,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::H264, Self::Vp8, Self::Vp9, Self::Mpeg4];
}

/// The degradation that makes the low-resolution image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Degradation {
    /// MATLAB's bicubic imresize, rounded to 8 bit.
    Matlab,
    /// Pillow's bicubic, 8 bit.
    Pillow,
    /// A slight blur and OpenCV's bicubic without antialiasing, 8 bit.
    Opencv,
    /// Real-ESRGAN's second-order chain: blur, resizing, noise and JPEG, twice.
    RealEsrgan,
    /// MATLAB's bicubic, then a real video encoder and decoder.
    Video,
}
