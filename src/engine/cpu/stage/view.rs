//! The network's view of a stage's input planes.

use crate::chain::cpu::Source;
use crate::frame::MAX_VALUE;
use crate::frame::resample::{Region, Resampler};
use std::cell::RefCell;
use std::ops::Range;

/// The planes that a network reads.
pub(super) enum View {
    /// The stage's input: width and height.
    Input((usize, usize)),
    /// The input, upscaled to the output size.
    Upscaled(Box<Resampler>),
}

impl View {
    /// Width and height.
    pub(super) fn size(&self) -> (usize, usize) {
        match self {
            Self::Input(size) => *size,
            Self::Upscaled(resampler) => resampler.size(),
        }
    }

    /// A region of the view of `plane`, as dense rows.
    pub(super) fn region(&self, plane: &[f32], x: &Range<usize>, y: &Range<usize>) -> Vec<f32> {
        match self {
            Self::Input((width, _)) => {
                let rows = y.clone().map(|row| &plane[row * width..][x.clone()]);
                rows.flatten().copied().collect()
            }
            Self::Upscaled(resampler) => {
                let mut part = vec![0.0; x.len() * y.len()];
                let region = Region {
                    x: x.clone(),
                    y: y.clone(),
                };
                resampler.region(plane, &region, &mut part, x.len());
                part
            }
        }
    }
}

/// The input of a fused chain, row by row: values 0 to 1.
pub(super) struct ViewRows<'a> {
    pub(super) view: &'a View,
    /// Upscales the view, for chains with a bicubic residual.
    pub(super) residual: Option<&'a Resampler>,
    pub(super) planes: &'a [&'a [f32]],
}

thread_local! {
    /// Scratch rows: between the two passes of resampling, and of the residual.
    static LINES: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl Source for ViewRows<'_> {
    fn row(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]) {
        let plane = self.planes[plane];
        match self.view {
            View::Input((width, _)) => out.copy_from_slice(&plane[y * width..][x]),
            View::Upscaled(resampler) => LINES.with_borrow_mut(|(line, _)| {
                resampler.row(plane, y, x, line, out);
            }),
        }
        out.iter_mut().for_each(|value| *value /= MAX_VALUE);
    }

    fn add_bicubic(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]) {
        let Some(resampler) = self.residual else {
            return;
        };
        LINES.with_borrow_mut(|(line, row)| {
            row.resize(out.len(), 0.0);
            resampler.row(self.planes[plane], y, x, line, row);
            for (sum, value) in out.iter_mut().zip(row) {
                *sum += *value / MAX_VALUE;
            }
        });
    }
}
