//! Whole-frame networks in overlapping tiles, each computed like a whole image
//! and averaged where they overlap, as in the published test code of DRCT. An
//! approximation.

use super::NetworkStage;
use super::tile_size::starts;
use crate::frame::MAX_VALUE;
use crate::ops;
use crate::tensor_error::Result;
use candle_core::Tensor;

impl NetworkStage {
    /// Computes the tiles in batches and averages them.
    pub(super) fn run_overlapped(&self, input: &[&[f32]], output: &mut [&mut [f32]]) -> Result<()> {
        let ((view_width, view_height), (width, _)) = (self.view.size(), self.size());
        let columns = starts(view_width, self.tile.0, self.overlap);
        let rows = starts(view_height, self.tile.1, self.overlap);
        output.iter_mut().for_each(|sums| sums.fill(0.0));
        let across = |&top: &usize| columns.iter().map(move |&left| (left, top));
        let corners: Vec<_> = rows.iter().flat_map(across).collect();
        for corners in corners.chunks(self.batch) {
            self.interrupt.check()?;
            self.add_tiles(input, corners, output)?;
        }
        let across = coverage(&columns, self.tile.0, view_width);
        let down = coverage(&rows, self.tile.1, view_height);
        for plane in output {
            for (y, line) in plane.chunks_exact_mut(width).enumerate() {
                for (x, value) in line.iter_mut().enumerate() {
                    let tiles = across[x / self.factor] * down[y / self.factor];
                    *value = (*value / tiles).clamp(0.0, self.limit);
                }
            }
        }
        Ok(())
    }

    /// Computes the tiles at `corners` (left, top) and adds them to `sums`.
    fn add_tiles(
        &self,
        input: &[&[f32]],
        corners: &[(usize, usize)],
        sums: &mut [&mut [f32]],
    ) -> Result<()> {
        let (tile_width, tile_height) = self.tile;
        let samples = corners.iter().flat_map(|&(left, top)| {
            let (x, y) = (left..left + tile_width, top..top + tile_height);
            let parts = input.iter().map(move |p| self.view.region(p, &x, &y));
            parts.flatten().map(|v| v / MAX_VALUE)
        });
        let shape = (corners.len(), input.len(), tile_height, tile_width);
        let tensor = Tensor::from_vec(samples.collect::<Vec<_>>(), shape, &self.device)?;
        let result = ops::with_tf32(self.allow_tf32, || self.network.forward(&tensor))?;
        let result = self.samples(&result, (corners.len(), sums.len()), self.tile)?;
        let tiles = result.chunks_exact(result.len() / corners.len());
        for (&(left, top), tile) in corners.iter().zip(tiles) {
            let (row_length, start) = (tile_width * self.factor, left * self.factor);
            let planes = tile.chunks_exact(tile.len() / sums.len().max(1));
            for (plane, tile) in sums.iter_mut().zip(planes) {
                let lines = plane.chunks_exact_mut(self.size().0);
                let lines = lines.skip(top * self.factor);
                for (line, row) in lines.zip(tile.chunks_exact(row_length)) {
                    let pairs = line[start..].iter_mut().zip(row);
                    pairs.for_each(|(sum, value)| *sum += value * MAX_VALUE);
                }
            }
        }
        Ok(())
    }
}

/// Number of tiles that cover each column (or row).
fn coverage(starts: &[usize], tile: usize, len: usize) -> Vec<f32> {
    let mut counts = vec![0.0; len];
    for &start in starts {
        counts[start..start + tile]
            .iter_mut()
            .for_each(|n| *n += 1.0);
    }
    counts
}
