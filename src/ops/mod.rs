//! Operations on candle tensors that candle itself has no fast form of.
//!
//! [`conv2d`] is the convolution that every network here is made of. On the
//! CPU and in `f32` it runs on kernels of this crate, in both directions;
//! everywhere else it hands over to candle's own convolution, with the same
//! meaning.
//!
//! Batch normalisation and PReLU are here for their speed in training.
//! Pooling and resampling of planes are here because candle's have wrong
//! gradients, or none. The transcendental functions are here because candle's
//! are those of the C library, which differ from system to system.
//!
//! Part of the [training interface](crate#training-interface).

mod context;
mod conv;
mod conv_chain;
pub mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod forward;
mod functions;
mod multi_tensor;
mod norm;
mod optimizer;
mod per_channel;
mod pool;
mod prelu;
mod resize;
mod spec;
mod storage;
pub(crate) mod winograd;

pub(crate) use context::with_tf32;
pub use context::{RecordedConv, backward, record_convs, with_default_context};
pub use conv::{conv2d, conv2d_at};
pub use conv_chain::{ChainedConv, conv2d_chain};
pub(crate) use forward::{Pairwise, conv2d_joined, pairwise, select};
pub use functions::{exp, gelu, log, sigmoid, softmax, tanh};
pub use multi_tensor::{lerp_in_place, squared_norm};
pub use norm::batch_norm;
pub use optimizer::{ParameterUpdate, apply_updates};
pub use pool::{adaptive_average2d, max_pool2d};
pub use prelu::prelu;
pub use resize::{separable, upsample_bilinear2d, upsample_nearest2d};
pub use spec::{Activation, Border, ConvSpec, UpdateRule};
pub(crate) use storage::with_all;
