//! `dictionary_learning` (saprmarks): `ae.pt` and `config.json`, one model's autoencoder in one of seven classes.

use super::flat::{Flat, activation_thresholds, is_unweighted, models};
use super::names::from_module;
use super::parts::{Gate, Parts, Told, transposed};
use super::sae_lens::{as_written, linear, open_gate};
use super::source::Source;
use super::torch_write::write_torch;
use super::write::{Export, float, whole};
use crate::crosscoder::Crosscoder;
use crate::rule::Rule;
use serde_json::{Value as Json, json};
use store::{Result, TensorData};

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    let mut parts = if source.contains("W_enc") {
        read_rows(source, told)?
    } else {
        read_linear(source, told)?
    };
    parts.hook = hook(source);
    as_written(
        &mut parts,
        source.setting_in("trainer", "crosscoder"),
        source,
    )?;
    Ok(parts)
}

/// `submodule_name` is free text: what names a layer's output is understood.
fn hook(source: &Source) -> Option<String> {
    let name = source.setting_in("trainer", "submodule_name")?.as_str()?;
    let layer = name
        .strip_prefix("resid_post_layer_")
        .and_then(|layer| layer.parse::<usize>().ok());
    layer
        .map(|layer| format!("resid_post.{layer}"))
        .or_else(|| from_module(name))
}

/// `JumpReluAutoEncoder` and `MatryoshkaBatchTopKSAE`: weights with features in the columns of the encoder.
fn read_rows(source: &Source, told: &Told) -> Result<Parts> {
    let [d_model, n_features] = source.sizes("W_enc", "[activation_dim, dict_size]")?;
    let nested = source.contains("group_sizes");
    let gate = if nested {
        match batch_top_k(source, told)? {
            Gate::BatchTopK { k, threshold } => Gate::Matryoshka { k, threshold },
            other => other,
        }
    } else {
        let target = source
            .setting_in("trainer", "target_l0")
            .and_then(Json::as_f64);
        Gate::Jump {
            k: target.map(|k| k as usize),
            thresholds: source.f32("threshold", &[n_features])?,
        }
    };
    let mut parts = Parts::single(d_model, n_features, gate);
    parts.encoder = vec![source.f32("W_enc", &[d_model, n_features])?];
    parts.encoder_bias = source.f32("b_enc", &[n_features])?;
    parts.decoder = vec![source.f32("W_dec", &[n_features, d_model])?];
    let bias = source.f32("b_dec", &[d_model])?;
    if nested {
        parts.notes.push(format!(
            "its nested groups of {:?} features are not kept",
            source.whole("group_sizes")?
        ));
        parts.centre(bias);
    } else {
        parts.decoder_bias = vec![bias];
    }
    Ok(parts)
}

/// The classes made of two linear layers.
fn read_linear(source: &Source, told: &Told) -> Result<Parts> {
    let [n_features, d_model] = source.sizes("encoder.weight", "[dict_size, activation_dim]")?;
    let mut parts = Parts::single(d_model, n_features, Gate::Relu { sparsity: 0.0 });
    parts.encoder = vec![linear(source, "encoder.weight", n_features, d_model)?];
    parts.decoder = vec![linear(source, "decoder.weight", d_model, n_features)?];
    if source.contains("gate_bias") {
        let [gate, magnitude, log_factor] =
            ["gate_bias", "mag_bias", "r_mag"].map(|name| source.f32(name, &[n_features]));
        open_gate(&mut parts, &gate?, magnitude?, &log_factor?);
        parts.centre(source.f32("decoder_bias", &[d_model])?);
        return Ok(parts);
    }
    parts.encoder_bias = source.f32("encoder.bias", &[n_features])?;
    if source.contains("b_dec") {
        parts.centre(source.f32("b_dec", &[d_model])?);
        parts.gate = if class(source) == Some("AutoEncoderTopK") {
            Gate::TopK {
                k: k(source, told)?,
            }
        } else {
            batch_top_k(source, told)?
        };
        if class(source).is_none() {
            return Err(source.fault("its configuration does not say whether it is an AutoEncoderTopK or a BatchTopKSAE (trainer.dict_class)".into()));
        }
    } else if source.contains("bias") {
        parts.centre(source.f32("bias", &[d_model])?);
    } else {
        parts.decoder_bias = vec![source.f32("decoder.bias", &[d_model])?];
    }
    let penalty = source
        .setting_in("trainer", "l1_penalty")
        .and_then(Json::as_f64);
    if let (Gate::Relu { sparsity }, Some(penalty)) = (&mut parts.gate, penalty) {
        *sparsity = penalty as f32;
    }
    Ok(parts)
}

fn class(source: &Source) -> Option<&str> {
    source
        .setting_in("trainer", "dict_class")
        .and_then(Json::as_str)
}

fn k(source: &Source, told: &Told) -> Result<usize> {
    let configured = source
        .setting_in("trainer", "k")
        .and_then(Json::as_u64)
        .map(|k| k as usize);
    match told.k {
        Some(k) => Ok(k),
        None if source.contains("k") => Ok(source.scalar("k")? as usize),
        None => configured.ok_or_else(|| source.fault("its k is nowhere: give it with --k".into())),
    }
}

fn batch_top_k(source: &Source, told: &Told) -> Result<Gate> {
    Ok(Gate::BatchTopK {
        k: k(source, told)?,
        threshold: if source.contains("threshold") {
            source.scalar("threshold")?
        } else {
            -1.0
        },
    })
}

/// Writes `ae.pt` and `config.json`, which `load_dictionary(DIR, device)` reads; a crosscoder as one autoencoder over its
/// models' activations side by side.
pub(super) fn write(export: &mut Export) -> Result<()> {
    let dictionary = export.dictionary;
    if dictionary.code_normalization.is_decoupled() && dictionary.n_models() > 1 {
        return export.refuse("each of its models has a code of its own, the format has one");
    }
    let mut flat = Flat::of(dictionary);
    let (class, tensors) = match dictionary.rule {
        Rule::L1 { .. } if flat.centred => ("AutoEncoder", linear_tensors(&flat, "bias")),
        Rule::L1 { .. } => ("AutoEncoderNew", linear_tensors(&flat, "decoder.bias")),
        Rule::TopK { .. } => {
            if !is_unweighted(dictionary) {
                flat.measure_by_rank(&dictionary.rank_weights());
                export.note("activations are measured by their rank value, by which the k largest are chosen");
            }
            flat.centre();
            ("AutoEncoderTopK", ranked(&flat, dictionary.rule.k(), -1.0))
        }
        Rule::BatchTopK { .. } | Rule::Matryoshka { .. } if is_unweighted(dictionary) => {
            flat.centre();
            (
                "BatchTopKSAE",
                ranked(&flat, dictionary.rule.k(), dictionary.threshold),
            )
        }
        _ => match activation_thresholds(dictionary) {
            Some(thresholds) => {
                flat.uncentre();
                ("JumpReluAutoEncoder", jump(&flat, thresholds))
            }
            None => return export.refuse(
                "its threshold was never learned, and the format ranks batches by activation alone",
            ),
        },
    };
    write_torch(&export.path("ae.pt"), &tensors, &[])?;
    if dictionary.n_models() > 1 {
        export.note(format!(
            "its input are the activations of {} side by side",
            dictionary.labels.join(", ")
        ));
    }
    let trainer = trainer(dictionary, class, flat.d_total);
    export.json(
        "config.json",
        &json!({ "trainer": trainer, "buffer": {}, "provenance": export.origin() }),
    )
}

/// Settings the loader reads, and the models' names beside them.
fn trainer(dictionary: &Crosscoder, class: &str, d_total: usize) -> Json {
    let layer = dictionary.hook.strip_prefix("resid_post.");
    let layer = layer.and_then(|layer| layer.parse::<usize>().ok());
    json!({
        "dict_class": class,
        "activation_dim": d_total,
        "dict_size": dictionary.n_features,
        "k": dictionary.rule.k(),
        "layer": layer,
        "submodule_name": layer.map(|layer| format!("resid_post_layer_{layer}")),
        "crosscoder": models(dictionary),
    })
}

fn linear_tensors(flat: &Flat, bias: &str) -> Vec<(String, TensorData)> {
    let (d, n) = (flat.d_total, flat.n_features);
    vec![
        float("encoder.weight", &[n, d], transposed(&flat.encoder, d, n)),
        float("encoder.bias", &[n], flat.encoder_bias.clone()),
        float("decoder.weight", &[d, n], transposed(&flat.decoder, n, d)),
        float(bias, &[d], flat.decoder_bias.clone()),
    ]
}

fn ranked(flat: &Flat, k: Option<usize>, threshold: f32) -> Vec<(String, TensorData)> {
    let mut tensors = linear_tensors(flat, "b_dec");
    tensors.push(whole("k", &[], vec![k.unwrap_or(0) as i64]));
    tensors.push(float("threshold", &[], vec![threshold]));
    tensors
}

fn jump(flat: &Flat, thresholds: Vec<f32>) -> Vec<(String, TensorData)> {
    let (d, n) = (flat.d_total, flat.n_features);
    vec![
        float("W_enc", &[d, n], flat.encoder.clone()),
        float("b_enc", &[n], flat.encoder_bias.clone()),
        float("W_dec", &[n, d], flat.decoder.clone()),
        float("b_dec", &[d], flat.decoder_bias.clone()),
        float("threshold", &[n], thresholds),
    ]
}
