//! Weights: safetensors files with metadata, files of other projects, and
//! the set that is built in.

mod checkpoint;
mod model;
mod torch;

pub use checkpoint::{Card, Checkpoint, LoadOverrides, ParsedCheckpoint, TensorInfo};
pub use model::Model;
