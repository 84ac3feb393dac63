//! How much of what distinguishes the two models a feature carries, where it is read.
//!
//! The shift Δ is the mean over key samples of `h^after − h^before`, each a mean over the rows that are read. Disabling
//! feature k in the model after takes `f_k^after·d_k^after` out of its residual stream; projected on Δ this is the share
//! `f_k^after·⟨d_k^after, Δ⟩ / ‖Δ‖²` of the shift. Near 0, disabling cannot turn the model back: the crosscoder holds the
//! difference elsewhere, as a rule in features that fire alike in both models and whose decoder rows differ.

use crate::documents::{Documents, Tokens};
use crate::keys::{Models, TaskKeys};
use crate::readings::Readings;
use dict::Crosscoder;
use std::path::PathBuf;
use store::ActivationStore;

/// The shift between the models, and what is needed to project on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shift {
    /// Δ, `[d_model]`, in the units of the residual stream.
    difference: Vec<f64>,
    /// Slot of the model after in the dictionary.
    slot: usize,
}

impl Shift {
    /// Reads the rows of the key samples from the stores; nothing when the two models cannot be subtracted: their widths
    /// differ, or a store or the dictionary does not hold both of them.
    pub fn read(
        stores: &[PathBuf],
        dictionary: &Crosscoder,
        models: &Models,
        keys: &[TaskKeys],
        which: Tokens,
    ) -> anyhow::Result<Option<Self>> {
        let slots = [&models.before, &models.after].map(|label| dictionary.model(label));
        let [Some(before), Some(slot)] = slots else {
            return Ok(None);
        };
        if dictionary.widths[before] != dictionary.widths[slot] {
            return Ok(None);
        }
        let mut difference = vec![0.0; dictionary.widths[slot]];
        let mut n_documents = 0;
        for directory in stores {
            let store = ActivationStore::open(directory)?;
            let tokens = store.tokens()?;
            let documents = Documents::of(&tokens, &models.after, keys, which);
            let (rows, weights) = documents.weighted_rows();
            for (label, sign) in [(&models.before, -1.0), (&models.after, 1.0)] {
                let Some(index) = store.labels().iter().position(|found| found == label) else {
                    return Ok(None);
                };
                let mut values = Vec::new();
                store.read_rows(index, &dictionary.hook, &rows, &mut values)?;
                add_weighted(&mut difference, &values, &weights, sign);
            }
            n_documents += documents.names.len();
        }
        for sum in &mut difference {
            *sum /= n_documents.max(1) as f64;
        }
        Ok(Some(Self { difference, slot }))
    }

    /// Share of the shift that disabling each feature in the model after takes out, by feature; 0 for a silent one.
    pub fn removal_shares(&self, dictionary: &Crosscoder, readings: &Readings) -> Vec<f64> {
        let mut means = vec![0.0; dictionary.n_features];
        for document in readings.after.values() {
            for (&feature, mean) in document {
                means[feature as usize] += mean / readings.after.len() as f64;
            }
        }
        let scale = f64::from(dictionary.normalizer[self.slot].scale);
        let share = |(feature, mean): (usize, &f64)| {
            self.share(dictionary.row(self.slot, feature), mean / scale)
        };
        means.iter().enumerate().map(share).collect()
    }

    /// Share of the shift that `amount` times a decoder row `[d_model]` makes up.
    fn share(&self, row: &[f32], amount: f64) -> f64 {
        let square: f64 = self.difference.iter().map(|value| value * value).sum();
        let products = row.iter().zip(&self.difference);
        let along: f64 = products.map(|(row, value)| f64::from(*row) * value).sum();
        if square > 0.0 {
            amount * along / square
        } else {
            0.0
        }
    }
}

/// Adds `sign · weight · row` of every row `[d_model]` of `values` to `sum`.
fn add_weighted(sum: &mut [f64], values: &[f32], weights: &[f64], sign: f64) {
    for (row, weight) in values.chunks_exact(sum.len()).zip(weights) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += sign * weight * f64::from(*value);
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_by_weight() {
        let mut sum = vec![1.0, 0.0];
        add_weighted(&mut sum, &[2.0, 4.0, 6.0, 8.0], &[0.5, 0.25], -1.0);
        assert_eq!(sum, [-1.5, -4.0]);
    }

    #[test]
    fn only_what_lies_along_the_shift_counts() {
        let shift = Shift {
            difference: vec![2.0, 0.0],
            slot: 1,
        };
        assert_eq!(shift.share(&[1.0, 0.0], 2.0), 1.0);
        assert_eq!(shift.share(&[0.0, 1.0], 2.0), 0.0);
        assert_eq!(shift.share(&[-0.5, 7.0], 2.0), -0.5);
        let none = Shift {
            difference: vec![0.0, 0.0],
            slot: 1,
        };
        assert_eq!(none.share(&[1.0, 0.0], 2.0), 0.0);
    }
}
