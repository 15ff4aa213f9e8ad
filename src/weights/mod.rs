//! Weights: safetensors files with metadata, checkpoints of other projects, and
//! the built-in weights.
//!
//! Part of the [training interface](crate#training-interface).

mod blend;
mod checkpoint;
mod chroma;
mod dtype;
mod graph_file;
mod model;
mod ncnn;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "pytorch")]
mod torch;
mod weak_cache;

pub use checkpoint::{Card, Checkpoint, LoadOverrides, ParsedCheckpoint, TensorInfo};
pub use model::Model;
