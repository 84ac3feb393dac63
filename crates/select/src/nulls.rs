//! What scores would be by chance: label permutation for q values, the bootstrap for intervals.

use crate::scores::TaskScores;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Which of the two uses of randomness a seed is for: their streams must not coincide.
const PERMUTATION: u64 = 1;
const BOOTSTRAP: u64 = 2;

/// q value of every live feature of a task: the two model labels are exchanged at random within each sample (a sign flip of
/// its difference), one-sided, and the p values are corrected over the live features by Benjamini and Hochberg.
pub fn q_values(task: &TaskScores, draws: usize, seed: u64) -> BTreeMap<u32, f64> {
    let features: Vec<u32> = task.differences.keys().copied().collect();
    let p: Vec<f64> = features
        .par_iter()
        .map(|&feature| p_value(task, feature, draws, seed))
        .collect();
    features
        .into_iter()
        .zip(stats::benjamini_hochberg(&p))
        .collect()
}

fn p_value(task: &TaskScores, feature: u32, draws: usize, seed: u64) -> f64 {
    // A score that did not rise has no place in the tail, whatever the draws say; most features end here.
    if task.scores[&feature] <= 0.0 {
        return 1.0;
    }
    // Samples without a difference add nothing to any draw.
    let nonzero = task.differences[&feature].iter().copied();
    let nonzero: Vec<f64> = nonzero.filter(|difference| *difference != 0.0).collect();
    stats::permutation_sign(&nonzero, draws, stream(seed, PERMUTATION, task, feature))
}

/// Bootstrap interval of one feature's score over the key samples.
pub fn interval(task: &TaskScores, feature: u32, draws: usize, seed: u64) -> stats::Estimate {
    let differences = &task.differences[&feature];
    let mean = |samples: &[usize]| {
        let sum: f64 = samples.iter().map(|&sample| differences[sample]).sum();
        sum / samples.len() as f64
    };
    stats::bootstrap(task.n, draws, stream(seed, BOOTSTRAP, task, feature), mean)
}

/// A seed of its own for every use, task and feature (splitmix64 steps over their bytes).
fn stream(seed: u64, purpose: u64, task: &TaskScores, feature: u32) -> u64 {
    let name = task.task.bytes().map(u64::from);
    name.chain([purpose, u64::from(feature)])
        .fold(seed, |state, value| {
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
    fn the_interval_holds_the_score_and_a_constant_has_none_to_spare() {
        let values: Vec<f64> = (0..40).map(f64::from).collect();
        let estimate = interval(&task(&[(0, &values), (1, &[2.0; 40])]), 0, 500, 0);
        assert!(estimate.low < 19.5 && 19.5 < estimate.high);
        let constant = interval(&task(&[(1, &[2.0; 40])]), 1, 500, 0);
        assert_eq!((constant.low, constant.high), (2.0, 2.0));
    }

    #[test]
    fn streams_differ_by_purpose_and_feature() {
        let task = task(&[(0, &[1.0])]);
        assert_ne!(stream(0, 1, &task, 0), stream(0, 2, &task, 0));
        assert_ne!(stream(0, 1, &task, 0), stream(0, 1, &task, 1));
    }
}
