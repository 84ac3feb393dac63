//! Loops and tasks around a [`Unit`].
//!
//! A task owns up to [`COLUMNS`] columns of one result. It walks the contraction in chunks; of each it packs its part of
//! the weight once, panel by panel, and multiplies every row of activations with it, so that a weight is read from memory
//! once whatever the number of tokens.

use super::pack::{Side, Source};
use super::shared::{Shared, finish};
use super::stored::Stored;
use super::unit::{Aligned, PANEL, TILE, Unit};
use super::{Layer, Matrix, Outputs};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a result that one task writes.
const COLUMNS: usize = 64;
/// Rows of activations that pass over the packed panels together: with them they fit the second-level cache.
const ROWS: usize = 96;

/// Columns of the result of one layer.
#[derive(Debug, Clone)]
struct Task {
    layer: usize,
    columns: Range<usize>,
}

/// ys ← x·wᵀ + b of every layer, or the product with w on the other side.
pub(super) fn run<U: Unit>(
    unit: U,
    ys: Outputs<'_, '_>,
    (x, width): (&[f32], usize),
    layers: &[Layer<'_>],
    side: Side,
) {
    let tokens = x.len() / width;
    if tokens == 0 {
        return;
    }
    let mut scratch = Vec::new();
    let lines = lines(unit, x, width, &mut scratch);
    let outputs = |y: &[f32]| y.len() / tokens;
    let tasks: Vec<Task> = ys
        .iter()
        .enumerate()
        .flat_map(|(layer, y)| tasks(layer, outputs(y)))
        .collect();
    let shared: Vec<Shared<'_>> = ys
        .iter_mut()
        .map(|y| {
            let width = outputs(y);
            Shared::new(y, width)
        })
        .collect();
    let several = tokens > ROWS;
    let panels = if several { COLUMNS / PANEL } else { 1 };
    let room = || {
        (
            vec![Aligned(U::ZERO); panels * PANEL * U::CHUNK],
            Vec::new(),
        )
    };
    let chunk = U::CHUNK * U::LANES;
    // With many tokens all tasks take one chunk of the contraction after another: its activations stay in the cache.
    let step = if several { chunk } else { width };
    for start in (0..width).step_by(step) {
        let along = start..(start + step).min(width);
        tasks
            .par_iter()
            .for_each_init(room, |(panels, turned), task| {
                let layer = &layers[task.layer];
                let block = Block {
                    unit,
                    lines,
                    tokens,
                    width,
                    along: along.clone(),
                    y: shared[task.layer],
                    bias: layer.bias,
                    columns: task.columns.clone(),
                };
                block.run_stored(layer.weight, side, panels, turned);
            });
    }
}

fn tasks(layer: usize, outputs: usize) -> impl Iterator<Item = Task> {
    let columns = move |start: usize| start..(start + COLUMNS).min(outputs);
    (0..outputs).step_by(COLUMNS).map(move |start| Task {
        layer,
        columns: columns(start),
    })
}

/// Activations `[tokens, width]` as lines: all rows of the first chunk of the contraction, then of the second, and so on.
fn lines<'a, U: Unit>(
    unit: U,
    x: &'a [f32],
    width: usize,
    scratch: &'a mut Vec<U::Line>,
) -> &'a [U::Line] {
    let chunk = U::CHUNK * U::LANES;
    if let Some(whole) = U::AS_THEY_ARE.filter(|_| width <= chunk && width.is_multiple_of(U::LANES))
    {
        return whole(x);
    }
    let tokens = x.len() / width;
    scratch.resize(tokens * width.div_ceil(U::LANES), U::ZERO);
    let mut rest = scratch.as_mut_slice();
    for start in (0..width).step_by(chunk) {
        let along = start..(start + chunk).min(width);
        let per_row = along.len().div_ceil(U::LANES);
        let (part, later) = rest.split_at_mut(tokens * per_row);
        let rows = part.par_chunks_mut(per_row).zip(x.par_chunks(width));
        rows.with_min_len(16)
            .for_each(|(lines, row)| unit.lines(&row[along.clone()], lines));
        rest = later;
    }
    scratch
}

/// One task at work.
struct Block<'a, U: Unit> {
    unit: U,
    /// See [`lines`].
    lines: &'a [U::Line],
    tokens: usize,
    /// Length of the contraction.
    width: usize,
    /// What of it is done now.
    along: Range<usize>,
    y: Shared<'a>,
    bias: Option<&'a [f32]>,
    columns: Range<usize>,
}

impl<U: Unit> Block<'_, U> {
    fn source<'s, T: Stored>(
        &self,
        values: &'s [T],
        scales: Option<&'s [f32]>,
        side: Side,
    ) -> Source<'s, T> {
        Source {
            values,
            scales,
            outputs: self.y.width,
            width: self.width,
            side,
        }
    }

    fn run_stored(
        &self,
        weight: Matrix<'_>,
        side: Side,
        panels: &mut [Aligned<U::Line>],
        turned: &mut Vec<f32>,
    ) {
        match weight {
            Matrix::F32(values) => self.run(self.source(values, None, side), panels, turned),
            Matrix::Bf16(values) => self.run(self.source(values, None, side), panels, turned),
            Matrix::Int8(values, scales) => {
                self.run(self.source(values, Some(scales), side), panels, turned);
            }
        }
    }

    fn run<T: Stored>(
        &self,
        source: Source<'_, T>,
        panels: &mut [Aligned<U::Line>],
        turned: &mut Vec<f32>,
    ) {
        let whole = self.width.is_multiple_of(U::LANES);
        if self.tokens <= TILE && whole && source.side == Side::Rows {
            for first in self.columns.clone().step_by(PANEL) {
                self.chunks()
                    .for_each(|along| self.direct(&source, first, &along, panels));
            }
        } else {
            self.chunks()
                .for_each(|along| self.packed(&source, along, panels, turned));
        }
    }

    /// What is done of the contraction, in chunks of which a panel holds one.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let (along, chunk) = (self.along.clone(), U::CHUNK * U::LANES);
        let starts = along.clone().step_by(chunk);
        starts.map(move |start| start..(start + chunk).min(along.end))
    }

    /// One chunk of the contraction, few tokens: the weight is read once and nothing of it is written down.
    fn direct<T: Stored>(
        &self,
        source: &Source<'_, T>,
        first: usize,
        along: &Range<usize>,
        panel: &mut [Aligned<U::Line>],
    ) {
        let rows = source.rows(first, along.clone());
        let ahead = PANEL * self.width;
        match self.tokens {
            1 => self.add(
                0,
                first,
                along,
                source,
                self.unit
                    .direct::<1, T>(self.x(0, along), rows, ahead, panel),
            ),
            2 => self.add(
                0,
                first,
                along,
                source,
                self.unit
                    .direct::<2, T>(self.x(0, along), rows, ahead, panel),
            ),
            _ => self.add(
                0,
                first,
                along,
                source,
                self.unit
                    .direct::<3, T>(self.x(0, along), rows, ahead, panel),
            ),
        }
    }

    /// One chunk of the contraction, any number of tokens.
    fn packed<T: Stored>(
        &self,
        source: &Source<'_, T>,
        along: Range<usize>,
        panels: &mut [Aligned<U::Line>],
        turned: &mut Vec<f32>,
    ) {
        let size = along.len().div_ceil(U::LANES) * PANEL;
        let several = self.tokens > ROWS;
        for start in (0..self.tokens).step_by(ROWS) {
            let tokens = start..(start + ROWS).min(self.tokens);
            for (index, first) in self.columns.clone().step_by(PANEL).enumerate() {
                let panel = &mut panels[if several { index * size } else { 0 }..][..size];
                if start == 0 {
                    source.pack(self.unit, (first, along.clone()), panel, turned);
                }
                self.tiles(source, tokens.clone(), first, &along, panel);
            }
        }
    }

    /// Some rows of activations with one panel; meanwhile memory is asked for the next one.
    fn tiles<T: Stored>(
        &self,
        source: &Source<'_, T>,
        tokens: Range<usize>,
        first: usize,
        along: &Range<usize>,
        panel: &[Aligned<U::Line>],
    ) {
        let next = first + PANEL;
        let ahead = tokens.start == 0 && source.side == Side::Rows && next < self.columns.end;
        let parts = tokens.len().div_ceil(TILE);
        for (part, row) in tokens.clone().step_by(TILE).enumerate() {
            if ahead {
                self.unit
                    .prefetch(source.rows(next, along.clone()), part, parts);
            }
            match tokens.end - row {
                1 => self.add(
                    row,
                    first,
                    along,
                    source,
                    self.unit.tile::<1>(self.x(row, along), panel),
                ),
                2 => self.add(
                    row,
                    first,
                    along,
                    source,
                    self.unit.tile::<2>(self.x(row, along), panel),
                ),
                _ => self.add(
                    row,
                    first,
                    along,
                    source,
                    self.unit.tile::<3>(self.x(row, along), panel),
                ),
            }
        }
    }

    /// A chunk of `R` rows of activations.
    fn x<const R: usize>(&self, row: usize, along: &Range<usize>) -> [&[U::Line]; R] {
        let per_row = along.len().div_ceil(U::LANES);
        let start = self.tokens * (along.start / U::LANES) + row * per_row;
        std::array::from_fn(|r| &self.lines[start + r * per_row..][..per_row])
    }

    /// Adds the sums of a chunk to the result; after the last chunk come factor and bias.
    fn add<const R: usize, T>(
        &self,
        row: usize,
        first: usize,
        along: &Range<usize>,
        source: &Source<'_, T>,
        sums: [[f32; PANEL]; R],
    ) {
        let columns = first..(first + PANEL).min(self.columns.end);
        for (r, sums) in sums.iter().enumerate() {
            #[expect(unsafe_code, reason = "see `Shared`")]
            // SAFETY: the result has `tokens` rows, of which this is one, and these columns are this task's alone.
            let y = unsafe { self.y.part(row + r, columns.clone()) };
            let fresh = along.start == 0;
            match y.as_mut_array::<PANEL>() {
                Some(y) => accumulate(y, sums, fresh),
                None => accumulate(y, sums, fresh),
            }
            if along.end == self.width {
                let scales = source.scales.filter(|_| source.side == Side::Rows);
                finish(y, &columns, scales, self.bias);
            }
        }
    }
}

/// y ← sums, or y + sums; inlined for the usual length.
#[inline(always)]
fn accumulate(y: &mut [f32], sums: &[f32; PANEL], fresh: bool) {
    for (y, sum) in y.iter_mut().zip(sums) {
        *y = if fresh { *sum } else { *y + sum };
    }
}
