//! What the readers of all formats hand over, and how it becomes a dictionary of ours.

use crate::crosscoder::Crosscoder;
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use std::path::Path;
use store::{Error, Result};

/// What the user says about a dictionary because its format does not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// Labels of the models, in order; empty: as the format has them, or `m0`, `m1`, ….
    pub labels: Vec<String>,
    /// Hook the activations come from.
    pub hook: Option<String>,
    /// Digest of the tokenizer behind the activations.
    pub tokenizer_digest: Option<String>,
    /// Factor on each model's activations before they are encoded, one for all or one each, where the format leaves them
    /// out.
    pub scales: Vec<f32>,
    /// Features kept per row, where the format leaves it out.
    pub k: Option<usize>,
}

/// A dictionary of another program: its weights in our layout, and what is known beside them.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) widths: Vec<usize>,
    pub(super) n_features: usize,
    /// `[d_model, n_features]` of each model.
    pub(super) encoder: Vec<Vec<f32>>,
    pub(super) encoder_bias: Vec<f32>,
    /// `[n_features, d_model]` of each model.
    pub(super) decoder: Vec<Vec<f32>>,
    pub(super) decoder_bias: Vec<Vec<f32>>,
    pub(super) inputs: Inputs,
    pub(super) gate: Gate,
    pub(super) code_normalization: CodeNormalization,
    pub(super) labels: Option<Vec<String>>,
    pub(super) hook: Option<String>,
    pub(super) tokenizer: Option<String>,
    /// What the user should know, a sentence each.
    pub(super) notes: Vec<String>,
}

/// What is done to activations before they are encoded.
#[derive(Debug, Clone)]
pub(super) enum Inputs {
    /// These maps, one per model.
    Known(Vec<Normalizer>),
    /// They are multiplied by a factor that the program keeps nowhere, and then `bias` `[d_model]` is taken off (empty:
    /// nothing is).
    Scaled { bias: Vec<f32> },
}

/// Which pre-activations survive.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Gate {
    /// All positive ones; λ of the penalty they were trained with, 0 when unknown.
    Relu { sparsity: f32 },
    /// The k largest of a row.
    TopK { k: usize },
    /// Rank values above one threshold (of decoupled codes: one per model); negative: never learned.
    BatchTopK { k: usize, threshold: f32 },
    /// The same, trained nested.
    Matryoshka { k: usize, threshold: f32 },
    /// Rank values above a threshold of each feature.
    Jump {
        k: Option<usize>,
        thresholds: Vec<f32>,
    },
}

impl Parts {
    /// One model whose activations are used as they are.
    pub(super) fn single(d_model: usize, n_features: usize, gate: Gate) -> Self {
        Self {
            widths: vec![d_model],
            n_features,
            encoder: Vec::new(),
            encoder_bias: vec![0.0; n_features],
            decoder: Vec::new(),
            decoder_bias: vec![vec![0.0; d_model]],
            inputs: Inputs::Known(vec![Normalizer::identity(d_model)]),
            gate,
            code_normalization: CodeNormalization::None,
            labels: None,
            hook: None,
            tokenizer: None,
            notes: Vec::new(),
        }
    }

    /// Puts `bias` where x − bias is encoded and bias is added to the reconstruction: both are the mean of a normaliser.
    pub(super) fn centre(&mut self, bias: Vec<f32>) {
        let d_model = bias.len();
        self.inputs = Inputs::Known(vec![Normalizer {
            mean: bias,
            ..Normalizer::identity(d_model)
        }]);
    }

    /// Cuts the one model of a concatenation into the models it is made of.
    pub(super) fn split(&mut self, widths: &[usize]) {
        let total = self.widths[0];
        let (encoder, decoder) = (self.encoder.remove(0), self.decoder.remove(0));
        let bias = self.decoder_bias.remove(0);
        let mut start = 0;
        for &width in widths {
            let range = start..start + width;
            let n = self.n_features;
            self.encoder
                .push(encoder[range.start * n..range.end * n].to_vec());
            let rows = decoder.chunks(total).flat_map(|row| &row[range.clone()]);
            self.decoder.push(rows.copied().collect());
            self.decoder_bias.push(bias[range.clone()].to_vec());
            start = range.end;
        }
        if let Inputs::Known(whole) = &mut self.inputs {
            let mut start = 0;
            let part = |&width: &usize| {
                let range = start..start + width;
                start = range.end;
                Normalizer {
                    mean: whole[0].mean[range.clone()].to_vec(),
                    std: whole[0].std[range].to_vec(),
                    scale: whole[0].scale,
                }
            };
            *whole = widths.iter().map(part).collect();
        }
        self.widths = widths.to_vec();
    }

    /// The dictionary, with what the user says; notes what stays unknown.
    pub(super) fn into_crosscoder(
        self,
        told: &Told,
        path: &Path,
    ) -> Result<(Crosscoder, Vec<String>)> {
        let normalizer = self.normalizers(told, path)?;
        let mut notes = self.notes.clone();
        let labels = self.labels(told, path, &mut notes)?;
        let hook = told.hook.clone().or(self.hook.clone()).unwrap_or_default();
        if hook.is_empty() {
            notes
                .push("its hook is not known and will not be compared: name it with --hook".into());
        }
        let tokenizer_digest = told
            .tokenizer_digest
            .clone()
            .or(self.tokenizer.clone())
            .unwrap_or_default();
        if tokenizer_digest.is_empty() {
            notes.push(
                "its tokenizer is not known and will not be compared: name it with --tokenizer"
                    .into(),
            );
        }
        let (rule, threshold, thresholds) = self.rule(told, &mut notes);
        let dictionary = Crosscoder {
            labels,
            widths: self.widths,
            n_features: self.n_features,
            encoder: self.encoder,
            encoder_bias: self.encoder_bias,
            decoder: self.decoder,
            decoder_bias: self.decoder_bias,
            normalizer,
            threshold,
            thresholds,
            rule,
            code_normalization: self.code_normalization,
            hook,
            tokenizer_digest,
        };
        Ok((dictionary, notes))
    }

    fn normalizers(&self, told: &Told, path: &Path) -> Result<Vec<Normalizer>> {
        let invalid = |cause: String| Err(fault(path, cause));
        let (scales, bias) = match (told.scales.as_slice(), &self.inputs) {
            ([], Inputs::Known(known)) => return Ok(known.clone()),
            (_, Inputs::Known(_)) => {
                return invalid(
                    "it says itself how its activations are scaled: leave --scale out".into(),
                );
            }
            ([], Inputs::Scaled { .. }) => {
                return invalid(
                    "its activations were multiplied by factors that are not in the file: give them with --scale (1 when they are already in the weights)"
                        .into(),
                );
            }
            (scales, Inputs::Scaled { bias }) => (scales, bias),
        };
        if !scales.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            return invalid("a scale is a positive number".into());
        }
        if scales.len() != 1 && scales.len() != self.widths.len() {
            return invalid(format!(
                "it holds {} models, {} scales were given",
                self.widths.len(),
                scales.len()
            ));
        }
        let scaled = |(model, &width): (usize, &usize)| {
            let scale = scales[model.min(scales.len() - 1)];
            let mut normalizer = Normalizer::identity(width);
            normalizer
                .mean
                .iter_mut()
                .zip(bias)
                .for_each(|(mean, bias)| *mean = bias / scale);
            Normalizer {
                scale,
                ..normalizer
            }
        };
        Ok(self.widths.iter().enumerate().map(scaled).collect())
    }

    fn labels(&self, told: &Told, path: &Path, notes: &mut Vec<String>) -> Result<Vec<String>> {
        let n_models = self.widths.len();
        match (told.labels.as_slice(), &self.labels) {
            ([], Some(labels)) if labels.len() == n_models => Ok(labels.clone()),
            ([], _) => {
                let labels: Vec<String> = (0..n_models).map(|model| format!("m{model}")).collect();
                notes.push(format!(
                    "its models have no names and are called {}: name them with --labels",
                    labels.join(", ")
                ));
                Ok(labels)
            }
            (told, _) if told.len() == n_models => Ok(told.to_vec()),
            (told, _) => {
                let cause = format!(
                    "it holds {n_models} models, {} labels were given",
                    told.len()
                );
                Err(fault(path, cause))
            }
        }
    }

    /// Rule, threshold and thresholds.
    fn rule(&self, told: &Told, notes: &mut Vec<String>) -> (Rule, f32, Vec<f32>) {
        match &self.gate {
            Gate::Relu { sparsity } => (
                Rule::L1 {
                    sparsity: *sparsity,
                },
                -1.0,
                Vec::new(),
            ),
            Gate::TopK { k } => (Rule::TopK { k: *k }, -1.0, Vec::new()),
            Gate::BatchTopK { k, threshold } => (Rule::BatchTopK { k: *k }, *threshold, Vec::new()),
            Gate::Matryoshka { k, threshold } => {
                (Rule::Matryoshka { k: *k }, *threshold, Vec::new())
            }
            Gate::Jump { k, thresholds } => {
                let k = told.k.or(*k).unwrap_or_else(|| {
                    notes.push("it does not say how many features fire per row: name the number with --k where batches are to be ranked".into());
                    0
                });
                let rule = Rule::JumpRelu {
                    k,
                    sparsity: 0.0,
                    bandwidth: 0.0,
                };
                let smallest = thresholds.iter().copied().fold(f32::INFINITY, f32::min);
                (rule, smallest, thresholds.clone())
            }
        }
    }
}

fn fault(path: &Path, cause: String) -> Error {
    Error::Invalid {
        path: path.to_owned(),
        cause,
    }
}

/// Rows and columns moved at a time: what is read and what is written stay in the cache together.
const TILE: usize = 32;

/// `[rows, columns]` → `[columns, rows]`.
pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..rows.min(top + TILE) {
                for column in left..columns.min(left + TILE) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}

/// `[n_features, n_models, d_model]` → `[n_features, d_model]` of each model.
pub(super) fn unstacked(values: &[f32], n_models: usize, d_model: usize) -> Vec<Vec<f32>> {
    let model = |model: usize| {
        let rows = values.chunks_exact(d_model).skip(model).step_by(n_models);
        rows.flatten().copied().collect()
    };
    (0..n_models).map(model).collect()
}

/// The other way round.
pub(super) fn stacked(models: &[Vec<f32>], d_model: usize) -> Vec<f32> {
    let n_rows = models[0].len() / d_model;
    let row = |row: usize| {
        models
            .iter()
            .flat_map(move |values| &values[row * d_model..(row + 1) * d_model])
    };
    (0..n_rows).flat_map(row).copied().collect()
}

/// `[n_models, …]` → one of each model.
pub(super) fn cut(values: &[f32], n_models: usize) -> Vec<Vec<f32>> {
    values
        .chunks_exact(values.len() / n_models)
        .map(<[f32]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_turned_and_turned_back() {
        let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(
            transposed(&values[..6], 2, 3),
            [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
        );
        let large: Vec<f32> = (0..70 * 41).map(|value| value as f32).collect();
        let turned = transposed(&large, 70, 41);
        assert_eq!(turned[3 * 70 + 69].to_bits(), large[69 * 41 + 3].to_bits());
        assert_eq!(transposed(&turned, 41, 70), large);
        let models = unstacked(&values, 2, 3);
        assert_eq!(models[1], [3.0, 4.0, 5.0, 9.0, 10.0, 11.0]);
        assert_eq!(stacked(&models, 3), values);
    }

    #[test]
    fn a_concatenation_is_cut_by_columns() {
        let mut parts = Parts::single(3, 2, Gate::TopK { k: 1 });
        parts.encoder = vec![(0..6).map(|value| value as f32).collect()];
        parts.decoder = vec![vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0]];
        parts.centre(vec![7.0, 8.0, 9.0]);
        parts.split(&[2, 1]);
        assert_eq!(parts.encoder, [vec![0.0, 1.0, 2.0, 3.0], vec![4.0, 5.0]]);
        assert_eq!(parts.decoder, [vec![0.0, 1.0, 10.0, 11.0], vec![2.0, 12.0]]);
        let Inputs::Known(normalizer) = &parts.inputs else {
            unreachable!()
        };
        assert_eq!(normalizer[1].mean, [9.0]);
    }
}
