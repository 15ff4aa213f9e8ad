//! The description of a chain of convolutions.

use crate::nn::Conv;
use candle_core::Tensor;

/// A network that is one convolution after the other, as the fused engine
/// runs it. Boundary 0 is the input; boundary `i` follows layer `i - 1`.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// The convolutions.
    pub layers: Vec<ChainLayer>,
    /// Subtracted from every sample before the first convolution.
    pub shift: f32,
    /// Whether the input, enlarged to the size of the result, is added to it.
    pub base: bool,
    /// What each plane that comes in is multiplied by and what is then added,
    /// after `shift`: borders of zeros are zeros of what this makes. Empty
    /// where samples stay as they are.
    pub input: Vec<(f32, f32)>,
    /// Whether the input, every sample repeated to a square, is added.
    pub nearest: bool,
    /// Whether the result `y` becomes `(tanh(y) + 1) / 2`, after all additions.
    pub tanh: bool,
}

/// One convolution of a [`Chain`] and what follows it, in this order.
#[derive(Debug, Clone)]
pub struct ChainLayer {
    /// Weights, bias, border, ReLU.
    pub conv: Conv,
    /// PReLU: one factor for what is negative, for all channels or for each.
    pub slope: Option<Tensor>,
    /// The boundary that is added.
    pub skip: Option<usize>,
    /// Pixel shuffle: r * r channels become squares of side r. 1: none.
    pub shuffle: usize,
}

impl From<Conv> for ChainLayer {
    /// The convolution alone.
    fn from(conv: Conv) -> Self {
        Self {
            conv,
            slope: None,
            skip: None,
            shuffle: 1,
        }
    }
}

/// How an executor divides its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainOptions {
    /// Columns and rows of a region in samples, rounded up; 0: chosen by the
    /// executor.
    pub tile_size: usize,
    /// CPU threads; 0: one for each core.
    pub threads: usize,
}
