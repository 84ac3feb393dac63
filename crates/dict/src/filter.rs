//! Rows left out: special tokens, the first of a document, and those of outlying norm.
//!
//! Attention sinks have norms a hundred times the median; a few of them take the largest slots of every batch and a share
//! of the explained variance that says nothing about the text.

use crate::acts::Acts;
use serde::Serialize;
use store::{Error, Result};

/// Rows read at a time.
const CHUNK: usize = 4096;

/// Which rows to leave out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Filter {
    /// Keep special tokens (BOS, EOS, padding).
    pub keep_special: bool,
    /// Leave out positions below this in every document.
    pub skip_first: u32,
    /// Leave out rows whose norm exceeds this many times their model's median norm, in any model; 0 keeps them.
    pub max_norm: f64,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            keep_special: false,
            skip_first: 0,
            max_norm: 10.0,
        }
    }
}

/// Rows that stay, and why the others did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Rows that stay, ascending.
    pub rows: Vec<u32>,
    /// Document of each of them, numbered from 0 without gaps; blocks of 128 rows where the activations do not know.
    pub documents: Vec<u32>,
    /// Rows before.
    pub n_rows: usize,
    /// Left out as special tokens.
    pub special: usize,
    /// Left out as the first of their document.
    pub first: usize,
    /// Left out for their norm.
    pub outliers: usize,
    /// Whether the activations say what their tokens are.
    pub tokens_known: bool,
}

/// Rows that count as one document where the activations do not know their documents.
const BLOCK: u32 = 128;

impl Filter {
    /// Decides on every row; reads all activations once when norms matter (which also finds a NaN before training does).
    pub fn apply(&self, acts: &Acts) -> Result<Kept> {
        let tokens = acts.tokens()?;
        let outlying = if self.max_norm > 0.0 {
            self.outlying(acts)?
        } else {
            vec![false; acts.n_rows()]
        };
        let mut kept = Kept {
            rows: Vec::new(),
            documents: Vec::new(),
            n_rows: acts.n_rows(),
            special: 0,
            first: 0,
            outliers: 0,
            tokens_known: tokens.is_some(),
        };
        let mut last = None;
        for (row, outlying) in outlying.into_iter().enumerate() {
            let token = tokens.as_ref().map(|tokens| &tokens[row]);
            if token.is_some_and(|token| token.special && !self.keep_special) {
                kept.special += 1;
            } else if token.is_some_and(|token| token.pos < self.skip_first) {
                kept.first += 1;
            } else if outlying {
                kept.outliers += 1;
            } else {
                let document = token.map_or(row as u32 / BLOCK, |token| token.doc_index);
                kept.push(row as u32, last != Some(document));
                last = Some(document);
            }
        }
        if kept.rows.is_empty() {
            let cause = format!("every row is left out: {}", kept.report());
            return Err(Error::Invalid {
                path: acts.path().to_owned(),
                cause,
            });
        }
        Ok(kept)
    }

    /// Whether each row's norm is far above the median in any model.
    fn outlying(&self, acts: &Acts) -> Result<Vec<bool>> {
        let mut outlying = vec![false; acts.n_rows()];
        for model in 0..acts.n_models() {
            let norms = norms(acts, model)?;
            let limit = self.max_norm * median(norms.clone());
            outlying
                .iter_mut()
                .zip(norms)
                .for_each(|(out, norm)| *out |= norm > limit);
        }
        Ok(outlying)
    }
}

/// ‖x‖₂ of every row of a model.
fn norms(acts: &Acts, model: usize) -> Result<Vec<f64>> {
    let mut norms = Vec::with_capacity(acts.n_rows());
    let mut rows = Vec::new();
    for range in acts.chunks(CHUNK) {
        acts.read(model, range, &mut rows)?;
        let squares = |row: &[f32]| {
            row.iter()
                .map(|&value| f64::from(value).powi(2))
                .sum::<f64>()
        };
        norms.extend(
            rows.chunks(acts.widths()[model])
                .map(|row| squares(row).sqrt()),
        );
    }
    Ok(norms)
}

/// The upper median.
fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

impl Kept {
    fn push(&mut self, row: u32, new_document: bool) {
        let document = self
            .documents
            .last()
            .map_or(0, |&number| number + u32::from(new_document));
        self.rows.push(row);
        self.documents.push(document);
    }

    /// Number of documents that have a row left.
    pub fn n_documents(&self) -> usize {
        self.documents.last().map_or(0, |&last| last as usize + 1)
    }

    /// One sentence for the user.
    pub fn report(&self) -> String {
        let known = if self.tokens_known {
            ""
        } else {
            " (the file does not say which tokens are special)"
        };
        format!(
            "{} of {} rows are used; left out: {} special, {} at the beginning, {} of outlying norm{known}",
            self.rows.len(),
            self.n_rows,
            self.special,
            self.first,
            self.outliers
        )
    }
}
