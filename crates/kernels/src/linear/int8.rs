//! Weights as 8-bit integers with a factor per row.

use super::Matrix;
use super::stored::Stored;
use half::bf16;
use rayon::prelude::*;

/// A weight `[rows, columns]` rounded to 255 steps per row: value = factor · integer, factor = largest |value| / 127.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Matrix {
    values: Vec<i8>,
    scales: Vec<f32>,
    columns: usize,
}

impl Int8Matrix {
    /// Rounds a row-major matrix.
    ///
    /// # Panics
    /// When `values` are not whole rows.
    pub fn new(values: &[f32], columns: usize) -> Self {
        Self::rounded(values, columns)
    }

    /// Rounds a row-major matrix.
    ///
    /// # Panics
    /// When `values` are not whole rows.
    pub fn of_bf16(values: &[bf16], columns: usize) -> Self {
        Self::rounded(values, columns)
    }

    fn rounded<T: Stored>(values: &[T], columns: usize) -> Self {
        assert!(
            values.len().is_multiple_of(columns),
            "a matrix of whole rows"
        );
        let mut out = Self {
            values: vec![0; values.len()],
            scales: vec![0.0; values.len() / columns],
            columns,
        };
        let rows = out.values.par_chunks_mut(columns).zip(&mut out.scales);
        rows.zip(values.par_chunks(columns))
            .for_each_init(Vec::new, |row, ((to, scale), from)| {
                row.clear();
                row.extend(from.iter().map(|value| value.value()));
                *scale = round_row(to, row);
            });
        out
    }

    /// As the products read it.
    pub fn view(&self) -> Matrix<'_> {
        Matrix::Int8(&self.values, &self.scales)
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.scales.len(), self.columns)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.values.len() + 4 * self.scales.len()
    }

    /// One row as `f32`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = f32> {
        let scale = self.scales[row];
        self.values[row * self.columns..][..self.columns]
            .iter()
            .map(move |value| f32::from(*value) * scale)
    }
}

/// 1.5·2²³: added to a number between −2²² and 2²², it rounds to an integer, ties to even, and leaves that in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// Rounds a row; returns its factor.
fn round_row(to: &mut [i8], from: &[f32]) -> f32 {
    let mut sizes = [0f32; 32];
    for part in from.chunks(sizes.len()) {
        for (size, value) in sizes.iter_mut().zip(part) {
            *size = if value.abs() > *size {
                value.abs()
            } else {
                *size
            };
        }
    }
    let scale = sizes.into_iter().fold(0.0, f32::max) / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (to, from) in to.iter_mut().zip(from) {
        *to = (from * inverse + ROUND).to_bits() as i8;
    }
    scale
}
