//! Input and output frames of an upscaler.

use crate::frame::{Color, Family, MAX_VALUE, PixelFormat};
use crate::models::Channels;
use crate::{Error, Result, Scale};

/// The largest width and height of a frame in pixels: stills may be long strips,
/// of which a launch on a GPU covers 65535 times 4 rows and more.
pub const MAX_SIDE: usize = 1 << 18;

/// The most pixels of a frame.
pub const MAX_PIXELS: usize = 1 << 30;

/// Format, size and colour of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameSpec {
    /// Sample layout.
    pub format: PixelFormat,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Matrix, range, chroma position.
    pub color: Color,
}

impl FrameSpec {
    /// Frames of a format and a size in pixels, of the colour that the format has
    /// by default ([`Color::of_format`]).
    pub fn new(format: PixelFormat, width: usize, height: usize) -> Self {
        Self {
            format,
            size: (width, height),
            color: Color::of_format(format),
        }
    }

    /// These frames in another colour.
    pub fn with_color(self, color: Color) -> Self {
        Self { color, ..self }
    }

    /// These frames of another width and height in pixels.
    pub fn with_size(self, width: usize, height: usize) -> Self {
        Self {
            size: (width, height),
            ..self
        }
    }

    /// Packed 8-bit R, G, B.
    pub fn rgb8(width: usize, height: usize) -> Self {
        Self::new(PixelFormat::Rgb, width, height)
    }
}

impl std::fmt::Display for FrameSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (width, height) = self.size;
        write!(
            f,
            "{} {width}x{height} {:?}",
            self.format.name(),
            self.color
        )
    }
}

/// The upscaling of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpscaleSpec {
    /// The input frames.
    pub input: FrameSpec,
    /// Width and height of the output frames. If `scale` leads to another size,
    /// the network's output is resampled.
    pub output: (usize, usize),
    /// The network's factor.
    pub scale: Scale,
}

impl UpscaleSpec {
    /// Upscaling by `scale`, to the input's size times `scale`.
    pub fn scaled(input: FrameSpec, scale: Scale) -> Self {
        Self {
            input,
            output: (scale.apply(input.size.0), scale.apply(input.size.1)),
            scale,
        }
    }

    /// The same with another width and height in pixels that go out.
    pub fn with_output(self, width: usize, height: usize) -> Self {
        Self {
            output: (width, height),
            ..self
        }
    }
}

impl UpscaleSpec {
    /// The largest value of a network's output: that of the frames' samples, which
    /// at more than 8 bit in limited range is above 255.
    pub(super) fn network_limit(&self, channels: Channels) -> f32 {
        let format = self.input.format;
        match (channels, format.family(), format.components()) {
            (Channels::Luma, Family::Gray | Family::Yuv, [luma, ..]) => {
                luma.quantization(self.input.color.range).limit()
            }
            _ => MAX_VALUE,
        }
    }
}

/// Refuses frames that are empty or too large.
pub(super) fn check_size((width, height): (usize, usize)) -> Result<()> {
    let sides = 1..=MAX_SIDE;
    let area = width.saturating_mul(height);
    if sides.contains(&width) && sides.contains(&height) && area <= MAX_PIXELS {
        return Ok(());
    }
    Err(Error::Setting(format!(
        "{width}x{height} pixels are not supported: each side may have 1 to {MAX_SIDE}, and all \
         of them {MAX_PIXELS}; use a smaller scale or input"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_may_be_long_and_no_frame_too_large() {
        for size in [(1, 1), (16, 34_000), (MAX_SIDE, 4096), (1 << 15, 1 << 15)] {
            assert!(check_size(size).is_ok(), "{size:?}");
        }
        for size in [(0, 1), (1, 0), (MAX_SIDE + 1, 1), (64_000, 64_000)] {
            let error = check_size(size).unwrap_err().to_string();
            assert!(error.contains(&format!("{}x{}", size.0, size.1)), "{error}");
        }
    }
}
