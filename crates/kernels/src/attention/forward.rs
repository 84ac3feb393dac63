//! The forward pass of attention.
//!
//! Rows are queries of all heads that share keys. A few of them at a time are multiplied with panels of keys, sixteen keys
//! a register, then their weights with panels of values; every sum runs over one value, or one key, after another.

use super::{Attention, BLOCK, panels};
use crate::linear::unit::{ACROSS, LANES, Portable, ROWS, Register, Sums, Unit, WIDTH};
use crate::vector::{exp, largest};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use std::ops::Range;

/// z ← softmax(q·kᵀ·scale)·v per head.
///
/// `q, z [batch, seq, n_heads, d_head]`; `k, v [batch, capacity, n_kv_heads, d_head]`, filled up to `offset + seq`.
///
/// # Panics
/// When a slice is shorter than its shape.
pub fn attention(z: &mut [f32], q: &[f32], k: &[f32], v: &[f32], shape: Attention<'_>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(unit) = crate::linear::avx512::F32::new() {
        return run(unit, z, (q, k, v), shape);
    }
    run(Portable, z, (q, k, v), shape);
}

/// A task is a block of queries of one row with all their heads; in decoding, the heads of one row that share keys.
pub(super) fn run<U: Unit>(
    unit: U,
    z: &mut [f32],
    (q, k, v): (&[f32], &[f32], &[f32]),
    shape: Attention<'_>,
) {
    let (seq, group, n_kv) = (shape.seq, shape.group(), shape.n_kv_heads);
    let (q_row, kv_row) = (seq * shape.q_width(), shape.capacity * shape.kv_width());
    let row = |row: usize| Row {
        unit,
        index: row,
        q: &q[row * q_row..][..q_row],
        k: &k[row * kv_row..][..kv_row],
        v: &v[row * kv_row..][..kv_row],
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
    let rows = z.par_chunks_mut(q_row).enumerate();
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
    /// `[panel of keys, value]` of registers, sixteen keys each.
    keys: Vec<Register>,
    /// `[panel of values, key]` of registers, sixteen values each.
    values: Vec<Register>,
    /// Scores of a tile of queries, then what their softmax has before it is divided by its sum.
    scores: [Vec<f32>; ROWS],
}

/// One row of the batch.
struct Row<'a, U> {
    unit: U,
    index: usize,
    /// `[seq, n_heads, d_head]`
    q: &'a [f32],
    /// `[capacity, n_kv_heads, d_head]`
    k: &'a [f32],
    /// `[capacity, n_kv_heads, d_head]`
    v: &'a [f32],
    shape: Attention<'a>,
}

/// One query of one head: its position among the queries, its head.
type Query = (usize, usize);

impl<U: Unit> Row<'_, U> {
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
            let own = self.shape.offset + query.0;
            place(*query, self.head(self.v, own, kv_head));
        }
        if seeing.is_empty() {
            return;
        }
        let seen = self.seen(seeing);
        let of = |from| move |key| self.head(from, key, kv_head);
        panels::turned(self.unit, (of(self.k), d_head), &seen, &mut room.keys);
        panels::upright((of(self.v), d_head), &seen, &mut room.values);
        for tile in seeing.chunks(ROWS) {
            let (seen, place) = (&seen, &mut place);
            match tile.len() {
                1 => self.tile::<1>(tile, seen, room, place),
                2 => self.tile::<2>(tile, seen, room, place),
                3 => self.tile::<3>(tile, seen, room, place),
                4 => self.tile::<4>(tile, seen, room, place),
                5 => self.tile::<5>(tile, seen, room, place),
                _ => self.tile::<ROWS>(tile, seen, room, place),
            }
        }
    }

    /// A position's values of one head.
    fn head<'a>(&self, from: &'a [f32], position: usize, head: usize) -> &'a [f32] {
        let at = (position * self.shape.n_kv_heads + head) * self.shape.d_head;
        &from[at..at + self.shape.d_head]
    }

    /// Keys that any of the queries sees, from the beginning of a panel on.
    ///
    /// Panels are numbered from the first real key: neither padding nor where a window begins moves a key in its panel.
    fn seen(&self, queries: &[Query]) -> Range<usize> {
        let seen = queries
            .iter()
            .map(|query| self.shape.seen(self.index, query.0));
        let (first, end) = seen.fold((usize::MAX, 0), |(first, end), seen| {
            (first.min(seen.start), end.max(seen.end))
        });
        let base = self.shape.starts[self.index];
        base + (first - base) / WIDTH * WIDTH..end
    }

    /// A few queries over the keys that any of them sees.
    fn tile<const R: usize>(
        &self,
        queries: &[Query],
        packed: &Range<usize>,
        room: &mut Room,
        place: &mut impl FnMut(Query, &[f32]),
    ) {
        let keys = self.seen(queries);
        self.scores::<R>(queries, packed, &keys, room);
        let mut sums = [0.0; R];
        for ((sum, scores), query) in sums.iter_mut().zip(&mut room.scores).zip(queries) {
            let seen = self.shape.seen(self.index, query.0);
            *sum = Arch::new().dispatch(Softmax {
                scores,
                seen: seen.start - keys.start..seen.end - keys.start,
                scale: self.shape.scale,
                cap: self.shape.softcap,
            });
        }
        let mut out = vec![0.0; R * self.shape.d_head];
        self.weighted::<R>(&mut out, packed, &keys, room);
        let rows = out.chunks_exact_mut(self.shape.d_head);
        for ((query, out), sum) in queries.iter().zip(rows).zip(sums) {
            for value in out.iter_mut() {
                *value /= sum;
            }
            place(*query, out);
        }
    }

    /// q·k of some queries with all `keys`, filled up to whole panels.
    fn scores<const R: usize>(
        &self,
        queries: &[Query],
        packed: &Range<usize>,
        keys: &Range<usize>,
        room: &mut Room,
    ) {
        let d_head = self.shape.d_head;
        let x: [&[u32]; R] = std::array::from_fn(|r| {
            let (i, head) = queries[r];
            let at = (i * self.shape.n_heads + head) * d_head;
            bytemuck::cast_slice(&self.q[at..at + d_head])
        });
        let panels = keys.len().div_ceil(WIDTH);
        for scores in &mut room.scores[..R] {
            scores.resize(panels * WIDTH, 0.0);
        }
        let registers = panels::depth(d_head);
        let before = (keys.start - packed.start) / WIDTH;
        let all = room.keys.chunks_exact(registers).skip(before).take(panels);
        for (index, panel) in all.enumerate() {
            let panel = &panel.as_chunks().0[..d_head];
            let products = self.unit.segment(x, panel);
            for (scores, products) in room.scores.iter_mut().zip(&products) {
                scores[index * WIDTH..][..WIDTH].copy_from_slice(products);
            }
        }
    }

    /// Σ weight·v over `keys` for each of the queries: `out [queries, d_head]`.
    fn weighted<const R: usize>(
        &self,
        out: &mut [f32],
        packed: &Range<usize>,
        keys: &Range<usize>,
        room: &Room,
    ) {
        let d_head = self.shape.d_head;
        let x: [&[u32]; R] =
            std::array::from_fn(|r| bytemuck::cast_slice(&room.scores[r][..keys.len()]));
        let panels = room.values.chunks_exact(packed.len() * ACROSS);
        for (first, panel) in (0..d_head).step_by(WIDTH).zip(panels) {
            let panel = &panel.as_chunks().0[keys.start - packed.start..][..keys.len()];
            let sums: Sums<R> = self.unit.segment(x, panel);
            for (out, sums) in out.chunks_exact_mut(d_head).zip(&sums) {
                let to = &mut out[first..(first + WIDTH).min(d_head)];
                to.copy_from_slice(&sums[..to.len()]);
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
        let largest = largest(seen);
        for score in seen.iter_mut() {
            *score = exp(*score - largest);
        }
        let mut lanes = [0f32; LANES];
        for line in self.scores.as_chunks::<LANES>().0 {
            for (lane, value) in lanes.iter_mut().zip(line) {
                *lane += value;
            }
        }
        lanes.iter().sum()
    }
}
