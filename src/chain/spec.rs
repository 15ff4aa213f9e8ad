//! The description of a chain of convolutions.

use crate::nn::Conv;
use candle_core::Tensor;

/// A network that is one convolution after the other, as the fused engine
/// runs it. Boundary 0 is the input; boundary `i` follows layer `i - 1`.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// The convolutions.
    pub layers: Vec<ChainLayer>,
    /// Subtracted from every sample of the input.
    pub input_mean: f32,
    /// Scale and offset of each plane of the input, after `input_mean`; zero
    /// padding comes after both. Empty: none.
    pub input_affine: Vec<(f32, f32)>,
    /// What follows the last layer.
    pub epilogue: Epilogue,
}

/// What follows the last layer of a [`Chain`], in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epilogue {
    /// Adds the input, enlarged bicubically where the chain enlarges.
    pub residual_bicubic: bool,
    /// Adds the input, enlarged by nearest neighbour.
    pub residual_nearest: bool,
    /// The result `y` becomes `(tanh(y) + 1) / 2`.
    pub tanh: bool,
}

impl Chain {
    /// Scale and offset of each of `planes` input planes, `input_mean`
    /// included.
    pub(crate) fn combined_affine(&self, planes: usize) -> Vec<(f32, f32)> {
        let mean = self.input_mean;
        match self.input_affine.as_slice() {
            [] => vec![(1.0, -mean); planes],
            affine => (affine.iter())
                .map(|&(scale, offset)| (scale, offset - scale * mean))
                .collect(),
        }
    }
}

/// One convolution of a [`Chain`] and what follows it, in this order.
#[derive(Debug, Clone)]
pub struct ChainLayer {
    /// What its parameters are called: a layer that several chains share has one
    /// name in all of them. Empty: its place in the chain.
    pub name: String,
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
            name: String::new(),
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
