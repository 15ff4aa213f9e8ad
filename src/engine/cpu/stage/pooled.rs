//! Networks with global pooling on tiles: a pass over all tiles for each mean.

use super::NetworkStage;
use crate::Error;
use crate::models::PartialOutput;
use crate::ops;
use crate::tensor_error::Result;
use candle_core::Tensor;

impl NetworkStage {
    /// The network's means over the whole image; none if there is only one tile.
    pub(super) fn means(&self, input: &[&[f32]]) -> Result<Vec<Tensor>> {
        let mut means = Vec::new();
        if self.tiles() == 1 {
            return Ok(means);
        }
        let (width, height) = self.view.size();
        for _ in 0..self.network.global_pools() {
            let mut sums: Vec<f64> = Vec::new();
            for row in (0..height).step_by(self.tile.1) {
                let rows = row..(row + self.tile.1).min(height);
                for column in (0..width).step_by(self.tile.0) {
                    let columns = column..(column + self.tile.0).min(width);
                    self.interrupt.check()?;
                    let tile = self.tile_input(input, &columns, &rows)?;
                    let part = ops::with_tf32(self.allow_tf32, || {
                        self.network.forward_part(&tile.tensor, &means)
                    })?;
                    let PartialOutput::NeedsMean(part) = part else {
                        let problem = "a network pools less often than it declares";
                        return Err(Error::Internal(problem.to_owned()).into());
                    };
                    let inner = part.narrow(3, tile.skip.0, columns.len())?;
                    add_sums(&mut sums, &inner.narrow(2, tile.skip.1, rows.len())?)?;
                }
            }
            let area = (width * height) as f64;
            let mean: Vec<f32> = sums.iter().map(|sum| (sum / area) as f32).collect();
            means.push(Tensor::from_vec(mean, (1, sums.len()), &self.device)?);
        }
        Ok(means)
    }
}

/// Adds the channel sums of a tile, (1, C, H, W).
fn add_sums(sums: &mut Vec<f64>, part: &Tensor) -> Result<()> {
    let (_, channels, height, width) = part.dims4()?;
    sums.resize(channels, 0.0);
    let values = part.flatten_all()?.to_vec1::<f32>()?;
    for (sum, values) in sums.iter_mut().zip(values.chunks_exact(height * width)) {
        *sum += values.iter().copied().map(f64::from).sum::<f64>();
    }
    Ok(())
}
