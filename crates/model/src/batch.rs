//! Token sequences side by side.

use crate::{Error, Result};
use std::ops::Range;

/// Several sequences as one rectangle, padded on the left or on the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Sequences.
    pub batch: usize,
    /// Positions per sequence, padding included.
    pub seq: usize,
    /// `[batch, seq]`
    pub token_ids: Vec<u32>,
    /// `[batch]`: first position that is not padding.
    pub starts: Vec<usize>,
    /// `[batch]`: one past the last position that is not padding.
    pub ends: Vec<usize>,
}

impl Batch {
    /// Sequences from position 0, padding after them. Causality keeps the padding from being seen.
    pub fn right_padded(sequences: &[Vec<u32>], pad: u32) -> Self {
        let seq = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let row = |tokens: &Vec<u32>| {
            tokens
                .iter()
                .copied()
                .chain(std::iter::repeat(pad))
                .take(seq)
                .collect::<Vec<_>>()
        };
        Self {
            batch: sequences.len(),
            seq,
            token_ids: sequences.iter().flat_map(row).collect(),
            starts: vec![0; sequences.len()],
            ends: sequences.iter().map(Vec::len).collect(),
        }
    }

    /// Sequences that end together, padding before them: what generation starts from.
    pub fn left_padded(sequences: &[Vec<u32>], pad: u32) -> Self {
        let seq = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let row = |tokens: &Vec<u32>| {
            std::iter::repeat_n(pad, seq - tokens.len())
                .chain(tokens.iter().copied())
                .collect::<Vec<_>>()
        };
        Self {
            batch: sequences.len(),
            seq,
            token_ids: sequences.iter().flat_map(row).collect(),
            starts: sequences.iter().map(|tokens| seq - tokens.len()).collect(),
            ends: vec![seq; sequences.len()],
        }
    }

    /// Some rows up to some position.
    pub(crate) fn cut(&self, rows: &Range<usize>, seq: usize) -> Self {
        let tokens = rows
            .clone()
            .flat_map(|row| &self.token_ids[row * self.seq..][..seq]);
        let capped = |places: &[usize]| places[rows.clone()].iter().map(|p| *p.min(&seq)).collect();
        Self {
            batch: rows.len(),
            seq,
            token_ids: tokens.copied().collect(),
            starts: capped(&self.starts),
            ends: capped(&self.ends),
        }
    }

    /// The positions from `tail` on of every row.
    pub(crate) fn behind(&self, tail: usize) -> Self {
        let tokens = self.token_ids.chunks(self.seq.max(1));
        let moved = |places: &[usize]| places.iter().map(|p| p.saturating_sub(tail)).collect();
        Self {
            batch: self.batch,
            seq: self.seq - tail,
            token_ids: tokens.flat_map(|row| &row[tail..]).copied().collect(),
            starts: moved(&self.starts),
            ends: moved(&self.ends),
        }
    }

    /// Token ids of one sequence without its padding.
    pub fn sequence(&self, row: usize) -> &[u32] {
        &self.token_ids[row * self.seq..][self.starts[row]..self.ends[row]]
    }

    /// Whether a position holds a token of the sequence.
    pub fn is_real(&self, row: usize, position: usize) -> bool {
        (self.starts[row]..self.ends[row]).contains(&position)
    }

    /// Refuses what no model can read.
    pub(crate) fn check(&self, vocab: usize) -> Result<()> {
        if self.token_ids.len() != self.batch * self.seq
            || self.starts.len() != self.batch
            || self.ends.len() != self.batch
        {
            return Err(Error::Argument(format!(
                "a batch of {}×{} tokens has {}",
                self.batch,
                self.seq,
                self.token_ids.len()
            )));
        }
        if self.token_ids.is_empty() {
            return Err(Error::Argument("a batch without tokens".into()));
        }
        match self.token_ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => Err(Error::Argument(format!(
                "token {id} is outside the vocabulary of {vocab}"
            ))),
            None => Ok(()),
        }
    }
}
