//! The normal distribution.

use std::f64::consts::TAU;

/// The 97.5 % quantile of the normal distribution: half the width of a 95 % interval in standard errors.
pub const Z95: f64 = 1.959_963_984_540_054;

/// Distribution function Φ, right to about 1e-15 (absolute): ½ + φ(x)·(x + x³/3 + x⁵/3·5 + …) (Marsaglia 2004).
pub fn cdf(x: f64) -> f64 {
    if x.abs() > 9.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while term.abs() > f64::EPSILON * sum.abs() / 4.0 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / TAU.sqrt()
}

/// Quantile Φ⁻¹ by bisection of [`cdf`], for shares between 1e-15 and 1 − 1e-15; ±9 beyond.
pub fn quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if cdf(middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn tabulated_values_are_met() {
        for (x, share) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_543),
            (-2.0, 0.022_750_131_948_179),
        ] {
            assert!((cdf(x) - share).abs() < 1e-14, "{x}");
            assert!((quantile(share) - x).abs() < 1e-12, "{x}");
        }
        assert!((quantile(0.975) - Z95).abs() < 1e-13);
        assert!(cdf(-40.0) == 0.0 && cdf(40.0) == 1.0);
    }
}
