//! The first open crosscoders: `crosscoder-model-diff-replication` (ckkissane), and `crosscoding-through-time`
//! (bayazitdeniz), which adds BatchTopK and any number of models.
//!
//! `cc_weights.pt` and `cfg.json` on the hub, `<n>.pt` and `<n>_cfg.json` in a training folder. Activations are multiplied
//! by `√d_model` over their mean norm before they are encoded; only the second program keeps these factors, as
//! `estimated_act_norm_list`.

use super::names::{from_transformer_lens, to_transformer_lens};
use super::parts::{Gate, Inputs, Parts, Told, cut, stacked, unstacked};
use super::source::Source;
use super::torch_write::write_torch;
use super::write::{Export, biases_without_means, float, whole};
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use serde_json::{Value as Json, json};
use store::Result;

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    let [n_models, d_model, n_features] =
        source.sizes("W_enc", "[n_models, d_model, n_features]")?;
    let encoder = source.f32("W_enc", &[n_models, d_model, n_features])?;
    let decoder = source.f32("W_dec", &[n_features, n_models, d_model])?;
    let decoder_bias = source.f32("b_dec", &[n_models, d_model])?;
    Ok(Parts {
        widths: vec![d_model; n_models],
        n_features,
        encoder: cut(&encoder, n_models),
        encoder_bias: source.f32("b_enc", &[n_features])?,
        decoder: unstacked(&decoder, n_models, d_model),
        decoder_bias: cut(&decoder_bias, n_models),
        inputs: inputs(source, n_models, d_model)?,
        gate: gate(source, told)?,
        code_normalization: CodeNormalization::Crosscoder,
        labels: labels(source),
        hook: source
            .setting("hook_point")
            .and_then(Json::as_str)
            .map(from_transformer_lens),
        tokenizer: None,
        notes: Vec::new(),
    })
}

fn inputs(source: &Source, n_models: usize, d_model: usize) -> Result<Inputs> {
    let Some(factors) = source
        .setting("estimated_act_norm_list")
        .and_then(Json::as_array)
    else {
        return Ok(Inputs::Scaled { bias: Vec::new() });
    };
    let scales: Vec<f32> = factors
        .iter()
        .filter_map(|factor| Some(factor.as_f64()? as f32))
        .collect();
    if scales.len() != n_models || scales.iter().any(|&scale| scale <= 0.0) {
        return Err(source.fault(format!(
            "`estimated_act_norm_list` is not one positive factor for each of {n_models} models"
        )));
    }
    let scaled = |scale| Normalizer {
        scale,
        ..Normalizer::identity(d_model)
    };
    Ok(Inputs::Known(scales.into_iter().map(scaled).collect()))
}

fn gate(source: &Source, told: &Told) -> Result<Gate> {
    if !source.contains("k") {
        let sparsity = source
            .setting("l1_coeff")
            .and_then(Json::as_f64)
            .unwrap_or(0.0) as f32;
        return Ok(Gate::Relu { sparsity });
    }
    let k = match told.k {
        Some(k) => k,
        None => source.whole("k")?.first().map_or(0, |&k| k as usize),
    };
    Ok(Gate::BatchTopK {
        k,
        threshold: source.scalar("threshold")?,
    })
}

/// Checkpoints of one model are told apart by their revision.
fn labels(source: &Source) -> Option<Vec<String>> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    source
        .setting("revision_list")?
        .as_array()?
        .iter()
        .map(text)
        .collect()
}

/// Writes `cc_weights.pt` and `cfg.json`. A mean goes into the biases, the factors into the configuration.
pub(super) fn write(export: &mut Export) -> Result<()> {
    let dictionary = export.dictionary;
    let d_model = export.common_width()?;
    let batch_top_k = matches!(
        dictionary.rule,
        Rule::BatchTopK { .. } | Rule::Matryoshka { .. }
    );
    if !batch_top_k && !matches!(dictionary.rule, Rule::L1 { .. }) {
        return export.refuse_rule("l1, and in its successor batch-topk");
    }
    if batch_top_k && dictionary.code_normalization != CodeNormalization::Crosscoder {
        return export
            .refuse("the format ranks by the sum of the decoder's norms, the dictionary does not");
    }
    let (n, n_features) = (dictionary.n_models(), dictionary.n_features);
    let (encoder_bias, decoder_bias) = biases_without_means(dictionary);
    let mut tensors = vec![
        float(
            "W_enc",
            &[n, d_model, n_features],
            dictionary.encoder.concat(),
        ),
        float(
            "W_dec",
            &[n_features, n, d_model],
            stacked(&dictionary.decoder, d_model),
        ),
        float("b_enc", &[n_features], encoder_bias),
        float("b_dec", &[n, d_model], decoder_bias.concat()),
    ];
    if let Some(k) = dictionary.rule.k() {
        tensors.push(whole("k", &[], vec![k as i64]));
        tensors.push(float("threshold", &[], vec![dictionary.threshold]));
        export.note(
            "read it with the class BatchTopKCrossCoder of crosscoding-through-time, in eval mode",
        );
    }
    write_torch(&export.path("cc_weights.pt"), &tensors, &[])?;
    export.note("multiply each model's activations by its factor in estimated_act_norm_list of cfg.json before they are encoded");
    export.json("cfg.json", &config(export))
}

fn config(export: &Export) -> Json {
    let dictionary = export.dictionary;
    let scales: Vec<f32> = dictionary
        .normalizer
        .iter()
        .map(|normalizer| normalizer.scale)
        .collect();
    let sparsity = match dictionary.rule {
        Rule::L1 { sparsity } => sparsity,
        _ => 0.0,
    };
    json!({
        "d_in": dictionary.widths[0],
        "dict_size": dictionary.n_features,
        "n_models": dictionary.n_models(),
        "revision_list": dictionary.labels,
        "estimated_act_norm_list": scales,
        "batch_topk_init": dictionary.rule.k().unwrap_or(0),
        "l1_coeff": sparsity,
        "dec_init_norm": 0.08,
        "enc_dtype": "fp32",
        "device": "cpu",
        "seed": 0,
        "hook_point": to_transformer_lens(&dictionary.hook),
        "provenance": export.origin(),
    })
}
