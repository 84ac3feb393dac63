//! What the norms and directions of the decoder rows say about a feature (METHODS §A).
//!
//! Norms are taken in the crosscoder's normalised units, where every model's activations have the same size: a model that
//! is merely larger throughout does not own every feature. L1 norms are divided by `√d_model` where the widths differ.

use dict::Crosscoder;

/// One feature's decoder rows in a base and a tuned model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norms {
    /// ‖d^base‖₁.
    pub l1_base: f64,
    /// ‖d^tuned‖₁.
    pub l1_tuned: f64,
    /// ‖d^base‖₂.
    pub l2_base: f64,
    /// ‖d^tuned‖₂.
    pub l2_tuned: f64,
    /// Σ over all models of ‖d^m‖₁.
    pub l1_all: f64,
    /// cos(d^base, d^tuned), −1 to 1; 0 where the widths differ or a row is 0.
    pub cosine: f64,
}

impl Norms {
    /// Of one feature.
    pub fn of(dictionary: &Crosscoder, feature: usize, base: usize, tuned: usize) -> Self {
        let row = |model: usize| dictionary.row(model, feature);
        let unequal = dictionary
            .widths
            .iter()
            .any(|&width| width != dictionary.widths[0]);
        let l1 = |model: usize| {
            let sum: f64 = row(model).iter().map(|value| f64::from(value.abs())).sum();
            if unequal {
                sum / (dictionary.widths[model] as f64).sqrt()
            } else {
                sum
            }
        };
        let (l2_base, l2_tuned) = (
            dot(row(base), row(base)).sqrt(),
            dot(row(tuned), row(tuned)).sqrt(),
        );
        let comparable =
            dictionary.widths[base] == dictionary.widths[tuned] && l2_base * l2_tuned > 0.0;
        Self {
            l1_base: l1(base),
            l1_tuned: l1(tuned),
            l2_base,
            l2_tuned,
            l1_all: (0..dictionary.n_models()).map(l1).sum(),
            cosine: if comparable {
                dot(row(base), row(tuned)) / (l2_base * l2_tuned)
            } else {
                0.0
            },
        }
    }

    /// ‖tuned‖₁ / (‖base‖₁ + ‖tuned‖₁): 0 base only, 0.5 shared, 1 tuned only.
    pub fn nrn(&self) -> f64 {
        share(self.l1_tuned, self.l1_base + self.l1_tuned, 0.5)
    }

    /// ‖base‖₁ and ‖tuned‖₁ as shares of the sum over all models.
    pub fn mas(&self) -> [f64; 2] {
        [self.l1_base, self.l1_tuned].map(|norm| share(norm, self.l1_all, 0.0))
    }

    /// ½(1 + (‖tuned‖₂ − ‖base‖₂)/max): 0 base only, 0.5 shared, 1 tuned only. (Other tools print the reverse.)
    pub fn delta_norm(&self) -> f64 {
        0.5 * (1.0
            + share(
                self.l2_tuned - self.l2_base,
                self.l2_tuned.max(self.l2_base),
                0.0,
            ))
    }
}

/// Σ aᵢ·bᵢ in double precision.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// `part / whole`, or `empty` of nothing.
fn share(part: f64, whole: f64, empty: f64) -> f64 {
    if whole > 0.0 { part / whole } else { empty }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    fn norms(l1: [f64; 2], l2: [f64; 2]) -> Norms {
        Norms {
            l1_base: l1[0],
            l1_tuned: l1[1],
            l2_base: l2[0],
            l2_tuned: l2[1],
            l1_all: l1[0] + l1[1] + 2.0,
            cosine: 1.0,
        }
    }

    #[test]
    fn both_norms_point_the_same_way() {
        let tuned_only = norms([0.0, 3.0], [0.0, 2.0]);
        assert_eq!(
            (tuned_only.nrn(), tuned_only.delta_norm(), tuned_only.mas()),
            (1.0, 1.0, [0.0, 0.6])
        );
        let base_only = norms([3.0, 0.0], [2.0, 0.0]);
        assert_eq!((base_only.nrn(), base_only.delta_norm()), (0.0, 0.0));
        let shared = norms([2.0, 2.0], [1.0, 1.0]);
        assert_eq!((shared.nrn(), shared.delta_norm()), (0.5, 0.5));
        assert_eq!(norms([1.0, 3.0], [1.0, 2.0]).delta_norm(), 0.75);
    }

    #[test]
    fn an_empty_feature_is_nobodys() {
        let nothing = norms([0.0, 0.0], [0.0, 0.0]);
        assert_eq!((nothing.nrn(), nothing.delta_norm()), (0.5, 0.5));
    }
}
