//! Grouped-query softmax attention: causal, sliding-window, left-padded, with or without a cache.

use super::{on_slices, softcap, softcap_backward, tensor, zeros};
use candle_core::{D, DType, Device, Result, Tensor};
use candle_transformers::utils::repeat_kv;
use kernels::KeyGradients;

/// What the shapes of the tensors do not say.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape<'a> {
    /// Positions processed before the first query.
    pub offset: usize,
    /// Positions a query sees, its own included; all when absent.
    pub window: Option<usize>,
    /// `[batch]`: first real position of each row.
    pub starts: &'a [usize],
    /// Factor on the scores, `1/√d_head` as a rule.
    pub scale: f64,
    /// Scores s become cap·tanh(s/cap); their reverse in the plain form only.
    pub softcap: Option<f64>,
}

/// `q [batch, seq, n_heads, d_head]`, `k, v [batch, capacity, n_kv_heads, d_head]` → `[batch * seq, n_heads * d_head]`.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, shape: AttentionShape<'_>) -> Result<Tensor> {
    let (batch, seq, n_heads, d_head) = q.dims4()?;
    let kernel = kernel_shape(q, k, shape)?;
    let fast = on_slices([q, k, v], |[q, k, v]| {
        let mut z = zeros(q.len());
        kernels::attention(&mut z, q, k, v, kernel);
        z
    });
    if let Some(z) = fast {
        return tensor(z, &[batch * seq, n_heads * d_head], q);
    }
    let keys = shape.offset + seq;
    let weights = softmax(&scores(q, &k.narrow(1, 0, keys)?, shape)?, shape)?;
    let z = weights.matmul(&per_query_head(&v.narrow(1, 0, keys)?, n_heads)?)?;
    z.transpose(1, 2)?
        .contiguous()?
        .reshape((batch * seq, n_heads * d_head))
}

/// Gradients by q, k and v, shaped as they are, from `dz [batch * seq, n_heads * d_head]`; keys end with the queries. Those by
/// k and v have `n_heads` heads when they are told apart.
pub fn attention_backward(
    dz: &Tensor,
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    shape: AttentionShape<'_>,
    keys: KeyGradients,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (batch, seq, n_heads, d_head) = q.dims4()?;
    let kernel = kernel_shape(q, k, shape)?;
    let fast = uncapped(shape, [dz, q, k, v], |[dz, q, k, v]| {
        kernels::attention_backward(dz, (q, k, v), kernel, keys)
    });
    let n = match keys {
        KeyGradients::Summed => k.dim(2)?,
        KeyGradients::Apart => n_heads,
    };
    if let Some((dq, dk, dv)) = fast {
        let wide = [batch, k.dim(1)?, n, d_head];
        return Ok((
            tensor(dq, q.dims(), q)?,
            tensor(dk, &wide, q)?,
            tensor(dv, &wide, q)?,
        ));
    }
    let scores = scores(q, k, shape)?;
    let weights = softmax(&scores, shape)?;
    let dz = dz
        .reshape((batch, seq, n_heads, d_head))?
        .transpose(1, 2)?
        .contiguous()?;
    let dv = weights.t()?.matmul(&dz)?;
    let d_weights = dz.matmul(&per_query_head(v, n_heads)?.t()?)?;
    let mean = (&d_weights * &weights)?.sum_keepdim(D::Minus1)?;
    let mut d_scores = (weights * d_weights.broadcast_sub(&mean)?)?;
    if let Some(cap) = shape.softcap {
        d_scores = softcap_backward(&d_scores, &scores, cap)?;
    }
    let scale = shape.scale;
    let dq = (d_scores.matmul(&per_query_head(k, n_heads)?)? * scale)?;
    let queries = q.transpose(1, 2)?.contiguous()?;
    let dk = (d_scores.t()?.matmul(&queries)? * scale)?;
    Ok((
        dq.transpose(1, 2)?.contiguous()?,
        per_kv_head(&dk, n)?,
        per_kv_head(&dv, n)?,
    ))
}

fn kernel_shape<'a>(
    q: &Tensor,
    k: &Tensor,
    shape: AttentionShape<'a>,
) -> Result<kernels::Attention<'a>> {
    let (_, seq, n_heads, d_head) = q.dims4()?;
    let (_, capacity, n_kv_heads, _) = k.dims4()?;
    Ok(kernels::Attention {
        seq,
        n_heads,
        n_kv_heads,
        d_head,
        offset: shape.offset,
        capacity,
        scale: shape.scale as f32,
        window: shape.window,
        starts: shape.starts,
        softcap: shape.softcap.map(|cap| cap as f32),
    })
}

/// [`on_slices`] for scores without a soft cap, which the kernels' reverse pass does not have.
fn uncapped<const N: usize, R>(
    shape: AttentionShape<'_>,
    tensors: [&Tensor; N],
    body: impl FnOnce([&[f32]; N]) -> R,
) -> Option<R> {
    match shape.softcap {
        None => on_slices(tensors, body),
        Some(_) => None,
    }
}

/// Scores before the mask, `[batch, n_heads, seq, keys]`.
fn scores(q: &Tensor, k: &Tensor, shape: AttentionShape<'_>) -> Result<Tensor> {
    let n_heads = q.dim(2)?;
    let queries = q.transpose(1, 2)?.contiguous()?;
    let scores = (queries.matmul(&per_query_head(k, n_heads)?.t()?)? * shape.scale)?;
    match shape.softcap {
        Some(cap) => softcap(&scores, cap),
        None => Ok(scores),
    }
}

/// Softmax weights over the keys each query sees, shaped as the scores.
fn softmax(scores: &Tensor, shape: AttentionShape<'_>) -> Result<Tensor> {
    let (_, _, seq, keys) = scores.dims4()?;
    let mask = mask(seq, keys, shape, scores.dtype(), scores.device())?;
    let scores = scores.broadcast_add(&mask)?;
    let scores = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
        .exp()?;
    scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)
}

/// 0 where a query sees a key and −∞ elsewhere, `[batch, 1, seq, keys]`. A padding query sees itself.
fn mask(
    seq: usize,
    keys: usize,
    shape: AttentionShape<'_>,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let row = |start: usize| {
        (0..seq).flat_map(move |i| {
            let own = shape.offset + i;
            let first = shape
                .window
                .map_or(0, |window| (own + 1).saturating_sub(window))
                .max(start)
                .min(own);
            (0..keys).map(move |key| {
                if (first..=own).contains(&key) {
                    0f32
                } else {
                    f32::NEG_INFINITY
                }
            })
        })
    };
    let values: Vec<f32> = shape.starts.iter().flat_map(|&start| row(start)).collect();
    Tensor::from_vec(values, (shape.starts.len(), 1, seq, keys), device)?.to_dtype(dtype)
}

/// Repeats key/value heads for the query heads that share them: → `[batch, n_heads, keys, d_head]`.
fn per_query_head(x: &Tensor, n_heads: usize) -> Result<Tensor> {
    let group = n_heads / x.dim(2)?;
    repeat_kv(x.transpose(1, 2)?.contiguous()?, group)
}

/// Sums gradients over the query heads that share a key/value head: → `[batch, keys, n_kv_heads, d_head]`.
fn per_kv_head(x: &Tensor, n_kv_heads: usize) -> Result<Tensor> {
    let (batch, n_heads, keys, d_head) = x.dims4()?;
    let x = x
        .reshape((batch, n_kv_heads, n_heads / n_kv_heads, keys, d_head))?
        .sum(2)?;
    x.transpose(1, 2)?.contiguous()
}
