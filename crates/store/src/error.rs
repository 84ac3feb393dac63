//! What can go wrong with a file. Every variant names it; the message of the cause follows through `source`.

use std::io;
use std::path::{Path, PathBuf};

/// Result of everything that touches a file.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, with the path it happened to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read.
    #[error("cannot read {path}")]
    Read {
        /// File or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused to write: no such directory, no space, a closed pipe.
    #[error("cannot write {path}")]
    Write {
        /// File or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is not what the reader was promised: truncated, another format, a wrong column.
    #[error("cannot read {path}: {cause}")]
    Invalid {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The values to write would not make a valid file.
    #[error("cannot write {path}: {cause}")]
    Unwritable {
        /// File.
        path: PathBuf,
        /// What is wrong with them.
        cause: String,
    },
    /// A NaN or an infinity where every number must be finite.
    #[error("cannot use {path}: row {row} holds a NaN or an infinity")]
    NotFinite {
        /// File.
        path: PathBuf,
        /// Row of the tensor or of the activation store, from 0.
        row: usize,
    },
    /// A file, directory or glob that stands for no file at all.
    #[error("cannot read {path}: {cause}")]
    NoFiles {
        /// What was given.
        path: PathBuf,
        /// What was looked for.
        cause: String,
    },
    /// Two files that do not belong together.
    #[error("cannot use {left} with {right}: {cause}")]
    Disagree {
        /// One file.
        left: PathBuf,
        /// The other.
        right: PathBuf,
        /// What differs, with both values.
        cause: String,
    },
}

impl Error {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    pub(crate) fn invalid(path: &Path, cause: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            cause: cause.into(),
        }
    }

    pub(crate) fn unwritable(path: &Path, cause: impl Into<String>) -> Self {
        Self::Unwritable {
            path: path.to_owned(),
            cause: cause.into(),
        }
    }

    /// Two files that contradict each other; `what` names the property: `hook`, `tokenizer`, `tokens`, …
    pub fn disagree(left: &Path, right: &Path, what: &str, values: [&str; 2]) -> Self {
        let [ours, theirs] = values;
        Self::Disagree {
            left: left.to_owned(),
            right: right.to_owned(),
            cause: format!("{what} is {ours} in the first and {theirs} in the second"),
        }
    }
}
