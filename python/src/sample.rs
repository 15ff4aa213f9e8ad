//! The types of samples in arrays, and the frames that they become.

use srfilter::{Color, Error, FrameMut, FrameRef, PixelFormat, Result, Upscaler};

/// Alpha of pixels that have none, and white.
const MAX16: u16 = u16::MAX;

/// A type of samples. Images are dense rows of pixels of 1, 3 or 4 channels.
pub(crate) trait Sample: numpy::Element + Copy + Send + Sync {
    /// The frames that images of so many channels become.
    fn format(channels: usize) -> PixelFormat;

    /// Upscales an image into another of the same number of channels.
    fn upscale(
        upscaler: &mut Upscaler,
        frames: &mut Frames,
        channels: usize,
        from: &[Self],
        to: &mut [Self],
    ) -> Result<()>;
}

impl Sample for u8 {
    fn format(channels: usize) -> PixelFormat {
        match channels {
            1 => PixelFormat::Gray8,
            3 => PixelFormat::Rgb,
            _ => PixelFormat::Rgba,
        }
    }

    fn upscale(
        upscaler: &mut Upscaler,
        _frames: &mut Frames,
        channels: usize,
        from: &[u8],
        to: &mut [u8],
    ) -> Result<()> {
        process(upscaler, channels, from, to)
    }
}

impl Sample for u16 {
    fn format(channels: usize) -> PixelFormat {
        format16(channels)
    }

    fn upscale(
        upscaler: &mut Upscaler,
        frames: &mut Frames,
        channels: usize,
        from: &[u16],
        to: &mut [u16],
    ) -> Result<()> {
        if channels != 3 && cfg!(target_endian = "little") {
            let (from, to) = (bytemuck::cast_slice(from), bytemuck::cast_slice_mut(to));
            return process(upscaler, 2 * channels, from, to);
        }
        upscale16(upscaler, frames, channels, (from, to), |s| s, |s| s)
    }
}

/// 0 to 1, in steps of 16 bits.
impl Sample for f32 {
    fn format(channels: usize) -> PixelFormat {
        format16(channels)
    }

    fn upscale(
        upscaler: &mut Upscaler,
        frames: &mut Frames,
        channels: usize,
        from: &[f32],
        to: &mut [f32],
    ) -> Result<()> {
        // Filters overshoot a little; other units do not.
        if let Some(value) = from.iter().find(|value| !(-1.0..=2.0).contains(*value)) {
            return Err(Error::Frame(format!(
                "float32 images hold 0 to 1, found {value}: divide by the value of white"
            )));
        }
        let max = f32::from(MAX16);
        // Conversion to an integer clamps.
        let quantize = |value: f32| (value * max + 0.5) as u16;
        let value = |sample| f32::from(sample) / max;
        upscale16(upscaler, frames, channels, (from, to), quantize, value)
    }
}

fn format16(channels: usize) -> PixelFormat {
    match channels {
        1 => PixelFormat::Gray16,
        _ => PixelFormat::Rgba64,
    }
}

/// Frames of 16 bits between images and the upscaler, kept for the next image.
#[derive(Default)]
pub(crate) struct Frames {
    input: Vec<u16>,
    output: Vec<u16>,
}

/// Upscales by frames of 16 bits, of which colour ones have alpha.
fn upscale16<T: Copy>(
    upscaler: &mut Upscaler,
    frames: &mut Frames,
    channels: usize,
    (from, to): (&[T], &mut [T]),
    quantize: impl Fn(T) -> u16,
    value: impl Fn(u16) -> T,
) -> Result<()> {
    let held = if channels == 1 { 1 } else { 4 };
    let Frames { input, output } = frames;
    input.resize(from.len() / channels * held, 0);
    output.resize(to.len() / channels * held, 0);
    let pixels = input.chunks_exact_mut(held);
    for (samples, pixel) in pixels.zip(from.chunks_exact(channels)) {
        // Images of three channels are opaque.
        samples[held - 1] = MAX16;
        for (sample, &value) in samples.iter_mut().zip(pixel) {
            *sample = quantize(value).to_le();
        }
    }
    let bytes = bytemuck::cast_slice_mut(output);
    process(upscaler, 2 * held, bytemuck::cast_slice(input), bytes)?;
    let pixels = to.chunks_exact_mut(channels);
    for (pixel, samples) in pixels.zip(output.chunks_exact(held)) {
        for (sample, &found) in pixel.iter_mut().zip(samples) {
            *sample = value(u16::from_le(found));
        }
    }
    Ok(())
}

/// Upscales a frame of dense rows.
fn process(upscaler: &mut Upscaler, pixel_bytes: usize, from: &[u8], to: &mut [u8]) -> Result<()> {
    let (input, larger) = (upscaler.spec().input, upscaler.spec().output);
    let color: Color = input.color;
    let from = [(from, input.size.0 * pixel_bytes)];
    let to = [(to, larger.0 * pixel_bytes)];
    let from = FrameRef::new(input.format, input.size, color, &from)?;
    let mut to = FrameMut::new(input.format, larger, color, to)?;
    upscaler.process(&from, &mut to)
}
