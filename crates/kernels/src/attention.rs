//! Softmax attention with grouped key/value heads: causal, sliding-window, left-padded, over a key/value cache.
//!
//! Scores are made block by block and never kept; the reverse pass makes them again.

use crate::matmul::{Threads, View, ViewMut, matmul};
use crate::vector::{add_scaled, dot, softmax, vectorised};
use rayon::prelude::*;

/// Query rows whose scores are made together.
const BLOCK: usize = 64;

/// Shapes and masks of one attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention<'a> {
    /// Query positions per row of the batch.
    pub seq: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Key position of the first query: how many positions the cache held before.
    pub offset: usize,
    /// Positions for which keys and values have room, per row of the batch.
    pub capacity: usize,
    /// Factor on the scores, `1/√d_head` as a rule.
    pub scale: f32,
    /// A query sees the last `window` positions including its own; all when absent.
    pub window: Option<usize>,
    /// `[batch]`: first real key position of each row (left padding).
    pub starts: &'a [usize],
}

impl Attention<'_> {
    /// Key positions that query `i` of batch row `row` sees. A padding query sees itself, so that nothing divides by zero.
    fn seen(&self, row: usize, i: usize) -> std::ops::Range<usize> {
        let own = self.offset + i;
        let first = self
            .window
            .map_or(0, |window| (own + 1).saturating_sub(window));
        first.max(self.starts[row]).min(own)..own + 1
    }

    /// Key positions that some query of a block sees.
    fn seen_by_block(&self, row: usize, block: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let start = block
            .clone()
            .map(|i| self.seen(row, i).start)
            .min()
            .unwrap_or(0);
        start..self.offset + block.end
    }

    fn q_width(&self) -> usize {
        self.n_heads * self.d_head
    }

    fn kv_width(&self) -> usize {
        self.n_kv_heads * self.d_head
    }

    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }
}

/// One batch row's keys or values for one head, as a `[positions, d_head]` view over `range`.
fn head_view(
    data: &[f32],
    range: std::ops::Range<usize>,
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

/// z ← softmax(q·kᵀ·scale)·v per head.
///
/// `q, z [batch, seq, n_heads, d_head]`; `k, v [batch, capacity, n_kv_heads, d_head]`, filled up to `offset + seq`.
///
/// # Panics
/// When a slice is shorter than its shape.
pub fn attention(z: &mut [f32], q: &[f32], k: &[f32], v: &[f32], shape: Attention<'_>) {
    let row_width = shape.seq * shape.q_width();
    let cache_width = shape.capacity * shape.kv_width();
    z.par_chunks_mut(row_width)
        .enumerate()
        .for_each(|(row, z)| {
            let (k, v) = (
                &k[row * cache_width..][..cache_width],
                &v[row * cache_width..][..cache_width],
            );
            let q = &q[row * row_width..][..row_width];
            z.par_chunks_mut(BLOCK * shape.q_width())
                .enumerate()
                .for_each_init(Vec::new, |scores, (block, z)| {
                    let block = block * BLOCK..(block * BLOCK + z.len() / shape.q_width());
                    if shape.seq == 1 {
                        vectorised(|| {
                            single_query(z, q, (k, v), scores, shape.seen(row, 0), shape);
                        });
                    } else {
                        block_of_queries(z, q, (k, v), scores, (row, block), shape);
                    }
                });
        });
}

/// The decoding step: one query, so the products are vector by matrix.
#[inline(always)]
fn single_query(
    z: &mut [f32],
    q: &[f32],
    (k, v): (&[f32], &[f32]),
    scores: &mut Vec<f32>,
    seen: std::ops::Range<usize>,
    shape: Attention<'_>,
) {
    let (d_head, width) = (shape.d_head, shape.kv_width());
    for head in 0..shape.n_heads {
        let q = &q[head * d_head..][..d_head];
        let at = |position: usize| position * width + head / shape.group() * d_head;
        scores.clear();
        scores.extend(
            seen.clone()
                .map(|position| dot(q, &k[at(position)..][..d_head]) * shape.scale),
        );
        softmax(scores);
        let z = &mut z[head * d_head..][..d_head];
        z.fill(0.0);
        for (position, weight) in seen.clone().zip(scores.iter()) {
            add_scaled(z, *weight, &v[at(position)..][..d_head]);
        }
    }
}

fn block_of_queries(
    z: &mut [f32],
    q: &[f32],
    (k, v): (&[f32], &[f32]),
    scores: &mut Vec<f32>,
    (row, block): (usize, std::ops::Range<usize>),
    shape: Attention<'_>,
) {
    let keys = shape.seen_by_block(row, block.clone());
    for head in 0..shape.n_heads {
        probabilities(scores, q, k, (row, block.clone(), head), shape);
        let values = head_view(
            v,
            keys.clone(),
            shape.kv_width(),
            head / shape.group(),
            shape.d_head,
        );
        let weights = View::new(scores, block.len(), keys.len(), keys.len());
        let z = ViewMut::new(
            &mut z[head * shape.d_head..],
            block.len(),
            shape.d_head,
            shape.q_width(),
        );
        matmul(z, false, 1.0, weights, values, Threads::One);
    }
}

/// Attention weights of one head's block of queries over the keys the block sees: `[queries, keys]`, zero where masked.
fn probabilities(
    scores: &mut Vec<f32>,
    q: &[f32],
    k: &[f32],
    (row, block, head): (usize, std::ops::Range<usize>, usize),
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
    vectorised(|| {
        for (i, row_scores) in block.zip(scores.chunks_exact_mut(keys.len())) {
            let seen = shape.seen(row, i);
            row_scores[..seen.start - keys.start].fill(0.0);
            row_scores[seen.end - keys.start..].fill(0.0);
            softmax(&mut row_scores[seen.start - keys.start..seen.end - keys.start]);
        }
    });
}

/// Gradients of [`attention`] without a cache (`offset` 0, `capacity` = `seq`) by q, k and v from `dz`.
///
/// Shapes as there; returns `(dq, dk, dv)`.
///
/// # Panics
/// When there is a cache.
pub fn attention_backward(
    dz: &[f32],
    (q, k, v): (&[f32], &[f32], &[f32]),
    shape: Attention<'_>,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    assert_eq!(
        (shape.offset, shape.capacity),
        (0, shape.seq),
        "the reverse pass runs without a cache"
    );
    let (seq, q_width, kv_width) = (shape.seq, shape.q_width(), shape.kv_width());
    let batch = dz.len() / (seq * q_width).max(1);
    let group_width = shape.group() * shape.d_head;
    let mut parts: Vec<HeadGradients> = (0..batch * shape.n_kv_heads)
        .into_par_iter()
        .map(|task| {
            let (row, kv_head) = (task / shape.n_kv_heads, task % shape.n_kv_heads);
            let q_row = row * seq * q_width..(row + 1) * seq * q_width;
            let kv_row = row * seq * kv_width..(row + 1) * seq * kv_width;
            let inputs = (
                &dz[q_row.clone()],
                &q[q_row],
                &k[kv_row.clone()],
                &v[kv_row],
            );
            head_gradients(inputs, (row, kv_head), shape)
        })
        .collect();
    let dq = interleave(
        &mut parts,
        |part| &part.dq,
        (batch, seq, shape.n_kv_heads, group_width),
    );
    let dk = interleave(
        &mut parts,
        |part| &part.dk,
        (batch, seq, shape.n_kv_heads, shape.d_head),
    );
    let dv = interleave(
        &mut parts,
        |part| &part.dv,
        (batch, seq, shape.n_kv_heads, shape.d_head),
    );
    (dq, dk, dv)
}

/// Gradients of one key/value head and of the query heads that share it, for one row of the batch.
struct HeadGradients {
    /// `[seq, group, d_head]`
    dq: Vec<f32>,
    /// `[seq, d_head]`
    dk: Vec<f32>,
    /// `[seq, d_head]`
    dv: Vec<f32>,
}

fn head_gradients(
    (dz, q, k, v): (&[f32], &[f32], &[f32], &[f32]),
    (row, kv_head): (usize, usize),
    shape: Attention<'_>,
) -> HeadGradients {
    let (seq, d_head, group) = (shape.seq, shape.d_head, shape.group());
    let zeros = |width: usize| vec![0.0; seq * width];
    let mut out = HeadGradients {
        dq: zeros(group * d_head),
        dk: zeros(d_head),
        dv: zeros(d_head),
    };
    let (mut weights, mut d_scores) = (Vec::new(), Vec::new());
    for member in 0..group {
        let head = kv_head * group + member;
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
    vectorised(|| {
        for (gradient, weights) in gradient
            .chunks_exact_mut(columns)
            .zip(weights.chunks_exact(columns))
        {
            let mean = dot(gradient, weights);
            for (gradient, weight) in gradient.iter_mut().zip(weights) {
                *gradient = weight * (*gradient - mean);
            }
        }
    });
}

/// Puts the parts of the key/value heads side by side: `[batch][n_kv_heads][seq, width]` → `[batch, seq, n_kv_heads, width]`.
fn interleave<'a>(
    parts: &'a mut [HeadGradients],
    field: impl Fn(&'a HeadGradients) -> &'a Vec<f32> + Sync,
    (batch, seq, n_kv_heads, width): (usize, usize, usize, usize),
) -> Vec<f32> {
    let parts = &*parts;
    let mut out = vec![0.0; batch * seq * n_kv_heads * width];
    out.par_chunks_mut(n_kv_heads * width)
        .with_min_len(64)
        .enumerate()
        .for_each(|(token, out)| {
            let (row, position) = (token / seq, token % seq);
            for (kv_head, out) in out.chunks_exact_mut(width).enumerate() {
                let part = field(&parts[row * n_kv_heads + kv_head]);
                out.copy_from_slice(&part[position * width..][..width]);
            }
        });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 16) as f32 / 32_768.0
                    - 1.0
            })
            .collect()
    }

    /// The definition, in f64.
    fn plain(q: &[f32], k: &[f32], v: &[f32], shape: Attention<'_>) -> Vec<f64> {
        let (d, qw, kw) = (shape.d_head, shape.q_width(), shape.kv_width());
        let batch = shape.starts.len();
        let mut z = vec![0.0; batch * shape.seq * qw];
        for row in 0..batch {
            for i in 0..shape.seq {
                for head in 0..shape.n_heads {
                    let key = |j: usize, c: usize| {
                        (row * shape.capacity + j) * kw + head / shape.group() * d + c
                    };
                    let query = |c: usize| (row * shape.seq + i) * qw + head * d + c;
                    let score = |j: usize| {
                        (0..d)
                            .map(|c| f64::from(q[query(c)]) * f64::from(k[key(j, c)]))
                            .sum::<f64>()
                            * f64::from(shape.scale)
                    };
                    let seen = shape.seen(row, i);
                    let total: f64 = seen.clone().map(|j| score(j).exp()).sum();
                    for j in seen {
                        for c in 0..d {
                            z[query(c)] += score(j).exp() / total * f64::from(v[key(j, c)]);
                        }
                    }
                }
            }
        }
        z
    }

    proptest! {
        #[test]
        fn attention_is_its_definition(seq in 1usize..90, group in 1usize..4, kv in 1usize..3, pad in 0usize..3, window in 0usize..9, offset in 0usize..5) {
            let starts = [0, pad.min(offset + seq - 1)];
            let shape = Attention {
                seq, n_heads: group * kv, n_kv_heads: kv, d_head: 6, offset, capacity: offset + seq + 2, scale: 0.4,
                window: (window > 0).then_some(window), starts: &starts,
            };
            let q = values(2 * seq * shape.q_width(), 1);
            let (k, v) = (values(2 * shape.capacity * shape.kv_width(), 2), values(2 * shape.capacity * shape.kv_width(), 3));
            let mut z = vec![0.0; q.len()];
            attention(&mut z, &q, &k, &v, shape);
            for (ours, wanted) in z.iter().zip(plain(&q, &k, &v, shape)) {
                prop_assert!((f64::from(*ours) - wanted).abs() < 1e-5);
            }
        }

        #[test]
        fn the_gradients_are_the_slopes(seq in 1usize..70, group in 1usize..3, window in 0usize..5, probe in 0usize..1000) {
            let starts = [0, 1.min(seq - 1)];
            let shape = Attention {
                seq, n_heads: 2 * group, n_kv_heads: 2, d_head: 4, offset: 0, capacity: seq, scale: 0.5,
                window: (window > 0).then_some(window), starts: &starts,
            };
            let inputs = [values(2 * seq * shape.q_width(), 1), values(2 * seq * shape.kv_width(), 2), values(2 * seq * shape.kv_width(), 3)];
            let dz = values(inputs[0].len(), 4);
            let (dq, dk, dv) = attention_backward(&dz, (&inputs[0], &inputs[1], &inputs[2]), shape);
            for (which, gradient) in [dq, dk, dv].iter().enumerate() {
                let at = probe % gradient.len();
                let value = |h: f32| {
                    let mut moved = inputs.clone();
                    moved[which][at] += h;
                    let z = plain(&moved[0], &moved[1], &moved[2], shape);
                    z.iter().zip(&dz).map(|(z, d)| z * f64::from(*d)).sum::<f64>()
                };
                let slope = (value(1e-2) - value(-1e-2)) / 2e-2;
                prop_assert!((slope - f64::from(gradient[at])).abs() < 2e-3, "{which}: {slope} {}", gradient[at]);
            }
        }
    }
}
