//! Networks in tiles whose halo covers the receptive field: the output does not
//! depend on the tiles, but for the last bits of networks that round by tile.

use super::NetworkStage;
use crate::Error;
use crate::frame::MAX_VALUE;
use crate::models::PartialOutput;
use crate::ops::{self, Border};
use crate::tensor_error::Result;
use candle_core::Tensor;
use rayon::prelude::*;
use std::ops::Range;

/// A tile with its halo, the input of a network.
pub(super) struct TileInput {
    /// (1, C, H, W), values 0 to 1.
    pub(super) tensor: Tensor,
    /// Columns and rows of the network's output, in input samples.
    valid: (usize, usize),
    /// Columns and rows of those before the tile's first sample.
    pub(super) skip: (usize, usize),
}

impl NetworkStage {
    /// Computes the tiles, in parallel if they are small.
    pub(super) fn run_tiled(&self, input: &[&[f32]], output: &mut [&mut [f32]]) -> Result<()> {
        let (view_width, view_height) = self.view.size();
        let (width, _) = self.size();
        let rows = self.tile.1;
        let means = self.means(input)?;
        // A band is a row of tiles: the same rows of every plane.
        let mut bands: Vec<Vec<&mut [f32]>> = Vec::new();
        bands.resize_with(view_height.div_ceil(rows), Vec::new);
        for plane in output.iter_mut() {
            let parts = plane.chunks_mut(rows * self.factor * width);
            for (band, part) in bands.iter_mut().zip(parts) {
                band.push(part);
            }
        }
        let run = |(i, mut band): (usize, Vec<&mut [f32]>)| {
            let first = i * rows;
            let rows = first..(first + rows).min(view_height);
            for column in (0..view_width).step_by(self.tile.0) {
                let columns = column..(column + self.tile.0).min(view_width);
                self.run_tile(input, &means, columns, rows.clone(), &mut band)?;
            }
            Ok(())
        };
        // With global pooling a single tile may take all of the memory.
        match means.is_empty() && self.device.is_cpu() {
            true => bands.into_par_iter().enumerate().try_for_each(run),
            false => bands.into_iter().enumerate().try_for_each(run),
        }
    }

    /// Computes the tile of these columns and rows of the view and stores it in
    /// the planes of its band.
    fn run_tile(
        &self,
        input: &[&[f32]],
        means: &[Tensor],
        columns: Range<usize>,
        rows: Range<usize>,
        band: &mut [&mut [f32]],
    ) -> Result<()> {
        self.interrupt.check()?;
        let (width, _) = self.size();
        let TileInput {
            tensor,
            valid,
            skip,
        } = self.tile_input(input, &columns, &rows)?;
        let result = ops::with_tf32(self.allow_tf32, || match means {
            [] => self.network.forward(&tensor).map(PartialOutput::Complete),
            _ => self.network.forward_part(&tensor, means),
        })?;
        let PartialOutput::Complete(result) = result else {
            let problem = "a network pools more often than it declares";
            return Err(Error::Internal(problem.to_owned()).into());
        };
        let size = (valid.0 * self.factor, valid.1 * self.factor);
        let result = self.samples(&result, (1, band.len()), valid)?;
        let columns = columns.start * self.factor..columns.end * self.factor;
        for (part, result) in band.iter_mut().zip(result.chunks_exact(size.0 * size.1)) {
            let rows = result.chunks_exact(size.0).skip(skip.1 * self.factor);
            for (target, row) in part.chunks_exact_mut(width).zip(rows) {
                let row = &row[skip.0 * self.factor..];
                for (target, value) in target[columns.clone()].iter_mut().zip(row) {
                    *target = (value * MAX_VALUE).clamp(0.0, self.limit);
                }
            }
        }
        Ok(())
    }

    /// The tile of these columns and rows of the view, with its halo.
    pub(super) fn tile_input(
        &self,
        input: &[&[f32]],
        columns: &Range<usize>,
        rows: &Range<usize>,
    ) -> Result<TileInput> {
        let (width, height) = self.view.size();
        let halo = self.network.halo();
        let unpadded = self.network.border() == Border::Valid;
        let (x, y) = (grow(columns, halo, width), grow(rows, halo, height));
        let mut samples = Vec::new();
        for plane in input {
            let mut part = self.view.region(plane, &x, &y);
            if unpadded {
                part = replicate_edge(&part, (&x, &y), (columns, rows), halo);
            }
            samples.extend(part.iter().map(|v| v / MAX_VALUE));
        }
        let (size, valid, skip) = if unpadded {
            let valid = (columns.len(), rows.len());
            ((valid.0 + 2 * halo, valid.1 + 2 * halo), valid, (0, 0))
        } else {
            let size = (x.len(), y.len());
            let skip = (columns.start - x.start, rows.start - y.start);
            (size, size, skip)
        };
        let shape = (1, input.len(), size.1, size.0);
        Ok(TileInput {
            tensor: Tensor::from_vec(samples, shape, &self.device)?,
            valid,
            skip,
        })
    }
}

/// A range extended by `halo` on both sides, within `0..len`.
fn grow(range: &Range<usize>, halo: usize, len: usize) -> Range<usize> {
    range.start.saturating_sub(halo)..(range.end + halo).min(len)
}

/// Replicates the edge samples of `part`, which covers the columns and rows
/// `have`, up to `halo` beyond the columns and rows `tile`.
fn replicate_edge(
    part: &[f32],
    have: (&Range<usize>, &Range<usize>),
    tile: (&Range<usize>, &Range<usize>),
    halo: usize,
) -> Vec<f32> {
    let source = |position: usize, have: &Range<usize>| {
        // `position` is offset by `halo`.
        position
            .saturating_sub(halo)
            .clamp(have.start, have.end - 1)
            - have.start
    };
    let columns = tile.0.start..tile.0.end + 2 * halo;
    let rows = tile.1.start..tile.1.end + 2 * halo;
    let mut out = Vec::with_capacity(columns.len() * rows.len());
    for y in rows {
        let row = &part[source(y, have.1) * have.0.len()..][..have.0.len()];
        out.extend(columns.clone().map(|x| row[source(x, have.0)]));
    }
    out
}
