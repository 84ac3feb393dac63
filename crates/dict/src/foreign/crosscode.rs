//! The Python package `crosscode` (oli-clive-griffin): `model.pt` and `model_cfg.yaml`.
//!
//! Crosscoders over models × hook points, and autoencoders; checkpoints are saved with the scaling of the activations
//! folded into the weights (`is_folded`). Features are selected by their activation, not by norms; `topk` and `batch_topk`
//! are taken before any `ReLU`, so where fewer than k pre-activations are positive the program keeps negative ones, and we
//! do not.

use super::flat::{Flat, activation_thresholds, is_unweighted};
use super::parts::{Gate, Inputs, Parts, Told, cut, unstacked};
use super::source::Source;
use super::torch_write::write_torch;
use super::write::{Export, float, whole};
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use serde_json::Value as Json;
use store::Result;

const ENCODER: &str = "_W_enc_XiDiL";
const DECODER: &str = "_W_dec_LXoDo";
const THRESHOLD: &str = "_activation_fn.log_threshold_L";

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    if let Some(skip) = source.names().find(|name| name.starts_with("W_skip")) {
        return Err(source.fault(format!("it has a linear connection past its features (`{skip}`), which a dictionary here has not")));
    }
    let shape = source.shape(ENCODER)?.to_vec();
    let (n_slots, d_model, n_features) = match *shape {
        [d_model, n_features] => (1, d_model, n_features),
        [n_models, n_hooks, d_model, n_features] => (n_models * n_hooks, d_model, n_features),
        _ => return Err(source.fault(format!(
            "`{ENCODER}` of shape {shape:?} is not [n_models, n_hookpoints, d_model, n_features]"
        ))),
    };
    let dims = &shape[..shape.len() - 2];
    let decoder = source.f32(DECODER, &[&[n_features], dims, &[d_model]].concat())?;
    let bias = source.f32_or_zeros("_b_dec_XoDo", &[dims, &[d_model]].concat())?;
    let gate = gate(source, told, n_features)?;
    let mut notes = Vec::new();
    if matches!(gate, Gate::TopK { .. } | Gate::BatchTopK { .. }) {
        notes.push("where fewer than k features are positive, the program also keeps negative activations; they are left out here".into());
    }
    Ok(Parts {
        widths: vec![d_model; n_slots],
        n_features,
        encoder: cut(&source.f32(ENCODER, &shape)?, n_slots),
        encoder_bias: source.f32_or_zeros("b_enc_L", &[n_features])?,
        decoder: unstacked(&decoder, n_slots, d_model),
        decoder_bias: cut(&bias, n_slots),
        inputs: inputs(source, n_slots, d_model)?,
        gate,
        code_normalization: CodeNormalization::None,
        labels: None,
        hook: None,
        tokenizer: None,
        notes,
    })
}

fn inputs(source: &Source, n_slots: usize, d_model: usize) -> Result<Inputs> {
    let folded = source.contains("is_folded") && source.whole("is_folded")?.first() == Some(&1);
    Ok(if folded {
        Inputs::Known(vec![Normalizer::identity(d_model); n_slots])
    } else {
        Inputs::Scaled { bias: Vec::new() }
    })
}

fn gate(source: &Source, told: &Told, n_features: usize) -> Result<Gate> {
    let k = |name: &str| {
        let configured = source
            .setting(name)
            .and_then(Json::as_u64)
            .map(|k| k as usize);
        let missing = || {
            source.fault(format!(
                "its configuration has no `{name}`: give it with --k"
            ))
        };
        told.k.or(configured).ok_or_else(missing)
    };
    if source.contains(THRESHOLD) {
        let thresholds = source.f32_any(THRESHOLD, &[n_features])?;
        return Ok(Gate::Jump {
            k: None,
            thresholds: thresholds.into_iter().map(f32::exp).collect(),
        });
    }
    match source.setting("classname").and_then(Json::as_str) {
        Some("ReLUActivation") => Ok(Gate::Relu { sparsity: 0.0 }),
        Some("TopkActivation") => Ok(Gate::TopK { k: k("k")? }),
        Some("BatchTopkActivation") => Ok(Gate::BatchTopK {
            k: k("k_per_example")?,
            threshold: -1.0,
        }),
        Some(other) => Err(source.fault(format!(
            "its activation function is {other}; ReLU, Topk, BatchTopk and JumpReLU are known"
        ))),
        None => Err(source.fault(format!(
            "{} does not name its activation function",
            source.config_path().display()
        ))),
    }
}

/// Writes `model.pt` and `model_cfg.yaml`, which `ModelHookpointAcausalCrosscoder.load(DIR)` reads.
pub(super) fn write(export: &mut Export) -> Result<()> {
    let dictionary = export.dictionary;
    let d_model = export.common_width()?;
    let flat = Flat::of(dictionary);
    let (n, n_features) = (dictionary.n_models(), dictionary.n_features);
    let thresholds = activation_thresholds(dictionary);
    let (class, settings) = match dictionary.rule {
        _ if thresholds.is_some() => ("AnthropicSTEJumpReLUActivation", format!("    bandwidth: 2.0\n    size: {n_features}\n")),
        Rule::L1 { .. } => ("ReLUActivation", String::new()),
        Rule::TopK { k } if is_unweighted(dictionary) => ("TopkActivation", format!("    k: {k}\n")),
        Rule::BatchTopK { k } if is_unweighted(dictionary) => ("BatchTopkActivation", format!("    k_per_example: {k}\n")),
        _ => return export.refuse("the program selects by activation alone, the dictionary by rank values, and it has no threshold"),
    };
    let mut flat = flat;
    flat.uncentre();
    let dims = [n, 1];
    let mut tensors = vec![
        float(
            ENCODER,
            &[&dims[..], &[d_model, n_features]].concat(),
            flat.encoder,
        ),
        float(
            DECODER,
            &[&[n_features][..], &dims, &[d_model]].concat(),
            flat.decoder,
        ),
        float("b_enc_L", &[n_features], flat.encoder_bias),
        float(
            "_b_dec_XoDo",
            &[&dims[..], &[d_model]].concat(),
            flat.decoder_bias,
        ),
        float("folded_scaling_factors_in_Xi", &dims, scales(export)),
        float("folded_scaling_factors_out_Xo", &dims, scales(export)),
        whole("is_folded", &[], vec![1]),
    ];
    if let Some(thresholds) = thresholds {
        tensors.push(float(
            THRESHOLD,
            &[n_features],
            thresholds.into_iter().map(f32::ln).collect(),
        ));
        export.note("thresholds are kept as logarithms, rounded in the last digit");
    }
    write_torch(&export.path("model.pt"), &tensors, &[])?;
    let settings = if settings.is_empty() {
        "  cfg: {}\n".to_owned()
    } else {
        format!("  cfg:\n{settings}")
    };
    let text = format!(
        "activation_fn:\n{settings}  classname: {class}\nd_model: {d_model}\ndtype: float32\nn_hookpoints: 1\nn_latents: {n_features}\nn_models: {n}\nuse_decoder_bias: true\nuse_encoder_bias: true\n"
    );
    export.text("model_cfg.yaml", &text)
}

fn scales(export: &Export) -> Vec<f32> {
    export
        .dictionary
        .normalizer
        .iter()
        .map(|normalizer| normalizer.scale)
        .collect()
}
