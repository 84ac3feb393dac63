//! Proportions: Wilson's interval, the exact McNemar test, pass@k.

use std::f64::consts::LN_2;

use crate::Estimate;
use crate::normal::Z95;

/// A proportion with Wilson's score interval (Wilson 1927), the ends of which never leave 0 to 1:
/// (p̂ + z²/2n ± z·√(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n). Of no trials at all the value is NaN and the interval 0 to 1.
pub fn wilson(successes: u64, n: u64) -> Estimate {
    assert!(successes <= n, "{successes} successes in {n} trials");
    if n == 0 {
        return Estimate {
            value: f64::NAN,
            low: 0.0,
            high: 1.0,
        };
    }
    let trials = n as f64;
    let value = successes as f64 / trials;
    let centre = value + Z95 * Z95 / (2.0 * trials);
    let spread =
        Z95 * (value * (1.0 - value) / trials + Z95 * Z95 / (4.0 * trials * trials)).sqrt();
    let scale = 1.0 + Z95 * Z95 / trials;
    // At 0 and n successes the ends are 0 and 1 exactly; rounding must not move them past the value.
    let low = if successes == 0 {
        0.0
    } else {
        (centre - spread) / scale
    };
    let high = if successes == n {
        1.0
    } else {
        (centre + spread) / scale
    };
    Estimate { value, low, high }
}

/// Exact two-sided McNemar test on discordant pairs: twice the smaller binomial tail at ½, at most 1 (McNemar 1947; the
/// exact form is the sign test). 1 when no pair is discordant.
pub fn mcnemar_exact(wrong_to_right: u64, right_to_wrong: u64) -> f64 {
    let n = wrong_to_right + right_to_wrong;
    let fewer = wrong_to_right.min(right_to_wrong);
    // ln of C(n, k)/2ⁿ, term by term: 2⁻ⁿ itself underflows beyond a thousand pairs.
    let mut term = -(n as f64) * LN_2;
    let mut tail = term.exp();
    for k in 1..=fewer {
        term += ((n - k + 1) as f64 / k as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// Chance that at least one of `k` answers drawn without replacement from `n` is right, `c` of them being right:
/// 1 − C(n−c, k)/C(n, k) (arXiv 2107.03374). NaN when k > n.
pub fn pass_at_k(n: u64, c: u64, k: u64) -> f64 {
    if k > n || c > n {
        return f64::NAN;
    }
    if n - c < k {
        return 1.0;
    }
    let all_wrong: f64 = (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    1.0 - all_wrong
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
    }

    #[test]
    fn wilson_of_one_in_ten_is_the_published_interval() {
        // Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
        let estimate = wilson(81, 263);
        assert!((estimate.low - 0.2553).abs() < 5e-5 && (estimate.high - 0.3662).abs() < 5e-5);
        let none = wilson(0, 20);
        assert!(none.low == 0.0 && (none.high - 0.1611).abs() < 5e-5);
        assert!(wilson(20, 20).high == 1.0);
    }

    #[test]
    fn no_trials_say_nothing() {
        let estimate = wilson(0, 0);
        assert!(estimate.value.is_nan() && estimate.low == 0.0 && estimate.high == 1.0);
    }

    #[test]
    fn mcnemar_is_twice_a_binomial_tail() {
        check(mcnemar_exact(5, 15), 0.041_389_465_332_031_25);
        check(mcnemar_exact(0, 3), 0.25);
        check(mcnemar_exact(2, 2), 1.0);
        check(mcnemar_exact(0, 0), 1.0);
    }

    #[test]
    fn mcnemar_holds_where_powers_of_two_underflow() {
        assert!(mcnemar_exact(0, 5000) == 0.0);
        // The normal approximation with continuity correction is good to 1 % here: z = 49/√10000... = 0.98.
        check((mcnemar_exact(5049, 4951) - 0.3320).abs().max(1e-3), 1e-3);
    }

    #[test]
    fn pass_at_k_counts_the_draws() {
        check(pass_at_k(4, 1, 1), 0.25);
        // Of the 6 pairs from 4 answers, 3 hold the right one.
        check(pass_at_k(4, 1, 2), 0.5);
        check(pass_at_k(4, 3, 2), 1.0);
        check(pass_at_k(4, 0, 4), 0.0);
        assert!(pass_at_k(2, 1, 3).is_nan());
    }

    proptest! {
        #[test]
        fn wilson_holds_its_value_and_stays_within_bounds(n in 1_u64..5000, share in 0.0..=1.0) {
            let estimate = wilson((n as f64 * share) as u64, n);
            prop_assert!(0.0 <= estimate.low && estimate.low <= estimate.value);
            prop_assert!(estimate.value <= estimate.high && estimate.high <= 1.0);
        }

        #[test]
        fn mcnemar_is_symmetric_and_a_probability(a in 0_u64..400, b in 0_u64..400) {
            let p = mcnemar_exact(a, b);
            prop_assert!((0.0..=1.0).contains(&p) && p == mcnemar_exact(b, a));
        }
    }
}
