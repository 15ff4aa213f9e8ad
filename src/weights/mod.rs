//! Weights: safetensors files with metadata, checkpoints of other projects, and
//! the built-in weights.

mod checkpoint;
mod model;
#[cfg(feature = "pytorch")]
mod torch;

pub use checkpoint::{Card, Checkpoint, LoadOverrides, ParsedCheckpoint, TensorInfo};
pub use model::Model;
