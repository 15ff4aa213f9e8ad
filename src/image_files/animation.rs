//! Animations: their frames, whole and one after the other.

use super::header;
use super::metadata::Metadata;
use super::read::{ImageFile, unusable};
use super::write::{check_output, format_of, png_failed, png_writer, unwritable};
use crate::{Error, Image, Result};
use image::codecs::{gif, gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{AnimationDecoder, Frame, Frames, ImageError, ImageFormat, ImageResult, RgbaImage};
use std::io::Cursor;
use std::num::NonZeroU32;
use std::path::Path;

/// What an animation is besides its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Animation {
    /// Width and height of the frames in pixels.
    pub size: (usize, usize),
    /// The number of frames.
    pub frames: u32,
    /// How often it plays; `None` for ever.
    pub plays: Option<NonZeroU32>,
}

/// A frame of an animation: RGBA of the animation's size, as it is displayed.
#[derive(Debug, Clone, PartialEq)]
pub struct AnimationFrame {
    /// The pixels.
    pub image: Image,
    /// How long the frame stays.
    pub delay: Delay,
}

/// A time, as a fraction of milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// The numerator of the milliseconds.
    pub numerator: u32,
    /// The denominator; not 0.
    pub denominator: u32,
}

impl Animation {
    /// Samples a pixel of all frames.
    pub const CHANNELS: usize = 4;
}

impl Delay {
    /// The time in whole milliseconds.
    pub fn milliseconds(self) -> u32 {
        let rounded = f64::from(self.numerator) / f64::from(self.denominator.max(1));
        rounded.round() as u32
    }
}

impl ImageFile {
    /// The frames of an animation, decoded one by one.
    ///
    /// # Errors
    ///
    /// A frame that does not fit the free memory. Each frame: a file that is
    /// damaged or cut short.
    pub fn frames(&self) -> Result<(Animation, impl Iterator<Item = Result<AnimationFrame>> + '_)> {
        self.check_memory()?;
        let frames = self.open_animation();
        let frames = frames.map_err(|e| unusable(&self.path, &e))?;
        let animation = Animation {
            size: (self.header.size.0 as usize, self.header.size.1 as usize),
            frames: self.frame_count(),
            plays: self.header.plays,
        };
        let frames = frames.map(|frame| {
            let frame = frame.map_err(|e| unusable(&self.path, &e))?;
            let (numerator, denominator) = frame.delay().numer_denom_ms();
            let buffer = frame.into_buffer();
            Ok(AnimationFrame {
                image: Image {
                    width: buffer.width() as usize,
                    height: buffer.height() as usize,
                    channels: 4,
                    data: buffer.into_raw(),
                },
                delay: Delay {
                    numerator,
                    denominator,
                },
            })
        });
        Ok((animation, frames))
    }

    fn open_animation(&self) -> ImageResult<Frames<'_>> {
        let data = Cursor::new(self.bytes.as_slice());
        Ok(match self.format {
            ImageFormat::Png if self.frame_count() > 1 => {
                PngDecoder::new(data)?.apng()?.into_frames()
            }
            ImageFormat::WebP if self.frame_count() > 1 => WebPDecoder::new(data)?.into_frames(),
            ImageFormat::Gif => GifDecoder::new(data)?.into_frames(),
            format => {
                let decoder = header::decoder(&self.bytes, format)?;
                let still = image::DynamicImage::from_decoder(decoder)?;
                let frame = Frame::new(still.into_rgba8());
                Frames::new(Box::new(std::iter::once(Ok(frame))))
            }
        })
    }
}

/// The bytes of an animation as PNG (APNG) or GIF, as the extension of `path` says.
///
/// # Errors
///
/// The first error of a frame; another number or size of frames than `animation`
/// says; another extension.
pub fn encode_animation(
    path: &Path,
    animation: &Animation,
    metadata: &Metadata,
    frames: impl Iterator<Item = Result<AnimationFrame>>,
) -> Result<Vec<u8>> {
    check_output(
        path,
        animation.size,
        Animation::CHANNELS,
        animation.frames,
        metadata,
    )?;
    let mut count = 0;
    let frames = frames.map(|frame| {
        count += 1;
        let frame = frame?;
        let size = (frame.image.width, frame.image.height);
        let expected = size == animation.size && frame.image.channels == Animation::CHANNELS;
        if expected && count <= animation.frames {
            return Ok(frame);
        }
        Err(Error::Frame(format!(
            "{}: frame {count} is {}x{}, where {} RGBA frames of {}x{} were announced",
            path.display(),
            size.0,
            size.1,
            animation.frames,
            animation.size.0,
            animation.size.1
        )))
    });
    let bytes = match format_of(path)? {
        ImageFormat::Gif => encode_gif(animation, frames),
        format => {
            let metadata = metadata.fitted(format, Animation::CHANNELS).0;
            encode_apng(animation, &metadata, frames)
        }
    };
    if bytes.is_ok() && count < animation.frames {
        return Err(Error::Frame(format!(
            "{}: the animation ends after {count} of {} frames: its file is cut short",
            path.display(),
            animation.frames
        )));
    }
    bytes.map_err(|failed| match failed {
        Failed::Frame(error) => error,
        Failed::Encoder(error) => unwritable(path, &error),
    })
}

/// Why an animation cannot be encoded.
enum Failed {
    Frame(Error),
    Encoder(ImageError),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Frame(error)
    }
}

impl From<ImageError> for Failed {
    fn from(error: ImageError) -> Self {
        Self::Encoder(error)
    }
}

impl From<png::EncodingError> for Failed {
    fn from(error: png::EncodingError) -> Self {
        Self::Encoder(png_failed(error))
    }
}

fn encode_apng(
    animation: &Animation,
    metadata: &Metadata,
    frames: impl Iterator<Item = Result<AnimationFrame>>,
) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    let animated = Some((animation.frames, animation.plays.map_or(0, NonZeroU32::get)));
    let samples = (Animation::CHANNELS, png::BitDepth::Eight);
    let mut writer = png_writer(&mut bytes, animation.size, samples, metadata, animated)?;
    let mut count = 0;
    for frame in frames {
        let AnimationFrame { image, delay } = frame?;
        let (numerator, denominator) = match u16::try_from(delay.milliseconds()) {
            Ok(milliseconds) => (milliseconds, 1000),
            Err(_) => {
                let seconds = delay.milliseconds() / 1000;
                (u16::try_from(seconds).unwrap_or(u16::MAX), 1)
            }
        };
        writer.set_frame_delay(numerator, denominator)?;
        writer.write_image_data(&image.data)?;
        count += 1;
    }
    if count == animation.frames {
        writer.finish()?;
    } else {
        drop(writer);
    }
    Ok(bytes)
}

fn encode_gif(
    animation: &Animation,
    frames: impl Iterator<Item = Result<AnimationFrame>>,
) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    let mut encoder = gif::GifEncoder::new_with_speed(&mut bytes, GIF_SPEED);
    match animation.plays.map_or(0, NonZeroU32::get) {
        0 => encoder.set_repeat(gif::Repeat::Infinite)?,
        1 => {}
        // How often it plays again.
        plays => {
            let again = u16::try_from(plays - 1).unwrap_or(u16::MAX);
            encoder.set_repeat(gif::Repeat::Finite(again))?;
        }
    }
    for frame in frames {
        let AnimationFrame { image, delay } = frame?;
        let (width, height) = (image.width as u32, image.height as u32);
        let buffer = RgbaImage::from_raw(width, height, image.data);
        let buffer = buffer.ok_or_else(|| Error::Internal("a frame is too short".to_owned()))?;
        let delay = image::Delay::from_numer_denom_ms(delay.numerator, delay.denominator.max(1));
        encoder.encode_frame(Frame::from_parts(buffer, 0, 0, delay))?;
    }
    drop(encoder);
    Ok(bytes)
}

/// Of the search for a frame's 256 colours, 1 (slow, best) to 30.
const GIF_SPEED: i32 = 10;
