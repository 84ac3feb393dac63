//! RMS normalisation: y = x / √(mean x² + ε) ⊙ γ, per row.

use crate::vector::{dot, vectorised};
use rayon::prelude::*;

/// Rows handled by one task.
const ROWS: usize = 64;

/// Normalises rows of `x [rows, width]` into `y`, and stores each row's factor 1/√(mean x² + ε) in `scales [rows]`.
pub fn rms_norm(y: &mut [f32], scales: &mut [f32], x: &[f32], gamma: &[f32], epsilon: f32) {
    let width = gamma.len();
    let tasks = y
        .par_chunks_mut(ROWS * width)
        .zip(scales.par_chunks_mut(ROWS))
        .zip(x.par_chunks(ROWS * width));
    tasks.for_each(|((y, scales), x)| {
        vectorised(
            #[inline(always)]
            || {
                for ((y, scale), x) in y
                    .chunks_exact_mut(width)
                    .zip(scales)
                    .zip(x.chunks_exact(width))
                {
                    *scale = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
                    apply(y, x, gamma, *scale);
                }
            },
        );
    });
}

/// Repeats [`rms_norm`] with known `scales [rows]`: what the reverse pass needs again instead of keeping it.
pub fn rms_norm_again(y: &mut [f32], x: &[f32], gamma: &[f32], scales: &[f32]) {
    let width = gamma.len();
    let tasks = y
        .par_chunks_mut(ROWS * width)
        .zip(scales.par_chunks(ROWS))
        .zip(x.par_chunks(ROWS * width));
    tasks.for_each(|((y, scales), x)| {
        vectorised(
            #[inline(always)]
            || {
                for ((y, scale), x) in y
                    .chunks_exact_mut(width)
                    .zip(scales)
                    .zip(x.chunks_exact(width))
                {
                    apply(y, x, gamma, *scale);
                }
            },
        );
    });
}

#[inline(always)]
fn apply(y: &mut [f32], x: &[f32], gamma: &[f32], scale: f32) {
    for ((y, x), gamma) in y.iter_mut().zip(x).zip(gamma) {
        *y = x * scale * gamma;
    }
}

/// Gradient of [`rms_norm`] by its input: `dx [rows, width]` from `dy`.
///
/// With r the row's factor: dx = r·(γ⊙dy) − x·r³/width·⟨x, γ⊙dy⟩.
pub fn rms_norm_backward(dx: &mut [f32], dy: &[f32], x: &[f32], gamma: &[f32], scales: &[f32]) {
    let width = gamma.len();
    let rows = dx
        .par_chunks_mut(ROWS * width)
        .zip(dy.par_chunks(ROWS * width));
    rows.zip(x.par_chunks(ROWS * width))
        .zip(scales.par_chunks(ROWS))
        .for_each(|(((dx, dy), x), scales)| {
            vectorised(
                #[inline(always)]
                || {
                    let rows = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width));
                    for (((dx, dy), x), scale) in rows.zip(x.chunks_exact(width)).zip(scales) {
                        for ((dx, dy), gamma) in dx.iter_mut().zip(dy).zip(gamma) {
                            *dx = dy * gamma;
                        }
                        let pull = dot(dx, x) * scale * scale * scale / width as f32;
                        for (dx, x) in dx.iter_mut().zip(x) {
                            *dx = *dx * scale - x * pull;
                        }
                    }
                },
            );
        });
}

/// Gradient of [`rms_norm`] by γ: `dgamma [width]` ← Σ over rows of dy ⊙ x·r.
pub fn rms_norm_gamma_gradient(dgamma: &mut [f32], dy: &[f32], x: &[f32], scales: &[f32]) {
    let width = dgamma.len();
    dgamma.fill(0.0);
    vectorised(
        #[inline(always)]
        || {
            for ((dy, x), scale) in dy
                .chunks_exact(width)
                .zip(x.chunks_exact(width))
                .zip(scales)
            {
                for ((sum, dy), x) in dgamma.iter_mut().zip(dy).zip(x) {
                    *sum += dy * x * scale;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_three_and_four_has_factor_one_over_root_of_twelve_and_a_half() {
        let (mut y, mut scales) = ([0.0; 2], [0.0; 1]);
        rms_norm(&mut y, &mut scales, &[3.0, 4.0], &[1.0, 2.0], 0.0);
        assert!((scales[0] - 1.0 / 12.5f32.sqrt()).abs() < 1e-7);
        assert!((y[1] - 8.0 / 12.5f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_is_orthogonal_to_the_input() {
        // The norm does not see the length of its input, so moving along x changes nothing (for ε = 0).
        let (x, gamma, dy) = (
            [0.3, -1.2, 0.7, 2.0],
            [1.0, 0.5, -2.0, 1.5],
            [0.1, 0.9, -0.4, 0.2],
        );
        let (mut y, mut scales, mut dx) = ([0.0; 4], [0.0; 1], [0.0; 4]);
        rms_norm(&mut y, &mut scales, &x, &gamma, 0.0);
        rms_norm_backward(&mut dx, &dy, &x, &gamma, &scales);
        assert!(dot(&dx, &x).abs() < 1e-6);
    }
}
