//! Errors of the library as Python's exceptions.

use pyo3::PyErr;
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyValueError};
use srfilter::Error;
use std::fmt::Display;
use std::io;

/// The exception that Python's own functions raise in such a case.
pub(crate) fn to_python(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        // `FileNotFoundError` and the like.
        Error::File { source, .. } => io::Error::new(source.kind(), text).into(),
        Error::Compute(_) | Error::Internal(_) | Error::MissingFeature { .. } => {
            PyRuntimeError::new_err(text)
        }
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        _ => PyValueError::new_err(text),
    }
}

pub(crate) fn value_error(problem: impl Display) -> PyErr {
    PyValueError::new_err(problem.to_string())
}
