//! Chains in 8-bit integers: the parameters, how they follow from those in f32,
//! and how networks are trained for it.
//!
//! The input is 16 bits wide, the weights of the first layer 12. Between the
//! layers lie samples of 8 bits, `q` for the value `step * (q - zero)`; weights
//! are 8 bits wide, in steps of each output channel, and the sums 32. The last
//! layer's sums become f32 and are added to the enlarged input: the picture
//! itself is never rounded to 8 bits. As the sums are exact, results are the
//! same bit for bit on every machine.
//!
//! Benoit Jacob et al., "Quantization and Training of Neural Networks for
//! Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
//! <https://arxiv.org/abs/1712.05877>.

mod calibration;
mod layers;
mod range;
mod requantize;
mod rounding;
mod tensors;

pub use calibration::Calibration;
pub(crate) use layers::{INPUT_STEPS, Place};
pub use layers::{Quantization, QuantizedLayer};
pub use range::{Range, Ranges};
pub(crate) use requantize::{FRACTION, Requantize, SKIP_ONE, SKIP_SHIFT};
pub(crate) use tensors::{StoredTensor, is_quantized};
