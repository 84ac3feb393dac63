//! The dense product of the encoder, and the few activations that may be kept, without ever holding all of them.
//!
//! Features are multiplied a block at a time; each block is searched while it is in cache. What is found is a superset of
//! what a rule keeps, so the exact choice that follows looks at hundreds of numbers a row instead of all features. Every
//! result is that of a sort of all activations: ties are broken by row, then by feature.

use crate::codes::Codes;
use kernels::sparse::scan;
use rayon::prelude::*;
use std::ops::Range;

/// Features multiplied at a time.
const FEATURES: usize = 2048;
/// Rows that a first guess of a batch's floor is taken from.
const SAMPLE: usize = 32;
/// Share of the last floor at which the next search begins.
const MARGIN: f32 = 0.9;

/// One feature with its activation.
pub(crate) type Entry = (u32, f32);

/// What is looked for in every row.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    /// Factor of each feature's activation `[n_features]`.
    scale: Vec<f32>,
    /// Smallest scaled activation wanted, by row.
    floors: Vec<f32>,
    /// How many of a row are wanted at most.
    largest: Option<usize>,
    /// What was found, features ascending unless only the largest were wanted.
    found: Vec<Vec<Entry>>,
}

impl Search {
    /// Activations with `activation · scale ≥ floor`, for a positive floor.
    pub(crate) fn above(scale: Vec<f32>, floor: f32, n_rows: usize) -> Self {
        Self {
            scale,
            floors: vec![floor.max(f32::MIN_POSITIVE); n_rows],
            largest: None,
            found: vec![Vec::new(); n_rows],
        }
    }

    /// The `k` largest positive `activation · scale` of every row.
    pub(crate) fn largest(scale: Vec<f32>, k: usize, n_rows: usize) -> Self {
        Self {
            largest: Some(k),
            ..Self::above(scale, 0.0, n_rows)
        }
    }

    /// Searches one block of products `[n_rows, features.len()]`.
    fn block(&mut self, products: &[f32], bias: &[f32], features: &Range<usize>) {
        let (bias, scale) = (&bias[features.clone()], &self.scale[features.clone()]);
        let (all, largest) = (&self.scale, self.largest);
        let rows = products.par_chunks(features.len()).zip(&mut self.found);
        rows.zip(&mut self.floors)
            .for_each(|((products, found), floor)| {
                scan(
                    products,
                    (bias, scale),
                    *floor,
                    features.start as u32,
                    found,
                );
                if let Some(k) = largest
                    && found.len() > 4 * k.max(8)
                {
                    *floor = floor.max(keep_largest(found, all, k));
                }
            });
    }

    /// Codes of what was found and `keep` still wants.
    pub(crate) fn codes(self, keep: impl Fn(u32, f32) -> bool) -> Codes {
        let Self {
            scale,
            largest,
            mut found,
            ..
        } = self;
        if let Some(k) = largest {
            found.par_iter_mut().for_each(|row| {
                keep_largest(row, &scale, k);
                row.sort_unstable_by_key(|entry| entry.0);
            });
        }
        let mut codes = Codes::default();
        for row in found {
            codes.push_row(
                row.into_iter()
                    .filter(|&(feature, value)| keep(feature, value)),
            );
        }
        codes
    }

    /// How many were found.
    fn n_found(&self) -> usize {
        self.found.iter().map(Vec::len).sum()
    }

    /// The `keep` largest of all rows together, and the smallest of them.
    fn largest_of_all(self, keep: usize) -> (Codes, Option<f32>) {
        let value = |&(feature, activation): &Entry| activation * self.scale[feature as usize];
        let mut values: Vec<f32> = self.found.iter().flatten().map(value).collect();
        let cut = if values.len() > keep {
            cut_of(&mut values, keep)
        } else {
            Cut {
                value: 0.0,
                of_equals: 0,
            }
        };
        let mut codes = Codes::default();
        let (mut smallest, mut of_equals) = (None::<f32>, cut.of_equals);
        for row in &self.found {
            let kept = row.iter().filter(|entry| {
                let value = value(entry);
                let equal = value.total_cmp(&cut.value).is_eq() && of_equals > 0;
                of_equals -= usize::from(equal);
                let kept = equal || value > cut.value;
                if kept {
                    smallest = Some(smallest.map_or(value, |old| old.min(value)));
                }
                kept
            });
            codes.push_row(kept.copied());
        }
        (codes, smallest)
    }
}

/// The value down to which a batch is kept, and how many of those equal to it.
struct Cut {
    value: f32,
    of_equals: usize,
}

/// Of more than `keep` values.
fn cut_of(values: &mut [f32], keep: usize) -> Cut {
    if keep == 0 {
        return Cut {
            value: f32::INFINITY,
            of_equals: 0,
        };
    }
    let (above, value, _) = values.select_nth_unstable_by(keep - 1, |a, b| b.total_cmp(a));
    let value = *value;
    let larger = above.iter().filter(|&&other| other > value).count();
    Cut {
        value,
        of_equals: keep - larger,
    }
}

/// Keeps the `k` entries of largest scaled activation, the earlier of equals; returns the smallest of them.
fn keep_largest(entries: &mut Vec<Entry>, scale: &[f32], k: usize) -> f32 {
    if entries.len() <= k || k == 0 {
        entries.truncate(k);
        return 0.0;
    }
    let value = |entry: &Entry| entry.1 * scale[entry.0 as usize];
    let order = |a: &Entry, b: &Entry| value(b).total_cmp(&value(a)).then(a.0.cmp(&b.0));
    let smallest = value(entries.select_nth_unstable_by(k - 1, order).1);
    entries.truncate(k);
    smallest
}

/// Searches all features of some rows, a block at a time.
///
/// `product(features, out)` writes the encoder's product without its bias, `[n_rows, features.len()]`.
pub(crate) fn search(
    searches: &mut [&mut Search],
    (bias, buffer): (&[f32], &mut Vec<f32>),
    mut product: impl FnMut(Range<usize>, &mut [f32]),
) {
    let n_rows = searches.first().map_or(0, |search| search.found.len());
    for start in (0..bias.len()).step_by(FEATURES) {
        let features = start..bias.len().min(start + FEATURES);
        buffer.resize(n_rows * features.len(), 0.0);
        product(features.clone(), buffer);
        for search in searches.iter_mut() {
            search.block(buffer, bias, &features);
        }
    }
}

/// The `keep` largest of `n_rows` rows together by `activation · weight`, and the smallest of them.
///
/// `run(n, searches)` searches the first `n` rows. `guess` is the smallest value kept of a batch like this one; a wrong
/// guess costs another search and changes nothing.
pub(crate) fn batch_top_k(
    (n_rows, keep): (usize, usize),
    weights: &[f32],
    guess: Option<f32>,
    mut run: impl FnMut(usize, &mut Search),
) -> (Codes, Option<f32>) {
    let mut floor = match guess {
        Some(guess) => guess * MARGIN,
        None => first_floor((n_rows, keep), weights, &mut run),
    };
    loop {
        let mut search = Search::above(weights.to_vec(), floor, n_rows);
        run(n_rows, &mut search);
        if search.n_found() >= keep || floor <= f32::MIN_POSITIVE {
            return search.largest_of_all(keep);
        }
        // Twice as many below a third of the floor, or else everything positive.
        floor = if floor > 1e-6 { floor / 3.0 } else { 0.0 };
    }
}

/// A floor below which little of what is kept should lie, from a few rows.
fn first_floor(
    (n_rows, keep): (usize, usize),
    weights: &[f32],
    run: &mut impl FnMut(usize, &mut Search),
) -> f32 {
    let sample = n_rows.min(SAMPLE);
    let mut search = Search::above(weights.to_vec(), 0.0, sample);
    run(sample, &mut search);
    let smallest = search.largest_of_all(keep * sample / n_rows.max(1)).1;
    smallest.map_or(0.0, |smallest| smallest * MARGIN * MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Searches dense activations `[n_rows, n_features]` as if they were products.
    fn run_on(values: &[f32], n_features: usize) -> impl FnMut(usize, &mut Search) {
        move |n_rows, found| {
            let product = |features: Range<usize>, out: &mut [f32]| {
                let rows = values.chunks(n_features).take(n_rows);
                for (row, out) in rows.zip(out.chunks_mut(features.len())) {
                    out.copy_from_slice(&row[features.clone()]);
                }
            };
            search(
                &mut [found],
                (&vec![0.0; n_features], &mut Vec::new()),
                product,
            );
        }
    }

    fn largest(
        values: &[f32],
        weights: &[f32],
        keep: usize,
        guess: Option<f32>,
    ) -> (Codes, Option<f32>) {
        let n_rows = values.len() / weights.len();
        batch_top_k(
            (n_rows, keep),
            weights,
            guess,
            run_on(values, weights.len()),
        )
    }

    #[test]
    fn the_largest_of_the_batch_are_kept_whatever_their_row() {
        let (codes, smallest) = largest(&[1.0, 5.0, 0.0, 4.0, 3.0, 0.5], &[1.0; 3], 3, None);
        assert_eq!(codes.starts, [0, 1, 3]);
        assert_eq!(codes.features, [1, 0, 1]);
        assert_eq!(codes.activations, [5.0, 4.0, 3.0]);
        assert_eq!(smallest, Some(3.0));
    }

    #[test]
    fn the_decoder_norm_weighs_the_rank_but_not_the_activation() {
        let (codes, _) = largest(&[1.0, 2.0], &[10.0, 1.0], 1, None);
        assert_eq!((codes.features[0], codes.activations[0]), (0, 1.0));
    }

    #[test]
    fn what_is_not_positive_is_never_kept() {
        let (codes, smallest) = largest(&[0.0, -2.0, 1.0, 0.0], &[1.0, 1.0], 4, None);
        assert_eq!((codes.len(), smallest), (1, Some(1.0)));
        assert_eq!(largest(&[0.0; 4], &[1.0; 2], 4, None).1, None);
    }

    #[test]
    fn of_equals_the_earlier_are_kept() {
        assert_eq!(largest(&[1.0; 8], &[1.0; 4], 5, None).0.starts, [0, 4, 5]);
        let mut search = Search::largest(vec![1.0; 4], 2, 2);
        run_on(&[1.0; 8], 4)(2, &mut search);
        assert_eq!(search.codes(|_, _| true).features, [0, 1, 0, 1]);
    }

    #[test]
    fn the_largest_of_a_long_row_are_found_block_by_block() {
        let n_features = 3 * FEATURES + 5;
        let values: Vec<f32> = (0..2 * n_features)
            .map(|i| (i * 7919 % 10_007) as f32)
            .collect();
        let mut search = Search::largest(vec![1.0; n_features], 9, 2);
        run_on(&values, n_features)(2, &mut search);
        let codes = search.codes(|_, _| true);
        for row in 0..2 {
            let mut wanted: Vec<f32> = values[row * n_features..(row + 1) * n_features].to_vec();
            wanted.sort_by(|a, b| b.total_cmp(a));
            let mut found: Vec<f32> = codes.row(row).map(|entry| entry.1).collect();
            found.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(found, wanted[..9]);
        }
    }

    proptest! {
        #[test]
        fn it_equals_a_sort_whatever_the_guess(
            values in prop::collection::vec(prop_oneof![Just(0.0f32), -1.0f32..3.0], 40),
            keep in 0usize..45,
            guess in prop::option::of(0.0f32..20.0),
        ) {
            let weights = [0.5, 1.0, 2.0, 3.0];
            let mut sorted: Vec<(f32, usize)> = values.iter().enumerate()
                .map(|(i, value)| (value * weights[i % 4], i))
                .filter(|candidate| candidate.0 > 0.0).collect();
            sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            sorted.truncate(keep);
            let smallest = sorted.last().map(|candidate| candidate.0);
            sorted.sort_by_key(|candidate| candidate.1);
            let (codes, found) = largest(&values, &weights, keep, guess);
            prop_assert_eq!(codes.features, sorted.iter().map(|candidate| (candidate.1 % 4) as u32).collect::<Vec<_>>());
            prop_assert_eq!(found, smallest);
        }
    }
}
