//! Operations on candle tensors that candle itself has no fast form of.
//!
//! [`conv2d`] is the convolution that every network here is made of. On the
//! CPU and in `f32` it runs on kernels of this crate, in both directions;
//! everywhere else it hands over to candle's own convolution, with the same
//! meaning.

mod conv;
pub mod cpu;
pub(crate) mod winograd;

pub use conv::{Activation, Border, ConvSpec, conv2d, conv2d_at};
