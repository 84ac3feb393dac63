//! Weights into the panels that units read.

use super::stored::Stored;
use super::unit::{Aligned, PANEL, Unit};
use std::ops::Range;

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
        let count = PANEL.min(self.outputs - first);
        for (at, row) in along.enumerate() {
            let values = &self.values[row * self.outputs + first..][..count];
            let scale = self.scales.map_or(1.0, |scales| scales[row]);
            for (j, value) in values.iter().enumerate() {
                turned[j * length + at] = value.value() * scale;
            }
        }
    }
}
