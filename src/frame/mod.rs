//! Frames: planes, strides, formats, colour, resampling.
//!
//! Plain slices only: this module knows neither candle nor GStreamer.

mod color;
mod combing;
pub(crate) mod damage;
mod format;
mod picture;
pub mod resample;
pub(crate) mod retained;
mod sample;

pub use color::{Color, Luma601, Matrix, Range, Siting, Ycbcr256, YuvToRgb};
pub use format::{Component, Family, MAX_VALUE, PixelFormat};
pub use picture::Image;
pub(crate) use sample::Quantization;
pub use sample::to_u8;

use crate::{Error, Result};

/// A part of a frame, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first column.
    pub x: usize,
    /// The first row.
    pub y: usize,
    /// The number of columns.
    pub width: usize,
    /// The number of rows.
    pub height: usize,
}

impl Window {
    /// All of a frame of a size.
    pub const fn whole((width, height): (usize, usize)) -> Self {
        Self {
            x: 0,
            y: 0,
            width,
            height,
        }
    }
}

/// The largest number of planes of a format.
const MAX_PLANES: usize = 4;

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

    /// A part of the frame to read.
    ///
    /// # Errors
    ///
    /// As [`FrameMut::window`].
    pub fn window(&self, window: Window) -> Result<Self> {
        check_window(self.format, (self.width, self.height), window)?;
        let planes = self.planes.iter().take(self.format.planes()).enumerate();
        let planes = planes.map(|(plane, (data, stride))| {
            let (left, above) = self.format.plane_size(plane, window.x, window.y);
            (&data[above * *stride + left..], *stride)
        });
        let size = (window.width, window.height);
        Self::new(self.format, size, self.color, &planes.collect::<Vec<_>>())
    }

    /// The bytes of one plane and its stride.
    pub(crate) fn plane(&self, plane: usize) -> (&[u8], usize) {
        self.planes[plane]
    }

    /// Reads one component into dense rows of f32, values in units of 8 bit.
    pub fn read(&self, component: &Component, out: &mut Vec<f32>) {
        let (width, height) = component.size(self.width, self.height);
        out.resize(width * height, 0.0);
        for (y, row) in out.chunks_exact_mut(width).enumerate() {
            self.read_samples(component, y, 0, row);
        }
    }

    /// Fills `out` with samples of a row of one component, from column `x` on.
    pub(crate) fn read_samples(&self, component: &Component, y: usize, x: usize, out: &mut [f32]) {
        let (data, stride) = self.planes[component.plane];
        let quantization = component.quantization(self.color.range);
        let row = &data[y * stride..];
        component.read_row(&quantization, &row[..row.len().min(stride)], x, out);
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

impl FrameMut<'_> {
    /// A part of the frame to write.
    ///
    /// # Errors
    ///
    /// A part that is empty or larger than the frame, or an edge inside the frame that
    /// is not at a multiple of [`PixelFormat::alignment`].
    pub fn window(&mut self, window: Window) -> Result<FrameMut<'_>> {
        check_window(self.format, (self.width, self.height), window)?;
        let (format, size) = (self.format, (window.width, window.height));
        let planes = self.planes.iter_mut().take(format.planes()).enumerate();
        let planes = planes.map(|(plane, (data, stride))| {
            let (left, above) = format.plane_size(plane, window.x, window.y);
            (&mut data[above * *stride + left..], *stride)
        });
        FrameMut::new(format, size, self.color, planes.collect::<Vec<_>>())
    }

    /// Writes black around a part, opaque where there is alpha.
    ///
    /// # Errors
    ///
    /// As [`FrameMut::window`].
    pub fn fill_borders(&mut self, window: Window) -> Result<()> {
        check_window(self.format, (self.width, self.height), window)?;
        let (format, range) = (self.format, self.color.range);
        for plane in 0..format.planes() {
            let (row_bytes, rows) = format.plane_size(plane, self.width, self.height);
            let mut black = vec![0; row_bytes];
            if let Some(padding) = format.padding() {
                padding.fill_row(&mut black);
            }
            for component in format.components().iter().filter(|c| c.plane == plane) {
                let values = vec![component.black(range); component.size(self.width, 1).0];
                component.write_row(&component.quantization(range), &values, &mut black);
            }
            let (left, above) = format.plane_size(plane, window.x, window.y);
            let (right, inside) =
                format.plane_size(plane, window.x + window.width, window.y + window.height);
            let (data, stride) = &mut self.planes[plane];
            for (y, row) in data.chunks_mut(*stride).take(rows).enumerate() {
                let row = &mut row[..row_bytes];
                if y < above || y >= inside {
                    row.copy_from_slice(&black);
                } else {
                    row[..left].copy_from_slice(&black[..left]);
                    row[right..].copy_from_slice(&black[right..]);
                }
            }
        }
        Ok(())
    }
}

fn check_window(
    format: PixelFormat,
    (width, height): (usize, usize),
    window: Window,
) -> Result<()> {
    let (columns, rows) = format.alignment();
    let fits = |first: usize, length: usize, all: usize, multiple: usize| {
        let end = first.checked_add(length);
        length > 0
            && first.is_multiple_of(multiple)
            && end.is_some_and(|end| end == all || end < all && end.is_multiple_of(multiple))
    };
    if fits(window.x, window.width, width, columns) && fits(window.y, window.height, height, rows) {
        return Ok(());
    }
    Err(Error::Frame(format!(
        "{window:?} is no part of {} {width}x{height} with edges at multiples of {columns}x{rows}",
        format.name(),
    )))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits of a component's samples in a row, from the lowest bit of the first
    /// byte on.
    fn bits(component: &Component, samples: usize) -> Vec<usize> {
        let sample_bits = |sample| {
            let (byte, shift) = component.place(sample);
            let first = 8 * byte + shift as usize;
            first..first + component.depth as usize
        };
        (0..samples).flat_map(sample_bits).collect()
    }

    #[test]
    fn samples_of_every_format_are_distinct_bits() {
        for &format in PixelFormat::ALL {
            assert_eq!(PixelFormat::from_name(format.name()), Some(format));
            let all = format.components().iter().copied().chain(format.padding());
            let mut used = std::collections::HashSet::new();
            for component in all {
                let (row, _) = format.plane_size(component.plane, 24, 1);
                for bit in bits(&component, component.size(24, 1).0) {
                    assert!(bit < 8 * row, "{format:?}");
                    assert!(used.insert((component.plane, bit)), "{format:?}");
                }
            }
            // Nothing but the two highest bits of words of three samples is unused, or
            // the other bits of words of 16.
            let bytes: usize = (0..format.planes())
                .map(|plane| format.plane_size(plane, 24, 1).0)
                .sum();
            let share = match format.components()[0] {
                Component {
                    word: 2,
                    pattern: [],
                    depth,
                    ..
                } => depth as f64 / 16.0,
                Component { word: 4, .. } if !format.has_alpha() => 30.0 / 32.0,
                _ => 1.0,
            };
            assert_eq!(used.len() as f64, share * 8.0 * bytes as f64, "{format:?}");
        }
    }

    #[test]
    fn borders_are_black_around_any_part() {
        let size = (48, 12);
        for &format in PixelFormat::ALL {
            let color = Color::default();
            let (columns, rows) = format.alignment();
            let window = Window {
                x: columns,
                y: rows,
                width: 48 - 3 * columns,
                height: 12 - 2 * rows,
            };
            let mut planes: Vec<(Vec<u8>, usize)> = (0..format.planes())
                .map(|plane| {
                    let (row, rows) = format.plane_size(plane, size.0, size.1);
                    (vec![0xA5; (row + 3) * rows], row + 3)
                })
                .collect();
            let views = planes
                .iter_mut()
                .map(|(data, stride)| (data.as_mut_slice(), *stride));
            let mut frame = FrameMut::new(format, size, color, views).unwrap();
            frame.fill_borders(window).unwrap();
            let mut part = frame.window(window).unwrap();
            let (part_size, whole) = (part.size(), Window::whole((window.width, window.height)));
            assert_eq!(part_size, (window.width, window.height));
            // White, by the same means.
            for plane in 0..format.planes() {
                let (row_bytes, rows) = format.plane_size(plane, whole.width, whole.height);
                let (data, stride) = part.plane_mut(plane);
                for row in data.chunks_mut(stride).take(rows) {
                    row[..row_bytes].fill(0xFF);
                }
            }
            assert!(frame.window(Window { x: 1, ..window }).is_err() || columns == 1);
            assert!(
                frame
                    .window(Window {
                        width: 49,
                        ..window
                    })
                    .is_err()
            );
            let views: Vec<_> = planes
                .iter()
                .map(|(data, stride)| (&data[..], *stride))
                .collect();
            let frame = FrameRef::new(format, size, color, &views).unwrap();
            let part = frame.window(window).unwrap();
            assert!(frame.window(Window { y: 13, ..window }).is_err());
            for component in format.components() {
                let mut values = Vec::new();
                part.read(component, &mut values);
                let limit = component.quantization(color.range).limit();
                assert!(values.iter().all(|&value| value == limit), "{format:?}");
            }
            for component in format.components() {
                let mut values = Vec::new();
                frame.read(component, &mut values);
                let (width, _) = component.size(size.0, size.1);
                let of = component.quantization(color.range);
                for (i, value) in values.iter().enumerate() {
                    let (x, y) = (i % width * component.sub_x, i / width * component.sub_y);
                    let inside = (window.x..window.x + window.width).contains(&x)
                        && (window.y..window.y + window.height).contains(&y);
                    let expected = match inside {
                        true => of.limit(),
                        false => component.black(color.range),
                    };
                    assert_eq!(*value, expected, "{format:?} at {x}, {y}");
                }
            }
            // Nothing behind the rows.
            for (plane, (data, stride)) in planes.iter().enumerate() {
                let (row, _) = format.plane_size(plane, size.0, size.1);
                assert!(data.chunks(*stride).all(|line| line[row..] == [0xA5; 3]));
            }
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
}
