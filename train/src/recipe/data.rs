//! The section `[data]`: the pictures and what degrades them.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Side of the training patches in samples that the network takes: pixels
    /// of the enlarged picture, or of the small one for networks that work at
    /// the input's resolution.
    pub patch: usize,
    /// How low-resolution images are computed from the originals.
    pub degradation: Degradation,
    /// Whether the pictures to be made are sharpened, as Real-ESRGAN's are
    /// (degradation `realesrgan`). A discriminator sees them as they were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sharpen: bool,
    /// What the degradation `video` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// Pictures held back for validation: a fraction if below 1, else a number.
    pub validation: f64,
    /// Pictures to draw where `dirs` is empty.
    pub drawn: usize,
    /// Folders, searched with all their subfolders.
    pub dirs: Vec<Dir>,
}

/// A folder of pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dir {
    /// The folder, relative to the current one.
    pub path: PathBuf,
    /// How many times its pictures count.
    #[serde(default = "once")]
    pub repeat: f64,
}

/// A factor that changes nothing.
pub(super) fn once() -> f64 {
    1.0
}

/// What codecs do to patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Video {
    /// Codecs, one drawn for each batch; empty for all that are there.
    pub codecs: Vec<Codec>,
    /// Least and most of what they take away, drawn evenly: 0 is hardly seen,
    /// at 1 there are blocks.
    pub strength: [f64; 2],
    /// Frames of a clip, of which the last is taken.
    pub frames: usize,
    /// How far pictures move from frame to frame at most, in small samples.
    pub motion: f64,
}

impl Default for Video {
    fn default() -> Self {
        Self {
            codecs: Vec::new(),
            strength: [0.1, 0.7],
            frames: 5,
            motion: 2.0,
        }
    }
}

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// By x264.
    H264,
    /// By libvpx.
    Vp8,
    /// By libvpx.
    Vp9,
    /// MPEG-4 part 2, by libavcodec.
    Mpeg4,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::H264, Self::Vp8, Self::Vp9, Self::Mpeg4];
}

/// What makes the small picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Degradation {
    /// MATLAB's bicubic `imresize`; the small picture is rounded to 8 bit.
    Matlab,
    /// Pillow's `BICUBIC`, 8 bit throughout.
    Pillow,
    /// A faint blur and OpenCV's bicubic, as SRCNN's seed has it, 8 bit.
    Opencv,
    /// Real-ESRGAN's second-order chain: blur, resizing, noise and JPEG, twice.
    RealEsrgan,
    /// Bicubic as MATLAB's, then a real video encoder and decoder.
    Video,
}
