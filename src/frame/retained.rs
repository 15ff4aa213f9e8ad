//! Frames that are retained to be compared with the next ones.

use super::damage::Damage;
use super::{Color, Component, FrameMut, FrameRef, PixelFormat};
use crate::Result;
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a cell of the comparison: one that differs is damaged as a whole.
const CELL: usize = 16;

/// Rows that a thread copies or compares at least.
const ROWS: usize = 16;

/// A frame in memory of its own.
pub(crate) struct RetainedFrame {
    format: PixelFormat,
    size: (usize, usize),
    color: Color,
    planes: Vec<RetainedPlane>,
}

/// Dense rows of a plane.
struct RetainedPlane {
    data: Vec<u8>,
    row_bytes: usize,
    rows: usize,
    /// The first column of each cell and the first byte, and those behind the last.
    cells: Vec<(usize, usize)>,
}

impl RetainedFrame {
    /// A frame of zeros.
    pub(crate) fn new(format: PixelFormat, size: (usize, usize), color: Color) -> Self {
        let step = CELL.next_multiple_of(format.alignment().0);
        let plane = |plane| {
            let (row_bytes, rows) = format.plane_size(plane, size.0, size.1);
            let columns = (0..size.0).step_by(step).chain([size.0]);
            RetainedPlane {
                data: vec![0; row_bytes * rows],
                row_bytes,
                rows,
                cells: columns
                    .map(|x| (x, format.plane_size(plane, x, 1).0))
                    .collect(),
            }
        };
        Self {
            format,
            size,
            color,
            planes: (0..format.planes()).map(plane).collect(),
        }
    }

    /// The frame to write.
    ///
    /// # Errors
    ///
    /// As [`FrameMut::new`].
    pub(crate) fn frame_mut(&mut self) -> Result<FrameMut<'_>> {
        let planes = self.planes.iter_mut();
        let planes = planes.map(|plane| (plane.data.as_mut_slice(), plane.row_bytes));
        FrameMut::new(self.format, self.size, self.color, planes)
    }

    /// Copies a frame of the same format and size.
    pub(crate) fn store(&mut self, frame: &FrameRef<'_>) {
        for (index, plane) in self.planes.iter_mut().enumerate() {
            let (data, stride) = frame.plane(index);
            let rows = plane
                .data
                .par_chunks_mut(plane.row_bytes)
                .with_min_len(ROWS);
            rows.zip(data.par_chunks(stride))
                .for_each(|(retained, row)| retained.copy_from_slice(&row[..retained.len()]));
        }
    }

    /// Copies a frame of the same format and size. Returns what differed of each
    /// plane: rows of the plane, columns in pixels of the frame, at multiples of
    /// [`PixelFormat::alignment`].
    pub(crate) fn replace(&mut self, frame: &FrameRef<'_>) -> Vec<Damage> {
        let padding = self.format.padding();
        let width = self.size.0;
        let planes = self.planes.iter_mut().enumerate();
        let planes = planes.map(|(index, plane)| {
            let (data, stride) = frame.plane(index);
            let (row_bytes, cells) = (plane.row_bytes, &plane.cells);
            let rows = plane.data.par_chunks_mut(row_bytes).with_min_len(ROWS);
            let damage = rows
                .zip(data.par_chunks(stride))
                .map(|(retained, row)| replace_row(retained, &row[..row_bytes], cells, padding));
            Damage::of_rows(width, damage.collect())
        });
        planes.collect()
    }

    /// Copies the frame to another one of the same format and size.
    pub(crate) fn copy_to(&self, frame: &mut FrameMut<'_>) {
        for (index, plane) in self.planes.iter().enumerate() {
            let (data, stride) = frame.plane_mut(index);
            let rows = data.par_chunks_mut(stride).take(plane.rows);
            rows.with_min_len(ROWS)
                .zip(plane.data.par_chunks(plane.row_bytes))
                .for_each(|(row, retained)| row[..retained.len()].copy_from_slice(retained));
        }
    }
}

/// Replaces a row by another one; returns the columns that differed.
fn replace_row(
    retained: &mut [u8],
    row: &[u8],
    cells: &[(usize, usize)],
    padding: Option<Component>,
) -> Vec<Range<usize>> {
    let mut damaged: Vec<Range<usize>> = Vec::new();
    if retained == row {
        return damaged;
    }
    for pair in cells.windows(2) {
        let [(x, first), (end, behind)] = [pair[0], pair[1]];
        let (retained, row) = (&mut retained[first..behind], &row[first..behind]);
        if retained == row || is_padding_alone(retained, row, padding) {
            continue;
        }
        retained.copy_from_slice(row);
        match damaged.last_mut() {
            Some(last) if last.end == x => last.end = end,
            _ => damaged.push(x..end),
        }
    }
    damaged
}

/// Whether pixels differ in their unused bytes only.
fn is_padding_alone(a: &[u8], b: &[u8], padding: Option<Component>) -> bool {
    let Some(padding) = padding else { return false };
    let differs = |(i, (a, b)): (usize, (&u8, &u8))| a != b && i % padding.step != padding.offset;
    !a.iter().zip(b).enumerate().any(differs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (52, 6);
    const STRIDE: usize = 1024;

    fn noise(format: PixelFormat) -> Vec<Vec<u8>> {
        let byte = |i: usize| (i * 7919 % 251) as u8;
        let plane = |_| (0..STRIDE * SIZE.1).map(byte).collect();
        (0..format.planes()).map(plane).collect()
    }

    fn frame(format: PixelFormat, planes: &[Vec<u8>]) -> FrameRef<'_> {
        let planes: Vec<_> = planes.iter().map(|p| (p.as_slice(), STRIDE)).collect();
        FrameRef::new(format, SIZE, Color::default(), &planes).unwrap()
    }

    /// Every byte of every format: within the rows and not padding, it damages one
    /// cell that contains its pixel; else none.
    #[test]
    fn what_differs_is_damaged() {
        for &format in PixelFormat::ALL {
            let mut planes = noise(format);
            let mut retained = RetainedFrame::new(format, SIZE, Color::default());
            retained.store(&frame(format, &planes));
            let none = retained.replace(&frame(format, &planes));
            assert!(none.iter().all(Damage::is_none));
            for plane in 0..format.planes() {
                let (row_bytes, rows) = format.plane_size(plane, SIZE.0, SIZE.1);
                for byte in 0..row_bytes + 1 {
                    let y = byte % rows;
                    planes[plane][y * STRIDE + byte] ^= 0x41;
                    let damage = retained.replace(&frame(format, &planes));
                    let padding = format.padding();
                    let counts =
                        byte < row_bytes && padding.is_none_or(|p| byte % p.step != p.offset);
                    for (i, damage) in damage.iter().enumerate() {
                        let expected = usize::from(counts && i == plane);
                        assert_eq!(damage.spans().len(), expected, "{format:?} {byte}");
                    }
                    if let [span] = &damage[plane].spans()[..] {
                        let bytes = |x| format.plane_size(plane, x, 1).0;
                        assert_eq!(span.y, y);
                        assert!((bytes(span.x.start)..bytes(span.x.end)).contains(&byte));
                        assert!(span.x.len() < 2 * CELL + format.alignment().0);
                    }
                }
            }
            // The last frame is retained.
            let mut copy = noise(format);
            copy.iter_mut().for_each(|plane| plane.fill(0));
            let views = copy.iter_mut().map(|p| (p.as_mut_slice(), STRIDE));
            retained.copy_to(&mut FrameMut::new(format, SIZE, Color::default(), views).unwrap());
            for plane in 0..format.planes() {
                let (row_bytes, rows) = format.plane_size(plane, SIZE.0, SIZE.1);
                let padding = format.padding();
                for (i, (a, b)) in copy[plane].iter().zip(&planes[plane]).enumerate() {
                    let byte = i % STRIDE;
                    if padding.is_none_or(|p| byte % p.step != p.offset) {
                        let is_retained = byte < row_bytes && i / STRIDE < rows;
                        let expected = if is_retained { *b } else { 0 };
                        assert_eq!(*a, expected, "{format:?} {i}");
                    }
                }
            }
        }
    }
}
