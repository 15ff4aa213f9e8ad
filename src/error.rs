//! What can go wrong, in words that name the thing and the remedy.

use std::path::PathBuf;

/// Result of this library's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this library. Each variant is a different remedy.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that does not exist or may not be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file that was asked for.
        path: PathBuf,
        /// Why the system refused.
        source: std::io::Error,
    },
    /// A weights file that was read but does not hold a usable network.
    #[error("{origin}: {problem}")]
    Weights {
        /// The file, or the built-in set, that was read.
        origin: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A model that exists but whose weights are not built in.
    #[error(
        "model {model} has no built-in weights. \
         Train them (cargo run --release --bin train -- --model {model} --data DIR) \
         and pass the file (weights=PATH; of sr, --weights PATH)"
    )]
    NoWeights {
        /// The model's name.
        model: String,
    },
    /// A model name that is not in the table.
    #[error("there is no model '{name}'. Known models: {known}")]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// The names of the table.
        known: String,
    },
    /// A part of the library that a Cargo feature leaves out of this build.
    #[error(
        "{needed_for} needs the Cargo feature `{feature}` of srfilter, which this build leaves out: \
         turn it on"
    )]
    MissingFeature {
        /// What was asked for.
        needed_for: String,
        /// The feature's name in `Cargo.toml`.
        feature: &'static str,
    },
    /// A setting that cannot be met, with what would be accepted.
    #[error("{0}")]
    Setting(String),
    /// A frame or picture whose description and bytes do not agree.
    #[error("{0}")]
    Frame(String),
    /// A computation that failed on its device.
    #[error("computation failed: {0}")]
    Compute(#[source] ComputeError),
    /// A computation that was asked to stop
    /// ([`Interrupt`](crate::engine::Interrupt)).
    #[error("the computation was interrupted")]
    Interrupted,
    /// A fault of this library: one part does not do what another relies on.
    #[error("internal error: {0}. Please report it")]
    Internal(String),
}

impl Error {
    pub(crate) fn weights(origin: &str, problem: impl Into<String>) -> Self {
        Self::Weights {
            origin: origin.to_owned(),
            problem: problem.into(),
        }
    }
}

impl Error {
    pub(crate) fn compute(error: candle_core::Error) -> Self {
        Self::Compute(ComputeError { inner: error })
    }
}

/// Why a computation failed.
#[derive(Debug)]
pub struct ComputeError {
    inner: candle_core::Error,
}

impl ComputeError {
    /// Whether a GPU had too little memory.
    pub fn is_out_of_memory(&self) -> bool {
        #[cfg(feature = "cuda")]
        return crate::ops::cuda::is_out_of_memory(&self.inner);
        #[cfg(not(feature = "cuda"))]
        false
    }
}

impl std::fmt::Display for ComputeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A candle error's other lines say where it came from.
        let text = self.inner.to_string();
        f.write_str(text.lines().next().unwrap_or_default())
    }
}

impl std::error::Error for ComputeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.inner)
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
