//! Kernels of this crate on NVIDIA's GPUs: memory, calls, and graphs of them.
//!
//! A job's calls run in the order of its stream. What the kernels take is laid
//! out in `frames.cu` and `convolve.cu`; the structures here are the same.

#[cfg(feature = "cudnn")]
pub(in crate::ops) mod cudnn;
mod device;
mod errors;
mod graph;
mod launch_args;
pub(crate) mod layers;
mod memory;

pub(crate) use device::Gpu;
pub(crate) use errors::is_out_of_memory;
pub(crate) use graph::{CHUNK, HALF_TILE, INTEGER_CHANNELS, PLAIN_CHANNELS, Program, WIDEST_FIRST};
pub(crate) use launch_args::{
    ColorChange, Colors, Convolve, Enter, EpilogueArgs, Half, Integers, MOST_PLANES, Numbers,
    Replace, Resample, Samples,
};
pub use memory::PinnedBuffer;
pub(crate) use memory::{DeviceBuffer, PinnedStaging, Rows};
