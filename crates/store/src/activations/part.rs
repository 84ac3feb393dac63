//! One part of a store: how its file is written, recognised, and summarised.

use super::{Parts, TENSOR};
use crate::dtype::{Dtype, first_not_finite};
use crate::error::{Error, Result};
use crate::provenance::{Provenance, hex};
use crate::tensor_file::TensorFile;
use crate::tensors::{Entry, format_name, header};
use crate::write_atomic;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

/// What a part must be to belong to a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) parts: Parts,
    pub(crate) part: usize,
    pub(crate) label: &'a str,
    pub(crate) hook: &'a str,
    pub(crate) width: usize,
    pub(crate) dtype: Dtype,
    pub(crate) provenance: &'a Provenance,
}

/// Length and digest of a part's file, and the sums its rows add to the statistics of the whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) sums: Sums,
}

/// Sums over rows, in f64 and in the order of the rows: the same whoever computes them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sums {
    n_rows: usize,
    /// Σ ‖x‖
    norm: f64,
    /// Σ ‖x‖²
    square: f64,
    /// Σ x, `[d_model]`
    coordinate: Vec<f64>,
    /// Σ of the squared error that rounding is expected to have left.
    rounding: f64,
}

impl Sums {
    pub(crate) fn of(values: &[f32], width: usize) -> Self {
        let mut sums = Self {
            coordinate: vec![0.0; width],
            ..Self::default()
        };
        for row in values.chunks_exact(width) {
            sums.n_rows += 1;
            let mut square = 0.0;
            for (sum, &value) in sums.coordinate.iter_mut().zip(row) {
                let value = f64::from(value);
                *sum += value;
                square += value * value;
            }
            sums.square += square;
            sums.norm += square.sqrt();
        }
        sums
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.n_rows += other.n_rows;
        self.norm += other.norm;
        self.square += other.square;
        self.rounding += other.rounding;
        self.coordinate.resize(other.coordinate.len(), 0.0);
        for (sum, value) in self.coordinate.iter_mut().zip(&other.coordinate) {
            *sum += value;
        }
    }

    /// Share of the variance that rounding is expected to have changed.
    pub(crate) fn rounding_error(&self) -> f64 {
        let total = self.total_variance() * self.n_rows as f64;
        self.rounding / total.max(f64::MIN_POSITIVE)
    }

    /// Mean of ‖x‖ over rows.
    pub(crate) fn mean_norm(&self) -> f64 {
        self.norm / self.n_rows as f64
    }

    /// Σ over coordinates of the variance over rows: mean ‖x‖² − ‖mean x‖².
    pub(crate) fn total_variance(&self) -> f64 {
        let n = self.n_rows as f64;
        let mean: f64 = self.coordinate.iter().map(|sum| (sum / n).powi(2)).sum();
        (self.square / n - mean).max(0.0)
    }
}

impl Identity<'_> {
    /// Writes the part, `values` row-major `[rows, d_model]`, and summarises what was written.
    pub(crate) fn write(&self, path: &Path, values: &[f32]) -> Result<Summary> {
        let rows = self.parts.rows(self.part);
        if values.len() != rows.len() * self.width {
            let cause = format!(
                "{} values are not {} rows of {}",
                values.len(),
                rows.len(),
                self.width
            );
            return Err(Error::unwritable(path, cause));
        }
        let mut data = Vec::new();
        self.dtype.encode_rows(values, self.width, &mut data);
        let sums = self.sums(path, &data)?;
        let shape = [rows.len(), self.dtype.stored_width(self.width)];
        let entry = Entry::new(TENSOR, (format_name(self.dtype), self.dtype.size()), &shape);
        let head = header(&[entry], &self.metadata(), self.provenance);
        write_atomic(path, |file| {
            file.write_all(&head)?;
            file.write_all(&data)
        })?;
        let mut hash = Sha256::new();
        hash.update(&head);
        hash.update(&data);
        Ok(Summary {
            bytes: (head.len() + data.len()) as u64,
            sha256: hex(&hash.finalize()),
            sums,
        })
    }

    /// Summarises a part that is there already: the same as its writer did.
    pub(crate) fn summarise(&self, path: &Path) -> Result<Summary> {
        let file = self.open(path)?;
        let (_, _, data) = file.stored(TENSOR)?;
        let (bytes, sha256) = crate::provenance::digest(path)?;
        Ok(Summary {
            bytes,
            sha256,
            sums: self.sums(path, data)?,
        })
    }

    /// Opens a part and makes sure that it is the one meant.
    pub(crate) fn open(&self, path: &Path) -> Result<TensorFile> {
        let file = TensorFile::open(path)?;
        let (dtype, shape, _) = file.stored(TENSOR)?;
        let wanted = [
            self.parts.rows(self.part).len(),
            self.dtype.stored_width(self.width),
        ];
        if shape != wanted || dtype != self.dtype {
            let cause = format!(
                "its tensor is {dtype} {shape:?} where the store has {} {wanted:?}",
                self.dtype
            );
            return Err(Error::invalid(path, cause));
        }
        Ok(file)
    }

    /// Whether the part is there, whole, and of the very same run.
    pub(crate) fn is_done(&self, path: &Path) -> bool {
        let same = |file: TensorFile| {
            file.metadata() == &self.metadata() && file.provenance() == Some(self.provenance)
        };
        fs::exists(path).unwrap_or(false) && self.open(path).is_ok_and(same)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        [("label", self.label), ("hook", self.hook)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// Sums over the stored values; the first row that is not finite is an error.
    fn sums(&self, path: &Path, data: &[u8]) -> Result<Sums> {
        let mut values = Vec::with_capacity(data.len() / self.dtype.size());
        self.dtype.decode_rows(data, self.width, &mut values);
        if let Some(bad) = first_not_finite(&values) {
            return Err(Error::NotFinite {
                path: path.to_owned(),
                row: self.parts.rows(self.part).start + bad / self.width,
            });
        }
        Ok(Sums {
            rounding: self.dtype.rounding(data, self.width),
            ..Sums::of(&values, self.width)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_and_variance_by_hand() {
        // Rows (3, 4) and (0, 1): norms 5 and 1; means 1.5 and 2.5; variances 2.25 and 2.25.
        let sums = Sums::of(&[3.0, 4.0, 0.0, 1.0], 2);
        assert!((sums.mean_norm() - 3.0).abs() < 1e-12);
        assert!((sums.total_variance() - 4.5).abs() < 1e-12);
    }

    #[test]
    fn the_sums_of_parts_are_the_sums_of_the_whole() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut sums = Sums::default();
        sums.add(&Sums::of(&values[..6], 3));
        sums.add(&Sums::of(&values[6..], 3));
        assert_eq!(sums, Sums::of(&values, 3));
    }
}
