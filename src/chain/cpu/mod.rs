//! Fused chains on the CPU.

mod areas;
mod epilogue;
mod executor;
mod io;
pub(crate) mod kernels;
mod layout;
mod pack;
mod task;

pub(crate) use areas::{Areas, CellGrid};
pub use executor::ChainExecutor;
pub(crate) use io::{PlanesOut, SamplesOut, Sink, Source};
pub use pack::PackedChain;
#[cfg(feature = "cuda")]
pub(crate) use pack::{PackedLayer, QuantizedWeights};
