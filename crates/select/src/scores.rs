//! `Score_k(task)`: how much more a feature fires in the model after than in the model before, on the key samples.
//!
//! Formula: mean over key samples x of `f_k^after(x) − f_k^before(x)`, each `f` already a mean over tokens (arXiv 2604.25011).

use crate::documents::Means;
use crate::keys::TaskKeys;
use crate::readings::Readings;
use std::collections::{BTreeMap, BTreeSet};

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
}

impl TaskScores {
    /// Subtracts and averages over the key samples of a task that both models read.
    pub fn of(keys: &TaskKeys, readings: &Readings, weights: &Weights) -> Self {
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
        }
    }

    /// Largest score; at most 0 when no feature fires more in the model after.
    pub fn largest(&self) -> f64 {
        self.scores.values().copied().fold(0.0, f64::max)
    }

    /// Score as a share of the task's largest; 0 for a feature that never fires here.
    pub fn relative(&self, feature: u32) -> f64 {
        let largest = self.largest();
        match self.scores.get(&feature) {
            Some(score) if largest > 0.0 => score / largest,
            _ => 0.0,
        }
    }

    /// Features whose score exceeds `fraction` of the largest.
    pub fn passing(&self, fraction: f64) -> BTreeSet<u32> {
        let largest = self.largest();
        self.scores
            .iter()
            .filter(|&(_, &score)| score > 0.0 && score > fraction * largest)
            .map(|(&feature, _)| feature)
            .collect()
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
        let scores = TaskScores::of(&keys(), &readings(), &Weights::NONE);
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
        let scores = TaskScores::of(&keys(), &readings(), &weights);
        assert!((scores.scores[&1] - 9.0).abs() < 1e-12);
    }

    #[test]
    fn a_feature_passes_above_the_fraction_and_never_with_a_negative_score() {
        let task = task(&[(0, &[10.0]), (1, &[2.0]), (2, &[2.1]), (3, &[-1.0])]);
        assert_eq!(task.passing(0.2), [0, 2].into());
        assert_eq!(task.passing(0.0), [0, 1, 2].into());
    }
}
