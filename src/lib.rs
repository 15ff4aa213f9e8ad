//! lib
pub mod engine;
mod error;
pub mod frame;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
mod scale;
pub mod weights;
pub use error::{Error, Result};
pub use scale::Scale;
