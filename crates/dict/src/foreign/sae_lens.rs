//! `SAELens`: `sae_weights.safetensors` and `cfg.json`, one model's autoencoder. A crosscoder is written as one over its
//! models' activations side by side.
//!
//! A gated autoencoder is a jumprelu in another spelling: with a = W·x, it keeps `e^r·a + b_mag` where `a + b_gate > 0`, that
//! is where the kept value exceeds `b_mag − e^r·b_gate`.

use super::flat::{Flat, activation_thresholds, models};
use super::names::{from_transformer_lens, to_transformer_lens};
use super::parts::{Gate, Inputs, Parts, Told, transposed};
use super::source::Source;
use super::write::{Export, float};
use crate::rule::Rule;
use serde_json::{Map, Value as Json, json};
use store::{Error, Result};

/// Name of the version whose files these are; the program converts configurations of versions before 6.
const VERSION: &str = "6.54.12";

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    let [d_model, n_features] = source.sizes("W_enc", "[d_in, d_sae]")?;
    refuse_other_inputs(source)?;
    let mut parts = Parts::single(d_model, n_features, Gate::Relu { sparsity: 0.0 });
    parts.encoder = vec![source.f32("W_enc", &[d_model, n_features])?];
    parts.decoder = vec![source.f32("W_dec", &[n_features, d_model])?];
    encode(source, told, &mut parts)?;
    reconstruct(source, &mut parts)?;
    let hook = metadata(source, "hook_name")
        .or_else(|| source.setting("hook_name"))
        .or_else(|| source.setting("hook_point"));
    parts.hook = hook
        .and_then(Json::as_str)
        .filter(|hook| !hook.is_empty())
        .map(from_transformer_lens);
    as_written(&mut parts, metadata(source, "crosscoder"), source)?;
    Ok(parts)
}

/// Decoder bias and what is done to the input: both, unless a configuration of version 6 and later says otherwise.
fn reconstruct(source: &Source, parts: &mut Parts) -> Result<()> {
    let bias = source.f32_or_zeros("b_dec", &[parts.widths[0]])?;
    let centred = source
        .setting("apply_b_dec_to_input")
        .and_then(Json::as_bool)
        .unwrap_or(true);
    // The factor of the activations is folded in when training ends, and then this setting is "none".
    let scaled = text(source, "normalize_activations") == Some("expected_average_only_in")
        || source.setting("normalize_activations") == Some(&Json::Bool(true));
    match (scaled, centred) {
        (true, true) => parts.inputs = Inputs::Scaled { bias },
        (false, true) => parts.centre(bias),
        (_, false) => parts.decoder_bias = vec![bias],
    }
    if scaled && !centred {
        parts.inputs = Inputs::Scaled { bias: Vec::new() };
    }
    Ok(())
}

/// Normalisations that are not a fixed map, heads, and the kinds of autoencoder that are none.
fn refuse_other_inputs(source: &Source) -> Result<()> {
    let normalised = text(source, "normalize_activations").unwrap_or("none");
    if !["none", "expected_average_only_in"].contains(&normalised) {
        let cause =
            format!("its activations are normalised by {normalised}, which is no fixed factor");
        return Err(source.fault(cause));
    }
    if text(source, "reshape_activations") == Some("hook_z") {
        return Err(source.fault("its input are the heads' outputs side by side (hook_z), a dictionary here has one vector".into()));
    }
    if let Some(extra) = source
        .names()
        .find(|name| ["W_skip", "finetuning_scaling_factor", "scaling_factor"].contains(name))
    {
        return Err(source.fault(format!(
            "it has a tensor `{extra}`, for which a dictionary here has no place"
        )));
    }
    Ok(())
}

/// Encoder bias, gate, and what the kind of autoencoder does to either.
fn encode(source: &Source, told: &Told, parts: &mut Parts) -> Result<()> {
    let n = parts.n_features;
    let kind = text(source, "architecture").unwrap_or("standard");
    if kind == "gated" {
        return gated(source, parts);
    }
    parts.encoder_bias = source.f32("b_enc", &[n])?;
    let k = || {
        let inner = source.setting_in("activation_fn_kwargs", "k");
        let configured = source
            .setting("k")
            .or(inner)
            .and_then(Json::as_f64)
            .map(|k| k as usize);
        told.k
            .or(configured)
            .ok_or_else(|| source.fault("its configuration has no `k`: give it with --k".into()))
    };
    let by_threshold = || {
        let thresholds = source.f32("threshold", &[n])?;
        Ok::<_, Error>(Gate::Jump {
            k: None,
            thresholds,
        })
    };
    let activation = text(source, "activation_fn").or(text(source, "activation_fn_str"));
    parts.gate = match kind {
        "jumprelu" => by_threshold()?,
        "standard" if source.contains("threshold") => by_threshold()?,
        "topk" => Gate::TopK { k: k()? },
        "standard" if activation == Some("topk") => Gate::TopK { k: k()? },
        "standard" => Gate::Relu {
            sparsity: source
                .setting("l1_coefficient")
                .and_then(Json::as_f64)
                .unwrap_or(0.0) as f32,
        },
        "batchtopk" | "matryoshka_batchtopk" => Gate::BatchTopK {
            k: k()?,
            threshold: if source.contains("topk_threshold") {
                source.scalar("topk_threshold")?
            } else {
                -1.0
            },
        },
        other => {
            let known = "standard, topk, batchtopk, jumprelu and gated are known";
            return Err(source.fault(format!("its architecture is {other}; {known}")));
        }
    };
    if flag(source, "rescale_acts_by_decoder_norm") {
        measure_by_norm(parts);
    }
    Ok(())
}

/// With `rescale_acts_by_decoder_norm` its activations are f·‖d‖, and ranked so: f ← f·‖d‖, d ← d/‖d‖.
fn measure_by_norm(parts: &mut Parts) {
    let d_model = parts.widths[0];
    let norm = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>().sqrt();
    let norms: Vec<f32> = parts.decoder[0].chunks_exact(d_model).map(norm).collect();
    for weights in parts.encoder[0].chunks_exact_mut(norms.len()) {
        weights
            .iter_mut()
            .zip(&norms)
            .for_each(|(weight, norm)| *weight *= norm);
    }
    parts
        .encoder_bias
        .iter_mut()
        .zip(&norms)
        .for_each(|(bias, norm)| *bias *= norm);
    let rows = parts.decoder[0].chunks_exact_mut(d_model).zip(&norms);
    rows.filter(|(_, norm)| **norm > 0.0)
        .for_each(|(row, norm)| row.iter_mut().for_each(|value| *value /= norm));
}

fn gated(source: &Source, parts: &mut Parts) -> Result<()> {
    let n = parts.n_features;
    let [gate, magnitude, log_factor] =
        ["b_gate", "b_mag", "r_mag"].map(|name| source.f32(name, &[n]));
    open_gate(parts, &gate?, magnitude?, &log_factor?);
    Ok(())
}

/// Turns gate and magnitude into a threshold on the magnitude.
pub(super) fn open_gate(parts: &mut Parts, gate: &[f32], magnitude: Vec<f32>, log_factor: &[f32]) {
    let factors: Vec<f32> = log_factor.iter().map(|log| log.exp()).collect();
    for weights in parts.encoder[0].chunks_exact_mut(factors.len()) {
        weights
            .iter_mut()
            .zip(&factors)
            .for_each(|(weight, factor)| *weight *= factor);
    }
    let thresholds = magnitude
        .iter()
        .zip(gate)
        .zip(&factors)
        .map(|((magnitude, gate), factor)| (magnitude - factor * gate).max(0.0));
    parts.gate = Gate::Jump {
        k: None,
        thresholds: thresholds.collect(),
    };
    parts.encoder_bias = magnitude;
    parts.notes.push(
        "its gates are kept as thresholds: the same features fire with the same activations".into(),
    );
}

/// Models a crosscoder had when we wrote it as one autoencoder.
pub(super) fn as_written(
    parts: &mut Parts,
    crosscoder: Option<&Json>,
    source: &Source,
) -> Result<()> {
    let Some(crosscoder) = crosscoder else {
        return Ok(());
    };
    let list = |key: &str| crosscoder.get(key).and_then(Json::as_array);
    let widths: Option<Vec<usize>> = list("widths").map(|widths| {
        widths
            .iter()
            .filter_map(|width| Some(width.as_u64()? as usize))
            .collect()
    });
    let labels: Option<Vec<String>> = list("labels").map(|labels| {
        labels
            .iter()
            .filter_map(|label| Some(label.as_str()?.to_owned()))
            .collect()
    });
    let (Some(widths), Some(labels)) = (widths, labels) else {
        return Err(
            source.fault("its configuration names a crosscoder without labels and widths".into())
        );
    };
    if labels.len() != widths.len()
        || widths.iter().sum::<usize>() != parts.widths[0]
        || widths.contains(&0)
    {
        return Err(source.fault(format!(
            "its configuration names a crosscoder of widths {widths:?}, its tensors are {} wide",
            parts.widths[0]
        )));
    }
    if widths.len() > 1 {
        parts.split(&widths);
    }
    parts.labels = Some(labels);
    parts.tokenizer = crosscoder
        .get("tokenizer")
        .and_then(Json::as_str)
        .filter(|digest| !digest.is_empty())
        .map(str::to_owned);
    Ok(())
}

fn text<'a>(source: &'a Source, name: &str) -> Option<&'a str> {
    source.setting(name).and_then(Json::as_str)
}

fn flag(source: &Source, name: &str) -> bool {
    source
        .setting(name)
        .and_then(Json::as_bool)
        .unwrap_or(false)
}

fn metadata<'a>(source: &'a Source, name: &str) -> Option<&'a Json> {
    source.setting_in("metadata", name)
}

/// Writes `sae_weights.safetensors` and `cfg.json`, which `SAE.load_from_disk(DIR)` reads.
///
/// A threshold θ on f·w becomes one of θ/w on f, whose w is that of the unfolded decoder: the mapping is exact.
pub(super) fn write(export: &mut Export) -> Result<()> {
    let dictionary = export.dictionary;
    if dictionary.code_normalization.is_decoupled() && dictionary.n_models() > 1 {
        return export.refuse("each of its models has a code of its own, the format has one");
    }
    let mut flat = Flat::of(dictionary);
    let mut settings = Map::new();
    let thresholds = activation_thresholds(dictionary);
    let kind = match dictionary.rule {
        _ if thresholds.is_some() => "jumprelu",
        Rule::L1 { .. } => "standard",
        Rule::TopK { k } => {
            if !super::flat::is_unweighted(dictionary) {
                flat.measure_by_rank(&dictionary.rank_weights());
                export.note("activations are measured by their rank value, by which the k largest are chosen");
            }
            settings.insert("k".into(), json!(k));
            "topk"
        }
        _ => {
            return export.refuse(
                "its threshold was never learned, and the format has no rule that ranks a batch",
            );
        }
    };
    let (d, n) = (flat.d_total, flat.n_features);
    let mut tensors = vec![
        float("W_enc", &[d, n], flat.encoder),
        float("b_enc", &[n], flat.encoder_bias),
        float("W_dec", &[n, d], flat.decoder),
        float("b_dec", &[d], flat.decoder_bias),
    ];
    tensors.extend(thresholds.map(|thresholds| float("threshold", &[n], thresholds)));
    export.safetensors("sae_weights.safetensors", &tensors)?;
    let base = json!({
        "architecture": kind,
        "d_in": d,
        "d_sae": n,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": flat.centred,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": VERSION,
            "sae_lens_training_version": Json::Null,
            "hook_name": to_transformer_lens(&dictionary.hook),
            "crosscoder": models(dictionary),
            "provenance": export.origin(),
        },
    });
    if let Json::Object(base) = base {
        settings.extend(base);
    }
    if dictionary.n_models() > 1 {
        export.note(format!(
            "its input are the activations of {} side by side",
            dictionary.labels.join(", ")
        ));
    }
    export.json("cfg.json", &Json::Object(settings))
}

/// `[n_features, d_model]` → `[d_model, n_features]`, as several formats keep their encoder.
pub(super) fn linear(
    source: &Source,
    name: &str,
    n_features: usize,
    d_model: usize,
) -> Result<Vec<f32>> {
    Ok(transposed(
        &source.f32(name, &[n_features, d_model])?,
        n_features,
        d_model,
    ))
}
