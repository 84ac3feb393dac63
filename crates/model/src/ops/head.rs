//! The loss at the end of a model, and back through the unembedding, without a tensor of logits.

use super::linear::{Shown, ShownWeight};
use super::{tensor, zeros};
use crate::storage::Weight;
use candle_core::{Result, Tensor};
use kernels::Precision;
use kernels::linear::{Layer, linear, linear_backward};

/// Negative log-likelihood of a token after each row of `x [n, d_model]`, in nats, and the gradient of its weighted sum by
/// `x`; `None` off the CPU or in another dtype than `f32`. `logits` is room for those of these rows, used again.
pub fn token_losses(
    x: &Tensor,
    unembed: &Weight,
    (targets, weights): (&[u32], &[f32]),
    precision: Precision,
    logits: &mut Vec<f32>,
) -> Result<Option<(Vec<f64>, Tensor)>> {
    let (n, d_model) = x.dims2()?;
    let (shown, matrix) = (Shown::of(x), ShownWeight::of(unembed));
    let (Some(values), Some(weight)) = (shown.f32(), matrix.matrix()) else {
        return Ok(None);
    };
    let vocab = unembed.rows();
    if logits.len() < n * vocab {
        *logits = zeros(n * vocab);
    }
    let logits = &mut logits[..n * vocab];
    let layer = Layer { weight, bias: None };
    linear(&mut [&mut *logits], values, d_model, &[layer], precision);
    let losses = kernels::loss::cross_entropy(logits, targets, weights, vocab);
    let mut dx = zeros(n * d_model);
    linear_backward(&mut dx, logits, vocab, weight, precision);
    Ok(Some((losses, tensor(dx, &[n, d_model], x)?)))
}
