//! What is scored: a sequence, perhaps a corrupted one beside it, and a loss on its logits.

use std::{collections::BTreeSet, ops::Range};

use anyhow::ensure;
use model::{DType, Tensor, loss::Scored};

/// A loss on the logits of one sequence. Lower is better, so a positive score means an edge that helps.
#[derive(Debug, Clone, PartialEq)]
pub enum Objective {
    /// Mean negative log-likelihood of tokens, each at the position whose logits predict it, in nats.
    Likelihood(Vec<(usize, u32)>),
    /// Logit of the worse token minus logit of the better one, at the last position.
    LogitDifference {
        /// The right answer.
        better: u32,
        /// The wrong answer.
        worse: u32,
    },
}

/// One sequence with its loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Its document, `task/doc_id`; none for pairs.
    pub doc_id: Option<String>,
    /// Tokens that are scored.
    pub tokens: Vec<u32>,
    /// As many tokens that stand in for them.
    pub corrupted: Option<Vec<u32>>,
    /// The loss.
    pub objective: Objective,
}

impl Example {
    /// Its positions in a right-padded batch.
    pub fn span(&self) -> Range<usize> {
        0..self.tokens.len()
    }

    /// Refuses what cannot be scored: no tokens, a target outside the sequence, a corrupted sequence of another length.
    pub fn check(&self) -> anyhow::Result<()> {
        let n = self.tokens.len();
        ensure!(n > 0, "the sequence has no tokens");
        if let Some(corrupted) = &self.corrupted {
            ensure!(
                corrupted.len() == n,
                "{n} clean tokens but {} corrupted ones",
                corrupted.len()
            );
        }
        if let Objective::Likelihood(targets) = &self.objective {
            ensure!(!targets.is_empty(), "there is no target token");
            let outside = targets.iter().find(|&&(position, _)| position >= n);
            ensure!(
                outside.is_none(),
                "the target at position {} is outside the {n} tokens",
                outside.map_or(0, |t| t.0)
            );
            let positions: BTreeSet<usize> = targets.iter().map(|target| target.0).collect();
            ensure!(
                positions.len() == targets.len(),
                "two targets share a position"
            );
        }
        Ok(())
    }
}

/// Sum over the examples of their losses, and its gradient `[batch, seq, vocab]`, from logits of the same shape.
///
/// The sum and not the mean: every example's gradient is its own, whatever it shares a batch with.
pub fn loss(logits: &Tensor, examples: &[&Example]) -> anyhow::Result<(f64, Tensor)> {
    let (batch, seq, vocab) = logits.dims3()?;
    ensure!(
        batch == examples.len(),
        "{batch} rows of logits for {} examples",
        examples.len()
    );
    let mut likelihoods = Vec::new();
    let mut differences = Vec::new();
    for (row, example) in examples.iter().enumerate() {
        match &example.objective {
            Objective::Likelihood(targets) => {
                let weight = 1.0 / targets.len() as f64;
                likelihoods.extend(targets.iter().map(|&(position, token)| Scored {
                    row,
                    position,
                    token,
                    weight,
                }));
            }
            Objective::LogitDifference { better, worse } => {
                let last = (row * seq + example.tokens.len() - 1) * vocab;
                differences.push((last + *better as usize, last + *worse as usize));
            }
        }
    }
    if likelihoods.is_empty() {
        return logit_difference(logits, &differences);
    }
    ensure!(differences.is_empty(), "a batch has one kind of loss");
    let nll = model::nll(logits, &likelihoods)?;
    Ok((nll.total, nll.d_logits))
}

/// Σ (worse − better) over places in the flattened logits, and its gradient.
fn logit_difference(logits: &Tensor, places: &[(usize, usize)]) -> anyhow::Result<(f64, Tensor)> {
    let values = logits
        .flatten_all()?
        .to_dtype(DType::F64)?
        .to_vec1::<f64>()?;
    let mut gradient = vec![0.0_f32; values.len()];
    let mut total = 0.0;
    for &(better, worse) in places {
        ensure!(
            better.max(worse) < values.len(),
            "a label is outside the vocabulary"
        );
        total += values[worse] - values[better];
        gradient[worse] += 1.0;
        gradient[better] -= 1.0;
    }
    let gradient = Tensor::from_vec(gradient, logits.shape(), logits.device())?;
    Ok((total, gradient.to_dtype(logits.dtype())?))
}

#[cfg(test)]
mod tests {
    use model::Device;

    use super::*;

    fn example(tokens: usize, objective: Objective) -> Example {
        Example {
            doc_id: None,
            tokens: vec![0; tokens],
            corrupted: None,
            objective,
        }
    }

    #[test]
    fn a_logit_difference_is_read_at_the_last_real_position() {
        let logits = Tensor::arange(0_f32, 12.0, &Device::Cpu)
            .unwrap()
            .reshape((2, 2, 3))
            .unwrap();
        let label = Objective::LogitDifference {
            better: 0,
            worse: 2,
        };
        let (short, long) = (example(1, label.clone()), example(2, label));
        let (value, gradient) = loss(&logits, &[&short, &long]).unwrap();
        assert!((value - 4.0).abs() < 1e-12);
        let gradient: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(gradient, [-1., 0., 1., 0., 0., 0., 0., 0., 0., -1., 0., 1.]);
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let likelihood = |targets: &[(usize, u32)]| Objective::Likelihood(targets.to_vec());
        assert!(example(3, likelihood(&[(2, 7)])).check().is_ok());
        assert!(example(3, likelihood(&[(3, 7)])).check().is_err());
        assert!(example(3, likelihood(&[])).check().is_err());
        assert!(example(3, likelihood(&[(2, 7), (2, 8)])).check().is_err());
        assert!(example(0, likelihood(&[(0, 7)])).check().is_err());
        let pair = Example {
            corrupted: Some(vec![1; 2]),
            ..example(3, likelihood(&[(2, 7)]))
        };
        assert!(
            pair.check()
                .unwrap_err()
                .to_string()
                .contains("3 clean tokens but 2 corrupted")
        );
    }
}
