//! The auxiliary loss that revives dead features (arXiv 2406.04093, 2504.02922).
//!
//! Dead features alone reconstruct what the living ones left of each row, r = x − x̂ (held constant):
//!
//! ```text
//! L_aux = Σ‖r − r̂‖² / Σ‖r − mean(r)‖²,  r̂ = Σ over the row's k_aux largest dead features of f_k·d_k, without bias
//! ```
//!
//! A feature that fires in this very batch is not dead, so the two losses never meet in one feature.

use super::forward::{ROWS, cut, spread};
use super::parameters::Layout;
use super::part::Part;
use crate::codes::Codes;
use kernels::vector::{add_scaled, dot, vectorised};
use rayon::prelude::*;

/// What the auxiliary loss adds.
#[derive(Debug)]
pub(super) struct Revival {
    /// Its weighted value.
    pub(super) value: f64,
    /// Dead features with their gradients.
    pub(super) part: Part,
}

/// Reconstructs the residual from dead features; `None` when nothing is left to reconstruct.
///
/// `residual [n_rows, d_total]` is x̂ − x of the living features, and ∂L/∂r̂ afterwards.
pub(super) fn revive(
    codes: Codes,
    residual: &mut [f32],
    (decoder, layout): (&[f32], &Layout),
    coefficient: f32,
) -> Option<Revival> {
    let total: f64 = spread(residual, layout).iter().sum();
    if total <= 0.0 {
        return None;
    }
    let d_total = layout.d_total;
    let scale = f64::from(coefficient) / total;
    let mut part = Part::new(codes, 0..d_total);
    let Part { codes, through, .. } = &mut part;
    let tasks = residual
        .par_chunks_mut(ROWS * d_total)
        .zip(cut(through, &codes.starts, ROWS));
    let squares: Vec<f64> = tasks
        .enumerate()
        .map(|(block, (output, through))| {
            vectorised(
                #[inline(always)]
                || {
                    let (mut square, mut through) = (0.0, through.iter_mut());
                    for (place, output) in output.chunks_mut(d_total).enumerate() {
                        let row = block * ROWS + place;
                        for (feature, activation) in codes.row(row) {
                            add_scaled(
                                output,
                                activation,
                                &decoder[feature as usize * d_total..][..d_total],
                            );
                        }
                        square += f64::from(dot(output, output));
                        for value in &mut *output {
                            *value *= (2.0 * scale) as f32;
                        }
                        for ((feature, _), through) in codes.row(row).zip(&mut through) {
                            *through =
                                dot(output, &decoder[feature as usize * d_total..][..d_total]);
                        }
                    }
                    square
                },
            )
        })
        .collect();
    let value = scale * squares.iter().sum::<f64>();
    Some(Revival { value, part })
}
