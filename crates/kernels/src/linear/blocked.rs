//! Any number of rows of activations.
//!
//! A task has [`WIDTH`] columns of the result. It takes one chunk of the contraction after another, packs that part of the
//! weight and multiplies its rows of activations with it, a few at a time; a weight is read from memory once for many rows,
//! and the sums stay near the task's processor.

use super::pack::{Side, Source, chunks};
use super::shared::{Shared, finish};
use super::stored::Stored;
use super::unit::{ACROSS, Cell, LANES, ROWS, Register, Unit, WIDTH};
use super::{Layer, Matrix, Outputs};
use rayon::prelude::*;
use std::cell::Cell as Place;
use std::ops::Range;
use std::thread::LocalKey;

/// Rows that a task takes at least where rows are split among tasks: packing is then a small part of its work.
const SHARE: usize = 16 * ROWS;
/// Registers that a thread keeps between calls at most, 16 MiB.
const KEPT: usize = 1 << 18;

/// Registers of any content, which a thread takes, fills and puts back.
type Room = LocalKey<Place<Vec<Register>>>;

thread_local! {
    static ACTIVATIONS: Place<Vec<Register>> = const { Place::new(Vec::new()) };
    static PANEL: Place<Vec<Register>> = const { Place::new(Vec::new()) };
}

/// `count` registers at least, those that the thread kept where there are enough. Until they are put back, whatever else
/// the thread does meanwhile finds none.
fn taken(room: &'static Room, count: usize) -> Vec<Register> {
    let mut own = room.take();
    if own.len() < count {
        own.resize(count, Register::ZERO);
    }
    own
}

fn put_back(room: &'static Room, own: Vec<Register>) {
    if own.len() <= KEPT {
        room.set(own);
    }
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
    let outputs: Vec<usize> = ys.iter().map(|y| y.len() / tokens.max(1)).collect();
    let tasks = tasks(&outputs, tokens);
    let shared: Vec<Shared<'_>> = ys
        .iter_mut()
        .zip(&outputs)
        .map(|(y, width)| Shared::new(y, *width))
        .collect();
    let mut own = Vec::new();
    let x = Activations::of(unit, (x, width), &mut own);
    tasks.par_iter().for_each(|task| {
        let block = Block {
            unit,
            x,
            width,
            y: shared[task.layer],
            bias: layers[task.layer].bias,
            task,
        };
        block.run(layers[task.layer].weight, side);
    });
    put_back(&ACTIVATIONS, own);
}

/// Rows of activations, as cells.
#[derive(Debug, Clone, Copy)]
struct Activations<'a> {
    cells: &'a [Cell],
    /// Cells of a row.
    stride: usize,
}

impl<'a> Activations<'a> {
    /// Where a value is a cell, they stay where they lie; otherwise `own` is filled.
    fn of<U: Unit>(unit: U, (x, width): (&'a [f32], usize), own: &'a mut Vec<Register>) -> Self {
        if U::DEPTH == 1 {
            let cells = bytemuck::cast_slice(x);
            return Self {
                cells,
                stride: width,
            };
        }
        let stride = width.div_ceil(U::DEPTH);
        let count = x.len() / width * stride;
        *own = taken(&ACTIVATIONS, count.div_ceil(LANES));
        let cells = &mut bytemuck::cast_slice_mut(own)[..count];
        let rows = cells.par_chunks_mut(stride).zip(x.par_chunks(width));
        rows.with_min_len(16)
            .for_each(|(cells, row)| unit.cells(row, cells));
        Self { cells, stride }
    }

    /// `count` cells of a row from one on.
    fn row(&self, row: usize, first: usize, count: usize) -> &'a [Cell] {
        &self.cells[row * self.stride + first..][..count]
    }
}

/// A part of the result of one layer.
#[derive(Debug, Clone)]
struct Task {
    layer: usize,
    /// First of up to [`WIDTH`] columns.
    first: usize,
    tokens: Range<usize>,
}

/// Tasks of a panel each; rows are split as well where threads would have too few of them.
fn tasks(outputs: &[usize], tokens: usize) -> Vec<Task> {
    let panels: usize = outputs.iter().map(|n| n.div_ceil(WIDTH)).sum();
    let parts = (4 * rayon::current_num_threads()).div_ceil(panels.max(1));
    let share = tokens.div_ceil(parts.min(tokens / SHARE).max(1));
    let share = share.next_multiple_of(ROWS).max(ROWS);
    let parts = |layer, first| {
        (0..tokens).step_by(share).map(move |start| Task {
            layer,
            first,
            tokens: start..(start + share).min(tokens),
        })
    };
    let of_layer = |(layer, outputs): (usize, &usize)| {
        let firsts = (0..*outputs).step_by(WIDTH);
        firsts.flat_map(move |first| parts(layer, first))
    };
    outputs.iter().enumerate().flat_map(of_layer).collect()
}

/// One task at work.
struct Block<'a, U> {
    unit: U,
    x: Activations<'a>,
    /// Length of the contraction.
    width: usize,
    y: Shared<'a>,
    bias: Option<&'a [f32]>,
    task: &'a Task,
}

impl<U: Unit> Block<'_, U> {
    fn run(&self, weight: Matrix<'_>, side: Side) {
        match weight {
            Matrix::F32(values) => self.stored(&self.source(values, None, side)),
            Matrix::Bf16(values) => self.stored(&self.source(values, None, side)),
            Matrix::Int8(values, scales) => {
                self.stored(&self.source(values, Some(scales), side));
            }
        }
    }

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

    fn stored<T: Stored>(&self, source: &Source<'_, T>) {
        let mut registers = Vec::new();
        for along in chunks::<U>(self.width) {
            let size = along.len().div_ceil(U::LINE) * LANES * ACROSS;
            if registers.is_empty() {
                registers = taken(&PANEL, size);
            }
            self.chunk(source, &along, registers[..size].as_chunks_mut().0);
        }
        put_back(&PANEL, registers);
    }

    /// Adds what one chunk of the contraction makes; `panel` is room for it.
    fn chunk<T: Stored>(
        &self,
        source: &Source<'_, T>,
        along: &Range<usize>,
        panel: &mut [[Register; ACROSS]],
    ) {
        let (first, tokens) = (self.task.first, &self.task.tokens);
        source.pack(self.unit, first, along, panel);
        let panel = &panel[..along.len().div_ceil(U::DEPTH)];
        // What follows: the next chunk of these columns, or the first of the next ones.
        let (columns, next) = if along.end < self.width {
            (first, along.end..(along.end + along.len()).min(self.width))
        } else {
            (first + WIDTH, 0..along.len())
        };
        let parts = tokens.len().div_ceil(ROWS);
        for (part, row) in tokens.clone().step_by(ROWS).enumerate() {
            source.prefetch(self.unit, columns, &next, (part, parts));
            match tokens.end - row {
                1 => self.tile::<1, T>(row, along, panel, source),
                2 => self.tile::<2, T>(row, along, panel, source),
                3 => self.tile::<3, T>(row, along, panel, source),
                4 => self.tile::<4, T>(row, along, panel, source),
                5 => self.tile::<5, T>(row, along, panel, source),
                _ => self.tile::<ROWS, T>(row, along, panel, source),
            }
        }
    }

    /// A row of the task's part of the result.
    #[expect(clippy::mut_from_ref, reason = "see `Shared`")]
    fn part(&self, row: usize, columns: &Range<usize>) -> &mut [f32] {
        #[expect(unsafe_code, reason = "see `Shared`")]
        // SAFETY: the result has `tokens` rows, of which this is one, and this part of it is this task's alone; no two
        // parts are alive together.
        unsafe {
            self.y.part(row, columns.clone())
        }
    }

    /// Adds the sums of a chunk to the result; after the last chunk come factor and bias.
    fn tile<const R: usize, T: Stored>(
        &self,
        row: usize,
        along: &Range<usize>,
        panel: &[[Register; ACROSS]],
        source: &Source<'_, T>,
    ) {
        let start = along.start / U::DEPTH;
        let x = std::array::from_fn(|r| self.x.row(row + r, start, panel.len()));
        let first = self.task.first;
        let columns = first..(first + WIDTH).min(self.y.width);
        for r in 0..R {
            // The result comes while the products are made.
            self.unit.prefetch(self.part(row + r, &columns));
        }
        let sums = self.unit.segment::<R>(x, panel);
        for (r, sums) in sums.iter().enumerate() {
            let y = self.part(row + r, &columns);
            let fresh = along.start == 0;
            match y.as_mut_array::<WIDTH>() {
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
fn accumulate(y: &mut [f32], sums: &[f32; WIDTH], fresh: bool) {
    for (y, sum) in y.iter_mut().zip(sums) {
        *y = if fresh { *sum } else { *y + sum };
    }
}
