//! Which activations of a batch are kept, without sorting `n_rows × n_features` numbers.
//!
//! Activations are dense `[n_rows, n_features]` and not negative; features are compared by their rank value
//! v = activation · weight. Ties are broken by row, then by feature, so the result does not depend on the number of threads.

use crate::codes::Codes;
use rayon::prelude::*;

/// Rows handled by one task: fixed, so that no result depends on the number of threads.
const ROWS: usize = 32;
/// Bits dropped from a rank value to find its bin: 5 of the mantissa's 23 bits stay, a bin is about 3 % wide.
const SHIFT: u32 = 18;
/// Bins that positive finite numbers fall into.
const BINS: usize = (0x7F80_0000 >> SHIFT) + 1;

/// One candidate: rank value, row, feature.
type Candidate = (f32, u32, u32);

/// Keeps what `keep` says of each row: `keep(feature, activation)`.
pub(crate) fn filter(
    activations: &[f32],
    n_features: usize,
    keep: impl Fn(usize, f32) -> bool + Sync,
) -> Codes {
    let row = |row: &[f32]| -> Vec<(u32, f32)> {
        let kept = row
            .iter()
            .enumerate()
            .filter(|&(feature, &activation)| keep(feature, activation));
        kept.map(|(feature, &activation)| (feature as u32, activation))
            .collect()
    };
    let rows: Vec<_> = activations
        .par_chunks(n_features)
        .with_min_len(ROWS)
        .map(row)
        .collect();
    gather(rows)
}

/// Keeps rank values above `threshold`.
pub(crate) fn above(activations: &[f32], weights: &[f32], threshold: f32) -> Codes {
    let threshold = threshold.max(0.0);
    filter(activations, weights.len(), |feature, activation| {
        activation * weights[feature] > threshold
    })
}

/// Keeps the `k` largest positive rank values of each row.
pub(crate) fn top_k(activations: &[f32], weights: &[f32], k: usize) -> Codes {
    let row = |row: &[f32]| -> Vec<(u32, f32)> {
        let mut candidates = row_candidates(row, weights, f32::MIN_POSITIVE);
        keep_largest(&mut candidates, k);
        candidates.sort_unstable_by_key(|candidate| candidate.2);
        candidates
            .iter()
            .map(|candidate| (candidate.2, row[candidate.2 as usize]))
            .collect()
    };
    gather(
        activations
            .par_chunks(weights.len())
            .with_min_len(ROWS)
            .map(row)
            .collect(),
    )
}

/// Keeps the `keep` largest positive rank values of all rows together; also returns the smallest one kept.
pub(crate) fn batch_top_k(
    activations: &[f32],
    weights: &[f32],
    keep: usize,
) -> (Codes, Option<f32>) {
    let floor = bin_floor(&histogram(activations, weights), keep);
    let mut candidates: Vec<Candidate> = candidates_above(activations, weights, floor);
    keep_largest(&mut candidates, keep);
    let smallest = candidates
        .iter()
        .map(|candidate| candidate.0)
        .reduce(f32::min);
    candidates.par_sort_unstable_by_key(|candidate| (candidate.1, candidate.2));
    (
        from_sorted(&candidates, activations, weights.len()),
        smallest,
    )
}

/// How many rank values fall into each bin.
fn histogram(activations: &[f32], weights: &[f32]) -> Vec<u32> {
    let count = |rows: &[f32]| {
        let mut bins = vec![0u32; BINS];
        for row in rows.chunks(weights.len()) {
            for (activation, weight) in row.iter().zip(weights) {
                // Adding zero turns −0, which a ReLU may give, into +0.
                let bin = (activation * weight + 0.0).to_bits() >> SHIFT;
                bins[bin as usize] += 1;
            }
        }
        bins
    };
    let parts: Vec<Vec<u32>> = activations
        .par_chunks(ROWS * weights.len())
        .map(count)
        .collect();
    let mut total = vec![0u32; BINS];
    for part in parts {
        total
            .iter_mut()
            .zip(part)
            .for_each(|(sum, count)| *sum += count);
    }
    total
}

/// Smallest number of the bin in which the `keep`-th largest rank value lies; the smallest positive number if there are fewer.
fn bin_floor(bins: &[u32], keep: usize) -> f32 {
    let mut above = 0;
    for bin in (1..BINS).rev() {
        above += bins[bin] as usize;
        if above >= keep {
            return f32::from_bits((bin as u32) << SHIFT);
        }
    }
    f32::MIN_POSITIVE
}

/// Candidates of one row that reach `floor`; their row number is 0.
fn row_candidates(row: &[f32], weights: &[f32], floor: f32) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (feature, (activation, weight)) in row.iter().zip(weights).enumerate() {
        let value = activation * weight;
        if value >= floor {
            found.push((value, 0, feature as u32));
        }
    }
    found
}

/// Candidates of all rows that reach `floor`, ordered by row and feature.
fn candidates_above(activations: &[f32], weights: &[f32], floor: f32) -> Vec<Candidate> {
    let n_features = weights.len();
    let rows = activations
        .par_chunks(n_features)
        .with_min_len(ROWS)
        .enumerate();
    let found: Vec<Vec<Candidate>> = rows
        .map(|(number, row)| {
            let mut candidates = row_candidates(row, weights, floor);
            for candidate in &mut candidates {
                candidate.1 = number as u32;
            }
            candidates
        })
        .collect();
    found.concat()
}

/// Keeps the `keep` largest candidates, the earlier of equals.
fn keep_largest(candidates: &mut Vec<Candidate>, keep: usize) {
    if candidates.len() <= keep {
        return;
    }
    if keep > 0 {
        candidates.select_nth_unstable_by(keep - 1, |a, b| {
            b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2)))
        });
    }
    candidates.truncate(keep);
}

/// Codes of candidates ordered by row and feature.
fn from_sorted(candidates: &[Candidate], activations: &[f32], n_features: usize) -> Codes {
    let n_rows = activations.len() / n_features;
    let mut starts = vec![0; n_rows + 1];
    for candidate in candidates {
        starts[candidate.1 as usize + 1] += 1;
    }
    for row in 0..n_rows {
        starts[row + 1] += starts[row];
    }
    let value = |candidate: &Candidate| {
        activations[candidate.1 as usize * n_features + candidate.2 as usize]
    };
    Codes {
        starts,
        features: candidates.iter().map(|candidate| candidate.2).collect(),
        activations: candidates.iter().map(value).collect(),
    }
}

/// Codes of rows given one by one.
fn gather(rows: Vec<Vec<(u32, f32)>>) -> Codes {
    let mut codes = Codes::default();
    for row in rows {
        codes.push_row(row);
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_of_the_batch_are_kept_whatever_their_row() {
        let activations = [1.0, 5.0, 0.0, 4.0, 3.0, 0.5];
        let (codes, smallest) = batch_top_k(&activations, &[1.0, 1.0, 1.0], 3);
        assert_eq!(codes.starts, [0, 1, 3]);
        assert_eq!(codes.features, [1, 0, 1]);
        assert_eq!(codes.activations, [5.0, 4.0, 3.0]);
        assert_eq!(smallest, Some(3.0));
    }

    #[test]
    fn the_decoder_norm_weighs_the_rank_but_not_the_activation() {
        let (codes, _) = batch_top_k(&[1.0, 2.0], &[10.0, 1.0], 1);
        assert_eq!((codes.features[0], codes.activations[0]), (0, 1.0));
    }

    #[test]
    fn zeros_are_never_kept() {
        let (codes, smallest) = batch_top_k(&[0.0, 0.0, 1.0, 0.0], &[1.0, 1.0], 4);
        assert_eq!(codes.len(), 1);
        assert_eq!(smallest, Some(1.0));
        assert_eq!(batch_top_k(&[0.0; 4], &[1.0; 2], 4).1, None);
    }

    #[test]
    fn of_equals_the_earlier_are_kept() {
        let (codes, _) = batch_top_k(&[1.0; 8], &[1.0; 4], 5);
        assert_eq!(codes.starts, [0, 4, 5]);
        assert_eq!(top_k(&[1.0; 8], &[1.0; 4], 2).features, [0, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn it_equals_a_sort(values in prop::collection::vec(prop_oneof![Just(0.0f32), 0.0f32..3.0], 40), keep in 0usize..45) {
            let weights = [0.5, 1.0, 2.0, 3.0];
            let mut sorted: Vec<Candidate> = values.iter().enumerate()
                .map(|(i, value)| (value * weights[i % 4], (i / 4) as u32, (i % 4) as u32))
                .filter(|candidate| candidate.0 > 0.0).collect();
            sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            sorted.truncate(keep);
            sorted.sort_by_key(|candidate| (candidate.1, candidate.2));
            let (codes, _) = batch_top_k(&values, &weights, keep);
            prop_assert_eq!(codes.features, sorted.iter().map(|candidate| candidate.2).collect::<Vec<_>>());
        }
    }
}
