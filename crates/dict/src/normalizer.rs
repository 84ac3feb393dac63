//! Per-model normalisation: every model's activations are brought to mean 0 and one common total size.

use serde::{Deserialize, Serialize};

/// Added to the total variance, as the standard format does, so that a constant activation does not divide by zero.
const EPSILON: f64 = 1e-8;

/// Affine map between a model's own units and the crosscoder's: `x ↦ (x − mean) · scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalizer {
    /// Mean activation `[d_model]`, in the model's units.
    pub mean: Vec<f32>,
    /// Standard deviation of each coordinate `[d_model]`, in the model's units; what `scale` was computed from.
    pub std: Vec<f32>,
    /// Factor on the centred activation: `target / √Σ_j std_j²`.
    pub scale: f32,
}

impl Normalizer {
    /// The map that changes nothing.
    pub fn identity(d_model: usize) -> Self {
        Self {
            mean: vec![0.0; d_model],
            std: vec![1.0; d_model],
            scale: 1.0,
        }
    }

    /// From mean and standard deviation `[d_model]`; afterwards √(total variance) is `target`.
    pub fn new(mean: Vec<f32>, std: Vec<f32>, target: f32) -> Self {
        let total: f64 = std.iter().map(|&value| f64::from(value).powi(2)).sum();
        Self {
            mean,
            std,
            scale: (f64::from(target) / (total + EPSILON).sqrt()) as f32,
        }
    }

    /// Model units to crosscoder units, one row `[d_model]`.
    pub fn apply(&self, row: &[f32], out: &mut [f32]) {
        for ((out, value), mean) in out.iter_mut().zip(row).zip(&self.mean) {
            *out = (value - mean) * self.scale;
        }
    }

    /// Crosscoder units to model units, one row `[d_model]` in place.
    pub fn undo(&self, row: &mut [f32]) {
        let inverse = 1.0 / self.scale;
        for (value, mean) in row.iter_mut().zip(&self.mean) {
            *value = *value * inverse + mean;
        }
    }
}

/// Running mean and variance of each coordinate, for activations that arrive in pieces.
#[derive(Debug, Clone)]
pub struct Moments {
    n_rows: u64,
    /// First row seen: sums are taken around it, so that a large common offset costs no digits.
    origin: Vec<f32>,
    sum: Vec<f64>,
    sum_of_squares: Vec<f64>,
}

impl Moments {
    /// Of nothing yet.
    pub fn new(d_model: usize) -> Self {
        Self {
            n_rows: 0,
            origin: vec![0.0; d_model],
            sum: vec![0.0; d_model],
            sum_of_squares: vec![0.0; d_model],
        }
    }

    /// Adds rows `[n_rows, d_model]`.
    pub fn add(&mut self, rows: &[f32]) {
        let d_model = self.origin.len();
        for row in rows.chunks_exact(d_model) {
            if self.n_rows == 0 {
                self.origin.copy_from_slice(row);
            }
            self.n_rows += 1;
            let sums = self.sum.iter_mut().zip(&mut self.sum_of_squares);
            for ((value, origin), (sum, square)) in row.iter().zip(&self.origin).zip(sums) {
                let value = f64::from(value - origin);
                *sum += value;
                *square += value * value;
            }
        }
    }

    /// Mean of each coordinate `[d_model]`.
    pub fn mean(&self) -> Vec<f64> {
        let n = self.n_rows.max(1) as f64;
        self.origin
            .iter()
            .zip(&self.sum)
            .map(|(&origin, sum)| f64::from(origin) + sum / n)
            .collect()
    }

    /// Variance of each coordinate `[d_model]`, over n.
    pub fn variance(&self) -> Vec<f64> {
        let n = self.n_rows.max(1) as f64;
        let pairs = self.sum.iter().zip(&self.sum_of_squares);
        pairs
            .map(|(sum, square)| (square / n - (sum / n).powi(2)).max(0.0))
            .collect()
    }

    /// The normaliser that brings these rows to mean 0 and √(total variance) `target`.
    pub fn normalizer(&self, target: f32) -> Normalizer {
        let mean = self.mean().iter().map(|&value| value as f32).collect();
        let std = self
            .variance()
            .iter()
            .map(|value| value.sqrt() as f32)
            .collect();
        Normalizer::new(mean, std, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_to_mean_zero_and_total_variance_one() {
        let rows = [1001.0, 5.0, 1003.0, 9.0, 1002.0, 1.0];
        let mut moments = Moments::new(2);
        moments.add(&rows);
        let normalizer = moments.normalizer(1.0);
        let mut total = 0.0;
        for row in rows.chunks(2) {
            let mut out = [0.0; 2];
            normalizer.apply(row, &mut out);
            total += out.iter().map(|value| value * value).sum::<f32>() / 3.0;
            normalizer.undo(&mut out);
            assert!((out[0] - row[0]).abs() < 1e-3 && (out[1] - row[1]).abs() < 1e-5);
        }
        assert!((total - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_constant_activation_does_not_divide_by_zero() {
        let mut moments = Moments::new(1);
        moments.add(&[2.0, 2.0]);
        assert!(moments.normalizer(1.0).scale.is_finite());
    }
}
