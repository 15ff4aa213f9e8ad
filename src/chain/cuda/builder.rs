//! Programs on a GPU, call by call.

use crate::frame::resample::{ResampleAxis, Resampler};
use crate::ops::cuda::{Gpu, Program, Resample};
use crate::tensor_error::Result;

/// Planes of one size, one after the other in the GPU's memory: f32, dense
/// rows, values 0 to 255.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planes {
    pub(crate) address: u64,
    pub(crate) count: usize,
    pub(crate) size: (usize, usize),
}

impl Planes {
    pub(crate) fn samples(&self) -> usize {
        self.size.0 * self.size.1
    }

    pub(crate) fn plane(&self, index: usize) -> Self {
        let bytes = index * self.samples() * size_of::<f32>();
        Self {
            address: self.address + bytes as u64,
            count: 1,
            size: self.size,
        }
    }
}

/// Collects the calls of a program.
pub(crate) struct Builder {
    pub(crate) gpu: Gpu,
    pub(crate) program: Program,
    /// Rows of a band; 0: chosen by the network.
    pub(crate) band_rows: usize,
}

impl Builder {
    pub(crate) fn new(gpu: &Gpu, band_rows: usize) -> Self {
        Self {
            gpu: gpu.clone(),
            program: Program::new(gpu),
            band_rows,
        }
    }

    /// Uninitialised planes.
    pub(crate) fn planes(&mut self, count: usize, size: (usize, usize)) -> Result<Planes> {
        let address = self.program.alloc::<f32>(count * size.0 * size.1)?;
        Ok(Planes {
            address,
            count,
            size,
        })
    }

    /// The planes, resampled.
    pub(crate) fn resample(&mut self, resampler: &Resampler, from: Planes) -> Result<Planes> {
        let to = self.planes(from.count, resampler.size())?;
        self.resample_into(resampler, from, to)?;
        Ok(to)
    }

    /// Resamples planes, one by one.
    pub(crate) fn resample_into(
        &mut self,
        resampler: &Resampler,
        from: Planes,
        to: Planes,
    ) -> Result<()> {
        (0..from.count).try_for_each(|i| self.resample_plane(resampler, from.plane(i), to.plane(i)))
    }

    fn resample_plane(&mut self, resampler: &Resampler, from: Planes, to: Planes) -> Result<()> {
        let (columns, rows) = resampler.axes();
        let between = self.planes(1, (from.size.0, to.size.1))?;
        let down = self.axis(rows, from, between)?;
        self.program.resample_rows(down)?;
        let across = self.axis(columns, between, to)?;
        Ok(self.program.resample_columns(across)?)
    }

    fn axis(&mut self, axis: &ResampleAxis, from: Planes, to: Planes) -> Result<Resample> {
        let (starts, weights, taps) = axis.tables();
        let starts = self.gpu.upload(starts)?;
        let weights = self.gpu.upload(weights)?;
        Ok(Resample {
            source: from.address,
            dst: to.address,
            starts: self.program.keep(starts),
            weights: self.program.keep(weights),
            taps: taps as i32,
            source_width: from.size.0 as i32,
            width: to.size.0 as i32,
            height: to.size.1 as i32,
        })
    }
}
