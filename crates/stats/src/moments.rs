//! Mean, variance, standard errors, kurtosis, quantiles.

/// Arithmetic mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Unbiased sample variance Σ(x−x̄)² / (n−1); NaN of fewer than two values.
pub fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return f64::NAN;
    }
    sum_of_powers(values, 2) / (values.len() - 1) as f64
}

/// Standard error of the mean √(s²/n); NaN of fewer than two values.
pub fn standard_error(values: &[f64]) -> f64 {
    (variance(values) / values.len() as f64).sqrt()
}

/// Standard error of the mean of values that come in clusters, such as repeated answers to one question:
/// `√(Σ_c (Σ_{i∈c} (x_i − x̄))²) / n` (arXiv 2411.00640, eq. 4). NaN of nothing.
///
/// A cluster lists the indices of its values. Clusters of one give the standard error with divisor n in place of n−1.
pub fn standard_error_clustered(values: &[f64], clusters: &[Vec<usize>]) -> f64 {
    let centre = mean(values);
    let deviation = |cluster: &Vec<usize>| cluster.iter().map(|i| values[*i] - centre).sum::<f64>();
    let squares: f64 = clusters
        .iter()
        .map(|cluster| deviation(cluster).powi(2))
        .sum();
    squares.sqrt() / values.len() as f64
}

/// Excess kurtosis m₄/m₂² − 3 with moments of divisor n: 0 for a normal distribution, never below −2. NaN of nothing and of
/// equal values.
pub fn kurtosis_excess(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let second = sum_of_powers(values, 2) / n;
    let fourth = sum_of_powers(values, 4) / n;
    fourth / (second * second) - 3.0
}

/// Quantile at `share` (0 to 1), interpolated linearly between order statistics (type 7 of Hyndman and Fan 1996, the default
/// of R and `NumPy`). NaN of nothing.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile_of_sorted(&sorted, share)
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// [`quantile`] of values already in ascending order.
pub(crate) fn quantile_of_sorted(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

/// Σ(x−x̄)^power.
fn sum_of_powers(values: &[f64], power: i32) -> f64 {
    let centre = mean(values);
    values
        .iter()
        .map(|value| (value - centre).powi(power))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALUES: [f64; 4] = [1.0, 2.0, 3.0, 6.0];

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }

    #[test]
    fn moments_of_four_numbers_are_those_worked_out_by_hand() {
        check(mean(&VALUES), 3.0);
        check(variance(&VALUES), 14.0 / 3.0);
        check(standard_error(&VALUES), (14.0_f64 / 12.0).sqrt());
        // m2 = 14/4, m4 = (16 + 1 + 0 + 81)/4
        check(kurtosis_excess(&VALUES), 24.5 / 12.25 - 3.0);
        check(kurtosis_excess(&[-1.0, 1.0]), -2.0);
    }

    #[test]
    fn quantiles_interpolate_between_order_statistics() {
        check(median(&[3.0, 1.0, 2.0]), 2.0);
        check(median(&VALUES), 2.5);
        check(quantile(&VALUES, 0.25), 1.75);
        check(quantile(&VALUES, 0.0), 1.0);
        check(quantile(&VALUES, 1.0), 6.0);
        check(quantile(&[7.0], 0.3), 7.0);
    }

    #[test]
    fn what_is_not_defined_is_nan() {
        let undefined = [
            mean(&[]),
            variance(&[1.0]),
            median(&[]),
            kurtosis_excess(&[2.0, 2.0]),
        ];
        assert!(
            undefined.iter().all(|value| value.is_nan()),
            "{undefined:?}"
        );
    }

    #[test]
    fn repeated_values_in_a_cluster_add_no_precision() {
        // Deviations −2 −1 0 3; clusters {0,1} and {2,3}: √(9 + 9)/4.
        check(
            standard_error_clustered(&VALUES, &[vec![0, 1], vec![2, 3]]),
            18_f64.sqrt() / 4.0,
        );
        let twice: Vec<f64> = VALUES.iter().flat_map(|value| [*value; 2]).collect();
        let pairs: Vec<Vec<usize>> = (0..4).map(|i| vec![2 * i, 2 * i + 1]).collect();
        let alone: Vec<Vec<usize>> = (0..4).map(|i| vec![i]).collect();
        check(
            standard_error_clustered(&twice, &pairs),
            standard_error_clustered(&VALUES, &alone),
        );
    }

    proptest! {
        #[test]
        fn a_shift_moves_places_and_leaves_spreads(values in prop::collection::vec(-10.0..10.0, 2..40), shift in -5.0..5.0_f64) {
            let moved: Vec<f64> = values.iter().map(|value: &f64| value + shift).collect();
            prop_assert!((mean(&moved) - mean(&values) - shift).abs() < 1e-9);
            prop_assert!((median(&moved) - median(&values) - shift).abs() < 1e-9);
            prop_assert!((variance(&moved) - variance(&values)).abs() < 1e-9);
        }

        #[test]
        fn quantiles_grow_with_their_share(values in prop::collection::vec(-10.0..10.0, 1..40), a in 0.0..1.0, b in 0.0..1.0) {
            prop_assert!(quantile(&values, f64::min(a, b)) <= quantile(&values, f64::max(a, b)) + 1e-12);
        }
    }
}
