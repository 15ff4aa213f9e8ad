//! The [`Upscaler`]: a model, a scale, a device and frame formats, ready to
//! upscale frames.
//!
//! Large frames run in tiles whose halo covers the network's receptive
//! field; the output is bit-identical for any tile size and thread count.
//! Networks with global pooling run a pass over all tiles for each mean if the
//! frame does not fit the memory: equal up to the rounding of the means. DRCT
//! runs on whole frames.
//!
//! Part of the [training interface](crate#training-interface).

mod backend;
mod budget;
mod builder;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod estimate;
mod frame_plan;
mod memory;
mod open;
mod options;
mod reuse;
mod spec;
mod tiling;
mod upscaler;
mod view;

pub use crate::background::in_background;
#[cfg(feature = "cuda")]
pub use crate::chain::CudaChainExecutor;
pub use crate::chain::{ChainExecutor, ChainOptions, Interrupt, Precision};
#[cfg(feature = "cuda")]
pub use crate::ops::cuda::PinnedBuffer;
pub use backend::DevicePlane;
pub use builder::UpscalerBuilder;
pub use device::{ComputeDevice, DeviceChoice};
pub use estimate::{LIVE_SHARE, estimate_time};
#[cfg(feature = "image")]
pub(crate) use memory::available as available_memory;
pub use options::UpscaleOptions;
pub use reuse::{Reuse, Reused};
pub use spec::{FrameSpec, MAX_PIXELS, MAX_SIDE, UpscaleSpec};
pub use upscaler::Upscaler;
pub use view::{Compare, View};
