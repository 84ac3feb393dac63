//! Dictionaries of `crosscoder_learning` (science-of-finetuning): `model.safetensors` and `config.json` as on the Hugging
//! Face hub, or a training folder's `model_final.pt`. Also its `BatchTopKSAE`, one model's dictionary.
//!
//! A NaN in `activation_mean` means that no normaliser was used. The integer `code_normalization_id` of the tensors wins
//! over the string of the configuration, which is written in lower or upper case; without either the old default
//! `crosscoder` holds. `threshold` −1 was never learned.

use super::parts::{Gate, Inputs, Parts, Told, cut, transposed};
use super::source::Source;
use super::write::{Export, float, target, whole};
use crate::crosscoder::Crosscoder;
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use serde_json::{Value as Json, json};
use std::path::Path;
use store::{Result, TensorData};

/// Reads `DIR/model.safetensors` and `DIR/config.json`.
///
/// The format names neither models nor hook nor tokenizer: `labels` are the user's (`m0`, `m1`, … when there are none),
/// hook and tokenizer stay empty and are not compared.
pub fn import_crosscoder_learning(directory: &Path, labels: &[String]) -> Result<Crosscoder> {
    let source = Source::open(directory)?;
    let told = Told {
        labels: labels.to_vec(),
        ..Told::default()
    };
    Ok(read(&source, &told)?.into_crosscoder(&told, directory)?.0)
}

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    if source.dimensions("encoder.weight") == Some(2) {
        return read_sae(source, told);
    }
    let [n_encoders, d_model, n_features] =
        source.sizes("encoder.weight", "[n_models, d_model, n_features]")?;
    let [n_models, _, _] = source.sizes("decoder.weight", "[n_models, n_features, d_model]")?;
    let code_normalization = code_normalization(source, n_models)?;
    let encoder = source.f32("encoder.weight", &[n_encoders, d_model, n_features])?;
    let decoder = source.f32("decoder.weight", &[n_models, n_features, d_model])?;
    let decoder_bias = source.f32("decoder.bias", &[n_models, d_model])?;
    let normalizers = normalizers(source, n_models, d_model)?;
    let mut parts = Parts {
        widths: vec![d_model; n_models],
        n_features,
        encoder: encoders(source, cut(&encoder, n_encoders), n_models)?,
        encoder_bias: source.f32("encoder.bias", &[n_features])?,
        decoder: cut(&decoder, n_models),
        decoder_bias: cut(&decoder_bias, n_models),
        inputs: Inputs::Known(Vec::new()),
        gate: gate(source, told, &code_normalization)?,
        code_normalization,
        labels: None,
        hook: None,
        tokenizer: None,
        notes: Vec::new(),
    };
    if parts.code_normalization.is_decoupled() {
        twice_normalised(&mut parts, &normalizers, 1.0);
    }
    parts.inputs = Inputs::Known(normalizers);
    Ok(parts)
}

/// One encoder per model; with `encoder_layers` some models are only decoded to, and their encoder is 0.
fn encoders(source: &Source, mut stored: Vec<Vec<f32>>, n_models: usize) -> Result<Vec<Vec<f32>>> {
    let layers = source.setting("encoder_layers").and_then(Json::as_array);
    let places: Vec<usize> = match layers {
        Some(layers) => layers
            .iter()
            .filter_map(|layer| Some(layer.as_u64()? as usize))
            .collect(),
        None => (0..stored.len()).collect(),
    };
    let fits = places.len() == stored.len() && places.iter().all(|&place| place < n_models);
    if !fits || (layers.is_none() && stored.len() != n_models) {
        let cause = format!(
            "it encodes {} models and decodes {n_models}, and `encoder_layers` does not say which",
            stored.len()
        );
        return Err(source.fault(cause));
    }
    let mut all = vec![vec![0.0; stored[0].len()]; n_models];
    for (place, weights) in places.into_iter().zip(stored.drain(..)) {
        all[place] = weights;
    }
    Ok(all)
}

/// Puts the second normalisation of decoupled codes into the encoder, or (`power` −1) takes it out again.
///
/// With decoupled codes the program normalises the encoder's input twice (`encode` does, and the `encode` it calls does
/// again), in training as well; so these weights expect x'' = (x' − mean)·scale of an x' that is normalised already:
/// W·x'' = (scale·W)·x' − scale·W·mean.
fn twice_normalised(parts: &mut Parts, normalizers: &[Normalizer], power: f32) {
    let n_features = parts.n_features;
    for (encoder, normalizer) in parts.encoder.iter_mut().zip(normalizers) {
        let scale = normalizer.scale.powf(power);
        for (weights, mean) in encoder.chunks_mut(n_features).zip(&normalizer.mean) {
            for (weight, bias) in weights.iter_mut().zip(&mut parts.encoder_bias) {
                let ours = if power > 0.0 {
                    *weight * scale
                } else {
                    *weight
                };
                *bias -= power * ours * mean;
                *weight *= scale;
            }
        }
    }
}

fn normalizers(source: &Source, n_models: usize, d_model: usize) -> Result<Vec<Normalizer>> {
    let absent = || vec![Normalizer::identity(d_model); n_models];
    if !source.contains("activation_mean") {
        return Ok(absent());
    }
    let shape = [n_models, d_model];
    let mean = source.f32_any("activation_mean", &shape)?;
    let std = source.f32_any("activation_std", &shape)?;
    if mean.iter().chain(&std).any(|value| value.is_nan()) {
        return Ok(absent());
    }
    let target = if source.contains("target_rms") {
        source.scalar("target_rms")?
    } else {
        1.0
    };
    let rows = mean.chunks(d_model).zip(std.chunks(d_model));
    let mut all: Vec<Normalizer> = rows
        .map(|(mean, std)| Normalizer::new(mean.to_vec(), std.to_vec(), target))
        .collect();
    if source.contains("activation_global_scale") {
        let scales = source.f32("activation_global_scale", &[n_models])?;
        all.iter_mut()
            .zip(scales)
            .for_each(|(normalizer, scale)| normalizer.scale = scale);
    }
    Ok(all)
}

/// A setting of the hub's configuration or of a training folder's.
fn setting<'a>(source: &'a Source, name: &str) -> Option<&'a Json> {
    source
        .setting(name)
        .or_else(|| source.setting_in("trainer", name))
}

pub(super) fn code_normalization(source: &Source, n_models: usize) -> Result<CodeNormalization> {
    let id = if source.contains("code_normalization_id") {
        source.whole("code_normalization_id")?.first().copied()
    } else {
        None
    };
    let name = setting(source, "code_normalization")
        .and_then(Json::as_str)
        .unwrap_or("crosscoder")
        .to_ascii_lowercase();
    let alpha =
        |key: &str, usual: f64| setting(source, key).and_then(Json::as_f64).unwrap_or(usual) as f32;
    Ok(match (id, name.as_str()) {
        (Some(1), _) | (None, "crosscoder") => CodeNormalization::Crosscoder,
        (Some(2), _) | (None, "sae") => CodeNormalization::Sae,
        (Some(3), _) | (None, "mixed") => CodeNormalization::Mixed {
            alpha_sae: alpha("code_normalization_alpha_sae", 1.0),
            alpha_crosscoder: alpha("code_normalization_alpha_cc", 0.1),
        },
        (Some(4), _) | (None, "none") => CodeNormalization::None,
        (Some(5), _) | (None, "decoupled") => CodeNormalization::Decoupled {
            thresholds: source.f32("threshold", &[n_models])?,
        },
        (id, name) => {
            return Err(source.fault(format!("unknown code normalisation {id:?} `{name}`")));
        }
    })
}

/// `BatchTopK` where there is a `k`, a plain crosscoder otherwise.
pub(super) fn gate(
    source: &Source,
    told: &Told,
    code_normalization: &CodeNormalization,
) -> Result<Gate> {
    let stored = if source.contains("k") {
        source.whole("k")?.first().map(|&k| k as usize)
    } else {
        None
    };
    let configured = || {
        setting(source, "k")
            .and_then(Json::as_u64)
            .map(|k| k as usize)
    };
    let Some(k) = told.k.or(stored).or_else(configured) else {
        let sparsity = setting(source, "l1_penalty")
            .and_then(Json::as_f64)
            .unwrap_or(0.0) as f32;
        return Ok(Gate::Relu { sparsity });
    };
    let threshold = match code_normalization {
        CodeNormalization::Decoupled { thresholds } => {
            thresholds.iter().copied().fold(f32::INFINITY, f32::min)
        }
        _ if source.contains("threshold") => source.scalar("threshold")?,
        _ => -1.0,
    };
    Ok(Gate::BatchTopK { k, threshold })
}

/// `BatchTopKSAE`: ((x − μ)·g − b) is encoded, and (… + b)/g + μ decoded; so b/g belongs to the mean.
fn read_sae(source: &Source, told: &Told) -> Result<Parts> {
    let [n_features, d_model] = source.sizes("encoder.weight", "[n_features, d_model]")?;
    let gate = gate(source, told, &CodeNormalization::None)?;
    let mut parts = Parts::single(d_model, n_features, gate);
    let encoder = source.f32("encoder.weight", &[n_features, d_model])?;
    parts.encoder = vec![transposed(&encoder, n_features, d_model)];
    parts.encoder_bias = source.f32("encoder.bias", &[n_features])?;
    let decoder = source.f32("decoder.weight", &[d_model, n_features])?;
    parts.decoder = vec![transposed(&decoder, d_model, n_features)];
    let bias = source.f32("b_dec", &[d_model])?;
    let mean = source.f32_any("activation_mean", &[d_model])?;
    if mean.iter().any(|value| value.is_nan()) {
        parts.centre(bias);
        return Ok(parts);
    }
    let scale = source.scalar("activation_global_scale")?;
    parts.inputs = Inputs::Known(vec![Normalizer {
        mean: mean
            .iter()
            .zip(&bias)
            .map(|(mean, bias)| mean + bias / scale)
            .collect(),
        std: source.f32("activation_std", &[d_model])?,
        scale,
    }]);
    Ok(parts)
}

/// Writes the hub form, which `CrossCoder.from_pretrained(DIR, from_hub=True)` and its BatchTopK sister read.
pub(super) fn write(export: &mut Export) -> Result<()> {
    let dictionary = export.dictionary;
    let d_model = export.common_width()?;
    let class = match dictionary.rule {
        Rule::L1 { .. } => "CrossCoder",
        Rule::BatchTopK { .. } | Rule::Matryoshka { .. } => "BatchTopKCrossCoder",
        _ => return export.refuse_rule("l1 and batch-topk"),
    };
    if matches!(dictionary.rule, Rule::Matryoshka { .. }) {
        export.note("that it was trained nested is not kept: it reads as batch-topk");
    }
    export.safetensors("model.safetensors", &tensors(dictionary, d_model))?;
    export.json("config.json", &config(dictionary, class, d_model))
}

pub(super) fn tensors(dictionary: &Crosscoder, d_model: usize) -> Vec<(String, TensorData)> {
    let (n, n_features) = (dictionary.n_models(), dictionary.n_features);
    let (encoder, encoder_bias) = encoder(dictionary);
    let mut tensors = vec![
        float(
            "encoder.weight",
            &[n, d_model, n_features],
            encoder.concat(),
        ),
        float("encoder.bias", &[n_features], encoder_bias),
        float(
            "decoder.weight",
            &[n, n_features, d_model],
            dictionary.decoder.concat(),
        ),
        float(
            "decoder.bias",
            &[n, d_model],
            dictionary.decoder_bias.concat(),
        ),
        whole(
            "code_normalization_id",
            &[],
            vec![normalization_id(&dictionary.code_normalization)],
        ),
    ];
    tensors.extend(normalizer_tensors(dictionary, d_model));
    if let Some(k) = dictionary.rule.k() {
        tensors.push(whole("k", &[], vec![k as i64]));
        tensors.push(match &dictionary.code_normalization {
            CodeNormalization::Decoupled { thresholds } => {
                float("threshold", &[n], thresholds.clone())
            }
            _ => float("threshold", &[], vec![dictionary.threshold]),
        });
    }
    tensors
}

/// Encoder and its bias as the program wants them.
fn encoder(dictionary: &Crosscoder) -> (Vec<Vec<f32>>, Vec<f32>) {
    if !dictionary.code_normalization.is_decoupled() {
        return (dictionary.encoder.clone(), dictionary.encoder_bias.clone());
    }
    let gate = Gate::Relu { sparsity: 0.0 };
    let mut parts = Parts {
        encoder: dictionary.encoder.clone(),
        encoder_bias: dictionary.encoder_bias.clone(),
        ..Parts::single(1, dictionary.n_features, gate)
    };
    twice_normalised(&mut parts, &dictionary.normalizer, -1.0);
    (parts.encoder, parts.encoder_bias)
}

fn normalizer_tensors(dictionary: &Crosscoder, d_model: usize) -> [(String, TensorData); 4] {
    let n = dictionary.n_models();
    let identity = Normalizer::identity(d_model);
    let absent = dictionary
        .normalizer
        .iter()
        .all(|normalizer| *normalizer == identity);
    let each = |part: fn(&Normalizer) -> &[f32]| {
        if absent {
            vec![f32::NAN; n * d_model]
        } else {
            dictionary
                .normalizer
                .iter()
                .flat_map(part)
                .copied()
                .collect()
        }
    };
    let scales = dictionary
        .normalizer
        .iter()
        .map(|normalizer| normalizer.scale)
        .collect();
    [
        float(
            "activation_mean",
            &[n, d_model],
            each(|normalizer| &normalizer.mean),
        ),
        float(
            "activation_std",
            &[n, d_model],
            each(|normalizer| &normalizer.std),
        ),
        float("activation_global_scale", &[n], scales),
        float("target_rms", &[], vec![target(&dictionary.normalizer[0])]),
    ]
}

pub(super) fn normalization_id(code_normalization: &CodeNormalization) -> i64 {
    match code_normalization {
        CodeNormalization::Crosscoder => 1,
        CodeNormalization::Sae => 2,
        CodeNormalization::Mixed { .. } => 3,
        CodeNormalization::None => 4,
        CodeNormalization::Decoupled { .. } => 5,
    }
}

/// The arguments of the class's constructor, and nothing else: it takes every key of this file for one.
fn config(dictionary: &Crosscoder, class: &str, d_model: usize) -> Json {
    let name = ["", "CROSSCODER", "SAE", "MIXED", "NONE", "DECOUPLED"]
        [normalization_id(&dictionary.code_normalization) as usize];
    let [alpha_sae, alpha_cc] = match dictionary.code_normalization {
        CodeNormalization::Mixed {
            alpha_sae,
            alpha_crosscoder,
        } => [alpha_sae, alpha_crosscoder],
        _ => [1.0, 0.1],
    };
    let mut config = json!({
        "activation_dim": d_model,
        "dict_size": dictionary.n_features,
        "num_layers": dictionary.n_models(),
        "code_normalization": name,
        "code_normalization_alpha_sae": alpha_sae,
        "code_normalization_alpha_cc": alpha_cc,
        "target_rms": target(&dictionary.normalizer[0]),
        "dict_class": class,
    });
    if let Some(k) = dictionary.rule.k() {
        config["k"] = json!(k);
    }
    config
}
