//! The auxiliary loss that revives dead features (arXiv 2406.04093, 2504.02922).
//!
//! Dead features alone reconstruct what the living ones left of each row, r = x − x̂ (held constant):
//!
//! ```text
//! L_aux = Σ‖r − r̂‖² / Σ‖r − mean(r)‖²,  r̂ = Σ over the row's k_aux largest dead features of f_k·d_k, without bias
//! ```
//!
//! A feature that fires in this very batch is not dead, so the two losses never meet in one feature.

use super::backward::{Batch, sparse};
use super::forward::{sparse_error, spread};
use super::parameters::{Layout, Parameters};
use crate::codes::Codes;
use crate::linear::{dot, vectorised};
use crate::select;
use rayon::prelude::*;

/// Dead features of a batch and what they are to reconstruct.
pub(super) struct Aux<'a> {
    /// Which features are dead `[n_features]`.
    pub(super) dead: &'a [bool],
    /// Largest dead features per row.
    pub(super) k: usize,
    /// Weight of the auxiliary loss.
    pub(super) coefficient: f32,
    /// x̂ − x of the living features `[n_rows, d_total]`.
    pub(super) error: &'a [f32],
}

/// The loss's share of the total, before its gradient is known: codes of the dead features, and ∂L/∂r̂.
pub(super) struct AuxLoss {
    pub(super) value: f64,
    pub(super) codes: Codes,
    /// `[n_rows, d_total]`.
    pub(super) output: Vec<f32>,
}

impl Aux<'_> {
    /// Reconstructs the residual from dead features; `None` when none of them has anything to say.
    pub(super) fn forward(
        &self,
        parameters: &Parameters,
        layout: &Layout,
        activations: &[f32],
        weights: &[f32],
    ) -> Option<AuxLoss> {
        let dead = |(weight, dead): (&f32, &bool)| if *dead { *weight } else { 0.0 };
        let weights: Vec<f32> = weights.iter().zip(self.dead).map(dead).collect();
        let codes = select::top_k(activations, &weights, self.k);
        let total: f64 = spread(self.error, layout).iter().sum();
        if codes.is_empty() || total <= 0.0 {
            return None;
        }
        // r̂ − r = r̂ + (x̂ − x): the same loop as the main error, with −error in the place of x and no bias.
        let negative: Vec<f32> = self.error.iter().map(|value| -value).collect();
        let mut output = vec![0.0; negative.len()];
        sparse_error(
            &parameters.decoder,
            &vec![0.0; layout.d_total],
            &codes,
            &negative,
            &mut output,
        );
        let scale = f64::from(self.coefficient) / total;
        let value = scale * square_and_scale(&mut output, (2.0 * scale) as f32);
        Some(AuxLoss {
            value,
            codes,
            output,
        })
    }
}

impl AuxLoss {
    /// Writes the gradients of the dead features that took part; all others stay as they are.
    pub(super) fn backward(&self, batch: &Batch<'_>, gradients: &mut Parameters) {
        let columns = self.codes.by_feature(batch.parameters.encoder_bias.len());
        let batch = Batch {
            output: &self.output,
            penalty: 0.0,
            ..*batch
        };
        sparse(&batch, &columns, gradients, false);
    }
}

/// Σ values², then values ← values · scale.
fn square_and_scale(values: &mut [f32], scale: f32) -> f64 {
    let part = |values: &mut [f32]| {
        vectorised(|| {
            let square = f64::from(dot(values, values));
            for value in values {
                *value *= scale;
            }
            square
        })
    };
    values
        .par_chunks_mut(1 << 12)
        .map(part)
        .collect::<Vec<f64>>()
        .iter()
        .sum()
}
