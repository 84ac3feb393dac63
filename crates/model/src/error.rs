//! What can go wrong, with the file it concerns; the message of the cause follows through `source`.

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is there but does not hold what it should.
    #[error("cannot use {path}: {cause}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A hook, position or option that this model does not have.
    #[error("{0}")]
    Argument(String),
    /// An operator failed; the message names shapes.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// A file that does not hold what it should.
    pub(crate) fn invalid(path: impl Into<PathBuf>, cause: impl std::fmt::Display) -> Self {
        Self::Invalid {
            path: path.into(),
            cause: cause.to_string(),
        }
    }

    /// Names the file an I/O error concerns.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
