//! The features a checkpoint uses more than the base does, and how much two such sets overlap.

use dict::Codes;
use serde::Serialize;

/// What "most specific" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Mean of `z − z_base`, times the feature's decoder norm: how much more of it is written
    Difference,
    /// `(Σz − Σz_base) / (Σz + Σz_base)`, of features on at least 0.1 % of the rows of either: what share of it is new
    Relative,
}

/// Sums of one document for one feature.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    feature: u32,
    /// Σ z of the checkpoint.
    after: f32,
    /// Σ z of the base.
    before: f32,
    /// Rows on which it fires in either.
    rows: u32,
}

/// Sums of code and base code, document by document; documents must come in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    n_features: usize,
    n_rows: u64,
    documents: Vec<Vec<Entry>>,
    /// Sums of the document under way `[n_features]`: after, before, rows.
    current: Vec<(f64, f64, u32)>,
}

impl Collector {
    /// Of nothing yet.
    pub fn new(n_features: usize) -> Self {
        Self {
            n_features,
            n_rows: 0,
            documents: Vec::new(),
            current: vec![(0.0, 0.0, 0); n_features],
        }
    }

    /// Adds rows, each with the number of its document.
    pub fn add(&mut self, codes: &Codes, base: &Codes, documents: &[u32]) {
        for (row, &document) in documents.iter().enumerate() {
            self.go_to(document as usize);
            self.n_rows += 1;
            for (feature, activation) in codes.row(row) {
                let sums = &mut self.current[feature as usize];
                sums.0 += f64::from(activation);
                sums.2 += 1;
            }
            for (feature, activation) in base.row(row) {
                let sums = &mut self.current[feature as usize];
                sums.1 += f64::from(activation);
                sums.2 += 1;
            }
        }
    }

    /// Closes the document under way.
    #[must_use]
    pub fn finish(mut self, n_documents: usize) -> Self {
        self.go_to(n_documents);
        self
    }

    /// Number of documents.
    pub fn n_documents(&self) -> usize {
        self.documents.len()
    }

    fn go_to(&mut self, document: usize) {
        while self.documents.len() < document {
            let entries = self
                .current
                .iter_mut()
                .enumerate()
                .filter(|(_, sums)| sums.2 > 0);
            let taken = entries.map(|(feature, sums)| {
                let (after, before, rows) = std::mem::take(sums);
                Entry {
                    feature: feature as u32,
                    after: after as f32,
                    before: before as f32,
                    rows,
                }
            });
            let taken: Vec<Entry> = taken.collect();
            self.documents.push(taken);
        }
    }

    /// Whether each feature fires anywhere, in the checkpoint or in the base.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.n_features];
        self.documents
            .iter()
            .flatten()
            .for_each(|entry| live[entry.feature as usize] = true);
        live
    }

    /// The `top` features of largest positive score over the documents drawn, ascending by number. `weights` are the decoder
    /// norms `[n_features]`.
    pub fn top(&self, drawn: &[usize], measure: Measure, weights: &[f32], top: usize) -> Vec<u32> {
        let mut sums = vec![(0f64, 0f64, 0u64); self.n_features];
        for entry in drawn.iter().flat_map(|&document| &self.documents[document]) {
            let sums = &mut sums[entry.feature as usize];
            sums.0 += f64::from(entry.after);
            sums.1 += f64::from(entry.before);
            sums.2 += u64::from(entry.rows);
        }
        let least = self.n_rows / 1000;
        let score = |(feature, &(after, before, rows)): (usize, &(f64, f64, u64))| {
            let score = match measure {
                Measure::Difference => (after - before) * f64::from(weights[feature]),
                Measure::Relative if rows >= least => {
                    (after - before) / (after + before).max(f64::MIN_POSITIVE)
                }
                Measure::Relative => 0.0,
            };
            (score, feature as u32)
        };
        let mut scored: Vec<(f64, u32)> = sums
            .iter()
            .enumerate()
            .map(score)
            .filter(|scored| scored.0 > 0.0)
            .collect();
        if scored.len() > top && top > 0 {
            scored.select_nth_unstable_by(top - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        scored.truncate(top);
        let mut features: Vec<u32> = scored.into_iter().map(|scored| scored.1).collect();
        features.sort_unstable();
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two documents of one row each; features 0 and 1 rise, 2 falls, 3 stays.
    fn example() -> Collector {
        let (mut codes, mut base) = (Codes::default(), Codes::default());
        codes.push_row([(0, 2.0), (3, 1.0)]);
        base.push_row([(0, 1.0), (2, 1.0), (3, 1.0)]);
        codes.push_row([(1, 0.5)]);
        base.push_row([]);
        let mut collector = Collector::new(4);
        collector.add(&codes, &base, &[0, 1]);
        collector.finish(2)
    }

    #[test]
    fn only_features_that_rise_are_specific() {
        let top = |drawn: &[usize], measure, n| example().top(drawn, measure, &[1.0; 4], n);
        assert_eq!(top(&[0, 1], Measure::Difference, 50), [0, 1]);
        assert_eq!(top(&[0, 1], Measure::Difference, 1), [0]);
        assert_eq!(top(&[0, 1], Measure::Relative, 1), [1]);
        assert_eq!(top(&[0, 0], Measure::Difference, 50), [0]);
    }

    #[test]
    fn a_feature_with_a_longer_decoder_row_counts_for_more() {
        assert_eq!(
            example().top(&[0, 1], Measure::Difference, &[1.0, 9.0, 1.0, 1.0], 1),
            [1]
        );
    }

    #[test]
    fn documents_without_a_row_are_empty() {
        let mut collector = Collector::new(1);
        let mut codes = Codes::default();
        codes.push_row([(0, 1.0)]);
        collector.add(&codes, &codes, &[2]);
        let collector = collector.finish(4);
        assert_eq!(collector.n_documents(), 4);
        assert_eq!(
            collector.documents.iter().map(Vec::len).collect::<Vec<_>>(),
            [0, 0, 1, 0]
        );
        assert_eq!(collector.live(), [true]);
    }
}
