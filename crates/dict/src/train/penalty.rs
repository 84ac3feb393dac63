//! Sparsity penalties: what they cost, and their gradient by activations and by the norms that weigh them.
//!
//! ```text
//! L_s = λ/n_rows · Σ over entries of c_k·φ(v),  v = f·w_k,  φ(v) = v or tanh(c·v)
//! ∂L_s/∂f = λ/n_rows · c_k·φ′(v)·w_k            ∂L_s/∂w_k = λ/n_rows · Σ over the entries of k of c_k·φ′(v)·f
//! ```

use super::part::Part;
use super::settings::Penalty;

/// A penalty at one step.
#[derive(Clone, Copy)]
pub(super) struct Charge<'a> {
    pub(super) penalty: Penalty,
    /// λ / `n_rows`.
    pub(super) share: f32,
    /// `c_k`: factor of each feature `[n_features]`.
    pub(super) factors: &'a [f32],
    /// Rank weights `[n_features]`.
    pub(super) weights: &'a [f32],
}

impl Charge<'_> {
    /// Adds the penalty's gradient to that of every entry; returns its value, and ∂L/∂w of each feature.
    pub(super) fn apply(&self, part: &mut Part) -> (f64, Vec<f32>) {
        let mut by_weight = vec![0.0; self.weights.len()];
        let mut value = 0.0;
        let entries = part.codes.features.iter().zip(&part.codes.activations);
        for ((&feature, &activation), through) in entries.zip(&mut part.through) {
            let (factor, weight) = (
                self.share * self.factors[feature as usize],
                self.weights[feature as usize],
            );
            let (cost, slope) = self.penalty.of(activation * weight);
            value += f64::from(factor * cost);
            *through += factor * slope * weight;
            by_weight[feature as usize] += factor * slope * activation;
        }
        (value, by_weight)
    }
}

impl Penalty {
    /// φ(v) and φ′(v).
    fn of(self, value: f32) -> (f32, f32) {
        match self {
            Self::Linear => (value, 1.0),
            Self::Tanh { scale } => {
                let cost = (scale * value).tanh();
                (cost, scale * (1.0 - cost * cost))
            }
        }
    }
}

/// The penalty of `jumprelu`: `λ(L0/k − 1)²`, and what the thresholds get from it and from the reconstruction.
///
/// ```text
/// ∂L/∂θ_k = −Σ over the entries of k with |v − θ_k| < ε/2 of (θ_k/w_k · ∂L/∂f + λ · 2(L0/k − 1)/(k·n_rows)) / ε
/// ```
#[derive(Clone, Copy)]
pub(super) struct Jump<'a> {
    /// Features wanted per row.
    pub(super) k: usize,
    /// λ.
    pub(super) sparsity: f32,
    /// ε.
    pub(super) bandwidth: f32,
    /// θ `[n_features]`.
    pub(super) thresholds: &'a [f32],
    /// Rank weights `[n_features]`.
    pub(super) weights: &'a [f32],
}

impl Jump<'_> {
    /// The penalty's value, and ∂L/∂θ. `values` are the rank values of the entries, also of those below their threshold.
    pub(super) fn apply(&self, part: &Part, values: &[f32]) -> (f64, Vec<f32>) {
        let n_rows = part.codes.n_rows() as f64;
        let active = part
            .codes
            .activations
            .iter()
            .filter(|&&value| value > 0.0)
            .count() as f64;
        let excess = active / n_rows / self.k as f64 - 1.0;
        let slope = (f64::from(self.sparsity) * 2.0 * excess / (self.k as f64 * n_rows)) as f32;
        let mut gradient = vec![0.0; self.thresholds.len()];
        let entries = part.codes.features.iter().zip(values).zip(&part.through);
        for ((&feature, &value), &through) in entries {
            let feature = feature as usize;
            let (threshold, weight) = (self.thresholds[feature], self.weights[feature]);
            if (value - threshold).abs() < self.bandwidth / 2.0 && weight > 0.0 {
                gradient[feature] -= (threshold / weight * through + slope) / self.bandwidth;
            }
        }
        (f64::from(self.sparsity) * excess * excess, gradient)
    }
}
