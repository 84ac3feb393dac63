//! Where activations come from: stores on disk, or models that compute them as training needs them.

pub mod live;

use anyhow::Context;
use dict::Acts;
use live::Live;
use store::tables::Token;

/// Neighbouring rows read in one piece, at least.
const BLOCK: usize = 256;

/// Activations of some models at one hook, row by row.
pub enum Source {
    /// Stores, one after the other.
    Store(Acts),
    /// Models and what they read.
    Models(Box<Live>),
}

impl Source {
    /// Labels of the models.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::Store(acts) => acts.labels(),
            Self::Models(live) => &live.labels,
        }
    }

    /// Width of each model.
    pub fn widths(&self) -> &[usize] {
        match self {
            Self::Store(acts) => acts.widths(),
            Self::Models(live) => &live.widths,
        }
    }

    /// The hook.
    pub fn hook(&self) -> &str {
        match self {
            Self::Store(acts) => acts.hook(),
            Self::Models(live) => &live.hook,
        }
    }

    /// Digest of the tokenizer; empty when unknown.
    pub fn tokenizer_digest(&self) -> &str {
        match self {
            Self::Store(acts) => acts.tokenizer_digest(),
            Self::Models(live) => &live.tokenizer_digest,
        }
    }

    /// Rows there are.
    pub fn n_rows(&self) -> usize {
        match self {
            Self::Store(acts) => acts.n_rows(),
            Self::Models(live) => live.n_rows(),
        }
    }

    /// What each row is; `None` where nobody knows.
    pub fn tokens(&self) -> anyhow::Result<Option<Vec<Token>>> {
        match self {
            Self::Store(acts) => Ok(acts.tokens()?),
            Self::Models(live) => Ok(Some(live.tokens())),
        }
    }

    /// Appends rows, ascending and near each other, of every model: `[rows, d_model]` each.
    pub fn append(&self, rows: &[u32], x: &mut [Vec<f32>]) -> anyhow::Result<()> {
        match self {
            Self::Store(acts) => Ok(acts.append_rows(rows, x)?),
            Self::Models(live) => live.append(rows, x).context("cannot compute activations"),
        }
    }

    /// Cuts ascending rows into blocks that are cheap to read at once: where each begins, and the end.
    pub fn blocks(&self, rows: &[u32]) -> Vec<usize> {
        let mut starts = match self {
            Self::Store(_) => (0..rows.len()).step_by(BLOCK).collect(),
            Self::Models(live) => live.block_starts(rows, BLOCK),
        };
        starts.push(rows.len());
        starts
    }
}
