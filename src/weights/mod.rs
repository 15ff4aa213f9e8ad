//! Weights: safetensors files with metadata, files of other projects, and
//! the set that is built in.

mod checkpoint;
mod loaded;

pub use checkpoint::{Card, Checkpoint, Hints};
pub use loaded::Loaded;
