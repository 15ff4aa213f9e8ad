//! Fused chains on the CPU.

mod epilogue;
mod executor;
mod io;
pub(crate) mod kernels;
mod layout;
mod pack;
mod task;

pub use executor::ChainExecutor;
pub(crate) use io::{PlanesOut, SamplesOut, Sink, Source};
pub use pack::PackedChain;
