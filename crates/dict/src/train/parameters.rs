//! The weights as training holds them: feature by feature, all models side by side.
//!
//! Row k of `encoder` and `decoder` is `[d_total]`, `d_total = Σ_m d_model`: what one feature needs lies together, and an
//! update touches the rows of active features only.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined into `vectorised` uses its instructions"
)]

use super::partition::Partition;
use super::settings::Settings;
use crate::rule::{CodeNormalization, Rule};
use kernels::vector::{norm, vectorised};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::ops::Range;

/// Where each model's coordinates lie within a row of all models.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    /// Range of each model within a row.
    pub(crate) models: Vec<Range<usize>>,
    /// Length of a row: `Σ_m d_model`.
    pub(crate) d_total: usize,
}

impl Layout {
    pub(crate) fn new(widths: &[usize]) -> Self {
        let mut models = Vec::new();
        let mut d_total = 0;
        for &width in widths {
            models.push(d_total..d_total + width);
            d_total += width;
        }
        Self { models, d_total }
    }

    /// ‖row^m‖₂ of each model.
    #[inline(always)]
    pub(crate) fn norms<'a>(&'a self, row: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        self.models.iter().map(|model| norm(&row[model.clone()]))
    }
}

/// Weights, or anything of the same shape: gradients, first and second moments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameters {
    /// `[n_features, d_total]`.
    pub(crate) encoder: Vec<f32>,
    /// `[n_features]`.
    pub(crate) encoder_bias: Vec<f32>,
    /// `[n_features, d_total]`.
    pub(crate) decoder: Vec<f32>,
    /// `[d_total]`.
    pub(crate) decoder_bias: Vec<f32>,
    /// Threshold of each feature `[n_features]` (`jumprelu`); empty for other rules.
    pub(crate) thresholds: Vec<f32>,
}

/// Thresholds of `jumprelu` at the start, in rank value.
const FIRST_THRESHOLD: f32 = 1e-3;

impl Parameters {
    pub(crate) fn zeros(n_features: usize, d_total: usize) -> Self {
        Self {
            encoder: vec![0.0; n_features * d_total],
            encoder_bias: vec![0.0; n_features],
            decoder: vec![0.0; n_features * d_total],
            decoder_bias: vec![0.0; d_total],
            thresholds: Vec::new(),
        }
    }

    /// Random directions of norm `init_norm`, the same for every model (as far as widths agree), encoder = decoderᵀ, biases 0.
    pub(crate) fn random(settings: &Settings, layout: &Layout) -> Self {
        let mut parameters = Self::zeros(settings.n_features, layout.d_total);
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        let widest = layout.models.iter().map(Range::len).max().unwrap_or(0);
        for row in parameters.decoder.chunks_mut(layout.d_total) {
            let direction: Vec<f32> = (0..widest)
                .map(|_| random.random_range(-1.0f32..1.0))
                .collect();
            for model in &layout.models {
                let direction = &direction[..model.len()];
                let scale = settings.init_norm / norm(direction).max(f32::MIN_POSITIVE);
                row[model.clone()]
                    .iter_mut()
                    .zip(direction)
                    .for_each(|(weight, value)| *weight = value * scale);
            }
        }
        Partition::new(&settings.partition).mask(&mut parameters.decoder, layout);
        parameters.encoder.copy_from_slice(&parameters.decoder);
        if matches!(settings.rule, Rule::JumpRelu { .. }) {
            parameters.thresholds = vec![FIRST_THRESHOLD; settings.n_features];
        }
        parameters
    }

    /// Names and values, in a fixed order.
    pub(crate) fn parts(&self) -> [(&'static str, &Vec<f32>); 5] {
        [
            ("encoder", &self.encoder),
            ("encoder_bias", &self.encoder_bias),
            ("decoder", &self.decoder),
            ("decoder_bias", &self.decoder_bias),
            ("thresholds", &self.thresholds),
        ]
    }

    /// Values in the order of [`Parameters::parts`].
    pub(crate) fn parts_mut(&mut self) -> [&mut Vec<f32>; 5] {
        [
            &mut self.encoder,
            &mut self.encoder_bias,
            &mut self.decoder,
            &mut self.decoder_bias,
            &mut self.thresholds,
        ]
    }

    /// `‖d_k^m‖₂` `[n_features, n_models]`.
    pub(crate) fn norms(&self, layout: &Layout) -> Vec<f32> {
        let n_models = layout.models.len();
        let mut out = vec![0.0; self.encoder_bias.len() * n_models];
        let rows = out
            .par_chunks_mut(n_models)
            .zip(self.decoder.par_chunks(layout.d_total));
        rows.with_min_len(64).for_each(|(out, row)| {
            vectorised(
                #[inline(always)]
                || {
                    out.iter_mut()
                        .zip(layout.norms(row))
                        .for_each(|(out, norm)| *out = norm);
                },
            );
        });
        out
    }
}

/// Factor of each feature's rank value `[n_features]` from the norms of its decoder rows `[n_features, n_models]`.
pub(crate) fn rank_weights(
    normalization: &CodeNormalization,
    norms: &[f32],
    n_models: usize,
) -> Vec<f32> {
    norms
        .chunks(n_models)
        .map(|norms| normalization.weight(norms))
        .collect()
}

/// Geometric median of each model's part of the rows `[n_rows, d_total]`: Weiszfeld's iteration from the mean.
pub(crate) fn geometric_median(rows: &[f32], layout: &Layout) -> Vec<f32> {
    const ITERATIONS: usize = 20;
    let mut median = weighted_mean(rows, layout, &|_, _| 1.0);
    for _ in 0..ITERATIONS {
        let previous = median;
        let nearness = |row: &[f32], model: &Range<usize>| {
            let distance: f32 = row[model.clone()]
                .iter()
                .zip(&previous[model.clone()])
                .map(|(a, b)| (a - b) * (a - b))
                .sum();
            1.0 / f64::from(distance.sqrt().max(1e-6))
        };
        median = weighted_mean(rows, layout, &nearness);
    }
    median
}

/// Mean of the rows, each model's part weighted by `weight(row, model)`.
fn weighted_mean(
    rows: &[f32],
    layout: &Layout,
    weight: &dyn Fn(&[f32], &Range<usize>) -> f64,
) -> Vec<f32> {
    let mut sums = vec![0f64; layout.d_total];
    for model in &layout.models {
        let mut total = 0.0;
        for row in rows.chunks_exact(layout.d_total) {
            let weight = weight(row, model);
            total += weight;
            let part = sums[model.clone()].iter_mut().zip(&row[model.clone()]);
            part.for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        sums[model.clone()].iter_mut().for_each(|sum| *sum /= total);
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Rule;

    #[test]
    fn models_start_alike_and_the_encoder_is_the_decoder() {
        let layout = Layout::new(&[3, 3, 2]);
        let settings = Settings::new(Rule::BatchTopK { k: 1 }, 5, 3, 10);
        let parameters = Parameters::random(&settings, &layout);
        assert_eq!(parameters.encoder, parameters.decoder);
        for row in parameters.decoder.chunks(layout.d_total) {
            assert_eq!(row[0..3], row[3..6]);
            assert!(layout.norms(row).all(|norm| (norm - 1.0).abs() < 1e-5));
        }
    }

    #[test]
    fn an_outlier_moves_the_mean_but_not_the_geometric_median() {
        let layout = Layout::new(&[1, 1]);
        let median = geometric_median(
            &[0.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1000.0, 1.0, 1.0, 1.0],
            &layout,
        );
        assert!(
            (median[0] - 1.0).abs() < 0.1 && (median[1] - 1.0).abs() < 1e-5,
            "{median:?}"
        );
    }
}
