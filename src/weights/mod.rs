//! Weights: safetensors files with metadata, files of other projects, and
//! the set that is built in.

mod checkpoint;
mod loaded;
mod torch;

pub use checkpoint::{Card, Checkpoint, Contents, Hints, Listed};
pub use loaded::Loaded;
