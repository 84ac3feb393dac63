//! The active entries of a batch, cut by what they reconstruct.

use crate::codes::Codes;
use std::ops::Range;

/// Entries that reconstruct the same coordinates and answer for the same errors.
///
/// Most rules have one part. A nested dictionary (`matryoshka`) has one for every group of features, which answers for the
/// reconstruction of its own dictionary and of all larger ones; decoupled codes have one for every model, which sees that
/// model's coordinates only.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// The entries. One with activation 0 reconstructs nothing; its `through` tells a threshold what it would do.
    pub(super) codes: Codes,
    /// ∂L/∂f of each entry, filled by the forward pass.
    pub(super) through: Vec<f32>,
    /// Coordinates they reconstruct.
    pub(super) range: Range<usize>,
    /// Number of the first output they take part in.
    pub(super) output: usize,
}

impl Part {
    /// Entries that reconstruct `range` in the first output.
    pub(super) fn new(codes: Codes, range: Range<usize>) -> Self {
        Self {
            through: vec![0.0; codes.len()],
            codes,
            range,
            output: 0,
        }
    }

    /// Cuts codes at the ends of nested groups of features.
    pub(super) fn nested(codes: &Codes, ends: &[usize], range: &Range<usize>) -> Vec<Self> {
        let mut parts: Vec<Codes> = vec![Codes::default(); ends.len()];
        for row in 0..codes.n_rows() {
            let mut start = 0;
            for (part, &end) in parts.iter_mut().zip(ends) {
                let inside = start..end as u32;
                part.push_row(codes.row(row).filter(|entry| inside.contains(&entry.0)));
                start = end as u32;
            }
        }
        let parts = parts.into_iter().enumerate();
        parts
            .map(|(output, codes)| Self {
                output,
                ..Self::new(codes, range.clone())
            })
            .collect()
    }
}

impl Part {
    /// ∂L/∂f of active entries as a dense matrix `[n_rows, n_features]`.
    pub(super) fn dense_through(&self, n_features: usize) -> Vec<f32> {
        let mut dense = vec![0.0; self.codes.n_rows() * n_features];
        for (row, values) in dense.chunks_mut(n_features).enumerate() {
            for entry in self.codes.starts[row]..self.codes.starts[row + 1] {
                if self.codes.activations[entry] > 0.0 {
                    values[self.codes.features[entry] as usize] = self.through[entry];
                }
            }
        }
        dense
    }
}

/// The entries of a part by feature, rows ascending within a feature.
pub(super) struct Columns {
    /// Where each feature begins; `n_features + 1` entries.
    pub(super) starts: Vec<usize>,
    /// Row of each entry.
    pub(super) rows: Vec<u32>,
    /// Activation of each entry.
    pub(super) activations: Vec<f32>,
    /// ∂L/∂f of each entry; 0 where the activation is.
    pub(super) through: Vec<f32>,
}

impl Columns {
    /// A counting sort.
    pub(super) fn of(part: &Part, n_features: usize) -> Self {
        let codes = &part.codes;
        let mut starts = vec![0; n_features + 1];
        for &feature in &codes.features {
            starts[feature as usize + 1] += 1;
        }
        for feature in 0..n_features {
            starts[feature + 1] += starts[feature];
        }
        let mut next = starts.clone();
        let mut columns = Self {
            starts,
            rows: vec![0; codes.len()],
            activations: vec![0.0; codes.len()],
            through: vec![0.0; codes.len()],
        };
        for row in 0..codes.n_rows() {
            for entry in codes.starts[row]..codes.starts[row + 1] {
                let place = &mut next[codes.features[entry] as usize];
                columns.rows[*place] = row as u32;
                columns.activations[*place] = codes.activations[entry];
                if codes.activations[entry] > 0.0 {
                    columns.through[*place] = part.through[entry];
                }
                *place += 1;
            }
        }
        columns
    }

    /// One entry of value 1 for each feature, in the row of its number.
    pub(super) fn identity(n_features: usize) -> Self {
        Self {
            starts: (0..=n_features).collect(),
            rows: (0..n_features as u32).collect(),
            activations: vec![1.0; n_features],
            through: vec![1.0; n_features],
        }
    }

    /// The entries of some features.
    pub(super) fn kept(&self, wanted: impl Fn(usize) -> bool) -> Self {
        let mut kept = Self {
            starts: vec![0],
            rows: Vec::new(),
            activations: Vec::new(),
            through: Vec::new(),
        };
        for feature in 0..self.starts.len() - 1 {
            if wanted(feature) {
                let entries = self.entries(feature);
                kept.rows.extend(&self.rows[entries.clone()]);
                kept.activations.extend(&self.activations[entries.clone()]);
                kept.through.extend(&self.through[entries]);
            }
            kept.starts.push(kept.rows.len());
        }
        kept
    }

    /// Entries of a feature.
    pub(super) fn entries(&self, feature: usize) -> Range<usize> {
        self.starts[feature]..self.starts[feature + 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_groups_share_out_the_entries() {
        let mut codes = Codes::default();
        codes.push_row([(0, 1.0), (3, 2.0)]);
        codes.push_row([(1, 3.0)]);
        let parts = Part::nested(&codes, &[1, 4], &(0..2));
        assert_eq!(parts[0].codes.starts, [0, 1, 1]);
        assert_eq!(parts[1].codes.features, [3, 1]);
        assert_eq!((parts[1].output, parts[1].through.len()), (1, 2));
    }

    #[test]
    fn columns_hold_the_entries_of_the_rows() {
        let mut codes = Codes::default();
        codes.push_row([(0, 1.0), (2, 2.0)]);
        codes.push_row([(2, 0.0)]);
        let mut part = Part::new(codes, 0..1);
        part.through = vec![5.0, 6.0, 7.0];
        let columns = Columns::of(&part, 3);
        assert_eq!(columns.entries(2), 1..3);
        assert_eq!(
            (columns.rows, columns.through),
            (vec![0, 0, 1], vec![5.0, 6.0, 0.0])
        );
    }
}
