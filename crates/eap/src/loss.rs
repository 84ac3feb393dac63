//! The loss of a sequence from its logits at the positions that count, and its gradient.
//!
//! Losses are lower where the model does better, so a positive score means an edge that helps.

use std::ops::Range;

use anyhow::{Context, ensure};
use model::{DType, Device, Tensor, loss::Scored};

use crate::example::{Example, Objective};

/// The positions of a batch whose logits some loss reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readout {
    /// `row * seq + position` of each.
    pub rows: Vec<u32>,
    /// Which of them belong to each example.
    spans: Vec<Range<usize>>,
}

/// Losses of a batch.
#[derive(Debug)]
pub struct Losses {
    /// One per example.
    pub values: Vec<f64>,
    /// Gradient of their sum by the logits that were read: every example's is its own, whatever it shares a batch with.
    pub d_logits: Tensor,
}

impl Readout {
    /// What the examples, row by row of a batch of this length, read.
    pub fn new(examples: &[&Example], seq: usize) -> Self {
        Self::from_start(examples, seq, 0)
    }

    /// The same where the batch begins at position `start` of the examples.
    pub fn from_start(examples: &[&Example], seq: usize, start: usize) -> Self {
        let (mut rows, mut spans) = (Vec::new(), Vec::new());
        for (row, example) in examples.iter().enumerate() {
            let first = rows.len();
            let positions = example.positions_read().into_iter();
            rows.extend(positions.map(|position| (row * seq + position - start) as u32));
            spans.push(first..rows.len());
        }
        Self { rows, spans }
    }

    /// Losses and their gradient from `logits [rows, vocab]`; `clean` are those of the clean run, for divergences.
    pub fn losses(
        &self,
        logits: &Tensor,
        clean: Option<&Tensor>,
        examples: &[&Example],
    ) -> anyhow::Result<Losses> {
        ensure!(
            examples.len() == self.spans.len(),
            "{} examples for {} rows of logits",
            examples.len(),
            self.spans.len()
        );
        let likelihood =
            |example: &&&Example| matches!(example.objective, Objective::Likelihood(_));
        match examples.iter().filter(likelihood).count() {
            0 => Self::at_last(logits, clean, examples),
            n if n == examples.len() => self.likelihoods(logits, examples),
            _ => anyhow::bail!("a batch has one kind of loss"),
        }
    }

    fn likelihoods(&self, logits: &Tensor, examples: &[&Example]) -> anyhow::Result<Losses> {
        let mut scored = Vec::new();
        for (span, example) in self.spans.iter().zip(examples) {
            let Objective::Likelihood(targets) = &example.objective else {
                continue;
            };
            let weight = 1.0 / targets.len() as f64;
            scored.extend(
                span.clone()
                    .zip(targets)
                    .map(|(position, &(_, token))| Scored {
                        row: 0,
                        position,
                        token,
                        weight,
                    }),
            );
        }
        let nll = model::nll(&logits.unsqueeze(0)?, &scored)?;
        let values = self.spans.iter().map(|span| {
            let tokens = nll.tokens[span.clone()].iter().zip(&scored[span.clone()]);
            tokens.map(|(nll, scored)| nll * scored.weight).sum()
        });
        Ok(Losses {
            values: values.collect(),
            d_logits: nll.d_logits.squeeze(0)?,
        })
    }

    /// Losses of one position each.
    fn at_last(
        logits: &Tensor,
        clean: Option<&Tensor>,
        examples: &[&Example],
    ) -> anyhow::Result<Losses> {
        let rows = |x: &Tensor| {
            let here = x.to_device(&Device::Cpu)?;
            here.to_dtype(DType::F64)?.to_vec2::<f64>()
        };
        let (found, clean) = (rows(logits)?, clean.map(rows).transpose()?);
        let (mut values, mut gradient) = (Vec::new(), Vec::new());
        for (row, example) in found.iter().zip(examples) {
            let place = values.len();
            let (value, slope) = match &example.objective {
                Objective::Likelihood(_) => unreachable!("likelihoods were told apart before"),
                Objective::LogitDifference { better, worse } => {
                    logit_difference(row, *better, *worse)
                }
                Objective::ProbabilityDifference { better, worse } => {
                    probability_difference(row, better, worse)
                }
                Objective::Divergence => {
                    let clean = clean.as_ref().context("a divergence needs the clean run")?;
                    Some(divergence(row, &clean[place]))
                }
            }
            .context("a label is outside the vocabulary")?;
            values.push(value);
            gradient.extend(slope);
        }
        let d_logits = Tensor::from_vec(gradient, logits.dims(), &Device::Cpu)?;
        let d_logits = d_logits.to_dtype(logits.dtype())?;
        Ok(Losses {
            values,
            d_logits: d_logits.to_device(logits.device())?,
        })
    }
}

/// A loss and its gradient; none when a label has no logit.
type Slope = Option<(f64, Vec<f64>)>;

/// worse − better.
fn logit_difference(row: &[f64], better: u32, worse: u32) -> Slope {
    let mut gradient = vec![0.0; row.len()];
    *gradient.get_mut(worse as usize)? += 1.0;
    *gradient.get_mut(better as usize)? -= 1.0;
    let value = row[worse as usize] - row[better as usize];
    Some((value, gradient))
}

/// Σ p(worse) − Σ p(better): with weights w = ±1, dL/dz = p ⊙ (w − ⟨w, p⟩).
fn probability_difference(row: &[f64], better: &[u32], worse: &[u32]) -> Slope {
    let p = softmax(row);
    let mut weights = vec![0.0; row.len()];
    for (tokens, sign) in [(worse, 1.0), (better, -1.0)] {
        for &token in tokens {
            *weights.get_mut(token as usize)? += sign;
        }
    }
    let value: f64 = weights.iter().zip(&p).map(|(w, p)| w * p).sum();
    let gradient = weights.iter().zip(&p).map(|(w, p)| p * (w - value));
    Some((value, gradient.collect()))
}

/// KL(clean ‖ this run) in nats over the whole vocabulary.
fn divergence(row: &[f64], clean: &[f64]) -> (f64, Vec<f64>) {
    let (ours, theirs) = (log_softmax(row), log_softmax(clean));
    let terms = ours.iter().zip(&theirs);
    let value = terms.clone().map(|(q, p)| p.exp() * (p - q)).sum();
    (value, terms.map(|(q, p)| q.exp() - p.exp()).collect())
}

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
    let shift = largest + sum.ln();
    row.iter().map(|x| x - shift).collect()
}

fn softmax(row: &[f64]) -> Vec<f64> {
    log_softmax(row).into_iter().map(f64::exp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: [f64; 4] = [0.5, -0.25, 1.5, 0.0];

    fn example(objective: Objective) -> Example {
        Example {
            doc_id: None,
            tokens: vec![0],
            corrupted: None,
            objective,
        }
    }

    fn losses(logits: &[f64], objective: &Objective) -> Losses {
        let example = example(objective.clone());
        let row = |values: &[f64]| {
            Tensor::new(values, &Device::Cpu)
                .unwrap()
                .unsqueeze(0)
                .unwrap()
        };
        let readout = Readout::new(&[&example], 1);
        readout
            .losses(&row(logits), Some(&row(&CLEAN)), &[&example])
            .unwrap()
    }

    fn objectives() -> [Objective; 4] {
        [
            Objective::Likelihood(vec![(0, 2)]),
            Objective::LogitDifference {
                better: 0,
                worse: 2,
            },
            Objective::ProbabilityDifference {
                better: vec![1, 3],
                worse: vec![0],
            },
            Objective::Divergence,
        ]
    }

    #[test]
    fn every_gradient_is_the_slope() {
        let logits = [0.1, 0.7, -0.4, 0.3];
        for objective in objectives() {
            let gradient = losses(&logits, &objective).d_logits.flatten_all().unwrap();
            for (place, slope) in gradient.to_vec1::<f64>().unwrap().into_iter().enumerate() {
                let moved = |by: f64| {
                    let mut logits = logits;
                    logits[place] += by;
                    losses(&logits, &objective).values[0]
                };
                let found = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!(
                    (found - slope).abs() < 1e-8,
                    "{objective:?}: {found} {slope}"
                );
            }
        }
    }

    #[test]
    fn losses_are_those_computed_by_hand() {
        let half = [0.0, 0.0];
        let two = |objective| {
            let example = example(objective);
            let row = Tensor::new(&[half], &Device::Cpu).unwrap();
            let clean = Tensor::new(&[[3_f64.ln(), 0.0]], &Device::Cpu).unwrap();
            Readout::new(&[&example], 1)
                .losses(&row, Some(&clean), &[&example])
                .unwrap()
                .values[0]
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(two(Objective::Likelihood(vec![(0, 1)])), 2_f64.ln());
        close(
            two(Objective::ProbabilityDifference {
                better: vec![0],
                worse: vec![1],
            }),
            0.0,
        );
        // ¾ ln(¾/½) + ¼ ln(¼/½)
        close(
            two(Objective::Divergence),
            0.75 * 1.5_f64.ln() - 0.25 * 2_f64.ln(),
        );
        close(losses(&CLEAN, &Objective::Divergence).values[0], 0.0);
        close(
            losses(
                &CLEAN,
                &Objective::LogitDifference {
                    better: 2,
                    worse: 1,
                },
            )
            .values[0],
            -1.75,
        );
    }

    #[test]
    fn a_label_outside_the_vocabulary_is_refused() {
        let example = example(Objective::LogitDifference {
            better: 9,
            worse: 0,
        });
        let row = Tensor::new(&[[0.0, 1.0]], &Device::Cpu).unwrap();
        assert!(
            Readout::new(&[&example], 1)
                .losses(&row, None, &[&example])
                .is_err()
        );
    }
}
