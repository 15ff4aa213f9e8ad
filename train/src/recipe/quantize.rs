//! The section `[quantize]`: training for 8-bit integers.

use serde::{Deserialize, Serialize};

/// Training for 8-bit integers, from the weights of `init`: the network computes with
/// the rounding of its layers, whose ranges come from what the initial network
/// computes for the first batches. The weights file holds the initial weights
/// unchanged and the trained ones as integers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantize {
    /// Batches that the ranges come from.
    #[serde(default = "batches")]
    pub batches: usize,
}

fn batches() -> usize {
    64
}
