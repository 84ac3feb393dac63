//! The activation store: the same tokens through several models, a directory of parts.
//!
//! ```text
//! acts/tokens.parquet                                      a row per token, in the order of the rows of the parts
//! acts/<label>/<hook>/part-00000-of-00004.safetensors      one tensor `acts [rows, d_model]`
//! acts/manifest.json                                       written last: a store without one is not complete
//! ```
//!
//! # Layout
//! - [`writer`] — [`ActivationWriter`], resumable: whole parts are kept
//! - [`reader`] — [`ActivationStore`]
//! - [`manifest`] — [`Manifest`], [`token_digest`]
//! - [`cache`] — [`Links`] to activations another program stored, [`Cache`]
//! - [`check`] — [`Report`]: every part whole, every digest right

pub mod cache;
pub mod check;
pub mod manifest;
pub mod reader;
pub mod writer;

mod part;

pub use cache::{Cache, Link, Links};
pub use check::Report;
pub use manifest::{Manifest, token_digest};
pub use reader::ActivationStore;
pub use writer::{ActivationWriter, Spec};

use std::ops::Range;
use std::path::{Path, PathBuf};

/// Name of the tensor of a part.
pub(crate) const TENSOR: &str = "acts";

/// How rows are cut into parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) n_rows: usize,
    pub(crate) rows_per_part: usize,
}

impl Parts {
    pub(crate) fn count(self) -> usize {
        self.n_rows.div_ceil(self.rows_per_part)
    }

    pub(crate) fn rows(self, part: usize) -> Range<usize> {
        let start = part * self.rows_per_part;
        start..self.n_rows.min(start + self.rows_per_part)
    }

    pub(crate) fn path(self, directory: &Path, label: &str, hook: &str, part: usize) -> PathBuf {
        let name = format!("part-{part:05}-of-{:05}.safetensors", self.count());
        directory.join(label).join(hook).join(name)
    }
}
