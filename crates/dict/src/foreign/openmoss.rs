//! Llamascopium (`OpenMOSS/Language-Model-SAEs`): `sae_weights.safetensors` and `config.json`; crosscoders over heads, and
//! autoencoders.
//!
//! A crosscoder's code is decoupled: all heads share one pre-activation, and each head keeps it where it exceeds the
//! threshold after it was multiplied by that head's decoder norm. Activations are multiplied by `√d_model` over the mean norm
//! in `dataset_average_activation_norm.<hook point>`.

use super::flat::{Flat, activation_thresholds, is_unweighted};
use super::names::{from_transformer_lens, to_transformer_lens};
use super::parts::{Gate, Inputs, Parts, Told, cut};
use super::source::Source;
use super::write::{Export, biases_without_means, float};
use crate::crosscoder::Crosscoder;
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use serde_json::{Value as Json, json};
use store::{Result, TensorData};

const THRESHOLD: &str = "activation_function.log_jumprelu_threshold";
const NORM: &str = "dataset_average_activation_norm";

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    let kind = source
        .setting("sae_type")
        .and_then(Json::as_str)
        .unwrap_or("crosscoder");
    if kind != "crosscoder" && kind != "sae" {
        return Err(source.fault(format!(
            "it is of type {kind}; crosscoder and sae are dictionaries"
        )));
    }
    if source.contains("W_E_glu") {
        return Err(source.fault(
            "its encoder has a gate of its own (`W_E_glu`), which a dictionary here has not".into(),
        ));
    }
    let is_crosscoder = source.dimensions("W_E") == Some(3);
    let (n_heads, d_model, n_features) = if is_crosscoder {
        let [n_heads, d_model, n_features] =
            source.sizes("W_E", "[n_heads, d_model, n_features]")?;
        (n_heads, d_model, n_features)
    } else {
        let [d_model, n_features] = source.sizes("W_E", "[d_model, n_features]")?;
        (1, d_model, n_features)
    };
    let shape = |of_one: &[usize]| {
        if is_crosscoder {
            [&[n_heads], of_one].concat()
        } else {
            of_one.to_vec()
        }
    };
    let hooks = hooks(source);
    let mut parts = Parts {
        widths: vec![d_model; n_heads],
        n_features,
        encoder: cut(&source.f32("W_E", &shape(&[d_model, n_features]))?, n_heads),
        encoder_bias: summed(&source.f32("b_E", &shape(&[n_features]))?, n_features),
        decoder: cut(&source.f32("W_D", &shape(&[n_features, d_model]))?, n_heads),
        decoder_bias: cut(&source.f32_or_zeros("b_D", &shape(&[d_model]))?, n_heads),
        inputs: inputs(source, &hooks, n_heads, d_model)?,
        gate: gate(source, told, n_heads, n_features)?,
        code_normalization: code_normalization(source, is_crosscoder, n_heads),
        labels: None,
        hook: None,
        tokenizer: None,
        notes: Vec::new(),
    };
    name_slots(&mut parts, &hooks);
    Ok(parts)
}

/// Hook points of the heads, in order.
fn hooks(source: &Source) -> Vec<String> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let listed = source.setting("hook_points").and_then(Json::as_array);
    match listed {
        Some(hooks) => hooks.iter().filter_map(text).collect(),
        None => source
            .setting("hook_point_in")
            .and_then(text)
            .into_iter()
            .collect(),
    }
}

/// Heads at one hook point of several models have the model behind it (`blocks.3.hook_resid_post.step_1000`); heads at
/// several hook points of one model differ in the hook point.
fn name_slots(parts: &mut Parts, hooks: &[String]) {
    if hooks.len() != parts.widths.len() {
        return;
    }
    if let [hook] = hooks {
        parts.hook = Some(from_transformer_lens(hook));
        return;
    }
    parts.labels = Some(hooks.to_vec());
    let shared = hooks[0].rsplit_once('.').map(|(hook, _)| hook.to_owned());
    let one_hook = shared.filter(|shared| {
        hooks.iter().all(|hook| {
            hook.rsplit_once('.')
                .is_some_and(|(hook, _)| hook == shared)
        })
    });
    let known = one_hook
        .map(|hook| (from_transformer_lens(&hook), hook))
        .filter(|(ours, theirs)| ours != theirs);
    if let Some((ours, theirs)) = known {
        parts.hook = Some(ours);
        parts.labels = Some(
            hooks
                .iter()
                .map(|hook| hook[theirs.len() + 1..].to_owned())
                .collect(),
        );
    }
}

/// The heads' biases only ever occur as their sum.
fn summed(biases: &[f32], n_features: usize) -> Vec<f32> {
    let mut sum = vec![0.0; n_features];
    for bias in biases.chunks_exact(n_features) {
        sum.iter_mut()
            .zip(bias)
            .for_each(|(sum, bias)| *sum += bias);
    }
    sum
}

fn inputs(source: &Source, hooks: &[String], n_heads: usize, d_model: usize) -> Result<Inputs> {
    match source.setting("norm_activation").and_then(Json::as_str).unwrap_or("dataset-wise") {
        "inference" => Ok(Inputs::Known(vec![Normalizer::identity(d_model); n_heads])),
        "dataset-wise" => {
            let scaled = |hook: &String| {
                let norm = source.scalar(&format!("{NORM}.{hook}"))?;
                if norm <= 0.0 || !norm.is_finite() {
                    return Err(source.fault(format!("`{NORM}.{hook}` is {norm}, not a norm")));
                }
                Ok(Normalizer {
                    scale: (d_model as f64).sqrt() as f32 / norm,
                    ..Normalizer::identity(d_model)
                })
            };
            let known = hooks.len() == n_heads && hooks.iter().all(|hook| source.contains(&format!("{NORM}.{hook}")));
            if known { Ok(Inputs::Known(hooks.iter().map(scaled).collect::<Result<_>>()?)) } else { Ok(Inputs::Scaled { bias: Vec::new() }) }
        }
        other => Err(source.fault(format!("its activations are normalised {other}, by their own norm; only fixed factors can be kept"))),
    }
}

fn code_normalization(source: &Source, is_crosscoder: bool, n_heads: usize) -> CodeNormalization {
    let by_norm = source
        .setting("sparsity_include_decoder_norm")
        .and_then(Json::as_bool)
        .unwrap_or(true);
    match (is_crosscoder, by_norm) {
        (true, _) => CodeNormalization::Decoupled {
            thresholds: vec![-1.0; n_heads],
        },
        (false, true) => CodeNormalization::Crosscoder,
        (false, false) => CodeNormalization::None,
    }
}

fn gate(source: &Source, told: &Told, n_heads: usize, n_features: usize) -> Result<Gate> {
    let k = || {
        told.k
            .or_else(|| {
                source
                    .setting("top_k")
                    .and_then(Json::as_u64)
                    .map(|k| k as usize)
            })
            .unwrap_or(50)
    };
    match source
        .setting("act_fn")
        .and_then(Json::as_str)
        .unwrap_or("relu")
        .to_ascii_lowercase()
        .as_str()
    {
        "relu" => Ok(Gate::Relu { sparsity: 0.0 }),
        "topk" => Ok(Gate::TopK { k: k() }),
        "batchtopk" if n_heads == 1 => Ok(Gate::BatchTopK {
            k: k(),
            threshold: -1.0,
        }),
        "jumprelu" => {
            let thresholds = source.f32_any(THRESHOLD, &[n_features])?;
            Ok(Gate::Jump {
                k: told.k,
                thresholds: thresholds.into_iter().map(f32::exp).collect(),
            })
        }
        "batchtopk" => Err(source.fault(
            "its act_fn batchtopk ranks all heads together, for which there is no rule here".into(),
        )),
        other => Err(source.fault(format!(
            "its act_fn is {other}; relu, jumprelu, topk and batchtopk are known"
        ))),
    }
}

/// Writes `sae_weights.safetensors` and `config.json`, which `SparseDictionary.from_pretrained(DIR)` reads.
pub(super) fn write(export: &mut Export) -> Result<()> {
    let d_model = export.common_width()?;
    let thresholds = head_thresholds(export)?;
    let dictionary = export.dictionary;
    let mut tensors = tensors(dictionary, d_model);
    let act_fn = match (dictionary.rule, &thresholds) {
        (_, Some(_)) => "jumprelu",
        (Rule::L1 { .. }, None) => "relu",
        (Rule::TopK { .. }, None) if dictionary.code_normalization.is_decoupled() || dictionary.n_models() == 1 => "topk",
        _ => return export.refuse("the program keeps or drops a feature for each head by that head's norm; the dictionary does not, or its threshold was never learned"),
    };
    if let Some(thresholds) = thresholds {
        tensors.push(float(
            THRESHOLD,
            &[dictionary.n_features],
            thresholds.into_iter().map(f32::ln).collect(),
        ));
        export.note("thresholds are kept as logarithms, rounded in the last digit");
    }
    export.safetensors("sae_weights.safetensors", &tensors)?;
    export.json("config.json", &config(export, act_fn, d_model))
}

/// Threshold of each feature on what a head multiplies with its norm, where the dictionary decides by such thresholds.
fn head_thresholds(export: &Export) -> Result<Option<Vec<f32>>> {
    let dictionary = export.dictionary;
    let n = dictionary.n_features;
    match &dictionary.code_normalization {
        CodeNormalization::Decoupled { .. } if !dictionary.thresholds.is_empty() => {
            Ok(Some(dictionary.thresholds.clone()))
        }
        CodeNormalization::Decoupled { thresholds }
            if thresholds.iter().all(|&threshold| threshold >= 0.0) =>
        {
            let same = thresholds
                .iter()
                .all(|threshold| threshold.to_bits() == thresholds[0].to_bits());
            if same {
                Ok(Some(vec![thresholds[0]; n]))
            } else {
                export.refuse(
                    "its models have thresholds of their own, the format has one for all heads",
                )
            }
        }
        CodeNormalization::Decoupled { .. } => Ok(None),
        // One head: its norm is the whole weight.
        _ if dictionary.n_models() == 1 => {
            Ok(activation_thresholds(dictionary).map(|thresholds| {
                let norm = |feature: usize| {
                    if is_unweighted(dictionary) {
                        1.0
                    } else {
                        dictionary.decoder_norms(feature)[0]
                    }
                };
                thresholds
                    .iter()
                    .enumerate()
                    .map(|(feature, threshold)| threshold * norm(feature))
                    .collect()
            }))
        }
        _ => Ok(None),
    }
}

fn tensors(dictionary: &Crosscoder, d_model: usize) -> Vec<(String, TensorData)> {
    let (n, n_features) = (dictionary.n_models(), dictionary.n_features);
    let means = dictionary
        .normalizer
        .iter()
        .any(|normalizer| normalizer.mean.iter().any(|&mean| mean != 0.0));
    // One model's normaliser goes into its weights; of several, means go into the biases and factors are kept.
    let flattened = means && n == 1;
    let shape = |of_one: &[usize]| {
        if n == 1 {
            of_one.to_vec()
        } else {
            [&[n], of_one].concat()
        }
    };
    let (encoder, decoder, encoder_bias, decoder_bias) = if flattened {
        let mut flat = Flat::of(dictionary);
        flat.uncentre();
        (
            flat.encoder,
            flat.decoder,
            flat.encoder_bias,
            flat.decoder_bias,
        )
    } else {
        let (encoder_bias, decoder_bias) = biases_without_means(dictionary);
        (
            dictionary.encoder.concat(),
            dictionary.decoder.concat(),
            encoder_bias,
            decoder_bias.concat(),
        )
    };
    // The heads' biases are summed: the first has all of it.
    let mut biases = encoder_bias;
    biases.resize(n * n_features, 0.0);
    let mut tensors = vec![
        float("W_E", &shape(&[d_model, n_features]), encoder),
        float("b_E", &shape(&[n_features]), biases),
        float("W_D", &shape(&[n_features, d_model]), decoder),
        float("b_D", &shape(&[d_model]), decoder_bias),
    ];
    for (hook, normalizer) in hook_points(dictionary).iter().zip(&dictionary.normalizer) {
        let scale = if flattened { 1.0 } else { normalizer.scale };
        let norm = (d_model as f64).sqrt() / f64::from(scale);
        tensors.push(float(&format!("{NORM}.{hook}"), &[], vec![norm as f32]));
    }
    tensors
}

fn hook_points(dictionary: &Crosscoder) -> Vec<String> {
    let hook = to_transformer_lens(&dictionary.hook);
    let named = |label: &String| {
        if hook.is_empty() {
            label.clone()
        } else {
            format!("{hook}.{label}")
        }
    };
    match dictionary.labels.as_slice() {
        [_] if !hook.is_empty() => vec![hook],
        labels => labels.iter().map(named).collect(),
    }
}

fn config(export: &Export, act_fn: &str, d_model: usize) -> Json {
    let dictionary = export.dictionary;
    let hooks = hook_points(dictionary);
    let mut config = json!({
        "sae_type": if dictionary.n_models() == 1 { "sae" } else { "crosscoder" },
        "d_model": d_model,
        "expansion_factor": expansion(dictionary.n_features, d_model),
        "use_decoder_bias": true,
        "act_fn": act_fn,
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": dictionary.n_models() > 1 || !is_unweighted(dictionary),
        "top_k": dictionary.rule.k().unwrap_or(50),
    });
    if let [hook] = hooks.as_slice() {
        config["hook_point_in"] = json!(hook);
        config["hook_point_out"] = json!(hook);
    } else {
        config["hook_points"] = json!(hooks);
    }
    config
}

/// A factor that the program, which cuts `d_model · factor` off, turns into exactly this many features.
fn expansion(n_features: usize, d_model: usize) -> f64 {
    let factor = n_features as f64 / d_model as f64;
    if (d_model as f64 * factor) as usize == n_features {
        factor
    } else {
        factor.next_up()
    }
}
