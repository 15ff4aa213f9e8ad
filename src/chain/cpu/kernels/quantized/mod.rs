//! Convolutions in integers, over planes of words: a word holds the samples of
//! four channels at a pixel, or two neighbouring values of an input plane.
//!
//! A vector holds a word of as many pixels as it has lanes, and a sum of each in
//! 32 bits. Integer sums are exact: all levels compute the same bits.

mod conv;
mod dispatch;
mod integers;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod quad;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use conv::{InputRow, Lines, Output, QuantizedConv, Samples, Skip};
pub(crate) use dispatch::QuantizedKernels;
pub(crate) use quad::{QUAD, RequantizeQuad};
