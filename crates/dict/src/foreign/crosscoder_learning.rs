//! Dictionaries of `crosscoder_learning` (science-of-finetuning), in the form they have on the Hugging Face hub:
//! `model.safetensors` and `config.json`.
//!
//! A NaN in `activation_mean` means that no normaliser was used. The integer `code_normalization_id` of the tensors wins
//! over the string of the configuration, which is written in lower or upper case; without either the old default
//! `crosscoder` holds. `threshold` −1 was never learned.

use crate::crosscoder::Crosscoder;
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use serde::Deserialize;
use std::path::Path;
use store::{Error, Result, TensorFile, read_text};

/// What `config.json` says and the tensors do not.
#[derive(Debug, Deserialize)]
struct Config {
    code_normalization: Option<String>,
    #[serde(default = "one")]
    code_normalization_alpha_sae: f32,
    #[serde(default = "tenth")]
    code_normalization_alpha_cc: f32,
    k: Option<usize>,
}

fn one() -> f32 {
    1.0
}

fn tenth() -> f32 {
    0.1
}

/// Reads `DIR/model.safetensors` and `DIR/config.json`.
///
/// The format names neither models nor hook nor tokenizer: `labels` are the user's (`m0`, `m1`, … when there are none),
/// hook and tokenizer stay empty and are not compared.
pub fn import_crosscoder_learning(directory: &Path, labels: &[String]) -> Result<Crosscoder> {
    let config_path = directory.join("config.json");
    let config: Config = serde_json::from_str(&read_text(&config_path)?)
        .map_err(|error| invalid(&config_path, error.to_string()))?;
    let file = TensorFile::open(&directory.join("model.safetensors"))?;
    let [n_models, d_model, n_features] = *file.shape("encoder.weight")? else {
        return Err(invalid(
            file.path(),
            "`encoder.weight` is not [n_models, d_model, n_features]".into(),
        ));
    };
    let split = |name: &str, length: usize| -> Result<Vec<Vec<f32>>> {
        let values = checked(&file, name, n_models * length)?;
        Ok(values.chunks(length).map(<[f32]>::to_vec).collect())
    };
    let thresholds = if file.contains("threshold") {
        file.f32("threshold")?
    } else {
        vec![-1.0]
    };
    let code_normalization = code_normalization(&file, &config, &thresholds)?;
    let mut dictionary = Crosscoder {
        labels: labelled(labels, n_models, directory)?,
        widths: vec![d_model; n_models],
        n_features,
        encoder: split("encoder.weight", d_model * n_features)?,
        encoder_bias: checked(&file, "encoder.bias", n_features)?,
        decoder: split("decoder.weight", n_features * d_model)?,
        decoder_bias: split("decoder.bias", d_model)?,
        normalizer: normalizers(&file, n_models, d_model)?,
        threshold: thresholds.iter().copied().fold(f32::INFINITY, f32::min),
        thresholds: Vec::new(),
        rule: rule(&file, &config)?,
        code_normalization,
        hook: String::new(),
        tokenizer_digest: String::new(),
    };
    if matches!(
        dictionary.code_normalization,
        CodeNormalization::Decoupled { .. }
    ) {
        fold_second_normalisation(&mut dictionary);
    }
    Ok(dictionary)
}

/// Puts the second normalisation of decoupled codes into the encoder.
///
/// With decoupled codes the program normalises the encoder's input twice (`encode` does, and the `encode` it calls does
/// again), in training as well; so these weights expect x'' = (x' − mean)·scale of an x' that is normalised already:
/// W·x'' = (scale·W)·x' − scale·W·mean.
fn fold_second_normalisation(dictionary: &mut Crosscoder) {
    let n_features = dictionary.n_features;
    for (encoder, normalizer) in dictionary.encoder.iter_mut().zip(&dictionary.normalizer) {
        for (weights, mean) in encoder.chunks_mut(n_features).zip(&normalizer.mean) {
            for (weight, bias) in weights.iter_mut().zip(&mut dictionary.encoder_bias) {
                *weight *= normalizer.scale;
                *bias -= *weight * mean;
            }
        }
    }
}

fn invalid(path: &Path, cause: String) -> Error {
    Error::Invalid {
        path: path.to_owned(),
        cause,
    }
}

/// Values of a tensor that must have a certain number of them.
fn checked(file: &TensorFile, name: &str, wanted: usize) -> Result<Vec<f32>> {
    let values = file.f32(name)?;
    if values.len() == wanted {
        return Ok(values);
    }
    Err(invalid(
        file.path(),
        format!(
            "`{name}` has {} values, `encoder.weight` needs {wanted}",
            values.len()
        ),
    ))
}

fn labelled(labels: &[String], n_models: usize, directory: &Path) -> Result<Vec<String>> {
    if labels.is_empty() {
        return Ok((0..n_models).map(|model| format!("m{model}")).collect());
    }
    if labels.len() == n_models {
        return Ok(labels.to_vec());
    }
    Err(invalid(
        directory,
        format!(
            "it holds {n_models} models, {} labels were given",
            labels.len()
        ),
    ))
}

fn normalizers(file: &TensorFile, n_models: usize, d_model: usize) -> Result<Vec<Normalizer>> {
    let absent = || vec![Normalizer::identity(d_model); n_models];
    if !file.contains("activation_mean") {
        return Ok(absent());
    }
    let mean = file.f32_any("activation_mean")?;
    if mean.iter().any(|value| value.is_nan()) {
        return Ok(absent());
    }
    let mean = if mean.len() == n_models * d_model {
        mean
    } else {
        checked(file, "activation_mean", n_models * d_model)?
    };
    let std = checked(file, "activation_std", n_models * d_model)?;
    let target = if file.contains("target_rms") {
        checked(file, "target_rms", 1)?[0]
    } else {
        1.0
    };
    let rows = mean.chunks(d_model).zip(std.chunks(d_model));
    Ok(rows
        .map(|(mean, std)| Normalizer::new(mean.to_vec(), std.to_vec(), target))
        .collect())
}

fn code_normalization(
    file: &TensorFile,
    config: &Config,
    thresholds: &[f32],
) -> Result<CodeNormalization> {
    let id = if file.contains("code_normalization_id") {
        file.i64("code_normalization_id")?.first().copied()
    } else {
        None
    };
    let name = config
        .code_normalization
        .as_deref()
        .unwrap_or("crosscoder")
        .to_ascii_lowercase();
    Ok(match (id, name.as_str()) {
        (Some(1), _) | (None, "crosscoder") => CodeNormalization::Crosscoder,
        (Some(2), _) | (None, "sae") => CodeNormalization::Sae,
        (Some(3), _) | (None, "mixed") => CodeNormalization::Mixed {
            alpha_sae: config.code_normalization_alpha_sae,
            alpha_crosscoder: config.code_normalization_alpha_cc,
        },
        (Some(4), _) | (None, "none") => CodeNormalization::None,
        (Some(5), _) | (None, "decoupled") => CodeNormalization::Decoupled {
            thresholds: thresholds.to_vec(),
        },
        (id, name) => {
            return Err(invalid(
                file.path(),
                format!("unknown code normalisation {id:?} `{name}`"),
            ));
        }
    })
}

/// `BatchTopK` where there is a `k`, a plain crosscoder of unknown penalty otherwise.
fn rule(file: &TensorFile, config: &Config) -> Result<Rule> {
    let stored = if file.contains("k") {
        file.i64("k")?.first().map(|&k| k as usize)
    } else {
        None
    };
    Ok(match stored.or(config.k) {
        Some(k) => Rule::BatchTopK { k },
        None => Rule::L1 { sparsity: 0.0 },
    })
}
