//! From activations to codes and back.

use crate::codes::Codes;
use crate::crosscoder::Crosscoder;
use crate::rule::{CodeNormalization, Rule, Selection};
use crate::search::{Search, batch_top_k, search};
use kernels::matmul::{Threads, View, ViewMut, matmul};
use kernels::vector::{add_scaled, dot, norm, vectorised};
use rayon::prelude::*;
use std::ops::Range;

/// Rows encoded at a time where rows do not compete: bounds the dense activations held.
const CHUNK: usize = 1024;

/// Which activations are put before which encoder block.
///
/// A crosscoder has one code for all its models. A readout turns it into one code per model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readout {
    /// Every model's activation in its own slot: `f = σ(Σ_m W_enc^m x^m + b)`.
    Joint,
    /// The activation of `model` in every slot but `keep`, which sees its own (arXiv 2609.35210):
    /// for [base, sft, rl] and `keep` 2, `z_m = enc(h_m, h_m, h_rl)`. The part of the code that tells the models apart is
    /// the same in all of these codes, so their difference is the model's own. Each slot applies its own normaliser to
    /// what it is given; the widths of the slots filled must agree.
    Swap {
        /// Model whose activation fills the slots.
        model: usize,
        /// Slot that keeps its own activation; the number of models: none does.
        keep: usize,
    },
    /// The model's own encoder block alone, every other slot at its mean: `f = σ(W_enc^m x^m + b)`. It sees one part of
    /// `n_models` of the evidence for a shared feature, so fewer features pass the threshold.
    SelfOnly {
        /// The model.
        model: usize,
    },
}

impl Readout {
    /// The swap readout of one model: with three and more models the last slot (the teacher) keeps its own activation.
    pub fn swap(model: usize, n_models: usize) -> Self {
        let keep = if n_models > 2 { n_models - 1 } else { n_models };
        Self::Swap { model, keep }
    }

    /// Which model's activation slot `slot` sees; `None`: its mean.
    fn source(self, slot: usize) -> Option<usize> {
        match self {
            Self::Joint => Some(slot),
            Self::Swap { keep, .. } if slot == keep => Some(slot),
            Self::Swap { model, .. } => Some(model),
            Self::SelfOnly { model } => (slot == model).then_some(slot),
        }
    }
}

impl Crosscoder {
    /// Codes of `n_rows` rows with every model in its own slot.
    ///
    /// `x` holds each model's activations `[n_rows, d_model]` in the model's own units.
    pub fn encode(&self, x: &[&[f32]], n_rows: usize, selection: Selection) -> Codes {
        self.encode_as(Readout::Joint, x, n_rows, selection)
    }

    /// Codes of `n_rows` rows under a readout; the activations of models the readout does not look at may be empty.
    ///
    /// With [`CodeNormalization::Decoupled`] the code holds every feature that is active for at least one model;
    /// [`Crosscoder::encode_decoupled`] keeps them apart.
    ///
    /// # Panics
    /// When the readout puts an activation into a slot of another width; see [`Crosscoder::accepts`].
    pub fn encode_as(
        &self,
        readout: Readout,
        x: &[&[f32]],
        n_rows: usize,
        selection: Selection,
    ) -> Codes {
        if self.code_normalization.is_decoupled() {
            return union(&self.decoupled(readout, x, n_rows, selection));
        }
        let weights = self.rank_weights();
        let choice = self.choice(selection, self.threshold);
        self.chunks(
            (readout, x, n_rows),
            choice == Choice::Batch,
            |input, rows| self.choose(input, rows, &weights, choice),
        )
    }

    /// One code per model `[n_models]` for a dictionary with decoupled codes; the same code for every model otherwise.
    pub fn encode_decoupled(
        &self,
        x: &[&[f32]],
        n_rows: usize,
        selection: Selection,
    ) -> Vec<Codes> {
        if self.code_normalization.is_decoupled() {
            self.decoupled(Readout::Joint, x, n_rows, selection)
        } else {
            vec![self.encode(x, n_rows, selection); self.n_models()]
        }
    }

    /// Activations of a few features `[n_rows, features.len()]`, those at or below the threshold set to 0.
    ///
    /// What an intervention needs: only the encoder columns of these features are read.
    pub fn encode_features(
        &self,
        readout: Readout,
        x: &[&[f32]],
        n_rows: usize,
        features: &[u32],
    ) -> Vec<f32> {
        let mut out = vec![0.0; n_rows * features.len()];
        for (place, &feature) in features.iter().enumerate() {
            let feature = feature as usize;
            let weight = self.code_normalization.weight(&self.decoder_norms(feature));
            for slot in 0..self.n_models() {
                let Some(source) = readout.source(slot) else {
                    continue;
                };
                let column = self.encoder_column(slot, feature);
                let rows = self.normalize(slot, x[source]);
                for (row, values) in rows.chunks_exact(self.widths[slot]).enumerate() {
                    out[row * features.len() + place] += vectorised(
                        #[inline(always)]
                        || dot(values, &column),
                    );
                }
            }
            for value in out.iter_mut().skip(place).step_by(features.len()) {
                let activation = (*value + self.encoder_bias[feature]).max(0.0);
                *value = if activation * weight > self.threshold_of(feature).max(0.0) {
                    activation
                } else {
                    0.0
                };
            }
        }
        out
    }

    /// Whether a readout is possible: every filled slot has the width of the model that fills it.
    pub fn accepts(&self, readout: Readout) -> bool {
        let fits = |slot: usize| {
            readout
                .source(slot)
                .is_none_or(|source| self.widths[source] == self.widths[slot])
        };
        (0..self.n_models()).all(fits)
    }

    /// Reconstruction of one model `[n_rows, d_model]`, in the model's own units.
    pub fn decode(&self, model: usize, codes: &Codes) -> Vec<f32> {
        let mut out = self.decode_normalized(model, codes);
        let width = self.widths[model];
        out.par_chunks_mut(width)
            .with_min_len(64)
            .for_each(|row| self.normalizer[model].undo(row));
        out
    }

    /// Reconstruction of one model `[n_rows, d_model]`, in normalised units.
    pub fn decode_normalized(&self, model: usize, codes: &Codes) -> Vec<f32> {
        let width = self.widths[model];
        let mut out = vec![0.0; codes.n_rows() * width];
        out.par_chunks_mut(width)
            .with_min_len(64)
            .enumerate()
            .for_each(|(row, out)| {
                vectorised(
                    #[inline(always)]
                    || {
                        out.copy_from_slice(&self.decoder_bias[model]);
                        for (feature, activation) in codes.row(row) {
                            add_scaled(out, activation, self.row(model, feature as usize));
                        }
                    },
                );
            });
        out
    }

    /// Column k of a model's encoder `[d_model]`.
    fn encoder_column(&self, model: usize, feature: usize) -> Vec<f32> {
        self.encoder[model]
            .iter()
            .skip(feature)
            .step_by(self.n_features)
            .copied()
            .collect()
    }

    /// How the features of a row are chosen, where `threshold` is the smallest of the learned ones.
    fn choice(&self, selection: Selection, threshold: f32) -> Choice {
        match (selection, self.rule) {
            (Selection::BatchTopK, _) => Choice::Batch,
            (Selection::Rule, Rule::L1 { .. }) => Choice::Positive,
            (Selection::Rule, Rule::TopK { .. }) => Choice::Row,
            (Selection::Rule, rule) if rule.ranks_the_batch() && threshold < 0.0 => Choice::Batch,
            (Selection::Threshold | Selection::Rule, _) => Choice::Threshold,
        }
    }

    /// Encodes in chunks, or all rows at once where they compete.
    fn chunks(
        &self,
        (readout, x, n_rows): (Readout, &[&[f32]], usize),
        whole: bool,
        choose: impl Fn(&Input, usize) -> Codes,
    ) -> Codes {
        let step = if whole { n_rows.max(1) } else { CHUNK };
        let mut codes = Codes::default();
        for start in (0..n_rows).step_by(step) {
            let rows = step.min(n_rows - start);
            codes.append(&choose(&self.input(readout, x, start, rows), rows));
        }
        codes
    }

    /// Normalised activations of `rows` rows from `start`, slot by slot.
    fn input(&self, readout: Readout, x: &[&[f32]], start: usize, rows: usize) -> Input {
        let slot = |slot: usize| {
            let source = readout.source(slot)?;
            let width = self.widths[slot];
            assert_eq!(
                self.widths[source], width,
                "a readout puts an activation into a slot of another width"
            );
            let rows = self.normalize(slot, &x[source][start * width..(start + rows) * width]);
            Some((slot, rows))
        };
        (0..self.n_models()).filter_map(slot).collect()
    }

    /// Searches the first `n_rows` rows of an input.
    fn search(&self, input: &Input, n_rows: usize, wanted: &mut Search) {
        let product = |features: Range<usize>, out: &mut [f32]| {
            if input.is_empty() {
                out.fill(0.0);
            }
            for (number, (slot, rows)) in input.iter().enumerate() {
                let width = self.widths[*slot];
                let encoder = &self.encoder[*slot][features.start..];
                matmul(
                    ViewMut::new(out, n_rows, features.len(), features.len()),
                    number > 0,
                    1.0,
                    View::new(rows, n_rows, width, width),
                    View::new(encoder, width, features.len(), self.n_features),
                    Threads::All,
                );
            }
        };
        let room = (self.encoder_bias.as_slice(), &mut Vec::new());
        search(&mut [wanted], room, product);
    }

    /// Codes of an input of `rows` rows.
    fn choose(&self, input: &Input, rows: usize, weights: &[f32], choice: Choice) -> Codes {
        let k = self.rule.k().unwrap_or(self.n_features);
        let above = |threshold: f32| {
            let mut wanted = Search::above(weights.to_vec(), threshold.max(0.0).next_up(), rows);
            self.search(input, rows, &mut wanted);
            wanted.codes(|_, _| true)
        };
        match choice {
            Choice::Positive => above(0.0),
            Choice::Threshold if self.thresholds.is_empty() => above(self.threshold),
            Choice::Threshold => {
                let scale = jump_scale(weights, &self.thresholds);
                let mut wanted = Search::above(scale, JUMP, rows);
                self.search(input, rows, &mut wanted);
                wanted.codes(|feature, activation| {
                    let feature = feature as usize;
                    activation * weights[feature] > self.thresholds[feature]
                })
            }
            Choice::Row => {
                let mut wanted = Search::largest(weights.to_vec(), k, rows);
                self.search(input, rows, &mut wanted);
                wanted.codes(|_, _| true)
            }
            Choice::Batch => {
                let run = |n: usize, wanted: &mut Search| self.search(input, n, wanted);
                batch_top_k((rows, rows * k), weights, None, run).0
            }
        }
    }

    /// One code per model: the shared activation, selected with each model's own norms and threshold.
    fn decoupled(
        &self,
        readout: Readout,
        x: &[&[f32]],
        n_rows: usize,
        selection: Selection,
    ) -> Vec<Codes> {
        let CodeNormalization::Decoupled { thresholds } = &self.code_normalization else {
            return Vec::new();
        };
        let largest = if self.thresholds.is_empty() {
            thresholds.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        } else {
            self.threshold
        };
        let choice = match self.choice(selection, largest) {
            Choice::Threshold if largest < 0.0 => Choice::Batch,
            choice => choice,
        };
        let one = |model: usize| {
            let weights: Vec<f32> = (0..self.n_features)
                .map(|feature| norm(self.row(model, feature)))
                .collect();
            let chosen = |input: &Input, rows: usize| match choice {
                Choice::Threshold if self.thresholds.is_empty() => {
                    let floor = thresholds[model].max(0.0).next_up();
                    let mut wanted = Search::above(weights.clone(), floor, rows);
                    self.search(input, rows, &mut wanted);
                    wanted.codes(|_, _| true)
                }
                choice => self.choose(input, rows, &weights, choice),
            };
            self.chunks((readout, x, n_rows), choice == Choice::Batch, chosen)
        };
        (0..self.n_models()).map(one).collect()
    }
}

/// Normalised activations of the slots a readout fills: slot and rows `[n_rows, d_model]`.
type Input = Vec<(usize, Vec<f32>)>;

/// How the features of some rows are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Every positive activation.
    Positive,
    /// Rank values above the learned thresholds.
    Threshold,
    /// The k largest of every row.
    Row,
    /// The k·rows largest of all rows.
    Batch,
}

/// Floor of an activation scaled by [`jump_scale`]: a little below what passes, the exact comparison follows.
pub(crate) const JUMP: f32 = 1.0 - 1e-6;

/// Factors that bring the thresholds of all features to 1.
pub(crate) fn jump_scale(weights: &[f32], thresholds: &[f32]) -> Vec<f32> {
    let scale = |(weight, threshold): (&f32, &f32)| weight / threshold.max(1e-30);
    weights.iter().zip(thresholds).map(scale).collect()
}

/// Features active in any of several codes of the same rows.
fn union(codes: &[Codes]) -> Codes {
    let mut out = Codes::default();
    for row in 0..codes[0].n_rows() {
        let mut entries: Vec<(u32, f32)> = codes.iter().flat_map(|codes| codes.row(row)).collect();
        entries.sort_unstable_by_key(|entry| entry.0);
        entries.dedup_by_key(|entry| entry.0);
        out.push_row(entries);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crosscoder::tests::example;

    #[test]
    fn two_models_of_unequal_width_share_one_code() {
        let dictionary = example();
        // Pre-activations: 2 + 0.5·1 + 0 = 2.5 and 3 − 1 + 0.25 = 2.25; rank values 17.5 and 2.25.
        let x: [&[f32]; 2] = [&[2.0, 3.0], &[1.0]];
        let codes = dictionary.encode(&x, 1, Selection::Rule);
        assert_eq!(
            (codes.features.as_slice(), codes.activations.as_slice()),
            (&[0u32][..], &[2.5f32][..])
        );
        assert_eq!(dictionary.decode(0, &codes), [7.5, 11.0]);
        assert_eq!(dictionary.decode(1, &codes), [4.0]);
    }

    #[test]
    fn a_readout_fills_the_slots_it_says() {
        let dictionary = example();
        let x: [&[f32]; 2] = [&[2.0, 3.0], &[1.0]];
        let alone =
            dictionary.encode_as(Readout::SelfOnly { model: 1 }, &x, 1, Selection::BatchTopK);
        assert_eq!((alone.features[0], alone.activations[0]), (0, 0.5));
        assert!(!dictionary.accepts(Readout::swap(0, 2)));
        assert_eq!(Readout::swap(0, 3), Readout::Swap { model: 0, keep: 2 });
        assert_eq!(Readout::swap(1, 3).source(0), Some(1));
        assert_eq!(Readout::swap(1, 3).source(2), Some(2));
    }

    #[test]
    fn a_few_features_encode_as_all_of_them_do() {
        let dictionary = example();
        let x: [&[f32]; 2] = [&[2.0, 3.0, 0.1, 9.0], &[1.0, 0.0]];
        let all = dictionary.encode(&x, 2, Selection::Threshold).to_dense(2);
        let few = dictionary.encode_features(Readout::Joint, &x, 2, &[1, 0]);
        assert_eq!(few, [all[1], all[0], all[3], all[2]]);
    }
}
