//! Slopes from losses at a few steps to either side.

use model::DType;

/// Shares of ΔO that are added, largest first; each is half of the one before. What rounding allows: losses in f64 take
/// steps an eighth as long as those in f32, within which models that bend sharply are still straight.
pub fn steps(dtype: DType) -> [f64; 4] {
    let largest = if dtype == DType::F64 { 0.02 } else { 0.16 };
    [1.0, 0.5, 0.25, 0.125].map(|share| share * largest)
}

/// The slope at 0 of losses at `+steps[0], −steps[0], +steps[1], …`: two steps of Richardson's extrapolation from central
/// differences, at the pair of steps that agree best.
pub fn extrapolated(losses: &[f64], steps: [f64; 4]) -> f64 {
    let central: Vec<f64> = losses
        .chunks(2)
        .zip(steps)
        .map(|(pair, step)| (pair[0] - pair[1]) / (2.0 * step))
        .collect();
    let best = central
        .windows(2)
        .min_by(|a, b| (a[0] - a[1]).abs().total_cmp(&(b[0] - b[1]).abs()));
    best.map_or(0.0, |pair| (4.0 * pair[1] - pair[0]) / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cubic_has_its_exact_slope() {
        let steps = steps(DType::F32);
        let losses: Vec<f64> = steps
            .iter()
            .flat_map(|&h| [h, -h])
            .map(|x| 1.0 + 3.0 * x - 2.0 * x * x + 5.0 * x * x * x)
            .collect();
        assert!((extrapolated(&losses, steps) - 3.0).abs() < 1e-12);
    }
}
