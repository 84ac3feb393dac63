//! Rows of a batch as the gradients read them.

use kernels::sparse::Source;
use std::borrow::Cow;
use std::ops::Range;

/// Rows that lie `stride` apart; columns outside `reach` are 0.
#[derive(Debug, Clone)]
pub(super) struct Rows<'a> {
    pub(super) values: Cow<'a, [f32]>,
    pub(super) stride: usize,
    pub(super) reach: Range<usize>,
}

/// The same with the parts of all models summed, in the place of every model: a tied row answers for all of them.
#[derive(Debug, Clone)]
pub(super) struct Tied<'a> {
    pub(super) rows: Rows<'a>,
    /// Width of every model.
    pub(super) width: usize,
    pub(super) n_models: usize,
}

impl<'a> Rows<'a> {
    /// All of `[n_rows, d_total]`.
    pub(super) fn whole(values: impl Into<Cow<'a, [f32]>>, d_total: usize) -> Self {
        Self {
            values: values.into(),
            stride: d_total,
            reach: 0..d_total,
        }
    }
}

impl Source for Rows<'_> {
    fn n_rows(&self) -> usize {
        self.values.len().div_ceil(self.stride)
    }

    fn reaches(&self, columns: &Range<usize>) -> bool {
        columns.start < self.reach.end && self.reach.start < columns.end
    }

    fn copy(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let place = |at: usize| at.clamp(columns.start, columns.end);
        let seen = place(self.reach.start)..place(self.reach.end);
        if seen.len() < out.len() {
            out.fill(0.0);
        }
        let values = &self.values[row * self.stride..][seen.clone()];
        out[seen.start - columns.start..seen.end - columns.start].copy_from_slice(values);
    }
}

impl Source for Tied<'_> {
    fn n_rows(&self) -> usize {
        self.rows.n_rows()
    }

    fn reaches(&self, _: &Range<usize>) -> bool {
        true
    }

    fn copy(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let values = &self.rows.values[row * self.rows.stride..];
        let seen = |place: &usize| self.rows.reach.contains(place);
        for (out, column) in out.iter_mut().zip(columns) {
            let places = (0..self.n_models).map(|model| model * self.width + column % self.width);
            *out = places.filter(seen).map(|place| values[place]).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_out_of_reach_are_zero_and_tied_ones_are_summed() {
        let values = [9.0, 1.0, 2.0, 3.0, 4.0, 9.0, 5.0, 6.0, 7.0, 8.0];
        let rows = Rows {
            values: values[1..].into(),
            stride: 5,
            reach: 1..4,
        };
        assert_eq!(rows.n_rows(), 2);
        assert!(rows.reaches(&(3..4)) && !rows.reaches(&(4..5)) && !rows.reaches(&(0..1)));
        let copied = |source: &dyn Source, row, columns: Range<usize>| {
            let mut out = vec![f32::NAN; columns.len()];
            source.copy(row, columns, &mut out);
            out
        };
        assert_eq!(copied(&rows, 1, 0..3), [0.0, 6.0, 7.0]);
        assert_eq!(copied(&rows, 0, 3..4), [4.0]);
        let tied = Tied {
            rows: Rows {
                reach: 0..4,
                ..rows
            },
            width: 2,
            n_models: 2,
        };
        assert_eq!(copied(&tied, 1, 1..4), [14.0, 12.0, 14.0]);
    }
}
