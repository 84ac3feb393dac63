//! Few rows of activations: a weight is read once, as it lies, and nothing of it is written down.

use super::pack::{Side, Source, chunks};
use super::shared::{Shared, finish};
use super::stored::Stored;
use super::unit::{Cell, LANES, ROWS, Unit};
use super::{Layer, Matrix, Outputs};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a result that one task writes.
const COLUMNS: usize = 64;

/// Whether rows of this length and number can be multiplied so.
pub(super) fn takes<U: Unit>(tokens: usize, width: usize, side: Side) -> bool {
    tokens <= ROWS && width.is_multiple_of(U::LINE) && side == Side::Rows
}

/// ys ← x·wᵀ + b of every layer.
pub(super) fn run<U: Unit>(
    unit: U,
    ys: Outputs<'_, '_>,
    (x, width): (&[f32], usize),
    layers: &[Layer<'_>],
) {
    let tokens = x.len() / width;
    let mut cells = vec![0; x.len() / U::DEPTH];
    unit.cells(x, &mut cells);
    let x: Vec<&[Cell]> = cells.chunks_exact(width / U::DEPTH).collect();
    let tasks: Vec<Rows<'_, U>> = ys
        .iter_mut()
        .zip(layers)
        .flat_map(|(y, layer)| {
            let outputs = y.len() / tokens;
            let (x, y) = (x.as_slice(), Shared::new(y, outputs));
            (0..outputs).step_by(COLUMNS).map(move |start| Rows {
                unit,
                x,
                width,
                layer: *layer,
                y,
                columns: start..(start + COLUMNS).min(outputs),
            })
        })
        .collect();
    tasks.par_iter().for_each(Rows::run);
}

/// One task: some columns of one result.
struct Rows<'a, U> {
    unit: U,
    /// Rows of activations, in order.
    x: &'a [&'a [Cell]],
    width: usize,
    layer: Layer<'a>,
    y: Shared<'a>,
    columns: Range<usize>,
}

impl<U: Unit> Rows<'_, U> {
    fn run(&self) {
        match self.layer.weight {
            Matrix::F32(values) => self.stored(values, None),
            Matrix::Bf16(values) => self.stored(values, None),
            Matrix::Int8(values, scales) => self.stored(values, Some(scales)),
        }
    }

    fn stored<T: Stored>(&self, values: &[T], scales: Option<&[f32]>) {
        let source = Source {
            values,
            scales,
            outputs: self.y.width,
            width: self.width,
            side: Side::Rows,
        };
        for first in self.columns.clone().step_by(LANES) {
            match self.x.len() {
                1 => self.group::<1, T>(&source, first),
                2 => self.group::<2, T>(&source, first),
                3 => self.group::<3, T>(&source, first),
                4 => self.group::<4, T>(&source, first),
                5 => self.group::<5, T>(&source, first),
                _ => self.group::<ROWS, T>(&source, first),
            }
        }
    }

    fn group<const R: usize, T: Stored>(&self, source: &Source<'_, T>, first: usize) {
        let columns = first..(first + LANES).min(self.columns.end);
        let mut sums = [[0f32; LANES]; R];
        for along in chunks::<U>(self.width) {
            let line = along.start / U::DEPTH..along.end.div_ceil(U::DEPTH);
            let x: [&[Cell]; R] = std::array::from_fn(|r| &self.x[r][line.clone()]);
            let rows = source.rows(first, &along);
            let part = self.unit.direct(x, rows, next(source, first, &along));
            if along.start == 0 {
                sums = part;
            } else {
                add(&mut sums, &part);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            #[expect(unsafe_code, reason = "see `Shared`")]
            // SAFETY: the result has `R` rows, of which this is one, and these columns are this task's alone.
            let y = unsafe { self.y.part(row, columns.clone()) };
            y.copy_from_slice(&sums[..y.len()]);
            finish(y, &columns, source.scales, self.layer.bias);
        }
    }
}

/// What follows a group of rows in memory: the share that is asked for while a chunk of the group is read.
fn next<'a, T: Stored>(source: &Source<'a, T>, first: usize, along: &Range<usize>) -> &'a [T] {
    let values = &source.values[((first + LANES) * source.width).min(source.values.len())..];
    let share = |at: usize| (at * LANES).min(values.len());
    &values[share(along.start)..share(along.end)]
}

fn add<const R: usize>(sums: &mut [[f32; LANES]; R], part: &[[f32; LANES]; R]) {
    let pairs = sums.iter_mut().flatten().zip(part.iter().flatten());
    pairs.for_each(|(sum, part)| *sum += part);
}
