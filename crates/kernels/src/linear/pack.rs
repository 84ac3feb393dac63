//! Weights and activations in the form that units read.

use super::stored::Stored;
use super::unit::{ACROSS, LANES, Register, Unit, WIDTH};
use std::ops::Range;

/// Lines of a chunk of the contraction at most: its panel takes a quarter of a second-level cache of a megabyte.
const CHUNK: usize = 64;
/// Values of the longest line.
const LONGEST: usize = 2 * LANES;

/// Along which side of a weight the contraction runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Along its rows: y = x·wᵀ.
    Rows,
    /// Along its columns: dx = dy·w.
    Columns,
}

/// A weight as the loops see it: `outputs` vectors of `width` values along the contraction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a, T> {
    /// Row-major.
    pub(super) values: &'a [T],
    /// Factor per row.
    pub(super) scales: Option<&'a [f32]>,
    pub(super) outputs: usize,
    pub(super) width: usize,
    pub(super) side: Side,
}

/// The contraction in chunks of whole lines, as even as they get; only the last line may be shorter.
pub(super) fn chunks<U: Unit>(width: usize) -> impl Iterator<Item = Range<usize>> {
    let lines = width.div_ceil(U::LINE);
    let chunk = lines.div_ceil(lines.div_ceil(CHUNK).max(1)).max(1) * U::LINE;
    (0..width)
        .step_by(chunk)
        .map(move |start| start..(start + chunk).min(width))
}

/// Sixteen rows of one length, rows and lanes exchanged; what is missing of their last line is zero. See
/// [`Unit::turn`].
pub(crate) fn turned<U: Unit, T: Stored>(
    unit: U,
    rows: [&[T]; LANES],
    to: &mut [Register],
    step: usize,
) {
    let whole = rows[0].len() / U::LINE;
    unit.turn(rows, whole, to, step);
    if rows[0].len() > whole * U::LINE {
        let last = rows.map(|row| padded(&row[whole * U::LINE..]));
        let lines = last.each_ref().map(|line| &line[..U::LINE]);
        unit.turn(lines, 1, &mut to[whole * LANES * step..], step);
    }
}

impl<'a, T: Stored> Source<'a, T> {
    /// Part of the vectors `first ..`; the last vector again where there are fewer. Of a [`Side::Rows`].
    pub(super) fn rows<const N: usize>(&self, first: usize, along: &Range<usize>) -> [&'a [T]; N] {
        std::array::from_fn(|j| {
            let row = (first + j).min(self.outputs - 1);
            &self.values[row * self.width..][along.clone()]
        })
    }

    /// Fills a panel with the vectors from `first` on; what is missing of its last line is zero.
    pub(super) fn pack<U: Unit>(
        &self,
        unit: U,
        first: usize,
        along: &Range<usize>,
        panel: &mut [[Register; ACROSS]],
    ) {
        match self.side {
            Side::Rows => self.turn(unit, first, along, panel),
            Side::Columns => self.across(unit, first, along, panel),
        }
    }

    fn turn<U: Unit>(
        &self,
        unit: U,
        first: usize,
        along: &Range<usize>,
        panel: &mut [[Register; ACROSS]],
    ) {
        let to = panel.as_flattened_mut();
        for v in 0..ACROSS {
            let rows: [&[T]; LANES] = self.rows(first + v * LANES, along);
            turned(unit, rows, &mut to[v..], ACROSS);
        }
    }

    fn across<U: Unit>(
        &self,
        unit: U,
        first: usize,
        along: &Range<usize>,
        panel: &mut [[Register; ACROSS]],
    ) {
        let nought = [T::ZERO; WIDTH];
        let mut edge = [[T::ZERO; WIDTH]; LONGEST / LANES];
        for (cell, to) in panel.iter_mut().enumerate() {
            let row = along.start + cell * U::DEPTH;
            let mut rows = [(&nought, 1.0); LONGEST / LANES];
            for (row, (own, edge)) in (row..along.end).zip(rows.iter_mut().zip(&mut edge)) {
                let values = &self.values[row * self.outputs..][..self.outputs];
                let scale = self.scales.map_or(1.0, |scales| scales[row]);
                let part = &values[first..(first + WIDTH).min(self.outputs)];
                *own = if let Some(part) = part.as_array() {
                    (part, scale)
                } else {
                    edge[..part.len()].copy_from_slice(part);
                    (edge, scale)
                };
            }
            unit.across(&rows[..U::DEPTH], to);
        }
    }

    /// Asks memory for the `part`-th of `parts` parts of the next panel's vectors.
    pub(super) fn prefetch<U: Unit>(
        &self,
        unit: U,
        next: usize,
        along: &Range<usize>,
        (part, parts): (usize, usize),
    ) {
        let share = |n: usize| n * part / parts..n * (part + 1) / parts;
        let columns = next.min(self.outputs)..(next + WIDTH).min(self.outputs);
        match self.side {
            Side::Rows => {
                for row in share(columns.len()) {
                    let row = (columns.start + row) * self.width;
                    unit.prefetch(&self.values[row..][along.clone()]);
                }
            }
            Side::Columns => {
                for row in share(along.len()) {
                    let row = (along.start + row) * self.outputs;
                    unit.prefetch(&self.values[row..][columns.clone()]);
                }
            }
        }
    }
}

/// Values with zeros behind them.
fn padded<T: Stored>(values: &[T]) -> [T; LONGEST] {
    let mut line = [T::ZERO; LONGEST];
    line[..values.len()].copy_from_slice(values);
    line
}
