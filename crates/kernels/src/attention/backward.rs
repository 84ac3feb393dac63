//! The reverse pass of attention.
//!
//! Scores of a block of queries are made again, panel by panel of keys, and lie as the products with them read them:
//! `[panel of keys][query][key]`. Gradients by keys and values are summed with their dimensions before their keys.

use super::{Attention, BLOCK, KeyGradients, panels};
use crate::linear::unit::{ACROSS, Portable, ROWS, Register, Sums, Unit, WIDTH};
use crate::vector::{exp, vectorised};
use rayon::prelude::*;
use std::ops::Range;

/// Products of a query with a panel of keys.
type Line = [f32; WIDTH];

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
    #[cfg(target_arch = "x86_64")]
    if let Some(unit) = crate::linear::avx512::F32::new() {
        return run(unit, dz, (q, k, v), shape, keys);
    }
    run(Portable, dz, (q, k, v), shape, keys)
}

/// A task is one query head of one row.
pub(super) fn run<U: Unit>(
    unit: U,
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
    let (seq, n, d_head) = (shape.seq, shape.n_heads, shape.d_head);
    let (q_row, kv_row) = (seq * shape.q_width(), shape.capacity * shape.kv_width());
    let batch = dz.len() / q_row.max(1);
    let of_head = |task: usize| {
        let (row, head) = (task / n, task % n);
        let head = Head {
            unit,
            row,
            index: head,
            dz: &dz[row * q_row..][..q_row],
            q: &q[row * q_row..][..q_row],
            k: &k[row * kv_row..][..kv_row],
            v: &v[row * kv_row..][..kv_row],
            shape,
        };
        head.gradients()
    };
    let tasks = (0..batch * n).into_par_iter().with_max_len(1);
    let heads: Vec<Gradients> = tasks.map(of_head).collect();
    let members = match keys {
        KeyGradients::Summed => shape.group(),
        KeyGradients::Apart => 1,
    };
    let side = |positions, members| Side {
        positions,
        n,
        members,
        d_head,
    };
    let of_keys = side(shape.capacity, members);
    (
        side(seq, 1).interleaved(&heads, |head| &head.dq),
        of_keys.interleaved(&heads, |head| &head.dk),
        of_keys.interleaved(&heads, |head| &head.dv),
    )
}

/// Gradients of a query head of one row, and of the head whose keys it reads.
struct Gradients {
    /// `[seq, d_head]`
    dq: Vec<f32>,
    /// `[capacity, d_head]`
    dk: Vec<f32>,
    /// `[capacity, d_head]`
    dv: Vec<f32>,
}

/// How heads stand beside each other in a result.
struct Side {
    positions: usize,
    /// Heads there are, and how many neighbours are summed.
    n: usize,
    members: usize,
    d_head: usize,
}

impl Side {
    /// `[batch * n][positions, d_head]` → `[batch, positions, n / members, d_head]`.
    fn interleaved<'a>(
        &self,
        heads: &'a [Gradients],
        field: impl Fn(&'a Gradients) -> &'a Vec<f32> + Sync,
    ) -> Vec<f32> {
        let (width, batch) = (self.n / self.members * self.d_head, heads.len() / self.n);
        let mut out = vec![0.0; batch * self.positions * width];
        let tokens = out.par_chunks_mut(width).with_min_len(64).enumerate();
        tokens.for_each(|(token, out)| {
            let (row, position) = (token / self.positions, token % self.positions);
            for head in 0..self.n {
                let from = &field(&heads[row * self.n + head])[position * self.d_head..];
                let to = &mut out[head / self.members * self.d_head..][..self.d_head];
                for (to, from) in to.iter_mut().zip(from) {
                    *to += from;
                }
            }
        });
        out
    }
}

/// One query head of one row of the batch.
struct Head<'a, U> {
    unit: U,
    row: usize,
    /// Number of the head among those of the queries.
    index: usize,
    /// `[seq, n_heads, d_head]`
    dz: &'a [f32],
    /// `[seq, n_heads, d_head]`
    q: &'a [f32],
    /// `[capacity, n_kv_heads, d_head]`
    k: &'a [f32],
    /// `[capacity, n_kv_heads, d_head]`
    v: &'a [f32],
    shape: Attention<'a>,
}

/// What blocks of queries of one head read and add to.
struct Keys {
    /// Keys and values, dimensions before positions.
    k: Vec<Register>,
    v: Vec<Register>,
    /// Keys, positions before dimensions.
    rows: Vec<Register>,
    /// Gradients by them, `[panel, d_head]`.
    dk: Vec<Line>,
    dv: Vec<Line>,
}

/// A block of queries with the panels of keys that it sees.
struct Block {
    queries: Range<usize>,
    panels: Range<usize>,
}

impl<U: Unit> Head<'_, U> {
    fn gradients(&self) -> Gradients {
        let (seq, d_head, capacity) = (self.shape.seq, self.shape.d_head, self.shape.capacity);
        let panels = capacity.div_ceil(WIDTH);
        let mut keys = Keys {
            k: Vec::new(),
            v: Vec::new(),
            rows: Vec::new(),
            dk: vec![[0.0; WIDTH]; panels * d_head],
            dv: vec![[0.0; WIDTH]; panels * d_head],
        };
        let of = |from| move |key| self.of_key(from, key);
        panels::turned(self.unit, (of(self.k), d_head), &(0..capacity), &mut keys.k);
        panels::turned(self.unit, (of(self.v), d_head), &(0..capacity), &mut keys.v);
        panels::upright((of(self.k), d_head), &(0..capacity), &mut keys.rows);
        let mut dq = vec![0.0; seq * d_head];
        let (mut weights, mut d_scores) = (Vec::new(), Vec::new());
        for start in (0..seq).step_by(BLOCK) {
            let queries = start..(start + BLOCK).min(seq);
            let seen = self.shape.seen_by_block(self.row, queries.clone());
            let panels = seen.start / WIDTH..seen.end.div_ceil(WIDTH);
            let dq = &mut dq[start * d_head..queries.end * d_head];
            let block = Block { queries, panels };
            self.products(&block, self.q, &keys.k, &mut weights);
            self.products(&block, self.dz, &keys.v, &mut d_scores);
            self.through_softmax(&block, &mut weights, &mut d_scores);
            self.add_to_queries(&block, &d_scores, &keys.rows, dq);
            self.add_to_keys(&block, self.q, &d_scores, &mut keys.dk);
            self.add_to_keys(&block, self.dz, &weights, &mut keys.dv);
        }
        Gradients {
            dq,
            dk: self.positions_first(&keys.dk),
            dv: self.positions_first(&keys.dv),
        }
    }

    /// A query's part of `q` or `dz`.
    fn of_query<'s>(&self, from: &'s [f32], query: usize) -> &'s [f32] {
        let at = (query * self.shape.n_heads + self.index) * self.shape.d_head;
        &from[at..at + self.shape.d_head]
    }

    /// A key's part of `k` or `v`.
    fn of_key<'s>(&self, from: &'s [f32], key: usize) -> &'s [f32] {
        let at =
            (key * self.shape.n_kv_heads + self.index / self.shape.group()) * self.shape.d_head;
        &from[at..at + self.shape.d_head]
    }

    /// Products of each query's part of `x` with every key of the block's panels: `[panel][query]` of lines.
    fn products(&self, block: &Block, x: &[f32], keys: &[Register], to: &mut Vec<Line>) {
        let (queries, d_head) = (&block.queries, self.shape.d_head);
        to.resize(block.panels.len() * queries.len(), [0.0; WIDTH]);
        let panels = keys
            .chunks_exact(panels::depth(d_head))
            .skip(block.panels.start);
        for (to, panel) in to.chunks_exact_mut(queries.len()).zip(panels) {
            let panel = &panel.as_chunks().0[..d_head];
            let rows = |i: usize| bytemuck::cast_slice(self.of_query(x, queries.start + i));
            self.multiply(queries.len(), rows, panel, |i, sums| to[i] = *sums);
        }
    }

    /// Sums over the cells of each of some rows and those of a panel.
    fn multiply<'s>(
        &self,
        count: usize,
        row: impl Fn(usize) -> &'s [u32],
        panel: &[[Register; ACROSS]],
        mut put: impl FnMut(usize, &Line),
    ) {
        for first in (0..count).step_by(ROWS) {
            // Of rows that are missing the last one stands in.
            let x = std::array::from_fn(|r| row((first + r).min(count - 1)));
            let sums: Sums<ROWS> = self.unit.segment(x, panel);
            for (r, sums) in sums.iter().enumerate().take(count - first) {
                put(first + r, sums);
            }
        }
    }

    /// Scores become weights, and gradients by the weights gradients by what scores are before their factor.
    fn through_softmax(&self, block: &Block, weights: &mut [Line], gradients: &mut [Line]) {
        let (queries, scale) = (block.queries.clone(), self.shape.scale);
        let first = block.panels.start * WIDTH;
        let n = queries.len();
        vectorised(
            #[inline(always)]
            || {
                for (i, query) in queries.enumerate() {
                    let seen = self.shape.seen(self.row, query);
                    let seen = seen.start - first..seen.end - first;
                    let lines = weights[i..].iter_mut().step_by(n);
                    let share = 1.0 / exponentials(lines, &seen, scale);
                    let mut mean = [0.0; WIDTH];
                    let pairs = weights[i..].iter_mut().step_by(n);
                    let pairs = pairs.zip(gradients[i..].iter().step_by(n));
                    for (weights, gradients) in pairs {
                        for ((mean, w), g) in mean.iter_mut().zip(weights).zip(gradients) {
                            *w *= share;
                            *mean += *w * g;
                        }
                    }
                    let mean: f32 = mean.iter().sum();
                    let pairs = gradients[i..].iter_mut().step_by(n);
                    for (gradients, weights) in pairs.zip(weights[i..].iter().step_by(n)) {
                        for (g, w) in gradients.iter_mut().zip(weights) {
                            *g = scale * w * (*g - mean);
                        }
                    }
                }
            },
        );
    }

    /// dq ← Σ over keys of ds·k, `[queries, d_head]`.
    fn add_to_queries(&self, block: &Block, d_scores: &[Line], rows: &[Register], dq: &mut [f32]) {
        let (n, d_head, capacity) = (block.queries.len(), self.shape.d_head, self.shape.capacity);
        let lines = block.panels.clone().zip(d_scores.chunks_exact(n));
        for (panel, lines) in lines {
            let keys = panel * WIDTH..((panel + 1) * WIDTH).min(capacity);
            let parts = rows.chunks_exact(capacity * ACROSS);
            for (first, part) in (0..d_head).step_by(WIDTH).zip(parts) {
                let part = &part.as_chunks().0[keys.clone()];
                let row = |i: usize| bytemuck::cast_slice(&lines[i][..keys.len()]);
                self.multiply(n, row, part, |i, sums| {
                    let to = &mut dq[i * d_head..][first..(first + WIDTH).min(d_head)];
                    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                });
            }
        }
    }

    /// gradient ← gradient + Σ over queries of x·lines, `[panel, d_head]`.
    fn add_to_keys(&self, block: &Block, x: &[f32], lines: &[Line], gradient: &mut [Line]) {
        let (n, d_head) = (block.queries.len(), self.shape.d_head);
        let mut turned = Vec::new();
        let of_query = |query| self.of_query(x, query);
        panels::turned(self.unit, (of_query, d_head), &block.queries, &mut turned);
        let x: &[u32] = bytemuck::cast_slice(&turned);
        let gradient = &mut gradient[block.panels.start * d_head..];
        let panels = gradient.chunks_exact_mut(d_head).zip(lines.chunks_exact(n));
        let mut panel = vec![[Register::ZERO; ACROSS]; n];
        for (gradient, lines) in panels {
            bytemuck::cast_slice_mut(&mut panel).copy_from_slice(lines.as_flattened());
            let row = |c: usize| &x[c * WIDTH..][..n];
            self.multiply(d_head, row, &panel, |c, sums| {
                let to = gradient[c].iter_mut();
                to.zip(sums).for_each(|(to, sum)| *to += sum);
            });
        }
    }

    /// `[panel, d_head]` of lines → `[capacity, d_head]`.
    fn positions_first(&self, lines: &[Line]) -> Vec<f32> {
        let d_head = self.shape.d_head;
        let mut out = vec![0.0; self.shape.capacity * d_head];
        let panels = out
            .chunks_mut(WIDTH * d_head)
            .zip(lines.chunks_exact(d_head));
        for (out, lines) in panels {
            for (j, out) in out.chunks_exact_mut(d_head).enumerate() {
                for (to, line) in out.iter_mut().zip(lines) {
                    *to = line[j];
                }
            }
        }
        out
    }
}

/// Scores in lines become e^(scale·s − largest) where they are `seen`, and 0 elsewhere; returns their sum.
#[inline(always)]
fn exponentials<'a>(
    lines: impl Iterator<Item = &'a mut Line>,
    seen: &Range<usize>,
    scale: f32,
) -> f32 {
    let mut lines: Vec<&mut Line> = lines.collect();
    let mut largest = [f32::NEG_INFINITY; WIDTH];
    for (panel, line) in lines.iter_mut().enumerate() {
        line.iter_mut().for_each(|score| *score *= scale);
        mask(line, panel, seen, f32::NEG_INFINITY);
        for (largest, score) in largest.iter_mut().zip(line.iter()) {
            *largest = if *score > *largest { *score } else { *largest };
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; WIDTH];
    for (panel, line) in lines.iter_mut().enumerate() {
        for score in line.iter_mut() {
            *score = exp(*score - largest);
        }
        mask(line, panel, seen, 0.0);
        for (sum, value) in sums.iter_mut().zip(line.iter()) {
            *sum += value;
        }
    }
    sums.iter().sum()
}

/// Puts `value` where a line of the `panel`-th panel is not seen.
#[inline(always)]
fn mask(line: &mut Line, panel: usize, seen: &Range<usize>, value: f32) {
    let first = panel * WIDTH;
    line[..seen.start.saturating_sub(first).min(WIDTH)].fill(value);
    line[seen.end.saturating_sub(first).min(WIDTH)..].fill(value);
}
