//! A gradient of rows that is computed where it is used.

use super::PANEL;
use crate::vector::{Body, dot, vectorised};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a result computed by one task: fixed, so that no sum depends on the number of threads.
pub(super) const ROWS: usize = 256;
/// Rows of a source copied by one task.
const COPIED: usize = 64;

/// A sparse matrix by column: column `k` holds the entries `starts[k]..starts[k + 1]`.
#[derive(Debug, Clone, Copy)]
pub struct Sparse<'a> {
    /// Where each column begins; one more than there are columns.
    pub starts: &'a [usize],
    /// Row of each entry.
    pub rows: &'a [u32],
    /// Value of each entry.
    pub values: &'a [f32],
}

/// A matrix `[n_rows, columns]` of which pieces of rows can be copied.
pub trait Source: Sync {
    /// Number of rows.
    fn n_rows(&self) -> usize;

    /// Whether anything in these columns can be other than 0.
    fn reaches(&self, columns: &Range<usize>) -> bool;

    /// Copies some columns of a row to `out`, which is as long.
    fn copy(&self, row: usize, columns: Range<usize>, out: &mut [f32]);
}

/// entriesᵀ·source: row `k` is Σ over the entries of column `k` of value · (row of `source`).
#[derive(Clone, Copy)]
pub struct Term<'a> {
    /// As many columns as the gradient has rows.
    pub entries: Sparse<'a>,
    /// As many columns as the gradient has.
    pub source: &'a dyn Source,
}

/// What changes a piece of a row once it is summed: the row, its columns, the weights there, and the gradient there.
pub type Finish<'a> = dyn Fn(usize, Range<usize>, &[f32], &mut [f32]) + Sync + 'a;

/// The gradient of weights `[n_rows, columns]`: a sum of terms, changed at the end.
pub struct Gradient<'a> {
    /// Rows with a gradient `[n_rows]`; the others are never looked at.
    pub touched: &'a [bool],
    /// Length of a row.
    pub columns: usize,
    /// What it is summed from.
    pub terms: Vec<Term<'a>>,
    /// What changes it at the end.
    pub finish: Option<&'a Finish<'a>>,
}

/// Some columns of a gradient, with the sources they are summed from at hand.
pub(super) struct Panel<'a> {
    gradient: &'a Gradient<'a>,
    /// Its columns, at most [`PANEL`].
    pub(super) columns: Range<usize>,
    /// Entries, and the source's columns `[n_rows, width]`.
    terms: Vec<(Sparse<'a>, &'a [f32])>,
}

impl Gradient<'_> {
    /// Σ of squares, each row's counted `share[row]` times (once without), the same for any number of threads.
    ///
    /// # Panics
    /// When the shapes disagree or an entry names a row that does not exist.
    pub fn sum_of_squares(&self, weights: &[f32], share: Option<&[f32]>) -> f64 {
        let mut total = 0.0;
        self.each_panel(|panel| {
            let blocks = weights.par_chunks((ROWS * self.columns).max(1)).enumerate();
            let sums: Vec<f64> = blocks
                .map(|(block, weights)| {
                    vectorised(Squares {
                        panel,
                        first: block * ROWS,
                        weights,
                        share,
                    })
                })
                .collect();
            total += sums.iter().sum::<f64>();
        });
        total
    }

    /// All rows `[n_rows, columns]`, 0 where nothing touches them.
    ///
    /// # Panics
    /// As [`Gradient::sum_of_squares`].
    pub fn to_rows(&self, weights: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; weights.len()];
        self.each_panel(|panel| {
            let rows = out
                .chunks_mut(self.columns)
                .zip(weights.chunks(self.columns))
                .enumerate();
            for (row, (out, weights)) in rows.filter(|(row, _)| self.touched[*row]) {
                let place = panel.columns.clone();
                panel.sum(row, &weights[place.clone()], &mut out[place]);
            }
        });
        out
    }

    /// Visits the columns panel by panel.
    pub(super) fn each_panel(&self, mut visit: impl FnMut(&Panel<'_>)) {
        for term in &self.terms {
            assert_eq!(term.entries.starts.len(), self.touched.len() + 1);
        }
        let mut room: Vec<Vec<f32>> = vec![Vec::new(); self.terms.len()];
        for start in (0..self.columns).step_by(PANEL) {
            let columns = start..self.columns.min(start + PANEL);
            let mut terms = Vec::new();
            for (term, room) in self.terms.iter().zip(&mut room) {
                if term.source.reaches(&columns) {
                    copy_columns(term.source, &columns, room);
                    terms.push((term.entries, room.as_slice()));
                }
            }
            visit(&Panel {
                gradient: self,
                columns,
                terms,
            });
        }
    }
}

/// Columns of a source `[n_rows, width]`.
fn copy_columns(source: &dyn Source, columns: &Range<usize>, out: &mut Vec<f32>) {
    let width = columns.len();
    out.resize(source.n_rows() * width, 0.0);
    let blocks = out.par_chunks_mut(COPIED * width).enumerate();
    blocks.for_each(|(block, out)| {
        for (place, out) in out.chunks_mut(width).enumerate() {
            source.copy(block * COPIED + place, columns.clone(), out);
        }
    });
}

impl Panel<'_> {
    /// Whether a row has a gradient.
    #[inline(always)]
    pub(super) fn touches(&self, row: usize) -> bool {
        self.gradient.touched[row]
    }

    /// The gradient of one row in these columns; `weights` are the row's there.
    #[inline(always)]
    pub(super) fn sum(&self, row: usize, weights: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for (entries, source) in &self.terms {
            let range = entries.starts[row]..entries.starts[row + 1];
            if !range.is_empty() {
                let (rows, values) = (&entries.rows[range.clone()], &entries.values[range]);
                add_rows(out, (rows, values), source);
            }
        }
        if let Some(finish) = self.gradient.finish {
            finish(row, self.columns.clone(), weights, out);
        }
    }
}

/// Σ of squares of a block of rows, from `first` on.
struct Squares<'a> {
    panel: &'a Panel<'a>,
    first: usize,
    /// `[rows, columns]`.
    weights: &'a [f32],
    share: Option<&'a [f32]>,
}

impl Body for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let Self { panel, share, .. } = self;
        let mut room = [0.0; PANEL];
        let out = &mut room[..panel.columns.len()];
        let mut total = 0.0;
        let lines = self.weights.chunks_exact(panel.gradient.columns);
        for (place, weights) in lines.enumerate() {
            let row = self.first + place;
            if !panel.touches(row) {
                continue;
            }
            panel.sum(row, &weights[panel.columns.clone()], out);
            let square = f64::from(dot(out, out));
            total += share.map_or(1.0, |share| f64::from(share[row])) * square;
        }
        total
    }
}

/// out ← out + Σ value·(row of source); rows are as long as `out`.
#[inline(always)]
fn add_rows(out: &mut [f32], (rows, values): (&[u32], &[f32]), source: &[f32]) {
    let Ok(sums): Result<&mut [f32; PANEL], _> = (&mut *out).try_into() else {
        return add_narrow_rows(out, (rows, values), source);
    };
    let mut lanes = *sums;
    for (&row, &value) in rows.iter().zip(values) {
        let row = &source[row as usize * PANEL..][..PANEL];
        for (lane, x) in lanes.iter_mut().zip(row) {
            *lane += value * x;
        }
    }
    *sums = lanes;
}

#[inline(always)]
fn add_narrow_rows(out: &mut [f32], (rows, values): (&[u32], &[f32]), source: &[f32]) {
    let width = out.len();
    for (&row, &value) in rows.iter().zip(values) {
        let row = &source[row as usize * width..][..width];
        for (out, x) in out.iter_mut().zip(row) {
            *out += value * x;
        }
    }
}
