//! Fused chains on the CPU.

mod io;
pub(crate) mod kernels;
mod pack;
mod plan;
mod task;

pub(crate) use io::{PlanesOut, SamplesOut, Sink, Source};
pub use pack::PackedChain;
pub use plan::ChainExecutor;
