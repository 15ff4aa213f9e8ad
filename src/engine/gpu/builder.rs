//! Programs on a GPU, call by call.

use crate::Result;
use crate::frame::resample::{ResampleAxis, Resampler};
use crate::ops::cuda::{Gpu, Program, Resample};

/// Planes of one size, one after the other in the GPU's memory: f32, dense
/// rows, values 0 to 255.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planes {
    pub(super) address: u64,
    pub(super) count: usize,
    pub(super) size: (usize, usize),
}

impl Planes {
    pub(super) fn samples(&self) -> usize {
        self.size.0 * self.size.1
    }

    pub(super) fn plane(&self, index: usize) -> Self {
        let bytes = index * self.samples() * size_of::<f32>();
        Self {
            address: self.address + bytes as u64,
            count: 1,
            size: self.size,
        }
    }
}

/// Collects the calls of a program.
pub(super) struct Builder {
    pub(super) gpu: Gpu,
    pub(super) program: Program,
    /// Rows of a band; 0: chosen by the network.
    pub(super) tile: usize,
}

impl Builder {
    pub(super) fn new(gpu: &Gpu, tile: usize) -> Self {
        Self {
            gpu: gpu.clone(),
            program: Program::new(gpu),
            tile,
        }
    }

    /// Room for planes.
    pub(super) fn planes(&mut self, count: usize, size: (usize, usize)) -> Result<Planes> {
        let address = self.program.room::<f32>(count * size.0 * size.1)?;
        Ok(Planes {
            address,
            count,
            size,
        })
    }

    /// The planes, resampled.
    pub(super) fn resample(&mut self, resampler: &Resampler, from: Planes) -> Result<Planes> {
        let made = self.planes(from.count, resampler.size())?;
        for i in 0..from.count {
            self.resample_into(resampler, from.plane(i), made.plane(i))?;
        }
        Ok(made)
    }

    pub(super) fn resample_into(
        &mut self,
        resampler: &Resampler,
        from: Planes,
        made: Planes,
    ) -> Result<()> {
        let (columns, rows) = resampler.axes();
        let between = self.planes(1, (from.size.0, made.size.1))?;
        let down = self.axis(rows, from, between)?;
        self.program.resample_rows(down)?;
        let across = self.axis(columns, between, made)?;
        Ok(self.program.resample_columns(across)?)
    }

    pub(super) fn axis(
        &mut self,
        axis: &ResampleAxis,
        from: Planes,
        made: Planes,
    ) -> Result<Resample> {
        let (starts, weights, taps) = axis.tables();
        let starts = self.gpu.upload(starts)?;
        let weights = self.gpu.upload(weights)?;
        Ok(Resample {
            source: from.address,
            dst: made.address,
            starts: self.program.keep(starts),
            weights: self.program.keep(weights),
            taps: taps as i32,
            source_width: from.size.0 as i32,
            width: made.size.0 as i32,
            height: made.size.1 as i32,
        })
    }

    /// Copies planes: resampling to their own size, which changes nothing.
    pub(super) fn copy(&mut self, from: Planes, to: u64) -> Result<()> {
        let same = Resampler::resize(from.size, from.size);
        let to = Planes {
            address: to,
            ..from
        };
        (0..from.count).try_for_each(|i| self.resample_into(&same, from.plane(i), to.plane(i)))
    }
}
