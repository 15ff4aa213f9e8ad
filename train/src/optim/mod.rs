//! The optimiser, the learning-rate schedule, the moving average of the weights
//! and the input preconditioner.

pub mod ema;
pub mod input_preconditioner;
pub mod muon;
mod optimizer;
pub mod schedule;

pub use optimizer::{Moments, Optimizer, Settings};
