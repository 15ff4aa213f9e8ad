//! Networks that are chains of convolutions, and their fused executors.
//!
//! [`Chain`] is the description: convolutions with what follows each of them.
//! `reference` computes it layer by layer on tensors, which is what training
//! differentiates and what the executors are tested against; `cpu` and the
//! GPU's executor run it fused.
//!
//! Part of the [training interface](crate#training-interface).

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod interrupt;
mod precision;
pub mod quantized;
mod reference;
pub(crate) mod segment;
mod spec;

pub use cpu::{ChainExecutor, PackedChain};
#[cfg(feature = "cuda")]
pub use cuda::CudaChainExecutor;
pub use interrupt::Interrupt;
pub use precision::Precision;
pub use spec::{Chain, ChainLayer, ChainOptions, Epilogue};
