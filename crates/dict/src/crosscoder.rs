//! The crosscoder itself: its weights, and what follows from them alone.

use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use kernels::vector::norm;

/// A sparse dictionary over `n_models` residual streams that share one code.
///
/// `f = σ(Σ_m W_enc^m x^m + b_enc)`, `x̂^m = f·W_dec^m + b_dec^m`, where `x^m` is the normalised activation of model m.
/// Activations f are in these normalised units: adding feature k with activation f to model m's own residual adds
/// `f · d_k^m / scale_m`.
#[derive(Debug, Clone, PartialEq)]
pub struct Crosscoder {
    /// Label of each model, `base`, `sft`, …
    pub labels: Vec<String>,
    /// Width of each model's residual stream.
    pub widths: Vec<usize>,
    /// Number of features.
    pub n_features: usize,
    /// Encoder of each model `[d_model, n_features]`.
    pub encoder: Vec<Vec<f32>>,
    /// Encoder bias `[n_features]`.
    pub encoder_bias: Vec<f32>,
    /// Decoder of each model `[n_features, d_model]`.
    pub decoder: Vec<Vec<f32>>,
    /// Decoder bias of each model `[d_model]`, in normalised units.
    pub decoder_bias: Vec<Vec<f32>>,
    /// Normaliser of each model.
    pub normalizer: Vec<Normalizer>,
    /// Smallest rank value that counts as active; negative: never learned. The smallest of `thresholds` where there are any.
    pub threshold: f32,
    /// Threshold of each feature `[n_features]` (`jumprelu`); empty: `threshold` is that of all.
    pub thresholds: Vec<f32>,
    /// Rule it was trained with.
    pub rule: Rule,
    /// How activations are weighed before they are ranked or compared with the threshold.
    pub code_normalization: CodeNormalization,
    /// Hook the activations come from, such as `resid_post.12`; empty when unknown.
    pub hook: String,
    /// Digest of the tokenizer behind the activations; empty when unknown.
    pub tokenizer_digest: String,
}

impl Crosscoder {
    /// Number of models.
    pub fn n_models(&self) -> usize {
        self.widths.len()
    }

    /// Number of the model with this label.
    pub fn model(&self, label: &str) -> Option<usize> {
        self.labels.iter().position(|known| known == label)
    }

    /// Decoder row `d_k^m` `[d_model]` of a feature, in normalised units.
    pub fn row(&self, model: usize, feature: usize) -> &[f32] {
        let width = self.widths[model];
        &self.decoder[model][feature * width..][..width]
    }

    /// `‖d_k^m‖₂` of each model, in normalised units.
    pub fn decoder_norms(&self, feature: usize) -> Vec<f32> {
        (0..self.n_models())
            .map(|model| norm(self.row(model, feature)))
            .collect()
    }

    /// Factor of each feature's rank value `[n_features]`: `v_k = f_k · w_k`.
    pub fn rank_weights(&self) -> Vec<f32> {
        let weight = |feature| self.code_normalization.weight(&self.decoder_norms(feature));
        (0..self.n_features).map(weight).collect()
    }

    /// Smallest rank value at which a feature counts as active.
    pub fn threshold_of(&self, feature: usize) -> f32 {
        self.thresholds
            .get(feature)
            .copied()
            .unwrap_or(self.threshold)
    }

    /// Activations of one model in normalised units: `[n_rows, d_model]` → `[n_rows, d_model]`.
    pub fn normalize(&self, model: usize, rows: &[f32]) -> Vec<f32> {
        let width = self.widths[model];
        let mut out = vec![0.0; rows.len()];
        for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            self.normalizer[model].apply(row, out);
        }
        out
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two models of width 2 and 1, two features, no normalisation.
    pub(crate) fn example() -> Crosscoder {
        Crosscoder {
            labels: vec!["base".into(), "sft".into()],
            widths: vec![2, 1],
            n_features: 2,
            encoder: vec![vec![1.0, 0.0, 0.0, 1.0], vec![0.5, -1.0]],
            encoder_bias: vec![0.0, 0.25],
            decoder: vec![vec![3.0, 4.0, 0.0, 1.0], vec![2.0, 0.0]],
            decoder_bias: vec![vec![0.0, 1.0], vec![-1.0]],
            normalizer: vec![Normalizer::identity(2), Normalizer::identity(1)],
            threshold: 7.5,
            thresholds: Vec::new(),
            rule: Rule::BatchTopK { k: 1 },
            code_normalization: CodeNormalization::Crosscoder,
            hook: "resid_post.1".into(),
            tokenizer_digest: "abc".into(),
        }
    }

    #[test]
    fn norms_are_kept_apart_by_model_and_summed_for_the_rank() {
        let dictionary = example();
        assert_eq!(dictionary.decoder_norms(0), [5.0, 2.0]);
        assert_eq!(dictionary.rank_weights(), [7.0, 1.0]);
        assert_eq!(dictionary.row(0, 1), [0.0, 1.0]);
        assert_eq!(dictionary.model("sft"), Some(1));
    }
}
