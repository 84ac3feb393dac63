//! `sparsify` (EleutherAI): `<hook>/sae.safetensors` and `cfg.json`, one model's TopK autoencoder.

use super::flat::{Flat, is_unweighted, models};
use super::names::from_module;
use super::parts::{Gate, Parts, Told, transposed};
use super::sae_lens::{as_written, linear};
use super::source::Source;
use super::write::{Export, float};
use crate::rule::Rule;
use serde_json::{Value as Json, json};
use store::Result;

pub(super) fn read(source: &Source, told: &Told) -> Result<Parts> {
    let [n_features, d_model] = source.sizes("encoder.weight", "[num_latents, d_in]")?;
    let flag = |name: &str| {
        source
            .setting(name)
            .and_then(Json::as_bool)
            .unwrap_or(false)
    };
    if flag("transcode") || source.contains("W_skip") {
        return Err(source.fault(
            "it is a transcoder, from one hook to another; a dictionary here has one".into(),
        ));
    }
    if flag("signed") {
        return Err(
            source.fault("its activations keep their sign, a dictionary's are not negative".into())
        );
    }
    let activation = source
        .setting("activation")
        .and_then(Json::as_str)
        .unwrap_or("topk");
    if activation != "topk" {
        return Err(source.fault(format!("its activation is {activation}; topk is known")));
    }
    let configured = source
        .setting("k")
        .and_then(Json::as_u64)
        .map(|k| k as usize);
    let Some(k) = told.k.or(configured) else {
        return Err(source.fault(format!(
            "{} has no `k`: give it with --k",
            source.config_path().display()
        )));
    };
    let mut parts = Parts::single(d_model, n_features, Gate::TopK { k });
    parts.encoder = vec![linear(source, "encoder.weight", n_features, d_model)?];
    parts.encoder_bias = source.f32("encoder.bias", &[n_features])?;
    parts.decoder = vec![source.f32("W_dec", &[n_features, d_model])?];
    parts.centre(source.f32("b_dec", &[d_model])?);
    // The folder is called after the module whose output it reads.
    let folder = source.path().canonicalize().ok();
    let folder = folder
        .as_deref()
        .and_then(|path| path.parent()?.file_name()?.to_str());
    parts.hook = folder.and_then(from_module);
    as_written(&mut parts, source.setting("crosscoder"), source)?;
    Ok(parts)
}

/// Writes `sae.safetensors` and `cfg.json`, which `SparseCoder.load_from_disk(DIR)` reads.
pub(super) fn write(export: &mut Export) -> Result<()> {
    let dictionary = export.dictionary;
    let Rule::TopK { k } = dictionary.rule else {
        return export.refuse_rule("topk");
    };
    if dictionary.code_normalization.is_decoupled() && dictionary.n_models() > 1 {
        return export.refuse("each of its models has a code of its own, the format has one");
    }
    let mut flat = Flat::of(dictionary);
    if !is_unweighted(dictionary) {
        flat.measure_by_rank(&dictionary.rank_weights());
        export.note(
            "activations are measured by their rank value, by which the k largest are chosen",
        );
    }
    flat.centre();
    let (d, n) = (flat.d_total, flat.n_features);
    let tensors = [
        float("encoder.weight", &[n, d], transposed(&flat.encoder, d, n)),
        float("encoder.bias", &[n], flat.encoder_bias),
        float("W_dec", &[n, d], flat.decoder),
        float("b_dec", &[d], flat.decoder_bias),
    ];
    export.safetensors("sae.safetensors", &tensors)?;
    if dictionary.n_models() > 1 {
        export.note(format!(
            "its input are the activations of {} side by side",
            dictionary.labels.join(", ")
        ));
    }
    export.json(
        "cfg.json",
        &json!({
            "activation": "topk",
            "expansion_factor": n.div_ceil(d),
            "normalize_decoder": false,
            "num_latents": n,
            "k": k,
            "multi_topk": false,
            "skip_connection": false,
            "transcode": false,
            "d_in": d,
            "crosscoder": models(dictionary),
            "provenance": export.origin(),
        }),
    )
}
