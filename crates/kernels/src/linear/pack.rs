//! Weights into the panels that units read.

use super::stored::Stored;
use super::unit::{Aligned, PANEL, Unit};
use std::ops::Range;

/// Rows turned together.
const BLOCK: usize = 16;

/// Along which side of a weight the contraction runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Along its rows: y = x·wᵀ.
    Rows,
    /// Along its columns: dx = dy·w.
    Columns,
}

/// A weight as the loops see it: `outputs` vectors of `width` values along the contraction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a, T> {
    /// Row-major.
    pub(super) values: &'a [T],
    /// Factor per row.
    pub(super) scales: Option<&'a [f32]>,
    pub(super) outputs: usize,
    pub(super) width: usize,
    pub(super) side: Side,
}

impl<'a, T: Stored> Source<'a, T> {
    /// Part of the vectors of one panel; the last vector again where there are fewer. Of a [`Side::Rows`].
    pub(super) fn rows(&self, first: usize, along: Range<usize>) -> [&'a [T]; PANEL] {
        std::array::from_fn(|j| {
            let row = (first + j).min(self.outputs - 1);
            &self.values[row * self.width..][along.clone()]
        })
    }

    /// Fills a panel with the vectors from `first` on; `turned` is room for them in order.
    pub(super) fn pack<U: Unit>(
        &self,
        unit: U,
        (first, along): (usize, Range<usize>),
        panel: &mut [Aligned<U::Line>],
        turned: &mut Vec<f32>,
    ) {
        if self.side == Side::Rows {
            return unit.pack(self.rows(first, along), panel);
        }
        let length = along.len();
        turned.resize(PANEL * length, 0.0);
        self.turn(first, along, turned);
        let rows: [&[f32]; PANEL] = std::array::from_fn(|j| &turned[j * length..][..length]);
        unit.pack(rows, panel);
    }

    /// Columns `first ..` of a [`Side::Columns`] as rows, their factors multiplied in.
    fn turn(&self, first: usize, along: Range<usize>, turned: &mut [f32]) {
        let length = along.len();
        for start in along.clone().step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(along.end);
            let block = self.block(first, rows.clone());
            for (j, to) in turned.chunks_exact_mut(length).enumerate() {
                let to = &mut to[start - along.start..][..rows.len()];
                match to.as_mut_array::<BLOCK>() {
                    Some(to) => *to = std::array::from_fn(|l| block[l][j]),
                    None => to.iter_mut().zip(&block).for_each(|(to, row)| *to = row[j]),
                }
            }
        }
    }

    /// A few rows of a few columns.
    fn block(&self, first: usize, rows: Range<usize>) -> [[f32; PANEL]; BLOCK] {
        let count = PANEL.min(self.outputs - first);
        let mut block = [[0f32; PANEL]; BLOCK];
        for (to, row) in block.iter_mut().zip(rows) {
            let values = &self.values[row * self.outputs + first..][..count];
            match values.as_array::<PANEL>() {
                Some(values) => *to = values.map(Stored::value),
                None => to
                    .iter_mut()
                    .zip(values)
                    .for_each(|(to, value)| *to = value.value()),
            }
            if let Some(scales) = self.scales {
                for value in to {
                    *value *= scales[row];
                }
            }
        }
        block
    }
}
