//! Crosscoders over models of unlike width: `HeterogeneousCrossCoder` of `understanding-opd-crosscoders` (yzc-666), a state
//! dict in a `.pt`.

use super::crosscoder_learning::{code_normalization, gate, normalization_id};
use super::parts::{Inputs, Parts, Told, transposed};
use super::source::Source;
use super::torch_write::write_torch;
use super::write::{Export, float, target, whole};
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use serde_json::json;
use store::Result;

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    let n_models = (0..)
        .take_while(|i| source.contains(&format!("encoder.projections.{i}.weight")))
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
    if !matches!(
        dictionary.rule,
        Rule::L1 { .. } | Rule::BatchTopK { .. } | Rule::Matryoshka { .. }
    ) {
        return export.refuse_rule("l1 and batch-topk");
    }
    if dictionary.code_normalization.is_decoupled() || dictionary.n_models() < 2 {
        return export.refuse("the format has two models or more, and one code for all of them");
    }
    let n = dictionary.n_features;
    let widths: Vec<i64> = dictionary
        .widths
        .iter()
        .map(|&width| width as i64)
        .collect();
    let mut tensors = vec![
        whole("activation_dims_tensor", &[widths.len()], widths.clone()),
        whole(
            "code_normalization_id",
            &[],
            vec![normalization_id(&dictionary.code_normalization)],
        ),
        float("encoder.bias", &[n], dictionary.encoder_bias.clone()),
        float(
            "normalizer.target_rms",
            &[],
            vec![target(&dictionary.normalizer[0])],
        ),
    ];
    if let Some(k) = dictionary.rule.k() {
        tensors.push(whole("k", &[], vec![k as i64]));
        tensors.push(float("threshold", &[], vec![dictionary.threshold]));
    }
    let absent = dictionary
        .normalizer
        .iter()
        .zip(&dictionary.widths)
        .all(|(normalizer, &width)| *normalizer == Normalizer::identity(width));
    for (model, &width) in dictionary.widths.iter().enumerate() {
        let normalizer = &dictionary.normalizer[model];
        let known = |values: &Vec<f32>| {
            if absent {
                vec![f32::NAN; width]
            } else {
                values.clone()
            }
        };
        tensors.extend([
            float(
                &format!("encoder.projections.{model}.weight"),
                &[n, width],
                transposed(&dictionary.encoder[model], width, n),
            ),
            float(
                &format!("decoder.projections.{model}.weight"),
                &[width, n],
                transposed(&dictionary.decoder[model], n, width),
            ),
            float(
                &format!("decoder.projections.{model}.bias"),
                &[width],
                dictionary.decoder_bias[model].clone(),
            ),
            float(
                &format!("normalizer.mean_{model}"),
                &[width],
                known(&normalizer.mean),
            ),
            float(
                &format!("normalizer.std_{model}"),
                &[width],
                known(&normalizer.std),
            ),
            float(
                &format!("normalizer.scale_{model}"),
                &[],
                vec![normalizer.scale],
            ),
        ]);
    }
    if let CodeNormalization::Mixed {
        alpha_sae,
        alpha_crosscoder,
    } = dictionary.code_normalization
    {
        export.note(format!("the weights of the mixed normalisation are not in the state dict: load it with code_normalization_alpha_sae={alpha_sae}, code_normalization_alpha_cc={alpha_crosscoder}"));
    }
    write_torch(&export.path("model_final.pt"), &tensors, &[])?;
    let trainer = json!({
        "dict_class": if dictionary.rule.k().is_some() { "BatchTopKHeterogeneousCrossCoder" } else { "HeterogeneousCrossCoder" },
        "activation_dims": widths,
        "dict_size": n,
        "k": dictionary.rule.k(),
    });
    export.json(
        "config.json",
        &json!({ "trainer": trainer, "provenance": export.origin() }),
    )
}
