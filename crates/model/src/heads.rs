//! Gradients of single heads, also where query heads share their keys and values.

use crate::ops;
use candle_core::{Result, Tensor};

/// Gradients of the loss by what the projections of one block's attention wrote: before any norm per head and rotation.
///
/// Through the weights of a head (`Model::head_weights`) and the block's norm they become the gradient by the residual as
/// that head reads it, which is `n_heads` times as large.
#[derive(Debug, Clone)]
pub struct HeadGradients {
    /// By the queries, `[tokens, n_heads * d_head]`.
    pub q: Tensor,
    /// By the keys as each query head reads them, `[tokens, n_heads * d_head]`; by the key/value heads themselves,
    /// `[tokens, n_kv_heads * d_head]`, when they were not told apart.
    pub k: Tensor,
    /// The same by the values.
    pub v: Tensor,
    /// The residual that was read, `[tokens, d_model]`.
    pub resid: Tensor,
    /// Scale of the norm that read it, `[tokens, 1]`; 1 where there is none.
    pub scale: Tensor,
    /// Whether a norm read it: an architecture may have norms only behind its sublayers (OLMo-2).
    pub normed: bool,
}

/// Repeats heads so that there are `n`: `[batch, seq, heads, width]` → `[batch, seq, n, width]`; the same when there are.
pub(crate) fn repeated(x: &Tensor, n: usize) -> Result<Tensor> {
    let (batch, seq, heads, width) = x.dims4()?;
    if heads == n {
        return Ok(x.clone());
    }
    let shape = (batch, seq, heads, n / heads, width);
    let wide = x.unsqueeze(3)?.broadcast_as(shape)?.contiguous()?;
    wide.reshape((batch, seq, n, width))
}

/// Sums gradients over the query heads that share a key/value head: `[tokens, n_heads * d_head]` →
/// `[tokens, n_kv_heads * d_head]`.
pub(crate) fn shared(x: &Tensor, n_kv_heads: usize, d_head: usize) -> Result<Tensor> {
    ops::sum_heads(x, n_kv_heads, d_head)
}
