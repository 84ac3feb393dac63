//! What the writers of all formats share.

use crate::crosscoder::Crosscoder;
use crate::normalizer::Normalizer;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use store::{Error, Provenance, Result, TensorData, write_atomic, write_tensors};

/// A dictionary on its way to a folder of another program.
pub(super) struct Export<'a> {
    pub(super) dictionary: &'a Crosscoder,
    pub(super) folder: &'a Path,
    pub(super) provenance: &'a Provenance,
    /// What the format does not keep, a sentence each.
    pub(super) notes: Vec<String>,
}

impl Export<'_> {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file of tensors as safetensors.
    pub(super) fn safetensors(&self, name: &str, tensors: &[(String, TensorData)]) -> Result<()> {
        write_tensors(&self.path(name), tensors, &BTreeMap::new(), self.provenance)
    }

    /// Writes a configuration; last, for its existence says that the folder is complete.
    pub(super) fn json(&self, name: &str, value: &Json) -> Result<()> {
        let text = serde_json::to_string_pretty(value).expect("JSON values are always text");
        self.text(name, &(text + "\n"))
    }

    pub(super) fn text(&self, name: &str, text: &str) -> Result<()> {
        write_atomic(&self.path(name), |file| file.write_all(text.as_bytes()))
    }

    /// Provenance as JSON, for configurations that pass over keys they do not know.
    pub(super) fn origin(&self) -> Json {
        serde_json::to_value(self.provenance).expect("a provenance is always JSON")
    }

    /// Why this dictionary cannot be written in this format.
    pub(super) fn refuse<T>(&self, cause: impl Into<String>) -> Result<T> {
        Err(Error::Unwritable {
            path: self.folder.to_owned(),
            cause: cause.into(),
        })
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The width all models have, or an error that says the format wants one.
    pub(super) fn common_width(&self) -> Result<usize> {
        let widths = &self.dictionary.widths;
        if widths.iter().all(|width| *width == widths[0]) {
            return Ok(widths[0]);
        }
        self.refuse(format!(
            "its models have the widths {widths:?}, the format has one for all"
        ))
    }

    /// Why a rule has no place in a format.
    pub(super) fn refuse_rule<T>(&self, known: &str) -> Result<T> {
        self.refuse(format!(
            "the rule is {}, the format knows {known}",
            self.dictionary.rule.name()
        ))
    }
}

/// A float tensor under its name.
pub(super) fn float(name: &str, shape: &[usize], values: Vec<f32>) -> (String, TensorData) {
    let shape = shape.to_vec();
    (name.to_owned(), TensorData::F32 { shape, values })
}

/// A tensor of whole numbers under its name.
pub(super) fn whole(name: &str, shape: &[usize], values: Vec<i64>) -> (String, TensorData) {
    let shape = shape.to_vec();
    (name.to_owned(), TensorData::I64 { shape, values })
}

/// √(total variance) after a normaliser, which two formats keep beside it.
pub(super) fn target(normalizer: &Normalizer) -> f32 {
    let total: f64 = normalizer
        .std
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum();
    (f64::from(normalizer.scale) * (total + 1e-8).sqrt()) as f32
}

/// Biases after the means are folded in: with x' = (x − μ)·g, b ← b − Σ g·μ·W and c ← c + g·μ.
pub(super) fn biases_without_means(dictionary: &Crosscoder) -> (Vec<f32>, Vec<Vec<f32>>) {
    let mut encoder_bias = dictionary.encoder_bias.clone();
    let mut decoder_bias = dictionary.decoder_bias.clone();
    for (model, normalizer) in dictionary.normalizer.iter().enumerate() {
        let rows = dictionary.encoder[model].chunks_exact(dictionary.n_features);
        for ((weights, mean), bias) in rows.zip(&normalizer.mean).zip(&mut decoder_bias[model]) {
            let mean = mean * normalizer.scale;
            if mean != 0.0 {
                encoder_bias
                    .iter_mut()
                    .zip(weights)
                    .for_each(|(bias, weight)| *bias -= mean * weight);
                *bias += mean;
            }
        }
    }
    (encoder_bias, decoder_bias)
}
