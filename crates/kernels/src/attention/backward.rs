//! The reverse pass of attention.

use super::{Attention, BLOCK, KeyGradients};
use crate::matmul::{Threads, View, ViewMut, matmul};
use crate::vector::{dot, softmax, vectorised};
use rayon::prelude::*;
use std::ops::Range;

/// One batch row's keys or values for one head, as a `[positions, d_head]` view over `range`.
fn head_view(
    data: &[f32],
    range: Range<usize>,
    width: usize,
    head: usize,
    d_head: usize,
) -> View<'_> {
    View::new(
        &data[range.start * width + head * d_head..],
        range.len(),
        d_head,
        width,
    )
}

/// Gradients of [`super::attention`] by q, k and v from `dz`, where keys and values end with the queries (`capacity` =
/// `offset` + `seq`).
///
/// Shapes as there, but with `n_heads` heads of `dk` and `dv` when these are told apart; returns `(dq, dk, dv)`.
///
/// # Panics
/// When there are keys after the last query.
pub fn attention_backward(
    dz: &[f32],
    (q, k, v): (&[f32], &[f32], &[f32]),
    shape: Attention<'_>,
    keys: KeyGradients,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    assert_eq!(
        shape.capacity,
        shape.offset + shape.seq,
        "keys end with the queries"
    );
    let (seq, q_width, kv_width) = (shape.seq, shape.q_width(), shape.kv_width());
    let batch = dz.len() / (seq * q_width).max(1);
    // A part is one key/value head with all its query heads, or with one of them.
    let n = match keys {
        KeyGradients::Summed => shape.n_kv_heads,
        KeyGradients::Apart => shape.n_heads,
    };
    let members = shape.n_heads / n;
    let mut parts: Vec<HeadGradients> = (0..batch * n)
        .into_par_iter()
        .map(|task| {
            let (row, part) = (task / n, task % n);
            let q_row = row * seq * q_width..(row + 1) * seq * q_width;
            let kv_row = row * shape.capacity * kv_width..(row + 1) * shape.capacity * kv_width;
            let inputs = (
                &dz[q_row.clone()],
                &q[q_row],
                &k[kv_row.clone()],
                &v[kv_row],
            );
            head_gradients(inputs, row, part * members..(part + 1) * members, shape)
        })
        .collect();
    let dq = interleave(
        &mut parts,
        |part| &part.dq,
        (batch, seq, n, members * shape.d_head),
    );
    let keys = (batch, shape.capacity, n, shape.d_head);
    let dk = interleave(&mut parts, |part| &part.dk, keys);
    let dv = interleave(&mut parts, |part| &part.dv, keys);
    (dq, dk, dv)
}

/// Gradients of query heads that share one key/value head, and of that head as they read it, for one row of the batch.
struct HeadGradients {
    /// `[seq, heads, d_head]`
    dq: Vec<f32>,
    /// `[capacity, d_head]`
    dk: Vec<f32>,
    /// `[capacity, d_head]`
    dv: Vec<f32>,
}

fn head_gradients(
    (dz, q, k, v): (&[f32], &[f32], &[f32], &[f32]),
    row: usize,
    heads: Range<usize>,
    shape: Attention<'_>,
) -> HeadGradients {
    let (seq, d_head, group) = (shape.seq, shape.d_head, heads.len());
    let kv_head = heads.start / shape.group();
    let mut out = HeadGradients {
        dq: vec![0.0; seq * group * d_head],
        dk: vec![0.0; shape.capacity * d_head],
        dv: vec![0.0; shape.capacity * d_head],
    };
    let (mut weights, mut d_scores) = (Vec::new(), Vec::new());
    for (member, head) in heads.enumerate() {
        for start in (0..seq).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(seq);
            let keys = shape.seen_by_block(row, block.clone());
            probabilities(&mut weights, q, k, (row, block.clone(), head), shape);
            let dz_block = head_view(dz, block.clone(), shape.q_width(), head, d_head);
            let q_block = head_view(q, block.clone(), shape.q_width(), head, d_head);
            let k_view = head_view(k, keys.clone(), shape.kv_width(), kv_head, d_head);
            let v_view = head_view(v, keys.clone(), shape.kv_width(), kv_head, d_head);
            let (rows, columns) = (block.len(), keys.len());
            d_scores.resize(rows * columns, 0.0);
            matmul(
                ViewMut::new(&mut d_scores, rows, columns, columns),
                false,
                1.0,
                dz_block,
                v_view.transposed(),
                Threads::One,
            );
            softmax_backward(&mut d_scores, &weights, columns);
            let weights = View::new(&weights, rows, columns, columns);
            let d_scores = View::new(&d_scores, rows, columns, columns);
            let dv = ViewMut::new(&mut out.dv[keys.start * d_head..], columns, d_head, d_head);
            matmul(dv, true, 1.0, weights.transposed(), dz_block, Threads::One);
            let dk = ViewMut::new(&mut out.dk[keys.start * d_head..], columns, d_head, d_head);
            matmul(
                dk,
                true,
                shape.scale,
                d_scores.transposed(),
                q_block,
                Threads::One,
            );
            let dq = &mut out.dq[(start * group + member) * d_head..];
            matmul(
                ViewMut::new(dq, rows, d_head, group * d_head),
                false,
                shape.scale,
                d_scores,
                k_view,
                Threads::One,
            );
        }
    }
    out
}

/// Gradient by the scores from the gradient by the weights, in place: ds = w ⊙ (dw − ⟨w, dw⟩) per row.
fn softmax_backward(gradient: &mut [f32], weights: &[f32], columns: usize) {
    vectorised(
        #[inline(always)]
        || {
            for (gradient, weights) in gradient
                .chunks_exact_mut(columns)
                .zip(weights.chunks_exact(columns))
            {
                let mean = dot(gradient, weights);
                for (gradient, weight) in gradient.iter_mut().zip(weights) {
                    *gradient = weight * (*gradient - mean);
                }
            }
        },
    );
}

/// Puts the parts side by side: `[batch][n][seq, width]` → `[batch, seq, n, width]`.
fn interleave<'a>(
    parts: &'a mut [HeadGradients],
    field: impl Fn(&'a HeadGradients) -> &'a Vec<f32> + Sync,
    (batch, seq, n, width): (usize, usize, usize, usize),
) -> Vec<f32> {
    let parts = &*parts;
    let mut out = vec![0.0; batch * seq * n * width];
    out.par_chunks_mut(n * width)
        .with_min_len(64)
        .enumerate()
        .for_each(|(token, out)| {
            let (row, position) = (token / seq, token % seq);
            for (part, out) in out.chunks_exact_mut(width).enumerate() {
                let part = field(&parts[row * n + part]);
                out.copy_from_slice(&part[position * width..][..width]);
            }
        });
    out
}

/// Attention weights of one head's block of queries over the keys the block sees: `[queries, keys]`, zero where masked.
fn probabilities(
    scores: &mut Vec<f32>,
    q: &[f32],
    k: &[f32],
    (row, block, head): (usize, Range<usize>, usize),
    shape: Attention<'_>,
) {
    let keys = shape.seen_by_block(row, block.clone());
    scores.resize(block.len() * keys.len(), 0.0);
    let queries = head_view(q, block.clone(), shape.q_width(), head, shape.d_head);
    let key_view = head_view(
        k,
        keys.clone(),
        shape.kv_width(),
        head / shape.group(),
        shape.d_head,
    );
    let out = ViewMut::new(scores, block.len(), keys.len(), keys.len());
    matmul(
        out,
        false,
        shape.scale,
        queries,
        key_view.transposed(),
        Threads::One,
    );
    vectorised(
        #[inline(always)]
        || {
            for (i, row_scores) in block.zip(scores.chunks_exact_mut(keys.len())) {
                let seen = shape.seen(row, i);
                row_scores[..seen.start - keys.start].fill(0.0);
                row_scores[seen.end - keys.start..].fill(0.0);
                softmax(&mut row_scores[seen.start - keys.start..seen.end - keys.start]);
            }
        },
    );
}
