//! From (model, scale, device, frame shapes) to an [`Upscaler`] that makes
//! output frames from input frames.
//!
//! Large frames run in tiles whose halo covers the network's receptive
//! field; results are equal bit for bit for any tile size and thread count.
//! Networks that take means over the whole frame run in a pass over all tiles
//! for each of them where the frame does not fit the memory: equal but for the
//! rounding of the means. DRCT sees whole frames.

mod backend;
mod budget;
mod builder;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod frame_plan;
mod open;
mod options;
mod spec;
mod tiling;
mod upscaler;

#[cfg(feature = "cuda")]
pub use crate::chain::CudaChainExecutor;
pub use crate::chain::{ChainExecutor, ChainOptions, Precision};
#[cfg(feature = "cuda")]
pub use crate::ops::cuda::PinnedBuffer;
pub use backend::DevicePlane;
pub use builder::UpscalerBuilder;
pub use device::{ComputeDevice, DeviceChoice};
pub use options::UpscaleOptions;
pub use spec::{FrameSpec, MAX_SIDE, UpscaleSpec};
pub use upscaler::Upscaler;
