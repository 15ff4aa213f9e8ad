//! Images laid out for the kernels.
//!
//! A plane (one channel of one image) is stored with its border around it,
//! row after row at a fixed pitch. Moving by `dy` rows and `dx` columns is
//! then moving by `dy * pitch + dx` along the plane, wherever one is, so that
//! a convolution of the plane is a convolution of a line: vectors run along
//! the line, across the ends of rows, and the results that fall between rows
//! are thrown away. Every size, border and kernel is the same code, and small
//! images fill the vectors as well as large ones.

use super::scratch::Scratch;
use super::threads::shared_work;
use crate::ops::spec::{Border, ConvGeometry};
use rayon::prelude::*;

/// Values in a cache line, and in the longest vector.
pub(super) const LINE: usize = 16;

/// How far the kernels may read past a plane: the longest tile of any level.
pub(super) const SLACK: usize = 128;

/// How a plane lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct PlaneLayout {
    /// Rows and columns of the image.
    pub(super) source: (usize, usize),
    /// Distance in the layout of neighbours in the image.
    pub(super) step: usize,
    /// Rows and columns of a plane without its border.
    pub(super) inner: (usize, usize),
    /// Height of the border at the top and the bottom, width of it on the
    /// left and the right.
    pub(super) pad: (usize, usize),
    /// Whether the border repeats the edge of the image; else it is zero.
    pub(super) replicate: bool,
}

impl PlaneLayout {
    /// That of the images of a convolution.
    pub(in crate::ops) fn of_images(geometry: &ConvGeometry) -> Self {
        Self {
            source: geometry.image,
            step: 1,
            inner: geometry.image,
            pad: geometry.pad(),
            replicate: geometry.border == Border::Replicate,
        }
    }

    /// That of the gradient of the result: spread to stride 1, and with zeros
    /// around it so that its convolution has the size of
    /// [`ConvGeometry::grad_grid`]. The pitch is that of the images.
    pub(in crate::ops) fn of_gradient(geometry: &ConvGeometry) -> Self {
        Self {
            source: geometry.size(),
            step: geometry.stride,
            inner: geometry.grid(),
            pad: geometry.grad_pad(),
            replicate: false,
        }
    }

    /// Distance of neighbouring rows. Zeros to the right of one row serve as
    /// the zeros to the left of the next.
    pub(super) fn pitch(&self) -> usize {
        self.inner.1 + self.pad.1 * if self.replicate { 2 } else { 1 }
    }

    /// Where in a plane the image begins.
    pub(super) fn origin(&self) -> usize {
        self.pad.0 * self.pitch() + self.pad.1
    }

    fn len(&self) -> usize {
        let last = if self.replicate { 0 } else { self.pad.1 };
        (self.inner.0 + 2 * self.pad.0) * self.pitch() + last
    }

    /// Distance of neighbouring planes. Leaves a vector of zeros behind each
    /// plane, and is an odd number of cache lines so that the planes spread
    /// over all sets of the cache.
    pub(super) fn stride(&self) -> usize {
        ((self.len() + LINE - 1).div_ceil(LINE) | 1) * LINE
    }
}

/// Planes in a layout, the channels of an image one after the other and the
/// images of a batch likewise.
pub(in crate::ops) struct PaddedPlanes {
    data: Scratch,
    start: usize,
    layout: PlaneLayout,
    count: usize,
}

impl PaddedPlanes {
    /// Puts dense planes, which lie in one part or several, into the layout. Values where
    /// `relu_mask` is not above zero become zero.
    pub(in crate::ops) fn new(
        layout: PlaneLayout,
        source: &[&[f32]],
        relu_mask: Option<&[f32]>,
    ) -> Self {
        let size = layout.source.0 * layout.source.1;
        let source: Vec<&[f32]> = source.iter().flat_map(|s| s.chunks_exact(size)).collect();
        let (count, stride) = (source.len(), layout.stride());
        let mut data = Scratch::take(count * stride + SLACK + LINE);
        // Vectors of the image itself begin at a cache line.
        let aligned = data.as_ptr().align_offset(LINE * size_of::<f32>());
        let start = (aligned + LINE - layout.origin() % LINE) % LINE;
        let end = start + count * stride;
        data[end..].fill(0.0);
        let fill = |(i, plane): (usize, &mut [f32])| {
            let range = i * size..(i + 1) * size;
            layout.fill(
                plane,
                source[i],
                relu_mask.map(|relu_mask| &relu_mask[range]),
            );
        };
        let planes = &mut data[start..end];
        if shared_work(count * stride) {
            planes
                .par_chunks_exact_mut(stride)
                .enumerate()
                .for_each(fill);
        } else {
            planes.chunks_exact_mut(stride).enumerate().for_each(fill);
        }
        Self {
            data,
            start,
            layout,
            count,
        }
    }

    pub(super) fn layout(&self) -> &PlaneLayout {
        &self.layout
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The planes from an index on, with the readable rest behind.
    pub(super) fn from(&self, plane: usize) -> &[f32] {
        &self.data[self.start + plane * self.layout.stride()..]
    }

    /// One plane with its border.
    pub(super) fn plane(&self, plane: usize) -> &[f32] {
        &self.from(plane)[..self.layout.stride()]
    }
}

impl PlaneLayout {
    fn fill(&self, plane: &mut [f32], source: &[f32], relu_mask: Option<&[f32]>) {
        let (width, pitch) = (self.source.1, self.pitch());
        plane.fill(0.0);
        for y in 0..self.source.0 {
            let at = self.origin() + y * self.step * pitch;
            let range = y * width..(y + 1) * width;
            let relu_mask = relu_mask.map(|relu_mask| &relu_mask[range.clone()]);
            let values = &source[range];
            if self.step == 1 {
                fill_row(plane[at..at + width].iter_mut(), values, relu_mask);
            } else {
                fill_row(plane[at..].iter_mut().step_by(self.step), values, relu_mask);
            }
        }
        if self.replicate {
            self.replicate_edges(plane);
        }
    }

    fn replicate_edges(&self, plane: &mut [f32]) {
        let ((rows, columns), (top, left), pitch) = (self.inner, self.pad, self.pitch());
        for row in plane[top * pitch..].chunks_exact_mut(pitch).take(rows) {
            let (first, last) = (row[left], row[left + columns - 1]);
            row[..left].fill(first);
            row[left + columns..].fill(last);
        }
        let bottom = top + rows - 1;
        for y in 0..top {
            plane.copy_within(top * pitch..(top + 1) * pitch, y * pitch);
            let below = (bottom + 1 + y) * pitch;
            plane.copy_within(bottom * pitch..(bottom + 1) * pitch, below);
        }
    }
}

/// Moves values where the mask is above zero. Compiled for each kind of row, since
/// only a dense one vectorises.
fn fill_row<'a>(row: impl Iterator<Item = &'a mut f32>, values: &[f32], relu_mask: Option<&[f32]>) {
    match relu_mask {
        Some(relu_mask) => {
            for ((to, &value), &relu_mask) in row.zip(values).zip(relu_mask) {
                *to = if relu_mask > 0.0 { value } else { 0.0 };
            }
        }
        None => row.zip(values).for_each(|(to, &value)| *to = value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(source: (usize, usize), pad: (usize, usize), replicate: bool) -> PlaneLayout {
        PlaneLayout {
            source,
            step: 1,
            inner: source,
            pad,
            replicate,
        }
    }

    #[test]
    fn zeros_are_shared_between_rows() {
        let planes = PaddedPlanes::new(layout((2, 2), (1, 1), false), &[&[1., 2., 3., 4.]], None);
        let wanted = [0., 0., 0., 0., 1., 2., 0., 3., 4., 0., 0., 0., 0.];
        assert_eq!(planes.plane(0)[..13], wanted);
        assert!(planes.plane(0)[13..].iter().all(|&value| value == 0.0));
    }

    #[test]
    fn edges_are_repeated() {
        let planes = PaddedPlanes::new(layout((2, 2), (1, 2), true), &[&[1., 2., 3., 4.]], None);
        let wanted = [
            [1., 1., 1., 2., 2., 2.],
            [1., 1., 1., 2., 2., 2.],
            [3., 3., 3., 4., 4., 4.],
            [3., 3., 3., 4., 4., 4.],
        ];
        assert_eq!(&planes.plane(0)[..24], wanted.as_flattened());
    }

    #[test]
    fn spread_and_masked_values_leave_zeros() {
        let spread = PlaneLayout {
            step: 2,
            inner: (4, 3),
            ..layout((2, 2), (0, 0), false)
        };
        let relu_mask = [1., -1., f32::NAN, 0.5];
        let planes = PaddedPlanes::new(spread, &[&[1., 2., 3., 4.]], Some(&relu_mask));
        let wanted = [1., 0., 0., 0., 0., 0., 0., 0., 4., 0., 0., 0.];
        assert_eq!(planes.plane(0)[..12], wanted);
    }

    #[test]
    fn stale_values_never_show() {
        drop(PaddedPlanes::new(
            layout((9, 9), (0, 0), false),
            &[&[7.0; 810]],
            None,
        ));
        let planes = PaddedPlanes::new(layout((3, 3), (2, 2), false), &[&[1.0; 9]], None);
        let sum: f32 = planes.from(0).iter().sum();
        assert_eq!(sum, 9.0);
    }

    #[test]
    fn images_begin_at_cache_lines() {
        for width in 1..20 {
            let planes = PaddedPlanes::new(
                layout((3, width), (1, 1), false),
                &[&vec![1.0; 6 * width]],
                None,
            );
            for i in 0..planes.count() {
                let origin = planes.plane(i)[planes.layout().origin()..].as_ptr();
                assert_eq!(origin.addr() % 64, 0);
            }
        }
    }
}
