//! Tokens in, tokens out.

use crate::sample::{choose, log_probability};
use crate::{Batch, Error, Model, Result, Tap, Tokenizer};
use candle_core::DType;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// What is wrong with a model that predicts nothing at all.
pub(crate) const NO_NUMBER: &str = "cannot use what the model computes: a logit is no number (NaN or infinite), for which \
                                    its weights or the precision are to blame";

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Tokens generated at most, the end token included.
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token; 1 samples from the model's distribution.
    pub temperature: f64,
    /// Keeps the likeliest tokens that together reach this probability; 1 keeps all.
    pub top_p: f64,
    /// Keeps this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Seed; every document has its own stream of it.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token every time.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self {
            max_new_tokens,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
        }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An end token, or a text to stop at, was generated.
    Stop,
    /// The budget ran out.
    Length,
}

impl Finish {
    /// `stop` or `length`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What a model wrote after one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Tokens in order, the end token included when there is one.
    pub tokens: Vec<u32>,
    /// Log-probability of each token under the model at temperature 1, in nats.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// When a text is finished, its budget apart.
#[derive(Debug, Clone, Copy)]
pub struct Stops<'a> {
    /// End tokens.
    pub ids: &'a [u32],
    /// Texts, with what decodes them.
    pub texts: Option<(&'a Tokenizer, &'a [String])>,
}

impl Stops<'_> {
    /// Whether the text of `tokens`, of which the last is new, holds one of the texts.
    fn found(&self, tokens: &[u32]) -> Result<bool> {
        let Some((tokenizer, texts)) = self.texts.filter(|(_, texts)| !texts.is_empty()) else {
            return Ok(false);
        };
        // A token has at least a byte, so what ends with the newest one begins within as many tokens as it has bytes;
        // a few more, because a character may be cut at the first of them.
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        let tail = &tokens[tokens.len().saturating_sub(longest + 8)..];
        let text = tokenizer.decode(tail)?;
        Ok(texts
            .iter()
            .any(|stop| !stop.is_empty() && text.contains(stop)))
    }
}

/// `text` up to the first of `stops`; all of it where there is none.
pub fn cut<'a>(text: &'a str, stops: &[String]) -> &'a str {
    let found = stops.iter().filter(|stop| !stop.is_empty());
    let end = found.filter_map(|stop| text.find(stop.as_str())).min();
    &text[..end.unwrap_or(text.len())]
}

impl Model {
    /// Continues every prompt; `streams [batch]` number the documents, so that each draws from its own random numbers
    /// whatever stands beside it. Stops a row at any of `stop_ids`.
    ///
    /// In `f32` on the CPU a row's tokens and log-probabilities are the same to the bit in any batch.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        streams: &[u64],
        sampling: &Sampling,
        stop_ids: &[u32],
        tap: &mut dyn Tap,
    ) -> Result<Vec<Generated>> {
        let stops = Stops {
            ids: stop_ids,
            texts: None,
        };
        self.generate_until(prompts, streams, sampling, stops, tap)
    }

    /// [`Self::generate`] that stops at texts as well: the tokens end with the one that completes a text ([`cut`]).
    pub fn generate_until(
        &self,
        prompts: &[Vec<u32>],
        streams: &[u64],
        sampling: &Sampling,
        stops: Stops<'_>,
        tap: &mut dyn Tap,
    ) -> Result<Vec<Generated>> {
        if prompts.len() != streams.len() || prompts.iter().any(Vec::is_empty) {
            return Err(Error::Argument(
                "every prompt needs at least one token and a random stream".into(),
            ));
        }
        let pad = stops.ids.first().copied().unwrap_or(0);
        let row = |stream: &u64| Row::new(sampling.seed, *stream);
        let mut rows: Vec<Row> = streams.iter().map(row).collect();
        let mut batch = Batch::left_padded(prompts, pad);
        let mut cache = self.new_cache(prompts.len(), batch.seq + sampling.max_new_tokens)?;
        for _ in 0..sampling.max_new_tokens {
            let logits = self.step(&batch, &mut cache, tap)?;
            let logits = logits
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            let rows_of_logits = logits.par_chunks(logits.len() / rows.len().max(1));
            let next = rows.par_iter_mut().zip(rows_of_logits);
            let next: Vec<u32> = next
                .map(|(row, logits)| row.advance(logits, sampling, stops, pad))
                .collect::<Result<_>>()?;
            if rows.iter().all(|row| row.finished) {
                break;
            }
            batch = one_each(next);
        }
        Ok(rows.into_iter().map(Row::into_generated).collect())
    }
}

/// The next step's batch: one token a row. Finished rows go on with padding that nobody reads.
pub(crate) fn one_each(tokens: Vec<u32>) -> Batch {
    let batch = tokens.len();
    Batch {
        batch,
        seq: 1,
        token_ids: tokens,
        starts: vec![0; batch],
        ends: vec![1; batch],
    }
}

/// One document under generation.
pub(crate) struct Row {
    rng: ChaCha8Rng,
    pub(crate) tokens: Vec<u32>,
    logprobs: Vec<f32>,
    pub(crate) finished: bool,
}

impl Row {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self {
            rng,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            finished: false,
        }
    }

    /// Chooses the next token from the logits; `pad` once the row has ended.
    pub(crate) fn advance(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        stops: Stops<'_>,
        pad: u32,
    ) -> Result<u32> {
        if self.finished {
            return Ok(pad);
        }
        let token = choose(logits, sampling, &mut self.rng);
        let logprob = log_probability(logits, token);
        if logprob.is_nan() {
            return Err(Error::Argument(NO_NUMBER.into()));
        }
        self.tokens.push(token);
        self.logprobs.push(logprob);
        self.finished = stops.ids.contains(&token) || stops.found(&self.tokens)?;
        Ok(token)
    }

    pub(crate) fn into_generated(self) -> Generated {
        let finish = if self.finished {
            Finish::Stop
        } else {
            Finish::Length
        };
        Generated {
            tokens: self.tokens,
            logprobs: self.logprobs,
            finish,
        }
    }
}
