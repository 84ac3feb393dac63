//! Gradients of one batch, derived by hand.
//!
//! With `g = ∂L/∂x̂` `[n_rows, d_total]`, activations f, penalty `p = λ/n_rows` and `w_k = Σ_m‖d_k^m‖₂`, for every (row, feature)
//! that was kept, `df = ⟨g, d_k⟩ + p·w_k` and
//!
//! ```text
//! ∂L/∂d_k^m = Σ_rows f·g^m + p·Σ_rows f · d_k^m/‖d_k^m‖     ∂L/∂W_k = Σ_rows df·x     ∂L/∂b_k = Σ_rows df
//! ```
//!
//! Which features were kept is held constant, as everywhere in the literature. Rows of features that did not fire have
//! gradient 0 and are never read.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined into `vectorised` uses its instructions"
)]

use super::forward::{column_sums, is_dense};
use super::parameters::{Layout, Parameters};
use crate::codes::{Codes, Columns};
use crate::linear::{add_scaled, dot, norm, vectorised};
use kernels::{matmul_nt, matmul_tn};
use rayon::prelude::*;

/// Features handled by one task.
const FEATURES: usize = 16;

/// What the gradients are computed from.
pub(super) struct Batch<'a> {
    /// Weights of the forward pass.
    pub(super) parameters: &'a Parameters,
    /// Where the models lie within a row.
    pub(super) layout: &'a Layout,
    /// Normalised activations `[n_rows, d_total]`.
    pub(super) x: &'a [f32],
    /// Gradient of the loss with respect to the reconstruction `[n_rows, d_total]`.
    pub(super) output: &'a [f32],
    /// `λ / n_rows` of the penalty; 0 without one.
    pub(super) penalty: f32,
}

/// Gradients of everything, overwriting what `gradients` holds.
pub(super) fn gradients(batch: &Batch<'_>, codes: &Codes, gradients: &mut Parameters) {
    if is_dense(codes, batch.parameters.encoder_bias.len()) {
        dense(batch, codes, gradients);
    } else {
        sparse(
            batch,
            &codes.by_feature(batch.parameters.encoder_bias.len()),
            gradients,
            true,
        );
    }
    let bias = column_sums(batch.output, batch.layout.d_total);
    gradients
        .decoder_bias
        .iter_mut()
        .zip(bias)
        .for_each(|(gradient, sum)| *gradient = sum as f32);
}

/// Gradients of the rows of active features; of the others they are set to 0 (`clear`) or left as they are.
pub(super) fn sparse(
    batch: &Batch<'_>,
    columns: &Columns,
    gradients: &mut Parameters,
    clear: bool,
) {
    let d_total = batch.layout.d_total;
    let encoder = gradients.encoder.par_chunks_mut(d_total);
    let decoder = gradients.decoder.par_chunks_mut(d_total);
    let rows = encoder
        .zip(decoder)
        .zip(&mut gradients.encoder_bias)
        .with_min_len(FEATURES)
        .enumerate();
    rows.for_each(|(feature, ((encoder, decoder), bias))| {
        if !columns.fires(feature) && !clear {
            return;
        }
        encoder.fill(0.0);
        decoder.fill(0.0);
        *bias = 0.0;
        if columns.fires(feature) {
            *bias = vectorised(|| one_feature(batch, columns, feature, (encoder, decoder)));
        }
    });
}

/// Adds up one feature's encoder and decoder gradients `[d_total]`; returns that of its bias.
#[inline(always)]
fn one_feature(
    batch: &Batch<'_>,
    columns: &Columns,
    feature: usize,
    out: (&mut [f32], &mut [f32]),
) -> f32 {
    let (encoder, decoder) = out;
    let d_total = batch.layout.d_total;
    let weights = &batch.parameters.decoder[feature * d_total..][..d_total];
    let extra = if batch.penalty > 0.0 {
        batch.penalty * batch.layout.norms(weights).sum::<f32>()
    } else {
        0.0
    };
    let (mut bias, mut total) = (0.0, 0.0);
    for (row, activation) in columns.feature(feature) {
        let output = &batch.output[row as usize * d_total..][..d_total];
        let through = dot(output, weights) + extra;
        add_scaled(decoder, activation, output);
        add_scaled(
            encoder,
            through,
            &batch.x[row as usize * d_total..][..d_total],
        );
        bias += through;
        total += activation;
    }
    if batch.penalty > 0.0 {
        add_norm_gradient(batch.layout, weights, batch.penalty * total, decoder);
    }
    bias
}

/// Adds `scale · ∂(Σ_m‖d^m‖)/∂d` to `out`.
#[inline(always)]
fn add_norm_gradient(layout: &Layout, weights: &[f32], scale: f32, out: &mut [f32]) {
    for model in &layout.models {
        let part = &weights[model.clone()];
        let length = norm(part);
        if length > 0.0 {
            add_scaled(&mut out[model.clone()], scale / length, part);
        }
    }
}

/// The same gradients by dense products, for codes that are not sparse yet.
fn dense(batch: &Batch<'_>, codes: &Codes, gradients: &mut Parameters) {
    let (n_rows, d_total) = (codes.n_rows(), batch.layout.d_total);
    let n_features = batch.parameters.encoder_bias.len();
    let activations = codes.to_dense(n_features);
    let through = through_code(batch, &activations);
    matmul_tn(
        &mut gradients.decoder,
        &activations,
        batch.output,
        (n_features, d_total, n_rows),
    );
    matmul_tn(
        &mut gradients.encoder,
        &through,
        batch.x,
        (n_features, d_total, n_rows),
    );
    let bias = column_sums(&through, n_features);
    gradients
        .encoder_bias
        .iter_mut()
        .zip(bias)
        .for_each(|(gradient, sum)| *gradient = sum as f32);
    if batch.penalty > 0.0 {
        let totals = column_sums(&activations, n_features);
        let rows = gradients
            .decoder
            .par_chunks_mut(d_total)
            .zip(batch.parameters.decoder.par_chunks(d_total));
        rows.zip(totals).for_each(|((out, weights), total)| {
            vectorised(|| {
                add_norm_gradient(batch.layout, weights, batch.penalty * total as f32, out);
            });
        });
    }
}

/// df `[n_rows, n_features]`: the gradient with respect to each active pre-activation, 0 elsewhere.
fn through_code(batch: &Batch<'_>, activations: &[f32]) -> Vec<f32> {
    let n_features = batch.parameters.encoder_bias.len();
    let n_rows = activations.len() / n_features;
    let mut through = vec![0.0; activations.len()];
    matmul_nt(
        &mut through,
        batch.output,
        &batch.parameters.decoder,
        (n_rows, n_features, batch.layout.d_total),
    );
    let extra: Vec<f32> = match batch.penalty {
        0.0 => vec![0.0; n_features],
        penalty => batch
            .parameters
            .rank_weights(batch.layout)
            .iter()
            .map(|weight| penalty * weight)
            .collect(),
    };
    let rows = through
        .par_chunks_mut(n_features)
        .zip(activations.par_chunks(n_features));
    rows.for_each(|(through, activations)| {
        for ((through, activation), extra) in through.iter_mut().zip(activations).zip(&extra) {
            *through = if *activation > 0.0 {
                *through + extra
            } else {
                0.0
            };
        }
    });
    through
}

/// ‖gradient‖₂ over all parameters.
pub(super) fn gradient_norm(gradients: &Parameters) -> f64 {
    const VALUES: usize = 1 << 14;
    let mut total = 0.0;
    for (_, values) in gradients.parts() {
        let square = |part: &[f32]| vectorised(|| f64::from(dot(part, part)));
        let parts: Vec<f64> = values.par_chunks(VALUES).map(square).collect();
        total += parts.iter().sum::<f64>();
    }
    total.sqrt()
}
