//! `Score_k(task)`: how much more a feature fires in the model after than in the model before, on the key samples.
//!
//! Formula: mean over key samples x of `f_k^after(x) − f_k^before(x)`, each `f` already a mean over tokens (arXiv 2604.25011).

use crate::documents::Means;
use crate::keys::TaskKeys;
use crate::readings::Readings;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Which way a feature must have moved from the model before to the model after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// It fires more in the model after (the rule of arXiv 2604.25011)
    Raised,
    /// It fires less: the mirror image of that rule
    Lowered,
    /// Either: scores count by their size, and a feature must move the same way in every task
    Both,
}

impl Direction {
    /// How far a score reaches in this direction; at most 0 when it points the other way.
    pub fn strength(self, score: f64) -> f64 {
        match self {
            Self::Raised => score,
            Self::Lowered => -score,
            Self::Both => score.abs(),
        }
    }
}

/// Factors of a feature's activation, by feature: all 1, or its decoder norm in each model.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Applied to the model before.
    pub before: Option<Vec<f64>>,
    /// Applied to the model after.
    pub after: Option<Vec<f64>>,
}

impl Weights {
    /// Activations as they are.
    pub const NONE: Self = Self {
        before: None,
        after: None,
    };
}

/// Differences and scores of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskScores {
    /// Task.
    pub task: String,
    /// Key samples both models read.
    pub n: usize,
    /// Key samples that were not captured.
    pub missing: usize,
    /// Per live feature, `f^after − f^before` of every sample: `[n]`.
    pub differences: BTreeMap<u32, Vec<f64>>,
    /// Per live feature, the mean of its differences.
    pub scores: BTreeMap<u32, f64>,
    /// Which way scores count.
    pub direction: Direction,
}

/// A feature that passes, and whether it fires less in the model after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passing {
    /// Feature.
    pub feature: u32,
    /// Its score is negative.
    pub lowered: bool,
}

impl TaskScores {
    /// Subtracts and averages over the key samples of a task that both models read.
    pub fn of(
        keys: &TaskKeys,
        readings: &Readings,
        weights: &Weights,
        direction: Direction,
    ) -> Self {
        let pairs: Vec<(&Means, &Means)> = keys
            .documents
            .iter()
            .filter_map(|name| Some((readings.before.get(name)?, readings.after.get(name)?)))
            .collect();
        let n = pairs.len();
        let mut differences: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for (sample, (before, after)) in pairs.into_iter().enumerate() {
            let sides = [
                (before, -1.0, &weights.before),
                (after, 1.0, &weights.after),
            ];
            for (means, sign, weight) in sides {
                for (&feature, &mean) in means {
                    let factor = weight.as_ref().map_or(1.0, |w| w[feature as usize]);
                    differences.entry(feature).or_insert_with(|| vec![0.0; n])[sample] +=
                        sign * factor * mean;
                }
            }
        }
        let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / n as f64;
        Self {
            task: keys.task.clone(),
            n,
            missing: keys.documents.len() - n,
            scores: differences.iter().map(|(&k, d)| (k, mean(d))).collect(),
            differences,
            direction,
        }
    }

    /// Size of the largest score in the direction that counts; 0 when none points there.
    pub fn largest(&self) -> f64 {
        let strengths = self.scores.values().map(|&s| self.direction.strength(s));
        strengths.fold(0.0, f64::max)
    }

    /// Score as a share of the task's largest, negative for a feature that fires less; 0 for one that never fires here.
    pub fn relative(&self, feature: u32) -> f64 {
        let largest = self.largest();
        match self.scores.get(&feature) {
            Some(score) if largest > 0.0 => score / largest,
            _ => 0.0,
        }
    }

    /// Features whose score exceeds `fraction` of the largest, in the direction that counts.
    pub fn passing(&self, fraction: f64) -> BTreeSet<Passing> {
        let least = fraction * self.largest();
        let passes = |score: f64| {
            let strength = self.direction.strength(score);
            strength > 0.0 && strength > least
        };
        let scores = self.scores.iter().filter(|&(_, &score)| passes(score));
        let passing = scores.map(|(&feature, &score)| Passing {
            feature,
            lowered: score < 0.0,
        });
        passing.collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A task with the given differences, one column per feature.
    pub(crate) fn task(columns: &[(u32, &[f64])]) -> TaskScores {
        let n = columns[0].1.len();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / n as f64;
        TaskScores {
            task: "t".into(),
            n,
            missing: 0,
            differences: columns.iter().map(|&(k, d)| (k, d.to_vec())).collect(),
            scores: columns.iter().map(|&(k, d)| (k, mean(d))).collect(),
            direction: Direction::Raised,
        }
    }

    fn means(entries: &[(u32, f64)]) -> Means {
        entries.iter().copied().collect()
    }

    fn readings() -> Readings {
        Readings {
            before: [("t/a/0".into(), means(&[(0, 1.0), (1, 2.0)]))].into(),
            after: [
                ("t/a/0".into(), means(&[(1, 5.0), (2, 4.0)])),
                ("t/b/0".into(), means(&[(2, 8.0)])),
            ]
            .into(),
            ..Readings::default()
        }
    }

    fn keys() -> TaskKeys {
        TaskKeys {
            task: "t".into(),
            documents: vec!["t/a/0".into(), "t/b/0".into()],
        }
    }

    #[test]
    fn a_score_is_the_mean_difference_over_samples_both_models_read() {
        let scores = TaskScores::of(&keys(), &readings(), &Weights::NONE, Direction::Raised);
        assert_eq!((scores.n, scores.missing), (1, 1));
        assert_eq!(scores.scores, [(0, -1.0), (1, 3.0), (2, 4.0)].into());
        assert_eq!((scores.relative(1), scores.relative(9)), (0.75, 0.0));
    }

    #[test]
    fn a_weight_multiplies_the_activations_of_its_model() {
        let weights = Weights {
            before: Some(vec![1.0, 0.5, 1.0]),
            after: Some(vec![1.0, 2.0, 1.0]),
        };
        let scores = TaskScores::of(&keys(), &readings(), &weights, Direction::Raised);
        assert!((scores.scores[&1] - 9.0).abs() < 1e-12);
    }

    #[test]
    fn a_feature_passes_above_the_fraction_and_never_with_a_negative_score() {
        let task = task(&[(0, &[10.0]), (1, &[2.0]), (2, &[2.1]), (3, &[-1.0])]);
        assert_eq!(task.passing(0.2), raised(&[0, 2]));
        assert_eq!(task.passing(0.0), raised(&[0, 1, 2]));
    }

    fn raised(features: &[u32]) -> BTreeSet<Passing> {
        let raised = |&feature| Passing {
            feature,
            lowered: false,
        };
        features.iter().map(raised).collect()
    }

    #[test]
    fn the_other_direction_is_the_mirror_image_and_both_share_one_largest_score() {
        let mut task = task(&[(0, &[3.0]), (1, &[-10.0]), (2, &[-1.0]), (3, &[0.0])]);
        let one = |feature, lowered| Passing { feature, lowered };
        task.direction = Direction::Lowered;
        assert_eq!(task.passing(0.05), [one(1, true), one(2, true)].into());
        task.direction = Direction::Both;
        assert_eq!(task.passing(0.2), [one(0, false), one(1, true)].into());
        assert_eq!((task.relative(0), task.relative(1)), (0.3, -1.0));
    }
}
