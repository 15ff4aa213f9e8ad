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
    /// A setting that cannot be met, with what would be accepted.
    #[error("{0}")]
    Setting(String),
    /// A frame or picture whose description and bytes do not agree.
    #[error("{0}")]
    Frame(String),
    /// A computation that failed.
    #[error("computation failed: {0}")]
    Compute(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn weights(origin: &str, problem: impl Into<String>) -> Self {
        Self::Weights {
            origin: origin.to_owned(),
            problem: problem.into(),
        }
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
