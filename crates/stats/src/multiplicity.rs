//! Many tests at once: adjusted p-values, in the order they were given.

/// Holm's step-down adjustment (Holm 1979): the p-value of rank i of m, times m−i+1, made monotone, at most 1. Holds the
/// chance of any false rejection.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut largest: f64 = 0.0;
    adjust(p, ascending(p), |rank, p, m| {
        largest = largest.max(p * (m - rank) as f64).min(1.0);
        largest
    })
}

/// Benjamini and Hochberg's step-up adjustment (1995): the p-value of rank i of m, times m/i, made monotone from above, at
/// most 1. Holds the expected share of false rejections; the result is called q.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut smallest: f64 = 1.0;
    let mut order = ascending(p);
    order.reverse();
    adjust(p, order, |rank, p, m| {
        smallest = smallest.min(p * m as f64 / (m - rank) as f64);
        smallest
    })
}

/// The indices of the p-values from the smallest up; equal ones stay in order.
fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    order
}

/// Adjusts the p-values one after the other: `next` is given the step from 0, the p-value, and how many there are.
fn adjust(
    p: &[f64],
    order: Vec<usize>,
    mut next: impl FnMut(usize, f64, usize) -> f64,
) -> Vec<f64> {
    let mut adjusted = vec![0.0; p.len()];
    for (step, index) in order.into_iter().enumerate() {
        adjusted[index] = next(step, p[index], p.len());
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(found: &[f64], expected: &[f64]) {
        let near = found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(
            near && found.len() == expected.len(),
            "{found:?} for {expected:?}"
        );
    }

    const P: [f64; 4] = [0.01, 0.04, 0.03, 0.005];

    #[test]
    fn four_tests_worked_out_by_hand() {
        // Ascending .005 .01 .03 .04; Holm ×4 ×3 ×2 ×1 = .02 .03 .06 .04 → .06; BH ×4 ×2 ×4/3 ×1 = .02 .02 .04 .04.
        check(&holm(&P), &[0.03, 0.06, 0.06, 0.02]);
        check(&benjamini_hochberg(&P), &[0.02, 0.04, 0.04, 0.02]);
    }

    #[test]
    fn one_test_needs_no_adjustment_and_none_gives_none() {
        check(&holm(&[0.3]), &[0.3]);
        check(&benjamini_hochberg(&[0.3]), &[0.3]);
        check(&holm(&[]), &[]);
    }

    #[test]
    fn nothing_exceeds_one() {
        check(&holm(&[0.9, 0.8]), &[1.0, 1.0]);
        check(&benjamini_hochberg(&[0.9, 0.8]), &[0.9, 0.9]);
    }

    proptest! {
        #[test]
        fn adjusting_keeps_the_order_and_holm_is_the_stricter(p in prop::collection::vec(0.0..=1.0, 1..30)) {
            let (strict, mild) = (holm(&p), benjamini_hochberg(&p));
            for i in 0..p.len() {
                prop_assert!(p[i] <= mild[i] + 1e-12 && mild[i] <= strict[i] + 1e-12 && strict[i] <= 1.0);
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || (strict[i] <= strict[j] && mild[i] <= mild[j]));
                }
            }
        }
    }
}
