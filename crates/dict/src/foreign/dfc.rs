//! Dedicated-feature crosscoders: `dfc_learning` (superkaiba), and the checkpoints of `model_diffing_crosscoders` (Antebe).
//!
//! The first is `crosscoder_learning` with the shares of the exclusive features in a dictionary of plain values inside the
//! state dict. The second has `W_enc [2, d_model, n_features]`, `W_dec [n_features, 2, d_model]`, two masks, and keeps the
//! `k` largest of every row; its encoder is used unmasked, its decoder masked.

use super::crosscoder_learning;
use super::parts::{Gate, Inputs, Parts, Told, cut, unstacked};
use super::source::Source;
use super::torch_write::write_torch;
use super::write::Export;
use crate::crosscoder::Crosscoder;
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use serde_json::{Map, Value as Json, json};
use store::Result;

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    if source.contains("W_enc") {
        return read_masked(source, told);
    }
    let mut parts = crosscoder_learning::read(source, told)?;
    let share = |key: &str| {
        source
            .plain(&format!("_partition_config.{key}"))
            .and_then(Json::as_f64)
    };
    if let (Some(first), Some(second)) = (
        share("model_a_exclusive_pct"),
        share("model_b_exclusive_pct"),
    ) {
        let counts = [first, second].map(|share| (parts.n_features as f64 * share) as usize);
        parts.notes.push(describe(counts));
    }
    Ok(parts)
}

fn describe([first, second]: [usize; 2]) -> String {
    format!(
        "features 0 to {first} belong to the first model alone, the next {second} to the second alone (end excluded)"
    )
}

fn read_masked(source: &Source, told: &Told) -> Result<Parts> {
    let [n_models, d_model, n_features] =
        source.sizes("W_enc", "[n_models, d_model, n_features]")?;
    let decoder = source.f32("W_dec", &[n_features, n_models, d_model])?;
    let mut decoder = unstacked(&decoder, n_models, d_model);
    let mut notes = Vec::new();
    if source.contains("dec_mask") {
        let mask = source.f32("dec_mask", &[n_features, n_models])?;
        for (model, rows) in decoder.iter_mut().enumerate() {
            let masks = mask.iter().skip(model).step_by(n_models);
            let rows = rows.chunks_mut(d_model).zip(masks);
            rows.for_each(|(row, mask)| row.iter_mut().for_each(|value| *value *= mask));
        }
        let alone = |model: usize| {
            mask.chunks(n_models)
                .filter(|row| row[model] == 0.0)
                .count()
        };
        if n_models == 2 {
            notes.push(describe([alone(1), alone(0)]));
        }
    }
    let configured = source
        .setting("k")
        .and_then(Json::as_u64)
        .map(|k| k as usize);
    let Some(k) = told.k.or(configured) else {
        return Err(source.fault(
            "the number of features it keeps per row is not in it: give it with --k".into(),
        ));
    };
    let encoder = source.f32("W_enc", &[n_models, d_model, n_features])?;
    Ok(Parts {
        widths: vec![d_model; n_models],
        n_features,
        encoder: cut(&encoder, n_models),
        encoder_bias: source.f32("b_enc", &[n_features])?,
        decoder,
        decoder_bias: cut(&source.f32("b_dec", &[n_models, d_model])?, n_models),
        inputs: Inputs::Known(vec![Normalizer::identity(d_model); n_models]),
        gate: Gate::TopK { k },
        code_normalization: CodeNormalization::None,
        labels: None,
        hook: None,
        tokenizer: None,
        notes,
    })
}

/// Writes `model_final.pt`, which `DedicatedFeatureBatchTopKCrossCoder.from_pretrained(FILE)` and its plain sister read.
pub(super) fn write(export: &mut Export) -> Result<()> {
    let dictionary = export.dictionary;
    let d_model = export.common_width()?;
    if !matches!(dictionary.rule, Rule::L1 { .. } | Rule::BatchTopK { .. }) {
        return export.refuse_rule("l1 and batch-topk");
    }
    let Some(sizes) = exclusive(dictionary) else {
        return export.refuse("the format has two models, the features of the first alone, then those of the second, then the shared ones");
    };
    let n = dictionary.n_features;
    let mut config = Map::new();
    config.insert("dict_size".into(), json!(n));
    config.insert("model_a_exclusive_pct".into(), json!(share(sizes[0], n)));
    config.insert("model_b_exclusive_pct".into(), json!(share(sizes[1], n)));
    let tensors = crosscoder_learning::tensors(dictionary, d_model);
    write_torch(
        &export.path("model_final.pt"),
        &tensors,
        &[("_partition_config", config)],
    )?;
    let trainer = json!({
        "dict_class": if dictionary.rule.k().is_some() { "DedicatedFeatureBatchTopKCrossCoder" } else { "DedicatedFeatureCrossCoder" },
        "activation_dim": d_model,
        "dict_size": n,
        "k": dictionary.rule.k(),
    });
    export.json(
        "config.json",
        &json!({ "trainer": trainer, "provenance": export.origin() }),
    )
}

/// How many features at the beginning are the first model's alone, and how many after them the second's, if no other
/// feature is.
fn exclusive(dictionary: &Crosscoder) -> Option<[usize; 2]> {
    if dictionary.n_models() != 2 {
        return None;
    }
    let n = dictionary.n_features;
    let absent = |model: usize, feature: usize| {
        let encoder = dictionary.encoder[model].iter().skip(feature).step_by(n);
        encoder
            .chain(dictionary.row(model, feature))
            .all(|&value| value == 0.0)
    };
    let first = (0..n).take_while(|&feature| absent(1, feature)).count();
    let second = (first..n).take_while(|&feature| absent(0, feature)).count();
    let rest_is_shared =
        (first + second..n).all(|feature| !absent(0, feature) && !absent(1, feature));
    rest_is_shared.then_some([first, second])
}

/// A share that the program, which cuts `n · share` off, turns into exactly `size`.
fn share(size: usize, n: usize) -> f64 {
    let share = size as f64 / n as f64;
    if (n as f64 * share) as usize == size {
        share
    } else {
        share.next_up()
    }
}
