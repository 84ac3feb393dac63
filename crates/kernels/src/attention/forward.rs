//! The forward pass of attention.

use super::{Attention, BLOCK};
use crate::linear::unit::{Aligned, PANEL, Portable, TILE, Unit, fold};
use crate::vector::exp;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of values whose sums the registers hold for a tile of queries.
const COLUMNS: usize = 64;
/// Lanes of the sums over keys.
const LANES: usize = 16;

/// z ← softmax(q·kᵀ·scale)·v per head.
///
/// `q, z [batch, seq, n_heads, d_head]`; `k, v [batch, capacity, n_kv_heads, d_head]`, filled up to `offset + seq`.
///
/// # Panics
/// When a slice is shorter than its shape.
pub fn attention(z: &mut [f32], q: &[f32], k: &[f32], v: &[f32], shape: Attention<'_>) {
    let d_head = shape.d_head;
    if d_head.is_multiple_of(LANES) {
        return with_unit(z, (q, k, v), d_head, shape);
    }
    // Lines of whole registers: zeros behind a head add nothing to its products.
    let width = d_head.next_multiple_of(LANES);
    let (q, k) = (padded(q, d_head, width), padded(k, d_head, width));
    with_unit(z, (&q, &k, v), width, shape);
}

fn padded(x: &[f32], d_head: usize, width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / d_head * width];
    for (to, from) in out.chunks_exact_mut(width).zip(x.chunks_exact(d_head)) {
        to[..d_head].copy_from_slice(from);
    }
    out
}

fn with_unit(z: &mut [f32], qkv: (&[f32], &[f32], &[f32]), width: usize, shape: Attention<'_>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(unit) = crate::linear::avx512::F32::new() {
        return run(unit, z, qkv, width, shape);
    }
    run(Portable, z, qkv, width, shape);
}

/// A task is a block of queries of one row with all their heads; in decoding, the heads of one row that share keys.
pub(super) fn run<U: Unit<Line = [f32; 16]>>(
    unit: U,
    z: &mut [f32],
    (q, k, v): (&[f32], &[f32], &[f32]),
    width: usize,
    shape: Attention<'_>,
) {
    let (seq, group, n_kv) = (shape.seq, shape.group(), shape.n_kv_heads);
    let row = |row: usize| Row {
        unit,
        index: row,
        q: &q[row * seq * shape.n_heads * width..][..seq * shape.n_heads * width],
        k: &k[row * shape.capacity * n_kv * width..][..shape.capacity * n_kv * width],
        v: &v[row * shape.capacity * shape.kv_width()..][..shape.capacity * shape.kv_width()],
        width,
        shape,
    };
    if seq == 1 {
        let tasks = z.par_chunks_mut(group * shape.d_head).enumerate();
        tasks.for_each_init(Room::default, |room, (task, z)| {
            let heads = task % n_kv * group;
            row(task / n_kv).heads(z, (0..1, heads, group), task % n_kv, room);
        });
        return;
    }
    let rows = z.par_chunks_mut(seq * shape.q_width()).enumerate();
    rows.for_each(|(index, z)| {
        let blocks = z.par_chunks_mut(BLOCK * shape.q_width()).enumerate();
        blocks.for_each_init(Room::default, |room, (block, z)| {
            let first = block * BLOCK;
            let queries = first..first + z.len() / shape.q_width();
            for kv_head in 0..n_kv {
                row(index).heads(z, (queries.clone(), 0, shape.n_heads), kv_head, room);
            }
        });
    });
}

/// Memory of a task, used again.
#[derive(Default)]
struct Room {
    /// Scores of a tile of queries, then what their softmax has before it is divided by its sum.
    scores: [Vec<f32>; TILE],
    panel: Vec<Aligned<[f32; 16]>>,
}

/// One row of the batch.
struct Row<'a, U> {
    unit: U,
    index: usize,
    /// `[seq, n_heads, width]`
    q: &'a [f32],
    /// `[capacity, n_kv_heads, width]`
    k: &'a [f32],
    /// `[capacity, n_kv_heads, d_head]`
    v: &'a [f32],
    /// Width of a head of `q` and `k` in memory: whole lines.
    width: usize,
    shape: Attention<'a>,
}

/// One query of one head: its position among the queries, its head.
type Query = (usize, usize);

impl<U: Unit<Line = [f32; 16]>> Row<'_, U> {
    /// The heads that share `kv_head`, of a block of queries: `z [queries, heads of z from first_head on, d_head]`.
    fn heads(
        &self,
        z: &mut [f32],
        (queries, first_head, z_heads): (Range<usize>, usize, usize),
        kv_head: usize,
        room: &mut Room,
    ) {
        let (d_head, group) = (self.shape.d_head, self.shape.group());
        let start = queries.start;
        let all: Vec<Query> = queries
            .flat_map(|i| (kv_head * group..(kv_head + 1) * group).map(move |head| (i, head)))
            .collect();
        let mut place = |(i, head): Query, values: &[f32]| {
            let at = ((i - start) * z_heads + head - first_head) * d_head;
            z[at..at + d_head].copy_from_slice(values);
        };
        let padding = |query: &&Query| self.shape.offset + query.0 < self.shape.starts[self.index];
        let (blind, seeing) = all.split_at(all.iter().take_while(padding).count());
        for query in blind {
            let at = ((self.shape.offset + query.0) * self.shape.n_kv_heads + kv_head) * d_head;
            place(*query, &self.v[at..at + d_head]);
        }
        for tile in seeing.chunks(TILE) {
            match *tile {
                [a, b, c] => self.tile([a, b, c], kv_head, room, &mut place),
                [a, b] => self.tile([a, b], kv_head, room, &mut place),
                [a] => self.tile([a], kv_head, room, &mut place),
                _ => unreachable!("chunks of one to three"),
            }
        }
    }

    /// A few queries over the keys that any of them sees.
    fn tile<const R: usize>(
        &self,
        queries: [Query; R],
        kv_head: usize,
        room: &mut Room,
        place: &mut impl FnMut(Query, &[f32]),
    ) {
        let seen = queries.map(|query| self.shape.seen(self.index, query.0));
        let first = seen.iter().map(|seen| seen.start).min().unwrap_or(0);
        let end = seen.iter().map(|seen| seen.end).max().unwrap_or(0);
        // Lanes are numbered from the first real key: where a window begins does not move them.
        let base = self.shape.starts[self.index];
        let keys = base + (first - base) / LANES * LANES..end;
        self.scores(queries, kv_head, keys.clone(), room);
        let mut sums = [0.0; R];
        for ((sum, scores), seen) in sums.iter_mut().zip(&mut room.scores).zip(&seen) {
            let seen = seen.start - keys.start..seen.end - keys.start;
            let (scale, cap) = (self.shape.scale, self.shape.softcap);
            *sum = Arch::new().dispatch(Softmax {
                scores,
                seen,
                scale,
                cap,
            });
        }
        let d_head = self.shape.d_head;
        let mut out = vec![0.0; R * d_head];
        self.weighted(&mut out, &room.scores, kv_head, keys);
        for ((query, out), sum) in queries.iter().zip(out.chunks_exact_mut(d_head)).zip(sums) {
            for value in out.iter_mut() {
                *value /= sum;
            }
            place(*query, out);
        }
    }

    /// q·k of some queries with all `keys`, filled up to whole lanes.
    fn scores<const R: usize>(
        &self,
        queries: [Query; R],
        kv_head: usize,
        keys: Range<usize>,
        room: &mut Room,
    ) {
        let x = queries.map(|(i, head)| {
            let at = (i * self.shape.n_heads + head) * self.width;
            self.q[at..at + self.width].as_chunks().0
        });
        let stride = self.shape.n_kv_heads * self.width;
        room.panel
            .resize(PANEL * self.width / LANES, Aligned([0.0; 16]));
        for scores in &mut room.scores[..R] {
            scores.resize(keys.len().next_multiple_of(LANES), 0.0);
        }
        for first in keys.clone().step_by(PANEL) {
            let rows = std::array::from_fn(|j| {
                let key = (first + j).min(keys.end - 1);
                &self.k[key * stride + kv_head * self.width..][..self.width]
            });
            let products = self.unit.direct(x, rows, PANEL * stride, &mut room.panel);
            for (scores, products) in room.scores.iter_mut().zip(&products) {
                scores[first - keys.start..][..PANEL].copy_from_slice(products);
            }
        }
    }

    /// Σ weight·v over `keys` for each of the queries: `out [queries, d_head]`.
    fn weighted(
        &self,
        out: &mut [f32],
        weights: &[Vec<f32>; TILE],
        kv_head: usize,
        keys: Range<usize>,
    ) {
        let (d_head, stride) = (self.shape.d_head, self.shape.kv_width());
        for column in (0..d_head).step_by(COLUMNS) {
            let columns = column..(column + COLUMNS).min(d_head);
            let values = &self.v[keys.start * stride + kv_head * d_head..];
            let n_keys = keys.len();
            let sums = Arch::new().dispatch(Weighted {
                weights,
                values,
                stride,
                n_keys,
                columns: columns.clone(),
            });
            for (out, sums) in out.chunks_exact_mut(d_head).zip(&sums) {
                out[columns.clone()].copy_from_slice(&sums[..columns.len()]);
            }
        }
    }
}

/// Turns scores of the keys `seen` into e^(s − largest), of others into 0; returns the sum.
struct Softmax<'a> {
    scores: &'a mut [f32],
    seen: Range<usize>,
    scale: f32,
    cap: Option<f32>,
}

impl NullaryFnOnce for Softmax<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        self.scores[..self.seen.start].fill(0.0);
        self.scores[self.seen.end..].fill(0.0);
        let seen = &mut self.scores[self.seen.clone()];
        for score in seen.iter_mut() {
            *score *= self.scale;
        }
        if let Some(cap) = self.cap {
            for score in seen.iter_mut() {
                // cap·tanh(s/cap)
                *score = cap * (2.0 / (1.0 + exp(-2.0 / cap * *score)) - 1.0);
            }
        }
        let largest = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for score in seen.iter_mut() {
            *score = exp(*score - largest);
        }
        let mut lanes = [0f32; LANES];
        for line in self.scores.as_chunks::<LANES>().0 {
            for (lane, value) in lanes.iter_mut().zip(line) {
                *lane += value;
            }
        }
        fold(&lanes)
    }
}

/// Sums of values, for a tile of queries and some columns.
struct Weighted<'a> {
    weights: &'a [Vec<f32>; TILE],
    /// From the first key on.
    values: &'a [f32],
    stride: usize,
    n_keys: usize,
    columns: Range<usize>,
}

impl NullaryFnOnce for Weighted<'_> {
    type Output = [[f32; COLUMNS]; TILE];

    #[inline(always)]
    fn call(self) -> Self::Output {
        let mut sums = [[0f32; COLUMNS]; TILE];
        let n = self.n_keys;
        // A tile of fewer queries computes what it does not use.
        let weights: [&[f32]; TILE] =
            std::array::from_fn(|r| self.weights[r].get(..n).unwrap_or(&self.weights[0][..n]));
        for key in 0..n {
            let values =
                &self.values[key * self.stride + self.columns.start..][..self.columns.len()];
            let weights: [f32; TILE] = std::array::from_fn(|r| weights[r][key]);
            match values.as_array::<COLUMNS>() {
                Some(values) => add(&mut sums, weights, values),
                None => add(&mut sums, weights, values),
            }
        }
        sums
    }
}

#[inline(always)]
fn add(sums: &mut [[f32; COLUMNS]; TILE], weights: [f32; TILE], values: &[f32]) {
    for (sums, weight) in sums.iter_mut().zip(weights) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = weight.mul_add(*value, *sum);
        }
    }
}
