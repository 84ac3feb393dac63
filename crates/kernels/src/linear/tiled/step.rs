//! Numbers cut into `bf16` parts, in the order that tiles read them.

use super::unit::Tiles;
use crate::linear::pack::{Side, Source};
use crate::linear::stored::Stored;
use crate::vector::vectorised;
use half::bf16;
use rayon::prelude::*;

/// Tokens, or outputs, that are multiplied together: two tiles of them.
pub(super) const BLOCK: usize = 2 * TILE;
/// Values along the contraction in a tile.
pub(crate) const DEPTH: usize = 32;
/// Rows of a tile.
pub(crate) const TILE: usize = 16;

/// Sixteen rows of values along the contraction.
pub(crate) type Lines = [[bf16; DEPTH]; TILE];

/// One part of a block, [`DEPTH`] values along the contraction, in two tiles.
///
/// Of activations `[token, value]`. Of a weight a tile is `[pair of values, output, value of the pair]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Step(pub(super) [[bf16; TILE * DEPTH]; 2]);

impl Step {
    pub(super) const ZERO: Self = Self([[bf16::ZERO; TILE * DEPTH]; 2]);
}

/// The nearest `bf16`, ties to even, without a branch.
#[inline(always)]
fn rounded(value: f32) -> bf16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    bf16::from_bits(if value.is_nan() {
        0x7fc0
    } else {
        nearest as u16
    })
}

/// The first or second part of a value: each the nearest to what is left.
#[inline(always)]
fn part(value: f32, part: usize) -> bf16 {
    let high = rounded(value);
    match part {
        0 => high,
        _ => rounded(value - f32::from_bits(u32::from(high.to_bits()) << 16)),
    }
}

/// Activations `[tokens, width]` as `[block of tokens, step, part]`; tokens and values that a block lacks are zero.
pub(super) fn activations<const X: usize>(x: &[f32], width: usize) -> Vec<Step> {
    let per_block = width.div_ceil(DEPTH) * X;
    let tokens = x.len() / width;
    let mut steps = vec![Step::ZERO; tokens.div_ceil(BLOCK) * per_block];
    steps
        .par_chunks_mut(per_block)
        .zip(x.par_chunks(BLOCK * width))
        .for_each(|(steps, rows)| {
            vectorised(
                #[inline(always)]
                || block_of_tokens::<X>(steps, rows, width),
            );
        });
    steps
}

#[inline(always)]
fn block_of_tokens<const X: usize>(steps: &mut [Step], rows: &[f32], width: usize) {
    for (token, row) in rows.chunks_exact(width).enumerate() {
        for (parts, values) in steps.chunks_exact_mut(X).zip(row.chunks(DEPTH)) {
            for (index, step) in parts.iter_mut().enumerate() {
                let line = &mut step.0[token / TILE][token % TILE * DEPTH..][..DEPTH];
                cut(line, values, index);
            }
        }
    }
}

/// One part of up to [`DEPTH`] values; the usual number has a loop of its own, which the compiler unrolls.
#[inline(always)]
fn cut<T: Stored>(to: &mut [bf16], values: &[T], index: usize) {
    let whole = (to.as_mut_array::<DEPTH>(), values.as_array::<DEPTH>());
    if let (Some(to), Some(values)) = whole {
        *to = values.map(|value| part(value.value(), index));
    } else {
        for (to, value) in to.iter_mut().zip(values) {
            *to = part(value.value(), index);
        }
    }
}

/// Outputs `first ..` of a weight as `[step, part]` from the step `start` on; what it lacks is zero.
pub(super) fn weights<U: Tiles, T: Stored, const W: usize>(
    unit: U,
    source: &Source<'_, T>,
    first: usize,
    start: usize,
    steps: &mut [Step],
) {
    for (index, parts) in steps.chunks_exact_mut(W).enumerate() {
        let along = (start + index) * DEPTH;
        for tile in 0..BLOCK / TILE {
            let first = first + tile * TILE;
            for (index, step) in parts.iter_mut().enumerate() {
                let to = &mut step.0[tile];
                match source.side {
                    Side::Rows => {
                        let lines = vectorised(
                            #[inline(always)]
                            || rows(source, first, along, index),
                        );
                        unit.turn(&lines, to);
                    }
                    Side::Columns => vectorised(
                        #[inline(always)]
                        || columns(source, (first, along), index, to),
                    ),
                }
            }
        }
    }
}

/// Rows `first ..` of a weight, [`DEPTH`] values of each from `along` on.
#[inline(always)]
fn rows<T: Stored>(source: &Source<'_, T>, first: usize, along: usize, index: usize) -> Lines {
    let mut lines = [[bf16::ZERO; DEPTH]; TILE];
    let end = (along + DEPTH).min(source.width);
    for (output, line) in (first..source.outputs).zip(&mut lines) {
        let row = &source.values[output * source.width..];
        cut(line, &row[along..end], index);
    }
    lines
}

/// Columns `first ..` of a weight, rows from `along` on in pairs, their factors multiplied in.
#[inline(always)]
fn columns<T: Stored>(
    source: &Source<'_, T>,
    (first, along): (usize, usize),
    index: usize,
    to: &mut [bf16; TILE * DEPTH],
) {
    let outputs = first.min(source.outputs)..(first + TILE).min(source.outputs);
    for (pair, to) in to.chunks_exact_mut(2 * TILE).enumerate() {
        let mut halves = [[bf16::ZERO; TILE]; 2];
        for (row, half) in (along + 2 * pair..source.width).zip(&mut halves) {
            let scale = source.scales.map_or(1.0, |scales| scales[row]);
            let values = &source.values[row * source.outputs..][outputs.clone()];
            for (to, value) in half.iter_mut().zip(values) {
                *to = part(value.value() * scale, index);
            }
        }
        for (to, (even, odd)) in to
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip(halves[0].iter().zip(&halves[1]))
        {
            *to = [*even, *odd];
        }
    }
}
