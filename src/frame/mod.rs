//! Frames: planes, strides, formats, colour, resampling.
//!
//! Plain slices only: this module knows neither candle nor GStreamer.

mod color;
mod format;
mod picture;
pub mod resample;

pub use color::{Color, Luma601, Matrix, Range, Siting, Ycbcr256, YuvToRgb};
pub use format::{Component, Family, MAX_VALUE, PixelFormat};
pub use picture::Image;

use crate::{Error, Result};

/// The largest number of planes of a format.
const MAX_PLANES: usize = 3;

/// A frame to read: borrowed planes with their strides.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    format: PixelFormat,
    width: usize,
    height: usize,
    color: Color,
    planes: [(&'a [u8], usize); MAX_PLANES],
}

/// A frame to write: borrowed planes with their strides.
#[derive(Debug)]
pub struct FrameMut<'a> {
    format: PixelFormat,
    width: usize,
    height: usize,
    color: Color,
    planes: [(&'a mut [u8], usize); MAX_PLANES],
}

impl<'a> FrameRef<'a> {
    /// A frame of `width` x `height` pixels; each plane with its stride in bytes.
    ///
    /// # Errors
    ///
    /// A wrong number of planes, a stride shorter than a row, or a plane too
    /// short for its rows.
    pub fn new(
        format: PixelFormat,
        (width, height): (usize, usize),
        color: Color,
        planes: &[(&'a [u8], usize)],
    ) -> Result<Self> {
        let sizes = planes.iter().map(|(data, stride)| (data.len(), *stride));
        check(format, (width, height), sizes)?;
        let mut fixed: [(&'a [u8], usize); MAX_PLANES] = [(&[], 0); MAX_PLANES];
        for (slot, plane) in fixed.iter_mut().zip(planes) {
            *slot = *plane;
        }
        Ok(Self {
            format,
            width,
            height,
            color,
            planes: fixed,
        })
    }

    /// The sample layout.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Matrix, range and chroma position.
    pub fn color(&self) -> Color {
        self.color
    }

    /// The bytes of one plane and its stride.
    #[cfg(feature = "cuda")]
    pub(crate) fn plane(&self, plane: usize) -> (&[u8], usize) {
        self.planes[plane]
    }

    /// Reads one component into dense rows of f32, values 0 to 255.
    pub fn read(&self, component: &Component, out: &mut Vec<f32>) {
        let (width, height) = component.size(self.width, self.height);
        out.resize(width * height, 0.0);
        self.read_rows(component, 0, out);
    }

    /// Fills `out` with rows of one component, starting at row `first`.
    pub(crate) fn read_rows(&self, component: &Component, first: usize, out: &mut [f32]) {
        let (width, _) = component.size(self.width, self.height);
        let (data, stride) = self.planes[component.plane];
        let rows = data.chunks(stride).skip(first);
        for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
            let samples = &row[component.offset..];
            if component.step == 1 {
                let pairs = out.iter_mut().zip(samples);
                pairs.for_each(|(to, &from)| *to = f32::from(from));
            } else {
                let samples = samples.iter().step_by(component.step);
                let pairs = out.iter_mut().zip(samples);
                pairs.for_each(|(to, &from)| *to = f32::from(from));
            }
        }
    }
}

impl<'a> FrameMut<'a> {
    /// A frame of `width` x `height` pixels; each plane with its stride in bytes.
    ///
    /// # Errors
    ///
    /// As [`FrameRef::new`].
    pub fn new(
        format: PixelFormat,
        (width, height): (usize, usize),
        color: Color,
        planes: impl IntoIterator<Item = (&'a mut [u8], usize)>,
    ) -> Result<Self> {
        let mut fixed: [(&'a mut [u8], usize); MAX_PLANES] = std::array::from_fn(|_| {
            let empty: &'a mut [u8] = &mut [];
            (empty, 0)
        });
        let mut count = 0;
        for plane in planes {
            if let Some(slot) = fixed.get_mut(count) {
                *slot = plane;
            }
            count += 1;
        }
        let sizes = fixed.iter().map(|(data, stride)| (data.len(), *stride));
        check(format, (width, height), sizes.take(count))?;
        Ok(Self {
            format,
            width,
            height,
            color,
            planes: fixed,
        })
    }

    /// The sample layout.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Matrix, range and chroma position.
    pub fn color(&self) -> Color {
        self.color
    }

    /// The bytes of one plane and its stride.
    pub(crate) fn plane_mut(&mut self, plane: usize) -> (&mut [u8], usize) {
        let (data, stride) = &mut self.planes[plane];
        (data, *stride)
    }
}

fn check(
    format: PixelFormat,
    (width, height): (usize, usize),
    planes: impl ExactSizeIterator<Item = (usize, usize)>,
) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::Frame(format!(
            "a frame of {width}x{height} is empty"
        )));
    }
    if planes.len() != format.planes() {
        return Err(Error::Frame(format!(
            "{} has {} planes, got {}",
            format.name(),
            format.planes(),
            planes.len()
        )));
    }
    for (index, (len, stride)) in planes.enumerate() {
        let (row, rows) = format.plane_size(index, width, height);
        let needed = (rows - 1)
            .checked_mul(stride)
            .and_then(|bytes| bytes.checked_add(row));
        if stride < row || needed.is_none_or(|needed| len < needed) {
            return Err(Error::Frame(format!(
                "plane {index} of {} {width}x{height} needs {rows} rows of {row} bytes, \
                 found {len} bytes with a stride of {stride}",
                format.name()
            )));
        }
    }
    Ok(())
}

/// Rounds to the nearest 8-bit sample value, 0 to 255.
#[inline]
pub fn to_u8(value: f32) -> u8 {
    // `as` saturates and maps NaN to 0; halves round up, as MATLAB rounds.
    (value + 0.5) as u8
}

/// [`to_u8`] of a row of values.
pub(crate) fn round(values: &[f32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2.
        return unsafe { round_avx2(values, out) };
    }
    round_generic(values, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn round_avx2(values: &[f32], out: &mut [u8]) {
    round_generic(values, out);
}

#[inline(always)]
#[expect(clippy::manual_clamp, reason = "clamp would pass NaN through")]
fn round_generic(values: &[f32], out: &mut [u8]) {
    for (sample, &value) in out.iter_mut().zip(values) {
        // As `to_u8`, in a form that vectorises.
        let value = (value + 0.5).max(0.0).min(255.0);
        // SAFETY: the value is finite, from 0 to 255.
        *sample = unsafe { value.to_int_unchecked::<i32>() } as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_of_every_format_are_distinct_bytes() {
        for &format in PixelFormat::ALL {
            assert_eq!(PixelFormat::from_name(format.name()), Some(format));
            let all: Vec<_> = format
                .components()
                .iter()
                .copied()
                .chain(format.padding())
                .collect();
            let mut bytes = std::collections::HashSet::new();
            for component in &all {
                assert!(component.offset < component.step);
                assert!(
                    bytes.insert((component.plane, component.offset)),
                    "{format:?}"
                );
            }
            let (row, _) = format.plane_size(0, 10, 10);
            let filled = all.iter().filter(|c| c.plane == 0).count() * 10;
            assert_eq!(row, filled, "{format:?}");
        }
    }

    #[test]
    fn refuses_planes_that_are_too_short() {
        let data = [0u8; 11];
        let color = Color::default();
        let frame = |stride, len| {
            FrameRef::new(PixelFormat::Gray8, (3, 3), color, &[(&data[..len], stride)])
        };
        assert!(frame(4, 11).is_ok());
        assert!(frame(4, 10).is_err());
        assert!(frame(2, 11).is_err());
        assert!(FrameRef::new(PixelFormat::I420, (3, 3), color, &[(&data, 4)]).is_err());
        assert!(FrameRef::new(PixelFormat::Gray8, (0, 3), color, &[(&data, 4)]).is_err());
    }

    #[test]
    fn rounds_halves_up_and_saturates() {
        let values = [-3.0, 0.49, 0.5, 254.5, 300.0, f32::NAN];
        let rounded = values.map(to_u8);
        let mut row = [7; 6];
        round(&values, &mut row);
        assert_eq!(row, rounded);
        assert_eq!(rounded, [0, 0, 1, 255, 255, 0]);
    }
}
