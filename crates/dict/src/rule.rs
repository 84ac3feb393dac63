//! What makes a code sparse, and how a feature's activation is weighed when features are ranked.

use serde::{Deserialize, Serialize};

/// Sparsity rule of a crosscoder: how it was trained, and how it selects by default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rule {
    /// Penalty `λ Σ_k f_k Σ_m‖d_k^m‖₂`; every positive activation is kept.
    L1 {
        /// λ, in units of the normalised activations.
        sparsity: f32,
    },
    /// The `k` features of largest rank value in every row.
    #[serde(rename = "topk")]
    TopK {
        /// Features kept per row.
        k: usize,
    },
    /// The `n_rows · k` largest rank values of the whole batch (arXiv 2412.06410, 2504.02922).
    #[serde(rename = "batch-topk")]
    BatchTopK {
        /// Features kept per row on average.
        k: usize,
    },
    /// Rank values above a learned threshold of each feature; training steers their number towards `k` with the loss
    /// `λ(L0/k − 1)²`, whose gradient reaches the thresholds through a rectangle of width `bandwidth` (arXiv 2407.14435,
    /// in the form of `dictionary_learning`).
    #[serde(rename = "jumprelu")]
    JumpRelu {
        /// Features wanted per row on average.
        k: usize,
        /// λ.
        sparsity: f32,
        /// Width, in rank value, of the window around a threshold in which it has a gradient.
        bandwidth: f32,
    },
    /// `BatchTopK` whose first features must reconstruct alone as well: nested dictionaries in one (arXiv 2503.17547).
    Matryoshka {
        /// Features kept per row on average.
        k: usize,
    },
}

impl Rule {
    /// Features kept per row; `None` where the rule does not say.
    pub fn k(self) -> Option<usize> {
        match self {
            Self::L1 { .. } => None,
            Self::TopK { k }
            | Self::BatchTopK { k }
            | Self::JumpRelu { k, .. }
            | Self::Matryoshka { k } => Some(k),
        }
    }

    /// The name the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 { .. } => "l1",
            Self::TopK { .. } => "topk",
            Self::BatchTopK { .. } => "batch-topk",
            Self::JumpRelu { .. } => "jumprelu",
            Self::Matryoshka { .. } => "matryoshka",
        }
    }

    /// The same rule with `k` features kept per row, where it keeps a number at all.
    #[must_use]
    pub fn with_k(self, k: usize) -> Self {
        match self {
            Self::L1 { .. } => self,
            Self::TopK { .. } => Self::TopK { k },
            Self::BatchTopK { .. } => Self::BatchTopK { k },
            Self::JumpRelu {
                sparsity,
                bandwidth,
                ..
            } => Self::JumpRelu {
                k,
                sparsity,
                bandwidth,
            },
            Self::Matryoshka { .. } => Self::Matryoshka { k },
        }
    }

    /// Whether training keeps the largest of the whole batch, so that rows compete and a threshold is learned beside it.
    pub fn ranks_the_batch(self) -> bool {
        matches!(self, Self::BatchTopK { .. } | Self::Matryoshka { .. })
    }
}

/// How the decoder's norms weigh an activation before it is ranked or compared with the threshold:
/// `v_k = f_k · w_k`, as the standard format (`crosscoder_learning`) names them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CodeNormalization {
    /// `w_k = Σ_m ‖d_k^m‖₂`.
    #[default]
    Crosscoder,
    /// `w_k = ‖d_k‖₂` over all models at once.
    Sae,
    /// A weighted sum of the two.
    Mixed {
        /// Weight of the joint norm.
        alpha_sae: f32,
        /// Weight of the sum of norms.
        alpha_crosscoder: f32,
    },
    /// `w_k = 1`.
    None,
    /// One selection per model with `w_k^m = ‖d_k^m‖₂`: a feature may be active for one model and not for another.
    Decoupled {
        /// One threshold per model.
        thresholds: Vec<f32>,
    },
}

impl CodeNormalization {
    /// Whether every model has a code of its own.
    pub fn is_decoupled(&self) -> bool {
        matches!(self, Self::Decoupled { .. })
    }

    /// `[α of the joint norm, α of the sum of norms]`: a weight is their combination, but for [`CodeNormalization::None`].
    pub(crate) fn shares(&self) -> [f32; 2] {
        match self {
            Self::Crosscoder | Self::Decoupled { .. } => [0.0, 1.0],
            Self::Sae => [1.0, 0.0],
            Self::Mixed {
                alpha_sae,
                alpha_crosscoder,
            } => [*alpha_sae, *alpha_crosscoder],
            Self::None => [0.0, 0.0],
        }
    }

    /// Weight of one feature with the given decoder norms, one per model.
    pub(crate) fn weight(&self, norms: &[f32]) -> f32 {
        let sum: f32 = norms.iter().sum();
        let joint = norms.iter().map(|norm| norm * norm).sum::<f32>().sqrt();
        if self == &Self::None {
            1.0
        } else {
            let [of_joint, of_sum] = self.shares();
            of_joint * joint + of_sum * sum
        }
    }
}

/// How the features of a row are chosen when a trained crosscoder encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Selection {
    /// Rank values above the learned threshold: a row's code does not depend on its neighbours.
    Threshold,
    /// The training rule over the rows given: `n_rows · k` largest rank values.
    BatchTopK,
    /// What the rule prescribes at inference: all positive (`l1`), `k` per row (`topk`), the thresholds (the others).
    #[default]
    Rule,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_follows_its_definition() {
        let mixed = CodeNormalization::Mixed {
            alpha_sae: 1.0,
            alpha_crosscoder: 0.1,
        };
        assert!((CodeNormalization::Crosscoder.weight(&[3.0, 4.0]) - 7.0).abs() < 1e-6);
        assert!((CodeNormalization::Sae.weight(&[3.0, 4.0]) - 5.0).abs() < 1e-6);
        assert!((mixed.weight(&[3.0, 4.0]) - 5.7).abs() < 1e-6);
        assert!((CodeNormalization::None.weight(&[3.0, 4.0]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_rule_is_written_by_its_name() {
        let rule = Rule::BatchTopK { k: 32 };
        let text = serde_json::to_string(&rule).unwrap();
        assert_eq!(text, r#"{"name":"batch-topk","k":32}"#);
        assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), rule);
        assert_eq!(rule.with_k(4).k(), Some(4));
    }
}
