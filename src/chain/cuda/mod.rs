//! Fused chains on NVIDIA's GPUs.

mod builder;
mod epilogue;
mod executor;
mod network;
mod pack;
mod pack_quantized;

pub(crate) use builder::{Builder, Planes};
pub use executor::CudaChainExecutor;
pub(crate) use executor::{PlaneProgram, half};
pub(crate) use network::Network;
