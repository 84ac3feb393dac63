//! What scores would be by chance: label permutation for q values, the bootstrap for intervals.
//!
//! The draws of a task are made once and applied to every feature: a permutation exchanges the labels of whole samples, a
//! resample draws whole samples. So what features have in common stays in common, and a dictionary of many features costs
//! additions only.

use crate::scores::{Direction, TaskScores};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use stats::Estimate;
use std::collections::BTreeMap;

/// Which of the two uses of randomness a seed is for: their streams must not coincide.
const PERMUTATION: u64 = 1;
const BOOTSTRAP: u64 = 2;

/// Shares of the draws below the lower and the upper end of a 95 % interval.
const ENDS: [f64; 2] = [0.025, 0.975];

/// How often each sample counts in each draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Draws {
    n_draws: usize,
    /// `[n_samples, n_draws]`: ±1 for a permutation, a count for a resample.
    weights: Vec<f32>,
}

impl Draws {
    /// Exchanges the two labels of every sample, or does not, at random.
    pub fn permutations(task: &TaskScores, n_draws: usize, seed: u64) -> Self {
        Self::new(
            task,
            n_draws,
            stream(seed, PERMUTATION, task),
            |rng, column| {
                for chunk in column.chunks_mut(64) {
                    let bits = rng.next_u64();
                    for (bit, weight) in chunk.iter_mut().enumerate() {
                        *weight = if bits >> bit & 1 == 1 { 1.0 } else { -1.0 };
                    }
                }
            },
        )
    }

    /// Draws as many samples as there are, with replacement.
    pub fn resamples(task: &TaskScores, n_draws: usize, seed: u64) -> Self {
        Self::new(
            task,
            n_draws,
            stream(seed, BOOTSTRAP, task),
            |rng, column| {
                for _ in 0..column.len() {
                    column[rng.random_range(0..column.len())] += 1.0;
                }
            },
        )
    }

    /// Fills every draw's weights of all samples from random numbers of its own.
    fn new(
        task: &TaskScores,
        n_draws: usize,
        seed: u64,
        fill: impl Fn(&mut ChaCha8Rng, &mut [f32]),
    ) -> Self {
        let mut weights = vec![0.0; task.n * n_draws];
        let mut column = vec![0.0; task.n];
        for draw in 0..n_draws {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(draw as u64);
            column.fill(0.0);
            fill(&mut rng, &mut column);
            for (sample, &weight) in column.iter().enumerate() {
                weights[sample * n_draws + draw] = weight;
            }
        }
        Self { n_draws, weights }
    }

    /// Σ over samples of weight · difference, for every draw.
    fn sums(&self, differences: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.n_draws];
        for (row, &difference) in self.weights.chunks_exact(self.n_draws).zip(differences) {
            // Most features are silent in most samples.
            if difference != 0.0 {
                for (sum, &weight) in sums.iter_mut().zip(row) {
                    *sum += difference * f64::from(weight);
                }
            }
        }
        sums
    }
}

/// q value of every live feature of a task: the two model labels are exchanged at random within each sample (a sign flip of
/// its difference), one-sided in the direction that counts (two-sided where both do), and the p values are corrected over the live features by Benjamini and Hochberg.
pub fn q_values(task: &TaskScores, n_draws: usize, seed: u64) -> BTreeMap<u32, f64> {
    let draws = Draws::permutations(task, n_draws, seed);
    let features: Vec<u32> = task.differences.keys().copied().collect();
    let p: Vec<f64> = features
        .par_iter()
        .map(|feature| p_value(&task.differences[feature], task.direction, &draws))
        .collect();
    features
        .into_iter()
        .zip(stats::benjamini_hochberg(&p))
        .collect()
}

/// Share of the draws with a sum at least as large, the observed one counted among them.
fn p_value(differences: &[f64], direction: Direction, draws: &Draws) -> f64 {
    let observed = direction.strength(differences.iter().sum());
    // A score that points elsewhere has no place in the tail, whatever the draws say; many features end here.
    if observed <= 0.0 {
        return 1.0;
    }
    // The same numbers added with other signs may round below the observed sum.
    let slack = 1e-12 * differences.iter().map(|value| value.abs()).sum::<f64>();
    let sums = draws.sums(differences);
    let reaches = |sum: &&f64| direction.strength(**sum) >= observed - slack;
    let as_large = sums.iter().filter(reaches).count();
    (as_large + 1) as f64 / (draws.n_draws + 1) as f64
}

/// Percentile bootstrap interval of one feature's score over the key samples.
pub fn interval(task: &TaskScores, feature: u32, resamples: &Draws) -> Estimate {
    let mut means = resamples.sums(&task.differences[&feature]);
    for mean in &mut means {
        *mean /= task.n as f64;
    }
    let [low, high] = ENDS.map(|share| stats::quantile(&means, share));
    Estimate {
        value: task.scores[&feature],
        low,
        high,
    }
}

/// A seed of its own for every use and task (splitmix64 steps over their bytes).
fn stream(seed: u64, purpose: u64, task: &TaskScores) -> u64 {
    let name = task.task.bytes().map(u64::from);
    name.chain([purpose]).fold(seed, |state, value| {
        let z = (state ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::tests::task;

    #[test]
    fn a_feature_that_always_rises_is_significant_and_one_that_swings_is_not() {
        let rises = vec![1.0; 30];
        let swings: Vec<f64> = (0..30)
            .map(|i| if i % 2 == 0 { 1.0 } else { -0.99 })
            .collect();
        let falls = vec![-1.0; 30];
        let q = q_values(&task(&[(0, &rises), (1, &swings), (2, &falls)]), 1000, 0);
        assert!(q[&0] < 0.01, "{q:?}");
        assert!(q[&1] > 0.2, "{q:?}");
        assert!(q[&2] > 0.999, "{q:?}");
    }

    #[test]
    fn a_feature_that_falls_is_significant_where_falling_counts() {
        let falls = vec![-1.0; 30];
        let rises = vec![1.0; 30];
        let mut task = task(&[(0, &falls), (1, &rises)]);
        for (direction, rising) in [(Direction::Lowered, 0.999), (Direction::Both, 0.0)] {
            task.direction = direction;
            let q = q_values(&task, 1000, 0);
            assert!(q[&0] < 0.01 && q[&1] >= rising, "{direction:?} {q:?}");
        }
    }

    #[test]
    fn p_and_interval_are_those_of_the_statistics_library() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i % 7) - 2.5).collect();
        let task = task(&[(0, &values)]);
        let p = p_value(
            &values,
            Direction::Raised,
            &Draws::permutations(&task, 20_000, 0),
        );
        assert!(
            (p - stats::permutation_sign(&values, 20_000, 0)).abs() < 0.01,
            "{p}"
        );
        let ours = interval(&task, 0, &Draws::resamples(&task, 20_000, 0));
        let mean = |items: &[usize]| items.iter().map(|i| values[*i]).sum::<f64>() / 40.0;
        let theirs = stats::bootstrap(40, 20_000, 0, mean);
        assert!((ours.low - theirs.low).abs() < 0.03, "{ours:?} {theirs:?}");
        assert!(
            (ours.high - theirs.high).abs() < 0.03,
            "{ours:?} {theirs:?}"
        );
    }

    #[test]
    fn a_constant_has_no_spread() {
        let task = task(&[(1, &[2.0; 40])]);
        let constant = interval(&task, 1, &Draws::resamples(&task, 500, 0));
        assert_eq!((constant.low, constant.high), (2.0, 2.0));
    }

    #[test]
    fn a_resample_draws_as_many_samples_and_the_two_uses_differ() {
        let task = task(&[(0, &[1.0; 9])]);
        let draws = Draws::resamples(&task, 20, 3);
        assert!(
            draws
                .sums(&[1.0; 9])
                .iter()
                .all(|sum| (sum - 9.0).abs() < 1e-9)
        );
        assert_ne!(stream(0, PERMUTATION, &task), stream(0, BOOTSTRAP, &task));
    }
}
