//! Products with sparse codes, and the optimizer on the rows they touch.
//!
//! A matrix that is read in no order of its own is kept in panels of [`PANEL`] columns, panel after panel ([`Panels`]): one
//! panel of a batch fits a core's own cache, where it can be read at random ten times as fast as from memory.

use crate::vector::vectorised;
use rayon::prelude::*;
use std::ops::Range;

mod update;

pub use update::{Reach, adam_rows};

/// Columns of a panel.
pub const PANEL: usize = 64;
/// Columns summed at a time: as many as stay in registers.
const LANES: usize = 32;
/// Rows of a result computed by one task: fixed, so that no sum depends on the number of threads.
const ROWS: usize = 1024;
/// Values tested at a time by [`scan`].
const TEST: usize = 32;

/// A matrix `[rows, columns]` kept in panels of [`PANEL`] columns; within a panel row by row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panels {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
}

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

impl Panels {
    /// All zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            values: vec![0.0; rows * columns],
            rows,
            columns,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Takes the first `columns` of rows that lie `stride` apart.
    ///
    /// # Panics
    /// When `values` does not hold that many rows.
    pub fn fill(&mut self, values: &[f32], rows: usize, columns: usize, stride: usize) {
        assert!(rows == 0 || (rows - 1) * stride + columns <= values.len());
        assert!(columns <= stride, "rows overlap");
        (self.rows, self.columns) = (rows, columns);
        self.values.resize(rows * columns, 0.0);
        let panels = self
            .values
            .par_chunks_mut((PANEL * rows).max(1))
            .enumerate();
        panels.for_each(|(panel, out)| {
            let width = out.len() / rows;
            let source = values.chunks(stride);
            for (out, row) in out.chunks_exact_mut(width).zip(source) {
                out.copy_from_slice(&row[panel * PANEL..][..width]);
            }
        });
    }

    /// One row `[columns]`.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let pieces = self.values.chunks((PANEL * self.rows).max(1));
        pieces
            .flat_map(|panel| {
                let width = panel.len() / self.rows;
                &panel[row * width..][..width]
            })
            .copied()
            .collect()
    }

    /// Changes rows one by one where `change` says so; `change` sees the row `[columns]` and its number.
    pub fn change_rows(&mut self, wanted: &[bool], change: impl Fn(usize, &mut [f32])) {
        let mut row = vec![0.0; self.columns];
        for number in (0..self.rows).filter(|&number| wanted[number]) {
            self.copy_row(number, &mut row);
            change(number, &mut row);
            for (panel, piece) in row.chunks(PANEL).enumerate() {
                let start = panel * PANEL * self.rows + number * piece.len();
                self.values[start..start + piece.len()].copy_from_slice(piece);
            }
        }
    }

    /// Adds to every row where `wanted` the same row of `rows [rows, columns]`, each of its `parts` with its own factor:
    /// `factor(row, part)`.
    ///
    /// # Panics
    /// When `rows` has another shape.
    pub fn add_rows(
        &mut self,
        rows: &[f32],
        parts: &[Range<usize>],
        wanted: &[bool],
        factor: impl Fn(usize, usize) -> f32 + Sync,
    ) {
        let (n_rows, columns) = (self.rows, self.columns);
        assert!(rows.len() == n_rows * columns && wanted.len() == n_rows);
        let panels = self
            .values
            .par_chunks_mut((PANEL * n_rows).max(1))
            .enumerate();
        panels.for_each(|(panel, out)| {
            let width = out.len() / n_rows;
            let first = panel * PANEL;
            for (part, range) in parts.iter().enumerate() {
                let inside =
                    range.start.clamp(first, first + width)..range.end.clamp(first, first + width);
                let lines = out
                    .chunks_exact_mut(width)
                    .zip(rows.chunks_exact(columns))
                    .enumerate();
                for (row, (out, line)) in lines.filter(|(row, _)| wanted[*row]) {
                    let scale = factor(row, part);
                    let out = &mut out[inside.start - first..inside.end - first];
                    out.iter_mut()
                        .zip(&line[inside.clone()])
                        .for_each(|(out, x)| *out += scale * x);
                }
            }
        });
    }

    /// Sets a range of columns of some rows to 0.
    pub fn clear(&mut self, rows: &Range<usize>, columns: &Range<usize>) {
        let (n_rows, all) = (self.rows, self.columns);
        assert!(
            rows.end <= n_rows && columns.end <= all,
            "a range outside its matrix"
        );
        for (panel, out) in self.values.chunks_mut((PANEL * n_rows).max(1)).enumerate() {
            let width = out.len() / n_rows;
            let first = panel * PANEL;
            let inside =
                columns.start.clamp(first, first + width)..columns.end.clamp(first, first + width);
            for row in out
                .chunks_exact_mut(width)
                .skip(rows.start)
                .take(rows.len())
            {
                row[inside.start - first..inside.end - first].fill(0.0);
            }
        }
    }

    /// Sets all columns outside a range to 0.
    pub fn keep_columns(&mut self, columns: &Range<usize>) {
        let (rows, end) = (0..self.rows, self.columns);
        self.clear(&rows, &(0..columns.start));
        self.clear(&rows, &(columns.end..end));
    }

    fn copy_row(&self, row: usize, out: &mut [f32]) {
        for (panel, piece) in out.chunks_mut(PANEL).enumerate() {
            let start = panel * PANEL * self.rows + row * piece.len();
            piece.copy_from_slice(&self.values[start..start + piece.len()]);
        }
    }

    /// Σ of squares over the rows where `counted`, the same for any number of threads.
    pub fn sum_of_squares(&self, counted: &[bool]) -> f64 {
        let rows = self.rows.max(1);
        let panels: Vec<f64> = self
            .values
            .par_chunks(PANEL * rows)
            .map(|panel| {
                let width = panel.len() / rows;
                let part = |(row, _): (&[f32], &bool)| squares(row);
                let rows = panel.chunks_exact(width).zip(counted);
                vectorised(|| rows.filter(|(_, counted)| **counted).map(part).sum())
            })
            .collect();
        panels.iter().sum()
    }
}

#[inline(always)]
fn squares(row: &[f32]) -> f64 {
    f64::from(row.iter().map(|value| value * value).sum::<f32>())
}

/// out ← entriesᵀ·source: row `k` of `out` becomes Σ over the entries of column `k` of value · (row of `source`).
///
/// Columns without an entry are set to 0 where `touched` and left as they are elsewhere; with `add`, sums are added to
/// what is there. Returns Σ of squares of the rows written, which means something only where one call writes all.
///
/// # Panics
/// When the shapes disagree or an entry names a row that does not exist.
pub fn gather(
    out: &mut Panels,
    entries: Sparse<'_>,
    source: &Panels,
    touched: &[bool],
    add: bool,
) -> f64 {
    let columns = out.rows;
    assert_eq!(
        (entries.starts.len(), touched.len()),
        (columns + 1, columns)
    );
    assert_eq!(out.columns, source.columns);
    let (out_panel, source_panel) = (PANEL * columns.max(1), PANEL * source.rows.max(1));
    let panels = out
        .values
        .par_chunks_mut(out_panel)
        .zip(source.values.par_chunks(source_panel));
    let sums: Vec<Vec<f64>> = panels
        .map(|(out, source)| {
            let width = out.len() / columns;
            let blocks = out.par_chunks_mut(ROWS * width).enumerate();
            let sums = blocks.map(|(block, out)| {
                let first = block * ROWS;
                vectorised(|| gather_block(out, (entries, first), source, (width, add), touched))
            });
            sums.collect()
        })
        .collect();
    sums.iter().flatten().sum()
}

#[inline(always)]
fn gather_block(
    out: &mut [f32],
    (entries, first): (Sparse<'_>, usize),
    source: &[f32],
    (width, add): (usize, bool),
    touched: &[bool],
) -> f64 {
    let mut total = 0.0;
    for (place, out) in out.chunks_exact_mut(width).enumerate() {
        let column = first + place;
        let range = entries.starts[column]..entries.starts[column + 1];
        if range.is_empty() && (add || !touched[column]) {
            continue;
        }
        if !add {
            out.fill(0.0);
        }
        let (rows, values) = (&entries.rows[range.clone()], &entries.values[range]);
        for (part, out) in out.chunks_mut(LANES).enumerate() {
            add_rows(out, (rows, values), &source[part * LANES..], width);
        }
        total += squares(out);
    }
    total
}

/// out ← out + Σ value·(row of source), rows `stride` apart.
#[inline(always)]
fn add_rows(out: &mut [f32], (rows, values): (&[u32], &[f32]), source: &[f32], stride: usize) {
    let Ok(sums): Result<&mut [f32; LANES], _> = out.try_into() else {
        return add_narrow_rows(out, (rows, values), source, stride);
    };
    let mut lanes = *sums;
    for (&row, &value) in rows.iter().zip(values) {
        let row = &source[row as usize * stride..][..LANES];
        for (lane, x) in lanes.iter_mut().zip(row) {
            *lane += value * x;
        }
    }
    *sums = lanes;
}

#[inline(always)]
fn add_narrow_rows(
    out: &mut [f32],
    (rows, values): (&[u32], &[f32]),
    source: &[f32],
    stride: usize,
) {
    let width = out.len();
    for (&row, &value) in rows.iter().zip(values) {
        let row = &source[row as usize * stride..][..width];
        for (out, x) in out.iter_mut().zip(row) {
            *out += value * x;
        }
    }
}

/// Appends `(first + i, a)` for every `a = product[i] + bias[i]` with `a · scale[i] ≥ floor`.
///
/// # Panics
/// When the slices differ in length.
pub fn scan(
    product: &[f32],
    (bias, scale): (&[f32], &[f32]),
    floor: f32,
    first: u32,
    out: &mut Vec<(u32, f32)>,
) {
    assert!(product.len() == bias.len() && product.len() == scale.len());
    vectorised(|| {
        for (part, product) in product.chunks(TEST).enumerate() {
            let start = part * TEST;
            let (bias, scale) = (
                &bias[start..][..product.len()],
                &scale[start..][..product.len()],
            );
            #[expect(
                clippy::needless_bitwise_bool,
                reason = "without a branch the comparison is made on whole registers"
            )]
            let any = product
                .iter()
                .zip(bias)
                .zip(scale)
                .fold(false, |any, ((x, bias), scale)| {
                    any | ((x + bias) * scale >= floor)
                });
            if !any {
                continue;
            }
            for (place, ((x, bias), scale)) in product.iter().zip(bias).zip(scale).enumerate() {
                if (x + bias) * scale >= floor {
                    out.push((first + (start + place) as u32, x + bias));
                }
            }
        }
    });
}

#[cfg(test)]
mod tests;
