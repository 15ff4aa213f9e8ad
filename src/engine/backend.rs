//! The seam between an upscaler and what computes its frames.

use crate::Result;
use crate::chain::Precision;
use crate::frame::{FrameMut, FrameRef};

/// A plane of a frame in a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePlane {
    /// Address of its first row.
    pub address: u64,
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// Executes one upscale. Frames and planes have the formats and sizes that it
/// was opened for: the caller has checked that.
///
/// A computation that fails is [`crate::Error::Compute`] or
/// [`crate::Error::Internal`]; any other error is the caller's.
pub(super) trait Backend: Send {
    /// Computes every sample of `output`.
    fn run(&mut self, input: &FrameRef<'_>, output: &mut FrameMut<'_>) -> Result<()>;

    /// Computes the networks' planes without a frame around them, values 0 to
    /// 255; the result is clamped to that range and not rounded.
    fn run_planes(&mut self, planes: &[Vec<f32>]) -> Result<Vec<Vec<f32>>>;

    /// Makes the next runs take less memory; whether that is possible.
    fn shrink(&mut self) -> bool {
        false
    }

    /// The numbers that the networks compute with.
    fn precision(&self) -> Precision;

    /// The number of tiles that a frame is computed in, where it is tiled.
    fn tiles(&self) -> usize {
        0
    }

    /// Whether [`Backend::submit`] can start frames.
    fn supports_pipelining(&self) -> bool {
        false
    }

    /// Starts the computation of a frame; `false` where there is no memory for
    /// another one at a time.
    fn submit(&mut self, _input: &FrameRef<'_>) -> Result<bool> {
        Ok(false)
    }

    /// Waits for the oldest submitted frame.
    fn receive(&mut self, _output: &mut FrameMut<'_>) -> Result<()> {
        Err(crate::Error::Frame("no frame was submitted".to_owned()))
    }

    /// Frames that were submitted and not received.
    fn in_flight(&self) -> usize {
        0
    }

    /// Waits for the submitted frames and drops them.
    fn cancel(&mut self) {}

    /// As [`Backend::run`] for frames in the GPU's memory; `false` where it
    /// cannot be done there.
    ///
    /// # Safety
    ///
    /// As [`super::Upscaler::process_device_frame`].
    unsafe fn run_device_frame(
        &mut self,
        _input: &[DevicePlane],
        _output: &[DevicePlane],
    ) -> Result<bool> {
        Ok(false)
    }
}
