//! Sparse codes by row and by feature.

/// Sparse codes of a run of rows: row `r` holds the entries `starts[r]..starts[r + 1]`, features ascending within a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// Where each row begins; `n_rows + 1` entries.
    pub starts: Vec<usize>,
    /// Feature of each entry.
    pub features: Vec<u32>,
    /// Activation of each entry, positive.
    pub activations: Vec<f32>,
}

impl Default for Codes {
    fn default() -> Self {
        Self {
            starts: vec![0],
            features: Vec::new(),
            activations: Vec::new(),
        }
    }
}

impl Codes {
    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of active entries over all rows.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether nothing is active.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Active features of one row with their activations, features ascending.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let range = self.starts[row]..self.starts[row + 1];
        self.features[range.clone()]
            .iter()
            .copied()
            .zip(self.activations[range].iter().copied())
    }

    /// Adds one row at the end.
    pub fn push_row(&mut self, entries: impl IntoIterator<Item = (u32, f32)>) {
        for (feature, activation) in entries {
            self.features.push(feature);
            self.activations.push(activation);
        }
        self.starts.push(self.features.len());
    }

    /// Adds the rows of `other` at the end.
    pub fn append(&mut self, other: &Self) {
        let shift = self.features.len();
        self.starts
            .extend(other.starts[1..].iter().map(|start| start + shift));
        self.features.extend_from_slice(&other.features);
        self.activations.extend_from_slice(&other.activations);
    }

    /// Leaves out the entries of features that are not wanted.
    pub fn retain(&mut self, wanted: impl Fn(u32) -> bool) {
        let mut kept = Self::default();
        for row in 0..self.n_rows() {
            kept.push_row(self.row(row).filter(|entry| wanted(entry.0)));
        }
        *self = kept;
    }

    /// The same entries as a dense matrix `[n_rows, n_features]`.
    pub fn to_dense(&self, n_features: usize) -> Vec<f32> {
        let mut dense = vec![0.0; self.n_rows() * n_features];
        for (row, values) in dense.chunks_mut(n_features).enumerate() {
            for (feature, activation) in self.row(row) {
                values[feature as usize] = activation;
            }
        }
        dense
    }

    /// The same entries ordered by feature, rows ascending within a feature (a counting sort).
    pub fn by_feature(&self, n_features: usize) -> Columns {
        let mut starts = vec![0; n_features + 1];
        for &feature in &self.features {
            starts[feature as usize + 1] += 1;
        }
        for feature in 0..n_features {
            starts[feature + 1] += starts[feature];
        }
        let mut next = starts.clone();
        let mut columns = Columns {
            starts,
            rows: vec![0; self.len()],
            activations: vec![0.0; self.len()],
        };
        for row in 0..self.n_rows() {
            for (feature, activation) in self.row(row) {
                let place = &mut next[feature as usize];
                columns.rows[*place] = row as u32;
                columns.activations[*place] = activation;
                *place += 1;
            }
        }
        columns
    }
}

/// Sparse codes by feature: feature `k` holds the entries `starts[k]..starts[k + 1]`, rows ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    /// Where each feature begins; `n_features + 1` entries.
    pub starts: Vec<usize>,
    /// Row of each entry.
    pub rows: Vec<u32>,
    /// Activation of each entry.
    pub activations: Vec<f32>,
}

impl Columns {
    /// Rows on which a feature fires with its activations.
    pub fn feature(&self, feature: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let range = self.starts[feature]..self.starts[feature + 1];
        self.rows[range.clone()]
            .iter()
            .copied()
            .zip(self.activations[range].iter().copied())
    }

    /// Whether a feature fires on any row.
    pub fn fires(&self, feature: usize) -> bool {
        self.starts[feature] < self.starts[feature + 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Codes {
        let mut codes = Codes::default();
        codes.push_row([(0, 1.0), (2, 2.0)]);
        codes.push_row([]);
        codes.push_row([(2, 3.0)]);
        codes
    }

    #[test]
    fn rows_and_columns_hold_the_same_entries() {
        let columns = example().by_feature(3);
        assert_eq!(columns.feature(2).collect::<Vec<_>>(), [(0, 2.0), (2, 3.0)]);
        assert!(columns.fires(0) && !columns.fires(1));
        assert_eq!(
            example().to_dense(3),
            [1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0]
        );
    }

    #[test]
    fn appended_rows_keep_their_entries() {
        let mut codes = example();
        codes.append(&example());
        assert_eq!(codes.n_rows(), 6);
        assert_eq!(
            codes.row(3).collect::<Vec<_>>(),
            example().row(0).collect::<Vec<_>>()
        );
    }
}
