//! The error of code that computes with tensors.

use crate::Error;
use std::fmt;

/// Result of code that computes with tensors.
pub(crate) type Result<T, E = TensorError> = std::result::Result<T, E>;

/// An [`Error`] that candle's errors convert into. In [`Error`] itself they have
/// no part, so that the facade does not change with candle.
#[derive(Debug)]
pub struct TensorError(Error);

impl From<candle_core::Error> for TensorError {
    fn from(error: candle_core::Error) -> Self {
        Self(Error::compute(error))
    }
}

impl From<Error> for TensorError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<TensorError> for Error {
    fn from(error: TensorError) -> Self {
        error.0
    }
}

impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for TensorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
