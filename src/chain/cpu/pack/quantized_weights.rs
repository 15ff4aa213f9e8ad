//! The weights of a layer in integers.

use crate::chain::cpu::kernels::quantized::RequantizeQuad;

/// The most rows of a kernel.
pub(crate) const MAX_KERNEL: usize = 9;

/// The largest side of a shuffle between layers.
pub(crate) const MAX_SHUFFLE: usize = 4;

/// The weights of a layer in integers, and what follows its sums.
#[derive(Debug)]
pub(crate) struct QuantizedWeights {
    /// Whether its input are planes, whose words hold two neighbouring values.
    pub(crate) first: bool,
    /// By four output channels, then row, tap, plane of words, channel.
    pub(crate) weights: Vec<i32>,
    /// For each four output channels.
    pub(crate) quads: Vec<RequantizeQuad>,
    /// The value of a sum's step, and the bias: of the last layer's channels.
    pub(crate) scales: Vec<(f32, f32)>,
    /// Words that are read from each row of a plane for a pixel, and pixels from one
    /// to the next.
    pub(crate) taps: usize,
    pub(crate) tap_step: usize,
    /// The sample of 0 in its input, and in its result.
    pub(crate) input_zero: u8,
    pub(crate) zero: u8,
    /// Of the boundary that it adds: the sample of 0, and the value of a step in steps
    /// of the result, times 2^11.
    pub(crate) skip: Option<(u8, i16)>,
}
