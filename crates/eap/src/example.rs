//! What is scored: a sequence, perhaps a corrupted one beside it, and a loss on its logits.

use std::{collections::BTreeSet, ops::Range};

use anyhow::ensure;

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
    /// Probability of the worse tokens minus that of the better ones, at the last position.
    ProbabilityDifference {
        /// Right answers.
        better: Vec<u32>,
        /// Wrong answers.
        worse: Vec<u32>,
    },
    /// KL(clean run ‖ this run) in nats, at the last position.
    Divergence,
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

    /// Whether its loss compares a run with the clean one.
    pub fn is_divergence(&self) -> bool {
        self.objective == Objective::Divergence
    }

    /// Every token it names: of its sequences and of its loss.
    pub fn tokens_named(&self) -> impl Iterator<Item = u32> + '_ {
        let loss: Vec<u32> = match &self.objective {
            Objective::Likelihood(targets) => targets.iter().map(|target| target.1).collect(),
            Objective::LogitDifference { better, worse } => vec![*better, *worse],
            Objective::ProbabilityDifference { better, worse } => {
                better.iter().chain(worse).copied().collect()
            }
            Objective::Divergence => Vec::new(),
        };
        let sequences = self.tokens.iter().chain(self.corrupted.iter().flatten());
        sequences.copied().chain(loss)
    }

    /// Positions whose logits the loss reads, in its order.
    pub fn positions_read(&self) -> Vec<usize> {
        match &self.objective {
            Objective::Likelihood(targets) => targets.iter().map(|target| target.0).collect(),
            _ => vec![self.tokens.len() - 1],
        }
    }

    /// Positions from the first at which the corrupted sequence differs: before it both runs are the same. All of them
    /// without a corrupted sequence.
    pub fn differing(&self) -> Range<usize> {
        let n = self.tokens.len();
        let first = self.corrupted.as_ref().map_or(0, |corrupted| {
            let pairs = self.tokens.iter().zip(corrupted);
            pairs
                .take_while(|(clean, corrupted)| clean == corrupted)
                .count()
        });
        first..n
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

#[cfg(test)]
mod tests {
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
    fn the_positions_read_are_those_of_the_targets_or_the_last() {
        let likelihood = Objective::Likelihood(vec![(1, 7), (0, 3)]);
        assert_eq!(example(4, likelihood).positions_read(), [1, 0]);
        assert_eq!(example(4, Objective::Divergence).positions_read(), [3]);
    }

    #[test]
    fn nothing_counts_before_the_first_differing_token() {
        let pair = |corrupted: &[u32]| Example {
            tokens: vec![1, 2, 3],
            corrupted: Some(corrupted.to_vec()),
            ..example(3, Objective::Divergence)
        };
        assert_eq!(pair(&[1, 9, 3]).differing(), 1..3);
        assert_eq!(pair(&[1, 2, 3]).differing(), 3..3);
        assert_eq!(example(3, Objective::Divergence).differing(), 0..3);
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
