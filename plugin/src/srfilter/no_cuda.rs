//! The stand-in for `cuda.rs` in builds without CUDA.

use gst_video::VideoInfo;
use srfilter::engine::{ComputeDevice, Upscaler};

/// Uninhabited.
pub(super) enum CudaContext {}

/// No formats for the pad templates.
pub(super) fn formats() -> Vec<gst_video::VideoFormat> {
    Vec::new()
}

/// There is no pinned memory without a GPU.
pub(super) fn allocator(_: &ComputeDevice) -> Option<gst::Allocator> {
    None
}

/// Whether frames of these caps are in GPU memory.
pub(super) fn is_cuda(_: &gst::CapsRef) -> bool {
    false
}

impl CudaContext {
    pub(super) fn open(_: &ComputeDevice) -> Option<Self> {
        None
    }

    pub(super) fn serves(&self, _: &ComputeDevice) -> bool {
        match *self {}
    }

    pub(super) fn to_context(&self) -> gst::Context {
        match *self {}
    }

    pub(super) fn answer(&self, _: &gst::Element, _: &mut gst::QueryRef) -> bool {
        match *self {}
    }

    pub(super) fn pool(
        &self,
        _: &gst::Caps,
        _: (u32, u32),
    ) -> Result<(gst::BufferPool, u32), gst::LoggableError> {
        match *self {}
    }

    pub(super) fn process(
        &self,
        _: &mut Upscaler,
        _: (&gst::BufferRef, &VideoInfo),
        _: (&mut gst::BufferRef, &VideoInfo),
    ) -> srfilter::Result<bool> {
        match *self {}
    }
}
