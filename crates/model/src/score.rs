//! Log-probabilities of given tokens.

use crate::generate::NO_NUMBER;
use crate::sample::likeliest;
use crate::{Batch, Cache, Error, Hook, Model, Result, Site, Tap};
use candle_core::{DType, Tensor};
use kernels::loss::log_sum_exp;
use rayon::prelude::*;

/// Positions whose logits are in memory together: 64 rows of a vocabulary of 152 k take 39 MB.
const POSITIONS: usize = 64;
/// Continuations computed together: their copies of the prefix's keys and values stay small.
const ROWS: usize = 16;

/// How likely one continuation is.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// Log-probability of every token at temperature 1, in nats.
    pub logprobs: Vec<f32>,
    /// Whether greedy decoding would have written exactly these tokens.
    pub greedy: bool,
}

impl Continuation {
    pub(crate) fn new(tokens: &[Scored]) -> Self {
        Self {
            logprobs: tokens.iter().map(|token| token.logprob).collect(),
            greedy: tokens.iter().all(|token| token.greedy),
        }
    }

    /// Log-probability of the whole continuation, in nats.
    pub fn total(&self) -> f64 {
        self.logprobs.iter().map(|p| f64::from(*p)).sum()
    }
}

/// One token under the logits that predict it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scored {
    logprob: f32,
    greedy: bool,
}

impl Scored {
    fn new(logits: &[f32], token: u32) -> Self {
        Self::all(logits, &[(0, token)])[0]
    }

    /// Every token that one row of logits is asked for.
    fn all(logits: &[f32], of_row: &[(u32, u32)]) -> Vec<Self> {
        let (likeliest, sum) = (likeliest(logits), log_sum_exp(logits));
        let one = |(_, token): &(u32, u32)| Self {
            logprob: (f64::from(logits[*token as usize]) - sum) as f32,
            greedy: likeliest == *token,
        };
        of_row.iter().map(one).collect()
    }
}

impl Model {
    /// Scores several continuations of one prefix; the prefix is processed once.
    ///
    /// The tap sees the prefix as one pass and the continuations, side by side and padded on the right, as others.
    ///
    /// # Errors
    /// When the prefix is empty, or a token is outside the vocabulary.
    pub fn continuation_logprobs(
        &self,
        prefix: &[u32],
        continuations: &[Vec<u32>],
        tap: &mut dyn Tap,
    ) -> Result<Vec<Continuation>> {
        if prefix.is_empty() {
            return Err(Error::Argument(
                "a continuation needs at least one token before it".into(),
            ));
        }
        let prompt = Batch::right_padded(&[prefix.to_vec()], 0);
        let mut cache = self.new_cache(1, prefix.len())?;
        let logits = self.step(&prompt, &mut cache, tap)?;
        let first = logits
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let mut out = Vec::with_capacity(continuations.len());
        for rows in continuations.chunks(ROWS) {
            out.extend(self.continue_rows(&cache, &first, rows, tap)?);
        }
        Ok(out)
    }

    /// Scores `rows` after what `prefix` holds; `first [vocab]` are the logits of their first tokens.
    fn continue_rows(
        &self,
        prefix: &Cache,
        first: &[f32],
        rows: &[Vec<u32>],
        tap: &mut dyn Tap,
    ) -> Result<Vec<Continuation>> {
        let vocab = first.len();
        if let Some(id) = rows.iter().flatten().find(|&&id| id as usize >= vocab) {
            return Err(Error::Argument(format!(
                "token {id} is outside the vocabulary of {vocab}"
            )));
        }
        // The last token of a row predicts nothing that is asked for.
        let inputs: Vec<Vec<u32>> = rows
            .iter()
            .map(|row| row[..row.len().saturating_sub(1)].to_vec())
            .collect();
        let batch = Batch::right_padded(&inputs, 0);
        let mut later = if batch.seq == 0 {
            Vec::new()
        } else {
            let mut cache = prefix.repeated(rows.len(), prefix.len() + batch.seq)?;
            let resid = self.advance(&batch, &mut cache, tap)?;
            self.scored(&resid, &batch, &targets(rows, batch.seq), tap)?
        }
        .into_iter();
        let row = |tokens: &Vec<u32>| {
            let first = tokens.first().map(|&token| Scored::new(first, token));
            let rest = later.by_ref().take(tokens.len().saturating_sub(1));
            Continuation::new(&first.into_iter().chain(rest).collect::<Vec<_>>())
        };
        Ok(rows.iter().map(row).collect())
    }

    /// Log-probabilities at temperature 1, in nats, of every next token: `[batch][length − 1]`.
    pub fn logprobs(
        &self,
        sequences: &[Vec<u32>],
        pad: u32,
        tap: &mut dyn Tap,
    ) -> Result<Vec<Vec<f32>>> {
        let batch = Batch::right_padded(sequences, pad);
        let resid = self.residual(&batch, tap)?;
        let targets = targets(sequences, batch.seq);
        let mut scored = self.scored(&resid, &batch, &targets, tap)?.into_iter();
        let row = |tokens: &Vec<u32>| {
            let tokens = scored.by_ref().take(tokens.len().saturating_sub(1));
            tokens.map(|token| token.logprob).collect()
        };
        Ok(sequences.iter().map(row).collect())
    }

    /// Scores `targets`, pairs of a row of `resid [tokens, d_model]` and the token its logits should predict.
    ///
    /// Logits are made for these rows alone and a few at a time, unless the tap wants to see all of them.
    pub(crate) fn scored(
        &self,
        resid: &Tensor,
        batch: &Batch,
        targets: &[(u32, u32)],
        tap: &mut dyn Tap,
    ) -> Result<Vec<Scored>> {
        if tap.wants(Hook::new(Site::Logits, 0)) {
            let vocab = self.config.vocab;
            let logits = self.logits(resid, batch, tap)?.reshape(((), vocab))?;
            return score_chunks(targets, |rows| Ok(logits.index_select(rows, 0)?), self);
        }
        let logits = |rows: &Tensor| {
            let seq = rows.elem_count();
            let chosen = Batch {
                batch: 1,
                seq,
                token_ids: vec![0; seq],
                starts: vec![0],
                ends: vec![seq],
            };
            let logits = self.logits(&resid.index_select(rows, 0)?, &chosen, &mut ())?;
            Ok(logits.squeeze(0)?)
        };
        score_chunks(targets, logits, self)
    }
}

/// Every row's tokens but its first, each with the row of the residual stream that predicts it.
fn targets(rows: &[Vec<u32>], seq: usize) -> Vec<(u32, u32)> {
    let row = |(index, tokens): (usize, &Vec<u32>)| {
        let next: Vec<u32> = tokens.iter().skip(1).copied().collect();
        (index * seq..)
            .map(|at| at as u32)
            .zip(next)
            .collect::<Vec<_>>()
    };
    rows.iter().enumerate().flat_map(row).collect()
}

/// Scores targets whose equal rows stand side by side: the logits of a row are made once.
fn score_chunks(
    targets: &[(u32, u32)],
    logits: impl Fn(&Tensor) -> Result<Tensor>,
    model: &Model,
) -> Result<Vec<Scored>> {
    let by_row: Vec<&[(u32, u32)]> = targets.chunk_by(|a, b| a.0 == b.0).collect();
    let mut scored = Vec::with_capacity(targets.len());
    for chunk in by_row.chunks(POSITIONS) {
        let rows: Vec<u32> = chunk.iter().map(|of_row| of_row[0].0).collect();
        let logits = logits(&Tensor::new(rows, model.device())?)?;
        let logits = logits
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let vocab = logits.len() / chunk.len();
        let rows = logits.par_chunks(vocab).zip(chunk);
        let rows = rows.map(|(logits, of_row)| Scored::all(logits, of_row));
        scored.extend(rows.collect::<Vec<_>>().into_iter().flatten());
    }
    if scored.iter().any(|token| token.logprob.is_nan()) {
        return Err(Error::Argument(NO_NUMBER.into()));
    }
    Ok(scored)
}
