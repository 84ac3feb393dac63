//! How evenly something is spread, and how much two sets share.

use std::collections::BTreeSet;

/// Entropy −Σ p ln p in nats of the shares that non-negative weights make of their sum: 0 when one holds everything, ln n
/// when n hold the same. NaN when they sum to nothing.
pub fn entropy_nats(weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    if total <= 0.0 {
        return f64::NAN;
    }
    let shares = weights
        .iter()
        .map(|weight| weight / total)
        .filter(|share| *share > 0.0);
    // The sum of nothing but zeros is −0.
    shares
        .map(|share| -share * share.ln())
        .sum::<f64>()
        .max(0.0)
}

/// Gini coefficient of non-negative values, Σ(2i−n−1)x₍ᵢ₎ / (n Σx): 0 when all are equal, near 1 when one holds everything.
/// NaN when they sum to nothing.
pub fn gini(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let total: f64 = sorted.iter().sum();
    if total <= 0.0 {
        return f64::NAN;
    }
    let n = sorted.len() as f64;
    let weighted: f64 = sorted
        .iter()
        .zip(1..)
        .map(|(x, i)| (2.0 * f64::from(i) - n - 1.0) * x)
        .sum();
    weighted / (n * total)
}

/// |A ∩ B| / |A ∪ B| of two lists taken as sets, 0 to 1; 1 when both are empty.
pub fn jaccard<T: Ord>(a: &[T], b: &[T]) -> f64 {
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (a.iter().collect(), b.iter().collect());
    let shared = a.intersection(&b).count();
    let all = a.len() + b.len() - shared;
    if all == 0 {
        1.0
    } else {
        shared as f64 / all as f64
    }
}

/// |A ∩ B| of two lists taken as sets.
pub fn overlap<T: Ord>(a: &[T], b: &[T]) -> usize {
    let a: BTreeSet<_> = a.iter().collect();
    b.iter().collect::<BTreeSet<_>>().intersection(&a).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }

    #[test]
    fn entropy_runs_from_one_holder_to_all_alike() {
        check(entropy_nats(&[0.0, 3.0, 0.0]), 0.0);
        check(entropy_nats(&[2.0; 4]), 4_f64.ln());
        check(
            entropy_nats(&[0.25, 0.75]),
            0.25 * 4_f64.ln() + 0.75 * (4.0_f64 / 3.0).ln(),
        );
        assert!(entropy_nats(&[0.0]).is_nan() && entropy_nats(&[]).is_nan());
    }

    #[test]
    fn gini_runs_from_all_alike_to_one_holder() {
        check(gini(&[1.0; 5]), 0.0);
        check(gini(&[0.0, 0.0, 0.0, 1.0]), 0.75);
        // (−1·1 + 1·3) / (2·4)
        check(gini(&[3.0, 1.0]), 0.25);
        assert!(gini(&[0.0, 0.0]).is_nan());
    }

    #[test]
    fn lists_are_compared_as_sets() {
        check(jaccard(&[1, 2, 3, 3], &[3, 2, 5]), 0.5);
        check(jaccard::<u32>(&[], &[]), 1.0);
        assert_eq!(overlap(&[1, 2, 3, 3], &[3, 2, 5]), 2);
    }

    proptest! {
        #[test]
        fn scale_and_order_do_not_matter(values in prop::collection::vec(0.1..10.0, 1..30), scale in 0.1..9.0) {
            let mut other: Vec<f64> = values.iter().map(|value: &f64| value * scale).collect();
            other.reverse();
            prop_assert!((gini(&values) - gini(&other)).abs() < 1e-9);
            prop_assert!((entropy_nats(&values) - entropy_nats(&other)).abs() < 1e-9);
            prop_assert!((-1e-12..1.0).contains(&gini(&values)));
        }
    }
}
