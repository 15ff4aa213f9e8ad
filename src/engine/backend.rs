//! The interface between an upscaler and the devices that compute its frames.

use crate::chain::{Interrupt, Precision};
use crate::frame::damage::Damage;
use crate::frame::{FrameMut, FrameRef};
use crate::tensor_error::Result;

/// A plane of a frame in a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePlane {
    /// Address of its first row.
    pub address: u64,
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// Computes frames of one format and size. The caller checks that frames and
/// planes have the formats and sizes that the backend was opened for.
///
/// Failures of the device are [`crate::Error::Compute`] or
/// [`crate::Error::Internal`]; all other errors are due to the caller.
pub(super) trait Backend: Send {
    /// Computes every sample of `output`.
    fn run(&mut self, input: &FrameRef<'_>, output: &mut FrameMut<'_>) -> Result<()>;

    /// As [`Backend::run`], into the output frame of the last call: what depends on
    /// `changes`, the damage of each plane of the input since then, in pixels of the
    /// frame, is computed, the rest is retained. `None`, or any other call in
    /// between: everything. Returns the share of the networks' work that this took,
    /// 0 to 1.
    fn update(
        &mut self,
        input: &FrameRef<'_>,
        output: &mut FrameMut<'_>,
        _changes: Option<&[Damage]>,
    ) -> Result<f64> {
        self.run(input, output)?;
        Ok(1.0)
    }

    /// Upscales the networks' planes instead of a frame, values 0 to 255; the
    /// output is clamped to that range and not rounded.
    fn run_planes(&mut self, planes: &[Vec<f32>]) -> Result<Vec<Vec<f32>>>;

    /// Makes runs end with [`crate::Error::Interrupted`] at this request. Backends
    /// whose frames take no time to speak of may ignore it.
    fn set_interrupt(&mut self, _interrupt: &Interrupt) {}

    /// Touches the memory of later runs, on the calling thread.
    fn warm_up(&mut self) {}

    /// Reduces the memory of later runs. Returns whether that is possible.
    fn shrink(&mut self) -> bool {
        false
    }

    /// The networks' precision.
    fn precision(&self) -> Precision;

    /// The number of tiles of a frame; 0 if it is not tiled.
    fn tiles(&self) -> usize {
        0
    }

    /// Whether [`Backend::submit`] is supported.
    fn supports_pipelining(&self) -> bool {
        false
    }

    /// Starts the computation of a frame; `false` if there is no memory for
    /// another one in flight.
    fn submit(&mut self, _input: &FrameRef<'_>) -> Result<bool> {
        Ok(false)
    }

    /// Waits for the oldest frame in flight.
    fn receive(&mut self, _output: &mut FrameMut<'_>) -> Result<()> {
        Err(crate::Error::Frame("no frame was submitted".to_owned()).into())
    }

    /// Number of frames in flight: submitted and not received.
    fn in_flight(&self) -> usize {
        0
    }

    /// Waits for the frames in flight and drops them.
    fn cancel(&mut self) {}

    /// Whether [`Backend::update`] computes parts of frames.
    fn updates_parts(&self) -> bool {
        false
    }

    /// As [`Backend::run`] for frames in GPU memory; `None` if this is not supported.
    /// If it `compares` the frame with the last one in GPU memory, returns whether it
    /// is the same, and was not computed again.
    ///
    /// # Safety
    ///
    /// As [`super::Upscaler::process_device_frame`].
    unsafe fn run_device_frame(
        &mut self,
        _input: &[DevicePlane],
        _output: &[DevicePlane],
        _compares: bool,
    ) -> Result<Option<bool>> {
        Ok(None)
    }
}
