//! What can be wrong with a task file or a suite's settings; the message of a cause follows through `source`.

use std::io;
use std::path::{Path, PathBuf};

/// An error that names the file, or the task, it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not an item.
    #[error("cannot read {} line {line}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the line lacks.
        source: serde_json::Error,
    },
    /// The file holds no item at all.
    #[error("cannot use {}: it holds no item", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Answers are matched by task and id, so no two items may share them.
    #[error("cannot use {}: the item {name} is in the task files twice", path.display())]
    Twice {
        /// The file that holds it again.
        path: PathBuf,
        /// Task and id.
        name: String,
    },
    /// A task file is not one that can be used.
    #[error("cannot use {}: {cause}", path.display())]
    Task {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// No task file defines this name.
    #[error("cannot find the task {name}: no task file defines it, and none has it as a tag")]
    UnknownTask {
        /// The name.
        name: String,
    },
    /// A file of rows is damaged.
    #[error("cannot read {}: {cause}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A task's rows are nowhere to be found, or are not those it needs.
    #[error("cannot read split {split} of {task}: {cause}")]
    NoData {
        /// The task.
        task: String,
        /// The split.
        split: String,
        /// What was looked for.
        cause: String,
    },
    /// A task has fewer distinct prompts in a split than asked for.
    #[error("cannot draw {wanted} {split} prompts of {task}: it has about {found}")]
    TooFew {
        /// The task.
        task: &'static str,
        /// The split.
        split: &'static str,
        /// Distinct prompts found.
        found: usize,
        /// Distinct prompts asked for.
        wanted: usize,
    },
}

impl Error {
    /// Names the file an I/O error concerns.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;
