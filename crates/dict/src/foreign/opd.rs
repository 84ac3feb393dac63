//! Crosscoders over models of unlike width: `HeterogeneousCrossCoder` of `understanding-opd-crosscoders` (yzc-666), a state
//! dict in a `.pt`.

use super::crosscoder_learning::{code_normalization, gate, normalization_id};
use super::parts::{Inputs, Parts, Told, transposed};
use super::source::Source;
use super::torch_write::write_torch;
use super::write::{Export, float, target, whole};
use crate::crosscoder::Crosscoder;
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use serde_json::json;
use store::{Result, TensorData};

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    let n_models = source
        .names()
        .filter(|name| name.starts_with("encoder.projections.") && name.ends_with(".weight"))
        .count();
    let [n_features] = source.sizes("encoder.bias", "[n_features]")?;
    let code_normalization = code_normalization(source, n_models)?;
    let mut parts = Parts {
        widths: Vec::new(),
        n_features,
        encoder: Vec::new(),
        encoder_bias: source.f32("encoder.bias", &[n_features])?,
        decoder: Vec::new(),
        decoder_bias: Vec::new(),
        inputs: Inputs::Known(Vec::new()),
        gate: gate(source, told, &code_normalization)?,
        code_normalization,
        labels: None,
        hook: None,
        tokenizer: None,
        notes: Vec::new(),
    };
    let mut normalizers = Vec::new();
    for model in 0..n_models {
        let name = |part: &str| format!("{part}.projections.{model}.weight");
        let [_, width] = source.sizes(&name("encoder"), "[n_features, d_model]")?;
        let encoder = source.f32(&name("encoder"), &[n_features, width])?;
        let decoder = source.f32(&name("decoder"), &[width, n_features])?;
        parts.encoder.push(transposed(&encoder, n_features, width));
        parts.decoder.push(transposed(&decoder, width, n_features));
        parts
            .decoder_bias
            .push(source.f32(&format!("decoder.projections.{model}.bias"), &[width])?);
        parts.widths.push(width);
        normalizers.push(normalizer(source, model, width)?);
    }
    // One model without statistics switches the normaliser off for all of them.
    let all: Option<Vec<Normalizer>> = normalizers.into_iter().collect();
    let absent = || {
        parts
            .widths
            .iter()
            .map(|&width| Normalizer::identity(width))
            .collect()
    };
    parts.inputs = Inputs::Known(all.unwrap_or_else(absent));
    Ok(parts)
}

fn normalizer(source: &Source, model: usize, width: usize) -> Result<Option<Normalizer>> {
    let mean = source.f32_any(&format!("normalizer.mean_{model}"), &[width])?;
    if mean.iter().any(|value| value.is_nan()) {
        return Ok(None);
    }
    Ok(Some(Normalizer {
        mean,
        std: source.f32(&format!("normalizer.std_{model}"), &[width])?,
        scale: source.scalar(&format!("normalizer.scale_{model}"))?,
    }))
}

/// Writes `model_final.pt`, which `HeterogeneousCrossCoder.from_pretrained(FILE)` and its BatchTopK sister read.
pub(super) fn write(export: &mut Export) -> Result<()> {
    let dictionary = export.dictionary;
    let known = matches!(
        dictionary.rule,
        Rule::L1 { .. } | Rule::BatchTopK { .. } | Rule::Matryoshka { .. }
    );
    if !known {
        return export.refuse_rule("l1 and batch-topk");
    }
    if dictionary.code_normalization.is_decoupled() || dictionary.n_models() < 2 {
        return export.refuse("the format has two models or more, and one code for all of them");
    }
    if let CodeNormalization::Mixed {
        alpha_sae,
        alpha_crosscoder,
    } = dictionary.code_normalization
    {
        export.note(format!(
            "the weights of the mixed normalisation are not in the state dict: load it with code_normalization_alpha_sae={alpha_sae}, code_normalization_alpha_cc={alpha_crosscoder}"
        ));
    }
    let mut tensors = shared_tensors(dictionary);
    for model in 0..dictionary.n_models() {
        tensors.extend(tensors_of(dictionary, model));
    }
    write_torch(&export.path("model_final.pt"), &tensors, &[])?;
    let class = match dictionary.rule.k() {
        Some(_) => "BatchTopKHeterogeneousCrossCoder",
        None => "HeterogeneousCrossCoder",
    };
    let trainer = json!({
        "dict_class": class,
        "activation_dims": dictionary.widths,
        "dict_size": dictionary.n_features,
        "k": dictionary.rule.k(),
    });
    export.json(
        "config.json",
        &json!({ "trainer": trainer, "provenance": export.origin() }),
    )
}

/// Tensors of all models together.
fn shared_tensors(dictionary: &Crosscoder) -> Vec<(String, TensorData)> {
    let widths = dictionary
        .widths
        .iter()
        .map(|&width| width as i64)
        .collect();
    let id = normalization_id(&dictionary.code_normalization);
    let bias = dictionary.encoder_bias.clone();
    let target = target(&dictionary.normalizer[0]);
    let mut tensors = vec![
        whole("activation_dims_tensor", &[dictionary.n_models()], widths),
        whole("code_normalization_id", &[], vec![id]),
        float("encoder.bias", &[dictionary.n_features], bias),
        float("normalizer.target_rms", &[], vec![target]),
    ];
    if let Some(k) = dictionary.rule.k() {
        tensors.push(whole("k", &[], vec![k as i64]));
        tensors.push(float("threshold", &[], vec![dictionary.threshold]));
    }
    tensors
}

/// Tensors of one model. Where no model has a normaliser, statistics are NaN.
fn tensors_of(dictionary: &Crosscoder, model: usize) -> [(String, TensorData); 6] {
    let (n, width) = (dictionary.n_features, dictionary.widths[model]);
    let normalizer = &dictionary.normalizer[model];
    let each = dictionary.normalizer.iter().zip(&dictionary.widths);
    let absent = each
        .into_iter()
        .all(|(normalizer, &width)| *normalizer == Normalizer::identity(width));
    let known = |values: &Vec<f32>| {
        if absent {
            vec![f32::NAN; width]
        } else {
            values.clone()
        }
    };
    let encoder = transposed(&dictionary.encoder[model], width, n);
    let decoder = transposed(&dictionary.decoder[model], n, width);
    let bias = dictionary.decoder_bias[model].clone();
    let named = |before: &str, after: &str| format!("{before}{model}{after}");
    [
        float(
            &named("encoder.projections.", ".weight"),
            &[n, width],
            encoder,
        ),
        float(
            &named("decoder.projections.", ".weight"),
            &[width, n],
            decoder,
        ),
        float(&named("decoder.projections.", ".bias"), &[width], bias),
        float(
            &named("normalizer.mean_", ""),
            &[width],
            known(&normalizer.mean),
        ),
        float(
            &named("normalizer.std_", ""),
            &[width],
            known(&normalizer.std),
        ),
        float(&named("normalizer.scale_", ""), &[], vec![normalizer.scale]),
    ]
}
