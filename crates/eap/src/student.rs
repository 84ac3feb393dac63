//! Student's t: the paired test of many edges at once, where permutations could not tell small p-values apart.

/// Two-sided p-value of paired differences against a mean of 0. 1 when they are all 0; with fewer than two, or all equal and
/// not 0, there is no spread to test against: 1 and 0.
pub fn paired_p(differences: &[f64]) -> f64 {
    let n = differences.len() as f64;
    let mean = stats::mean(differences);
    if mean == 0.0 || differences.len() < 2 {
        return 1.0;
    }
    let error = (stats::variance(differences) / n).sqrt();
    if error <= 0.0 {
        return 0.0;
    }
    two_sided(mean / error, n - 1.0)
}

/// P(|T| ≥ |t|) with `df` degrees of freedom: `I_x(df/2`, ½) at x = df/(df + t²).
pub fn two_sided(t: f64, df: f64) -> f64 {
    incomplete_beta(df / (df + t * t), 0.5 * df, 0.5)
}

/// Regularised incomplete beta function by its continued fraction (Abramowitz and Stegun 26.5.8).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on one side of the mean; the other side is its mirror image.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front =
        (a * x.ln() + b * (1.0 - x).ln() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp() / a;
    front / fraction(x, a, b)
}

/// 1 + d₁x/(1 + d₂x/(1 + …)), from the innermost term out.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TERMS: u32 = 200;
    let mut value = 1.0;
    for term in (1..=TERMS).rev() {
        let m = f64::from(term / 2);
        let d = if term.is_multiple_of(2) {
            m * (b - m) / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        value = 1.0 + d * x / value;
    }
    value
}

/// ln Γ(x) for x > 0: Stirling's series after stepping up to where it is exact.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 12.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    let series = (1.0 / 12.0 - r * (1.0 / 360.0 - r * (1.0 / 1260.0 - r / 1680.0))) / x;
    shift + (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_the_tables() {
        // 97.5 % points of t: 12.706 (1), 2.2281 (10), 1.9842 (99).
        for (t, df) in [
            (12.706_204_736, 1.0),
            (2.228_138_852, 10.0),
            (1.984_216_952, 99.0),
        ] {
            assert!((two_sided(t, df) - 0.05).abs() < 1e-8, "{df}");
        }
        assert!((two_sided(1.0, 1.0) - 0.5).abs() < 1e-12);
        assert!((two_sided(0.0, 7.0) - 1.0).abs() < 1e-12);
        // Tails far out keep their digits: t = 20 with 9 degrees (R: 2 * pt(-20, 9)).
        assert!((two_sided(20.0, 9.0) / 8.906_829e-9 - 1.0).abs() < 2e-2);
    }

    #[test]
    fn no_difference_is_no_evidence() {
        assert_eq!(paired_p(&[0.0; 8]), 1.0);
        assert_eq!(paired_p(&[3.0]), 1.0);
        assert_eq!(paired_p(&[1.0; 5]), 0.0);
        // mean 2, variance 2.5, n 5: t = 2/√0.5 = 2.828, p = 0.04742 with 4 degrees.
        let p = paired_p(&[0.0, 1.0, 2.0, 3.0, 4.0]);
        assert!((p - 0.047_42).abs() < 1e-4, "{p}");
    }
}
