//! The optimiser, the learning-rate schedule, and what works on the weights
//! beside them.

pub mod ema;
pub mod input_preconditioner;
mod optimizer;
pub mod schedule;

pub use optimizer::{Moments, Optimizer, Settings};
