//! Activations, reconstruction and loss of one batch.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined into `vectorised` uses its instructions"
)]

use super::parameters::{Layout, Parameters};
use super::settings::Distance;
use crate::codes::Codes;
use crate::linear::{add_scaled, dot, vectorised};
use kernels::matmul::matmul_nt;
use kernels::matmul_nn;
use rayon::prelude::*;

/// Rows summed by one task: fixed, so that no sum depends on the number of threads.
pub(super) const ROWS: usize = 64;
/// Above this share of active entries the dense products are faster than the sparse loops.
const DENSE_SHARE: f64 = 0.125;

/// Whether so many codes are active that dense products are faster.
pub(super) fn is_dense(codes: &Codes, n_features: usize) -> bool {
    codes.len() as f64 > DENSE_SHARE * (codes.n_rows() * n_features) as f64
}

/// `σ(x·W_encᵀ + b)`: `[n_rows, d_total]` → `[n_rows, n_features]`.
pub(super) fn activations(parameters: &Parameters, x: &[f32], d_total: usize, out: &mut Vec<f32>) {
    let (n_rows, n_features) = (x.len() / d_total, parameters.encoder_bias.len());
    out.resize(n_rows * n_features, 0.0);
    matmul_nt(out, x, &parameters.encoder, (n_rows, n_features, d_total));
    out.par_chunks_mut(n_features)
        .with_min_len(ROWS)
        .for_each(|row| {
            vectorised(|| {
                for (value, bias) in row.iter_mut().zip(&parameters.encoder_bias) {
                    *value = (*value + bias).max(0.0);
                }
            });
        });
}

/// x̂ − x of a batch `[n_rows, d_total]`.
pub(super) fn error(parameters: &Parameters, codes: &Codes, x: &[f32], out: &mut Vec<f32>) {
    let (n_features, d_total) = (parameters.encoder_bias.len(), parameters.decoder_bias.len());
    out.resize(x.len(), 0.0);
    if is_dense(codes, n_features) {
        let dense = codes.to_dense(n_features);
        matmul_nn(
            out,
            &dense,
            &parameters.decoder,
            (codes.n_rows(), d_total, n_features),
        );
        add_offsets(&parameters.decoder_bias, x, out);
    } else {
        sparse_error(&parameters.decoder, &parameters.decoder_bias, codes, x, out);
    }
}

/// out ← out + bias − x, row by row.
fn add_offsets(bias: &[f32], x: &[f32], out: &mut [f32]) {
    let d_total = bias.len();
    let rows = out
        .par_chunks_mut(d_total)
        .with_min_len(ROWS)
        .zip(x.par_chunks(d_total));
    rows.for_each(|(out, x)| {
        for ((out, bias), x) in out.iter_mut().zip(bias).zip(x) {
            *out += bias - x;
        }
    });
}

/// out ← bias + codes·decoder − x, reading the decoder rows of active features only.
pub(super) fn sparse_error(
    decoder: &[f32],
    bias: &[f32],
    codes: &Codes,
    x: &[f32],
    out: &mut [f32],
) {
    let d_total = bias.len();
    let rows = out
        .par_chunks_mut(d_total)
        .with_min_len(16)
        .zip(x.par_chunks(d_total))
        .enumerate();
    rows.for_each(|(row, (out, x))| {
        vectorised(|| {
            for ((out, bias), x) in out.iter_mut().zip(bias).zip(x) {
                *out = bias - x;
            }
            for (feature, activation) in codes.row(row) {
                add_scaled(
                    out,
                    activation,
                    &decoder[feature as usize * d_total..][..d_total],
                );
            }
        });
    });
}

/// What a batch's errors amount to.
pub(super) struct Loss {
    /// Value of the reconstruction term.
    pub(super) value: f64,
    /// Σ over rows of ‖e^m‖² of each model.
    pub(super) squared: Vec<f64>,
}

/// The reconstruction loss; `error` `[n_rows, d_total]` becomes its gradient with respect to the reconstruction.
pub(super) fn loss_and_gradient(error: &mut [f32], layout: &Layout, distance: Distance) -> Loss {
    let n_rows = error.len() / layout.d_total;
    let n_models = layout.models.len();
    let parts: Vec<Loss> = error
        .par_chunks_mut(ROWS * layout.d_total)
        .map(|rows| vectorised(|| part_loss(rows, layout, distance, n_rows)))
        .collect();
    let mut total = Loss {
        value: 0.0,
        squared: vec![0.0; n_models],
    };
    for part in parts {
        total.value += part.value;
        total
            .squared
            .iter_mut()
            .zip(part.squared)
            .for_each(|(sum, value)| *sum += value);
    }
    total
}

/// The share of some rows in the loss of a batch of `n_rows`; they become their gradient.
#[inline(always)]
fn part_loss(rows: &mut [f32], layout: &Layout, distance: Distance, n_rows: usize) -> Loss {
    let mut part = Loss {
        value: 0.0,
        squared: vec![0.0; layout.models.len()],
    };
    let norm_share = 1.0 / (n_rows * layout.models.len()) as f64;
    for row in rows.chunks_mut(layout.d_total) {
        for (model, squared) in layout.models.iter().zip(&mut part.squared) {
            let error = &mut row[model.clone()];
            let length = f64::from(dot(error, error));
            *squared += length;
            let (value, scale) = match distance {
                Distance::Norm => (
                    length.sqrt() * norm_share,
                    norm_share / length.sqrt().max(1e-12),
                ),
                Distance::Squared => (length / n_rows as f64, 2.0 / n_rows as f64),
            };
            part.value += value;
            let scale = scale as f32;
            for value in error {
                *value *= scale;
            }
        }
    }
    part
}

/// Column sums of rows `[n_rows, d_total]`, in an order that does not depend on the threads.
pub(super) fn column_sums(rows: &[f32], d_total: usize) -> Vec<f64> {
    let part = |rows: &[f32]| {
        let mut sums = vec![0f64; d_total];
        vectorised(|| {
            for row in rows.chunks_exact(d_total) {
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum += f64::from(*value));
            }
        });
        sums
    };
    let parts: Vec<Vec<f64>> = rows.par_chunks(ROWS * d_total).map(part).collect();
    let mut total = vec![0f64; d_total];
    for part in parts {
        total
            .iter_mut()
            .zip(part)
            .for_each(|(sum, value)| *sum += value);
    }
    total
}

/// Σ over rows of ‖row^m − mean^m‖² of each model.
pub(super) fn spread(rows: &[f32], layout: &Layout) -> Vec<f64> {
    let n_rows = (rows.len() / layout.d_total) as f64;
    let mean: Vec<f32> = column_sums(rows, layout.d_total)
        .iter()
        .map(|sum| (sum / n_rows) as f32)
        .collect();
    let part = |rows: &[f32]| -> Vec<f64> {
        let mut sums = vec![0f64; layout.models.len()];
        let mut centred = vec![0f32; layout.d_total];
        vectorised(|| {
            for row in rows.chunks_exact(layout.d_total) {
                centred
                    .iter_mut()
                    .zip(row)
                    .zip(&mean)
                    .for_each(|((out, value), mean)| *out = value - mean);
                for (model, sum) in layout.models.iter().zip(&mut sums) {
                    *sum += f64::from(dot(&centred[model.clone()], &centred[model.clone()]));
                }
            }
        });
        sums
    };
    let parts: Vec<Vec<f64>> = rows.par_chunks(ROWS * layout.d_total).map(part).collect();
    let mut total = vec![0.0; layout.models.len()];
    for part in parts {
        total
            .iter_mut()
            .zip(part)
            .for_each(|(sum, value)| *sum += value);
    }
    total
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn the_loss_and_its_gradient_follow_their_definitions() {
        let layout = Layout::new(&[2, 1]);
        let errors = [3.0, 4.0, -2.0];
        let mut gradient = errors;
        let loss = loss_and_gradient(&mut gradient, &layout, Distance::Norm);
        assert!((loss.value - 3.5).abs() < 1e-6);
        assert_eq!(loss.squared, [25.0, 4.0]);
        assert_eq!(gradient, [0.3, 0.4, -0.5]);
        let mut gradient = errors;
        assert_eq!(
            loss_and_gradient(&mut gradient, &layout, Distance::Squared).value,
            29.0
        );
        assert_eq!(gradient, [6.0, 8.0, -4.0]);
    }

    #[test]
    fn spread_is_taken_around_the_mean() {
        let layout = Layout::new(&[1, 1]);
        assert_eq!(spread(&[1.0, 5.0, 3.0, 5.0], &layout), [2.0, 0.0]);
    }
}
