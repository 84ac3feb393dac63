//! Resampling: the bootstrap in four forms, and the sign-flip permutation test.
//!
//! A statistic is a function of indices into data the caller holds, so that paired and structured data stay together.
//! Draws on which it is not finite (a correlation when one value was drawn n times) are left out of the interval.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::moments::{mean, quantile_of_sorted};
use crate::{Estimate, Interval, normal};

/// Shares of the draws below the lower and the upper end of a 95 % interval.
const ENDS: [f64; 2] = [0.025, 0.975];

/// Percentile bootstrap (Efron 1979) of a statistic over `n` items: the value on `0..n`, and the interval between the 2.5 %
/// and 97.5 % quantiles of its values on `draws` samples with replacement.
///
/// ```
/// let heights = [1.62, 1.71, 1.80, 1.75];
/// let mean = |items: &[usize]| items.iter().map(|i| heights[*i]).sum::<f64>() / items.len() as f64;
/// let estimate = stats::bootstrap(heights.len(), stats::DRAWS, 0, mean);
/// assert!(estimate.low < 1.72 && 1.72 < estimate.high);
/// ```
pub fn bootstrap(
    n: usize,
    draws: usize,
    seed: u64,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
) -> Estimate {
    let sorted = sorted_draws(draws, seed, |random| statistic(&resampled(n, random)));
    Estimate::new(statistic(&all(n)), percentiles(&sorted, ENDS))
}

/// Bias-corrected and accelerated bootstrap (Efron 1987): percentiles moved by the median bias z₀ of the draws and by the
/// acceleration a = Σ(θ̄−θ₍ᵢ₎)³ / 6(Σ(θ̄−θ₍ᵢ₎)²)^{3/2} of the jackknife values θ₍ᵢ₎. Calls the statistic `draws + n + 1` times.
pub fn bootstrap_bca(
    n: usize,
    draws: usize,
    seed: u64,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
) -> Estimate {
    let value = statistic(&all(n));
    let sorted = sorted_draws(draws, seed, |random| statistic(&resampled(n, random)));
    let bias = median_bias(&sorted, value);
    let acceleration = acceleration(&jackknife(n, &statistic));
    let moved = ENDS.map(|share| {
        let z = bias + normal::quantile(share);
        normal::cdf(bias + z / (1.0 - acceleration * z))
    });
    Estimate::new(value, percentiles(&sorted, moved))
}

/// Percentile bootstrap that draws whole clusters, such as the repeated answers to one question: the statistic sees the
/// indices of every cluster drawn, one after the other.
pub fn bootstrap_clusters(
    clusters: &[Vec<usize>],
    draws: usize,
    seed: u64,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
) -> Estimate {
    let gather = |drawn: &[usize]| -> Vec<usize> {
        drawn
            .iter()
            .flat_map(|cluster| &clusters[*cluster])
            .copied()
            .collect()
    };
    bootstrap(clusters.len(), draws, seed, |drawn| {
        statistic(&gather(drawn))
    })
}

/// Paired difference of means, `b − a`, with the percentile bootstrap over pairs. The slices must be equally long.
pub fn bootstrap_difference(a: &[f64], b: &[f64], draws: usize, seed: u64) -> Estimate {
    assert_eq!(a.len(), b.len(), "a paired difference is between pairs");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    bootstrap(differences.len(), draws, seed, |pairs| {
        pairs.iter().map(|pair| differences[*pair]).sum::<f64>() / pairs.len() as f64
    })
}

/// One-sided sign-flip test that the mean of paired differences is above 0 (Fisher 1935): the share of `draws` random sign
/// assignments with a sum at least as large, the observed one counted among them, so never 0. NaN of nothing.
pub fn permutation_sign(differences: &[f64], draws: usize, seed: u64) -> f64 {
    if differences.is_empty() {
        return f64::NAN;
    }
    let observed: f64 = differences.iter().sum();
    // The same numbers added with other signs may round below the observed sum.
    let slack = 1e-12
        * differences
            .iter()
            .map(|difference| difference.abs())
            .sum::<f64>();
    let flipped = parallel_draws(draws, seed, |random| flipped_sum(differences, random));
    let as_large = flipped
        .iter()
        .filter(|sum| **sum >= observed - slack)
        .count();
    (as_large + 1) as f64 / (draws + 1) as f64
}

fn flipped_sum(differences: &[f64], random: &mut impl Rng) -> f64 {
    let mut sum = 0.0;
    for chunk in differences.chunks(64) {
        let signs: u64 = random.random();
        for (bit, difference) in chunk.iter().enumerate() {
            sum += if signs >> bit & 1 == 1 {
                *difference
            } else {
                -difference
            };
        }
    }
    sum
}

fn all(n: usize) -> Vec<usize> {
    (0..n).collect()
}

/// `n` of `n` indices, with replacement.
fn resampled(n: usize, random: &mut impl Rng) -> Vec<usize> {
    (0..n).map(|_| random.random_range(0..n)).collect()
}

/// What `draw` makes of each draw's own stream of random numbers, in the order of the draws.
fn parallel_draws(
    draws: usize,
    seed: u64,
    draw: impl Fn(&mut ChaCha8Rng) -> f64 + Sync,
) -> Vec<f64> {
    let one = |index| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(index as u64);
        draw(&mut random)
    };
    (0..draws).into_par_iter().map(one).collect()
}

/// The finite draws, ascending.
fn sorted_draws(draws: usize, seed: u64, draw: impl Fn(&mut ChaCha8Rng) -> f64 + Sync) -> Vec<f64> {
    let mut values = parallel_draws(draws, seed, draw);
    values.retain(|value| value.is_finite());
    values.sort_unstable_by(f64::total_cmp);
    values
}

fn percentiles(sorted: &[f64], shares: [f64; 2]) -> Interval {
    let [low, high] = shares.map(|share| quantile_of_sorted(sorted, share));
    Interval { low, high }
}

/// Φ⁻¹ of the share of draws below the value, equal ones counted half, kept off 0 and 1.
fn median_bias(sorted: &[f64], value: f64) -> f64 {
    let below = sorted.partition_point(|draw| *draw < value);
    let upto = sorted.partition_point(|draw| *draw <= value);
    let n = sorted.len() as f64;
    let share = (below + upto) as f64 / (2.0 * n);
    normal::quantile(share.min(1.0 - 0.5 / n).max(0.5 / n))
}

/// The statistic without each item in turn.
fn jackknife(n: usize, statistic: &(impl Fn(&[usize]) -> f64 + Sync)) -> Vec<f64> {
    let without = |left_out| {
        let rest: Vec<usize> = (0..n).filter(|item| *item != left_out).collect();
        statistic(&rest)
    };
    (0..n).into_par_iter().map(without).collect()
}

/// Acceleration of the jackknife values; 0 when they are all the same or not all finite.
fn acceleration(values: &[f64]) -> f64 {
    let centre = mean(values);
    let power = |power| {
        values
            .iter()
            .map(|value| (centre - value).powi(power))
            .sum::<f64>()
    };
    let acceleration = power(3) / (6.0 * power(2).powf(1.5));
    if acceleration.is_finite() {
        acceleration
    } else {
        0.0
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SKEWED: [f64; 8] = [0.1, 0.2, 0.2, 0.3, 0.4, 0.6, 1.5, 4.0];

    fn mean_of(items: &[usize]) -> f64 {
        items.iter().map(|item| SKEWED[*item]).sum::<f64>() / items.len() as f64
    }

    #[test]
    fn the_percentile_interval_of_a_coin_is_that_of_the_binomial() {
        // 100 tosses, 50 heads: the draws are binomial with deviation 0.05.
        let heads =
            |items: &[usize]| items.iter().filter(|item| **item < 50).count() as f64 / 100.0;
        let estimate = bootstrap(100, 4000, 1, heads);
        assert!((estimate.value - 0.5).abs() < 1e-12);
        assert!((estimate.low - 0.402).abs() < 0.011 && (estimate.high - 0.598).abs() < 0.011);
    }

    #[test]
    fn bca_leans_to_the_long_tail() {
        let (plain, moved) = (
            bootstrap(8, 4000, 0, mean_of),
            bootstrap_bca(8, 4000, 0, mean_of),
        );
        assert!((plain.value - moved.value).abs() < 1e-15);
        assert!(
            moved.low > plain.low && moved.high > plain.high,
            "{plain:?} {moved:?}"
        );
    }

    #[test]
    fn acceleration_is_that_worked_out_by_hand() {
        // Jackknife values 0 0 3: deviations from the mean 1 1 −2, cubes −6, squares 6.
        assert!((acceleration(&[0.0, 0.0, 3.0]) + 6.0 / (6.0 * 6_f64.powf(1.5))).abs() < 1e-12);
        assert!(acceleration(&[1.0, 1.0]) == 0.0 && acceleration(&[f64::NAN]) == 0.0);
    }

    #[test]
    fn the_bias_of_symmetric_draws_is_nothing() {
        assert!(median_bias(&[1.0, 2.0, 2.0, 3.0], 2.0).abs() < 1e-12);
        assert!(median_bias(&[1.0, 2.0, 3.0], 9.0).is_finite());
    }

    #[test]
    fn clusters_widen_the_interval() {
        let value = |items: &[usize]| {
            items.iter().map(|i| (*i / 5) as f64).sum::<f64>() / items.len() as f64
        };
        let clusters: Vec<Vec<usize>> = (0..8).map(|c| (5 * c..5 * c + 5).collect()).collect();
        let alone: Vec<Vec<usize>> = (0..40).map(|i| vec![i]).collect();
        let width = |clusters: &[Vec<usize>]| {
            let estimate = bootstrap_clusters(clusters, 2000, 3, value);
            assert!((estimate.value - 3.5).abs() < 1e-12);
            estimate.high - estimate.low
        };
        let ratio = width(&clusters) / width(&alone);
        assert!((ratio - 5_f64.sqrt()).abs() < 0.25, "{ratio}");
    }

    #[test]
    fn a_paired_difference_is_b_minus_a() {
        let a = SKEWED.map(|value| value - 1.0);
        let estimate = bootstrap_difference(&SKEWED, &a, 500, 0);
        assert!((estimate.value + 1.0).abs() < 1e-12, "{estimate:?}");
        assert!(
            (estimate.high - estimate.low).abs() < 1e-12,
            "a constant difference has no spread"
        );
    }

    #[test]
    fn sign_flips_count_as_in_the_full_enumeration() {
        // Of the 8 sign patterns of 1 2 3, only the observed one reaches 6: p = 1/8.
        assert!((permutation_sign(&[1.0, 2.0, 3.0], 20_000, 0) - 0.125).abs() < 0.01);
        assert!((permutation_sign(&[-1.0, -2.0, -3.0], 500, 0) - 1.0).abs() < 1e-12);
        assert!((permutation_sign(&[0.0; 3], 500, 0) - 1.0).abs() < 1e-12);
        assert!(permutation_sign(&[], 500, 0).is_nan());
    }

    #[test]
    fn nothing_and_a_constant_are_no_trouble() {
        assert!(bootstrap(0, 100, 0, |_| 1.0).value == 1.0);
        assert!(
            bootstrap_bca(0, 100, 0, |items| mean(&vec![1.0; items.len()]))
                .low
                .is_nan()
        );
        let constant = bootstrap_bca(5, 100, 0, |_| 2.0);
        assert!(constant.low == 2.0 && constant.high == 2.0);
        let undefined = bootstrap(5, 100, 0, |_| f64::NAN);
        assert!(undefined.low.is_nan() && undefined.high.is_nan());
    }

    #[test]
    fn a_seed_gives_the_same_bits_on_any_number_of_threads() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                (
                    bootstrap_bca(8, 999, 5, mean_of),
                    permutation_sign(&SKEWED, 999, 5),
                )
            })
        };
        assert_eq!(on(1), on(3));
        assert_ne!(bootstrap(8, 999, 5, mean_of), bootstrap(8, 999, 6, mean_of));
    }

    proptest! {
        #[test]
        fn an_interval_moves_with_the_data(shift in -5.0..5.0_f64, seed in 0_u64..50) {
            let plain = bootstrap(8, 200, seed, mean_of);
            let moved = bootstrap(8, 200, seed, |items| mean_of(items) + shift);
            prop_assert!((moved.low - plain.low - shift).abs() < 1e-6);
            prop_assert!((moved.high - plain.high - shift).abs() < 1e-6);
        }
    }
}
