//! The rows of the two tables `select` writes.

use crate::choose::Chosen;
use crate::matched::{Matched, Traits};
use crate::nulls::{self, Draws};
use crate::scores::TaskScores;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use store::tables::{Score, Selection};

/// What is known of every feature, whatever set it stands in.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Scores of every task.
    pub tasks: &'a [TaskScores],
    /// q values of every task, by live feature.
    pub q: &'a [BTreeMap<u32, f64>],
    /// Traits of every feature.
    pub traits: &'a [Traits],
    /// Share of the shift between the models that disabling each feature takes out; absent where it is not known.
    pub removal: Option<&'a [f64]>,
}

impl Known<'_> {
    /// Rows of the selected set and of every random set.
    pub fn selection(&self, chosen: &[Chosen], matched: &Matched) -> Vec<Selection> {
        let ranked = chosen.iter().enumerate();
        let mut rows: Vec<Selection> = ranked
            .map(|(rank, &chosen)| {
                let lowered = chosen.is_lowered();
                self.row("selected".into(), rank, chosen, (None, lowered))
            })
            .collect();
        for (number, set) in matched.sets.iter().enumerate() {
            for (rank, (&feature, selected)) in set.iter().zip(chosen).enumerate() {
                let name = format!("random-{number:02}");
                let stand_in = Chosen::of(feature, self.tasks);
                let matched_to = Some(selected.feature);
                rows.push(self.row(name, rank, stand_in, (matched_to, selected.is_lowered())));
            }
        }
        rows
    }

    /// A row; `stands_for` is the selected feature a random one stands for, and whether that one fires less.
    fn row(
        &self,
        set: String,
        rank: usize,
        chosen: Chosen,
        (matched_to, lowered): (Option<u32>, bool),
    ) -> Selection {
        // Moving a lowered feature back adds what moving a raised one back takes out.
        let sign = if lowered { -1.0 } else { 1.0 };
        let traits = self.traits[chosen.feature as usize];
        Selection {
            set,
            feature: chosen.feature,
            rank: rank as u32,
            matched_to,
            lowered,
            relative_score: chosen.relative,
            relative_score_min: chosen.relative_min,
            q: self.q_of(chosen.feature),
            firing_rate: traits.firing_rate,
            mean_activation: traits.mean_activation,
            decoder_norm: traits.decoder_norm,
            removal_share: self
                .removal
                .map(|shares| sign * shares[chosen.feature as usize]),
        }
    }

    /// Largest q value over the tasks; none for a feature that is silent in one of them.
    fn q_of(&self, feature: u32) -> Option<f64> {
        self.q
            .iter()
            .map(|task| task.get(&feature).copied())
            .reduce(|a, b| Some(a?.max(b?)))
            .flatten()
    }
}

/// Rows of the score table: every live feature of every task, with its interval.
pub fn scores(tasks: &[TaskScores], fraction: f64, draws: usize, seed: u64) -> Vec<Score> {
    let of = |task: &TaskScores| -> Vec<Score> {
        let passing = task.passing(fraction);
        let passing: BTreeSet<u32> = passing.iter().map(|passing| passing.feature).collect();
        let resamples = Draws::resamples(task, draws, seed);
        let features: Vec<u32> = task.differences.keys().copied().collect();
        features
            .par_iter()
            .map(|&feature| {
                let interval = nulls::interval(task, feature, &resamples);
                Score {
                    task: task.task.clone(),
                    feature,
                    score: task.scores[&feature],
                    score_low: interval.low,
                    score_high: interval.high,
                    relative: task.relative(feature),
                    passes: passing.contains(&feature),
                    n: task.n as u32,
                }
            })
            .collect()
    };
    tasks.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::tests::task;

    #[test]
    fn a_random_feature_carries_its_own_figures_and_the_rank_of_the_one_it_stands_for() {
        let tasks = [task(&[(0, &[4.0]), (1, &[1.0])]), task(&[(0, &[2.0])])];
        let q = [[(0, 0.01), (1, 0.5)].into(), [(0, 0.02)].into()];
        let traits = [1.0, 2.0].map(|norm| Traits {
            firing_rate: 0.5,
            mean_activation: 3.0,
            decoder_norm: norm,
        });
        let known = Known {
            tasks: &tasks,
            q: &q,
            traits: &traits,
            removal: Some(&[0.25, 0.5]),
        };
        let matched = Matched {
            sets: vec![vec![1]],
            distance: 0.0,
        };
        let rows = known.selection(&[Chosen::of(0, &tasks)], &matched);
        assert_eq!((rows[0].set.as_str(), rows[0].q), ("selected", Some(0.02)));
        assert_eq!((rows[0].relative_score, rows[0].decoder_norm), (1.0, 1.0));
        assert_eq!(rows[1].removal_share, Some(0.5));
        assert_eq!((rows[1].set.as_str(), rows[1].feature), ("random-00", 1));
        assert_eq!((rows[1].matched_to, rows[1].q), (Some(0), None));
        assert!((rows[1].relative_score - 0.125).abs() < 1e-12);
    }

    #[test]
    fn the_score_table_says_what_passes() {
        let rows = scores(&[task(&[(0, &[4.0, 4.0]), (1, &[0.5, 0.5])])], 0.2, 50, 0);
        assert_eq!(rows.len(), 2);
        assert!(rows[0].passes && !rows[1].passes);
        assert_eq!((rows[0].score, rows[0].score_low, rows[0].n), (4.0, 4.0, 2));
    }
}
