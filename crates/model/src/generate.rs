//! Tokens in, tokens out.

use crate::{Batch, Error, Model, Result, Tap};
use candle_core::DType;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

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
    /// An end token was generated.
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

impl Model {
    /// Continues every prompt; `streams [batch]` number the documents, so that each draws from its own random numbers
    /// whatever stands beside it. Stops a row at any of `stop_ids`.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        streams: &[u64],
        sampling: &Sampling,
        stop_ids: &[u32],
        tap: &mut dyn Tap,
    ) -> Result<Vec<Generated>> {
        if prompts.len() != streams.len() || prompts.iter().any(Vec::is_empty) {
            return Err(Error::Argument(
                "every prompt needs at least one token and a random stream".into(),
            ));
        }
        let pad = stop_ids.first().copied().unwrap_or(0);
        let mut rows: Vec<Row> = streams
            .iter()
            .map(|&stream| Row::new(sampling.seed, stream))
            .collect();
        let mut batch = Batch::left_padded(prompts, pad);
        let mut cache = self.new_cache(prompts.len(), batch.seq + sampling.max_new_tokens)?;
        for _ in 0..sampling.max_new_tokens {
            let logits = self.step(&batch, &mut cache, tap)?;
            let logits = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
            let next: Vec<u32> = rows
                .iter_mut()
                .zip(&logits)
                .map(|(row, logits)| row.advance(logits, sampling, stop_ids, pad))
                .collect();
            if rows.iter().all(|row| row.finished) {
                break;
            }
            batch = one_each(next);
        }
        Ok(rows.into_iter().map(Row::into_generated).collect())
    }
}

/// The next step's batch: one token a row. Finished rows go on with padding that nobody reads.
fn one_each(tokens: Vec<u32>) -> Batch {
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
struct Row {
    rng: ChaCha8Rng,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    finished: bool,
}

impl Row {
    fn new(seed: u64, stream: u64) -> Self {
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
    fn advance(&mut self, logits: &[f32], sampling: &Sampling, stop_ids: &[u32], pad: u32) -> u32 {
        if self.finished {
            return pad;
        }
        let token = choose(logits, sampling, &mut self.rng);
        self.tokens.push(token);
        self.logprobs.push(log_probability(logits, token));
        self.finished = stop_ids.contains(&token);
        token
    }

    fn into_generated(self) -> Generated {
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

/// Log-probability of one token, in nats.
pub(crate) fn log_probability(logits: &[f32], token: u32) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - largest).exp()).sum();
    (f64::from(logits[token as usize] - largest) - sum.ln()) as f32
}

fn choose(logits: &[f32], sampling: &Sampling, rng: &mut ChaCha8Rng) -> u32 {
    if sampling.temperature <= 0.0 {
        return likeliest(logits);
    }
    let mut candidates: Vec<u32> = (0..logits.len() as u32).collect();
    let truncated = sampling.top_k > 0 || sampling.top_p < 1.0;
    if truncated {
        candidates.sort_by(|a, b| {
            logits[*b as usize]
                .total_cmp(&logits[*a as usize])
                .then(a.cmp(b))
        });
        candidates.truncate(if sampling.top_k > 0 {
            sampling.top_k
        } else {
            usize::MAX
        });
    }
    let largest = f64::from(logits[likeliest(logits) as usize]);
    let weight =
        |id: &u32| ((f64::from(logits[*id as usize]) - largest) / sampling.temperature).exp();
    let mut weights: Vec<f64> = candidates.iter().map(weight).collect();
    if sampling.top_p < 1.0 {
        let total: f64 = weights.iter().sum();
        let mut reached = 0.0;
        let keep = weights.iter().position(|w| {
            reached += w / total;
            reached >= sampling.top_p
        });
        weights.truncate(keep.map_or(weights.len(), |last| last + 1));
    }
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    let chosen = weights
        .iter()
        .position(|w| {
            left -= w;
            left < 0.0
        })
        .unwrap_or(weights.len() - 1);
    candidates[chosen]
}

/// The largest logit; the lowest id among equals.
pub(crate) fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sampling: &Sampling, logits: &[f32]) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[choose(logits, sampling, &mut rng) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn sampling_follows_the_softmax_and_its_truncations() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let plain = Sampling {
            temperature: 1.0,
            ..Sampling::greedy(1)
        };
        for (share, wanted) in shares(&plain, &logits).iter().zip([0.5, 0.3, 0.2]) {
            assert!((share - wanted).abs() < 0.02, "{share} {wanted}");
        }
        assert_eq!(
            shares(
                &Sampling {
                    top_p: 0.5,
                    ..plain.clone()
                },
                &logits
            )[1..],
            [0.0, 0.0]
        );
        let two = shares(&Sampling { top_k: 2, ..plain }, &logits);
        assert!((two[0] - 0.625).abs() < 0.02 && two[2] == 0.0);
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(likeliest(&[1.0, 3.0, 3.0]), 1);
    }
}
