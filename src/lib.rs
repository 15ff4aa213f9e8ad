//! lib
pub mod frame;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
pub mod weights;
mod error;
mod scale;
pub use error::{Error, Result};
pub use scale::Scale;
