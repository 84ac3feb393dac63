//! Random sets that look like the selected one: matched on firing rate × decoder norm × mean activation.
//!
//! Every selected feature takes its nearest unused neighbours, one for each set, in the space of the three logarithms,
//! each standardised over the live features; a shuffle decides which neighbour goes to which set, so that no set is a worse
//! match than another. No feature stands in two sets, and none is a selected one.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// What a random feature should have in common with the one it stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traits {
    /// Share of rows on which the feature fires, 0 to 1.
    pub firing_rate: f64,
    /// Mean activation over the rows on which it fires.
    pub mean_activation: f64,
    /// Σ over models of the L2 norm of its decoder rows.
    pub decoder_norm: f64,
}

impl Traits {
    /// A feature that never fires, or has no direction, stands for nothing.
    pub fn is_live(&self) -> bool {
        self.firing_rate > 0.0 && self.mean_activation > 0.0 && self.decoder_norm > 0.0
    }

    fn logarithms(&self) -> Point {
        [self.firing_rate, self.mean_activation, self.decoder_norm].map(f64::ln)
    }
}

type Point = [f64; 3];

/// Random sets and how well they match.
#[derive(Debug, Clone, PartialEq)]
pub struct Matched {
    /// Per set, the feature that stands for each selected one, in the order of the selection.
    pub sets: Vec<Vec<u32>>,
    /// Mean distance between a selected feature and its stand-ins, in standard deviations.
    pub distance: f64,
}

/// Deals `n_sets` random sets, or as many as the live features allow.
pub fn matched_sets(selected: &[u32], traits: &[Traits], n_sets: usize, seed: u64) -> Matched {
    let points = standardised(traits);
    let mut free: BTreeSet<u32> = (0..traits.len() as u32)
        .filter(|k| traits[*k as usize].is_live() && !selected.contains(k))
        .collect();
    let n_sets = n_sets.min(free.len() / selected.len().max(1));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..selected.len()).collect();
    order.shuffle(&mut rng);
    let mut sets = vec![vec![0; selected.len()]; n_sets];
    let mut total = 0.0;
    for place in order {
        let centre = &points[selected[place] as usize];
        let mut nearest = nearest(centre, &free, &points, n_sets);
        nearest.shuffle(&mut rng);
        for (set, &feature) in sets.iter_mut().zip(&nearest) {
            set[place] = feature;
            free.remove(&feature);
            total += distance(centre, &points[feature as usize]);
        }
    }
    let pairs = n_sets * selected.len();
    Matched {
        sets,
        distance: total / pairs.max(1) as f64,
    }
}

/// The `n` free features closest to a point, the closest first; ties go to the smaller index.
fn nearest(centre: &Point, free: &BTreeSet<u32>, points: &[Point], n: usize) -> Vec<u32> {
    let mut by_distance: Vec<(f64, u32)> = free
        .iter()
        .map(|&feature| (distance(centre, &points[feature as usize]), feature))
        .collect();
    by_distance.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    by_distance.truncate(n);
    by_distance
        .into_iter()
        .map(|(_, feature)| feature)
        .collect()
}

fn distance(a: &Point, b: &Point) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

/// Every feature's logarithms, centred and divided by their deviation over the live features.
fn standardised(traits: &[Traits]) -> Vec<Point> {
    let live: Vec<Point> = traits
        .iter()
        .filter(|feature| feature.is_live())
        .map(Traits::logarithms)
        .collect();
    let mut centre = [0.0; 3];
    let mut deviation = [1.0; 3];
    for axis in 0..3 {
        let values: Vec<f64> = live.iter().map(|point| point[axis]).collect();
        let n = values.len().max(1) as f64;
        centre[axis] = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|value| (value - centre[axis]).powi(2));
        let spread = (squares.sum::<f64>() / n).sqrt();
        // Equal values do not help to match, and must not divide by zero.
        deviation[axis] = if spread > 1e-9 { spread } else { 1.0 };
    }
    let standardise = |point: Point| [0, 1, 2].map(|i| (point[i] - centre[i]) / deviation[i]);
    traits
        .iter()
        .map(|feature| standardise(feature.logarithms()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn traits(rate: f64, activation: f64) -> Traits {
        Traits {
            firing_rate: rate,
            mean_activation: activation,
            decoder_norm: 1.0,
        }
    }

    #[test]
    fn a_selected_feature_is_replaced_by_its_nearest_neighbour() {
        let features = [
            traits(0.5, 1.0),
            traits(0.001, 1.0),
            traits(0.45, 1.0),
            traits(0.0011, 1.0),
        ];
        let matched = matched_sets(&[0, 1], &features, 1, 7);
        assert_eq!(matched.sets, [[2, 3]]);
        assert!(matched.distance < 1.0);
    }

    #[test]
    fn dead_features_are_never_dealt_and_too_few_make_fewer_sets() {
        let features = [
            traits(0.5, 1.0),
            traits(0.0, 0.0),
            traits(0.3, 1.0),
            traits(0.2, 1.0),
        ];
        let matched = matched_sets(&[0], &features, 16, 0);
        assert_eq!(matched.sets.len(), 2);
        assert!(matched.sets.iter().all(|set| set[0] != 1));
    }

    proptest! {
        #[test]
        fn sets_are_disjoint_from_each_other_and_from_the_selection(seed in 0_u64..1000, n_sets in 0_usize..6) {
            let features: Vec<Traits> = (1..40).map(|k| traits(f64::from(k) / 40.0, f64::from(k % 7 + 1))).collect();
            let selected = [3, 17, 20];
            let matched = matched_sets(&selected, &features, n_sets, seed);
            prop_assert_eq!(matched.sets.len(), n_sets);
            let dealt: Vec<u32> = matched.sets.concat();
            let distinct: BTreeSet<u32> = dealt.iter().chain(&selected).copied().collect();
            prop_assert_eq!(distinct.len(), dealt.len() + selected.len());
            prop_assert_eq!(&matched, &matched_sets(&selected, &features, n_sets, seed));
        }
    }
}
