//! From (model, scale, device, frame shapes) to an [`Upscaler`] that makes
//! output frames from input frames.
//!
//! Large frames run in tiles whose halo covers the network's receptive
//! field; results are equal bit for bit for any tile size and thread count.
//! Networks that take means over the whole frame run in a pass over all tiles
//! for each of them where the frame does not fit the memory: equal but for the
//! rounding of the means. DRCT sees whole frames.

mod builder;
mod device;
#[cfg(feature = "cuda")]
mod gpu;
mod memory;
mod options;
mod precision;
mod resamplers;
mod spec;
mod stage;
mod tiling;
mod upscaler;

pub use crate::chain::{ChainExecutor, ChainOptions};
#[cfg(feature = "cuda")]
pub use crate::ops::cuda::PinnedBuffer;
pub use builder::UpscalerBuilder;
pub use device::{ComputeDevice, DeviceChoice};
#[cfg(feature = "cuda")]
pub use gpu::{CudaChainExecutor, GpuPlane};
pub use options::UpscaleOptions;
pub use precision::Precision;
pub use spec::{FrameSpec, MAX_SIDE, UpscaleSpec};
pub use upscaler::Upscaler;
