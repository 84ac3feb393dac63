//! From the keys of a `config.json` to a [`Config`].

use super::architecture::{QkNorm, Traits, Windowed};
use super::{Activation, Architecture, Config, Form, RopeScaling};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The keys of `config.json` that matter here.
#[derive(Debug, Deserialize)]
struct File {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    #[serde(default = "epsilon")]
    rms_norm_eps: f64,
    #[serde(default = "theta")]
    rope_theta: f64,
    rope_scaling: Option<RopeScaling>,
    rope_local_base_freq: Option<f64>,
    partial_rotary_factor: Option<f64>,
    max_position_embeddings: usize,
    original_max_position_embeddings: Option<usize>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    query_pre_attn_scalar: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<bool>,
}

fn epsilon() -> f64 {
    1e-6
}

fn theta() -> f64 {
    10_000.0
}

/// Reads the text of a `config.json`.
pub(super) fn read(text: &str) -> Result<Config, String> {
    let mut keys: Map<String, Value> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if let Some(quantized) = keys.get("quantization_config").filter(|q| !q.is_null()) {
        let method = quantized["quant_method"].as_str().unwrap_or("unknown");
        return Err(format!(
            "quantized weights (`{method}`) are not read: take the checkpoint they were made from"
        ));
    }
    // The text half of a model that also sees: what it shares with the whole stands outside.
    if let Some(Value::Object(mut text)) = keys.remove("text_config") {
        let whole = keys
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        text.entry("model_type")
            .or_insert(format!("{whole}_text").into());
        text.extend(
            keys.into_iter()
                .filter(|(key, _)| key == "tie_word_embeddings"),
        );
        keys = text;
    }
    let model_type = keys
        .get("model_type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let architecture = Architecture::parse(model_type).ok_or_else(|| {
        let known: Vec<_> = Architecture::ALL.map(Architecture::model_type).to_vec();
        format!(
            "unknown architecture `{model_type}` (known: {})",
            known.join(", ")
        )
    })?;
    unfold_rope(&mut keys, architecture);
    if let Some(pattern) = keys.remove("_sliding_window_pattern") {
        keys.entry("sliding_window_pattern").or_insert(pattern);
    }
    if let Value::Object(defaults) = architecture.defaults() {
        for (key, value) in defaults {
            keys.entry(key).or_insert(value);
        }
    }
    let file: File = serde_json::from_value(Value::Object(keys)).map_err(|e| e.to_string())?;
    config(file, architecture)
}

/// Brings the rope keys of every dialect into one form.
///
/// transformers 5 keeps base and scaling together in `rope_parameters`, Gemma-3's and OLMo-3's per kind of block; older
/// files say `type` for `rope_type`, or both; Phi-3's older ones say `su` or `yarn` for `longrope`.
fn unfold_rope(keys: &mut Map<String, Value>, architecture: Architecture) {
    if let Some(Value::Object(mut rope)) = keys.remove("rope_parameters") {
        if let Some(mut local) = rope.remove("sliding_attention") {
            keys.insert("rope_local_base_freq".into(), local["rope_theta"].take());
        }
        if let Some(Value::Object(full)) = rope.remove("full_attention") {
            rope = full;
        }
        for key in ["rope_theta", "partial_rotary_factor"] {
            if let Some(value) = rope.remove(key) {
                keys.insert(key.into(), value);
            }
        }
        keys.insert("rope_scaling".into(), Value::Object(rope));
    }
    let Some(Value::Object(scaling)) = keys.get_mut("rope_scaling") else {
        return;
    };
    if let Some(kind) = scaling.remove("type") {
        scaling.entry("rope_type").or_insert(kind);
    }
    let kind = scaling.get("rope_type").and_then(Value::as_str);
    if architecture == Architecture::Phi3 && matches!(kind, Some("su" | "yarn")) {
        scaling.insert("rope_type".into(), "longrope".into());
    }
    if scaling.is_empty()
        || scaling
            .get("rope_type")
            .is_some_and(|kind| kind == "default")
    {
        keys.remove("rope_scaling");
    }
}

fn config(file: File, architecture: Architecture) -> Result<Config, String> {
    let traits = architecture.traits();
    if file.use_bidirectional_attention == Some(true) {
        return Err(
            "attention in both directions (`use_bidirectional_attention`) is not computed".into(),
        );
    }
    let asked = file.attention_bias.unwrap_or(false);
    let d_head = file
        .head_dim
        .unwrap_or(file.hidden_size / file.num_attention_heads.max(1));
    Ok(Config {
        architecture,
        windows: windows(&file, traits.windowed)?,
        form: form(&file, &traits, d_head)?,
        vocab: file.vocab_size,
        d_model: file.hidden_size,
        n_layers: file.num_hidden_layers,
        n_heads: file.num_attention_heads,
        n_kv_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
        d_head,
        d_mlp: file.intermediate_size,
        rms_norm_eps: file.rms_norm_eps,
        rope_theta: file.rope_theta,
        rope_scaling: file.rope_scaling,
        max_positions: file.max_position_embeddings,
        qkv_bias: traits.qkv_bias.is_on(asked),
        output_bias: traits.output_bias.is_on(asked),
        mlp_bias: traits.mlp_bias.is_on(file.mlp_bias.unwrap_or(false)),
        qk_norm: traits.qk_norm != QkNorm::None,
        tied: file.tie_word_embeddings.unwrap_or(false),
    })
}

/// Where the blocks depart from Llama's.
fn form(file: &File, traits: &Traits, d_head: usize) -> Result<Form, String> {
    let named = if traits.gemma {
        &file.hidden_activation
    } else {
        &file.hidden_act
    };
    let named = named.as_deref().unwrap_or("silu");
    let activation = Activation::parse(named)
        .ok_or_else(|| format!("unknown activation `{named}` (known: silu, gelu_pytorch_tanh)"))?;
    let rotary_width = file
        .partial_rotary_factor
        .map(|share| (d_head as f64 * share) as usize)
        .filter(|width| *width != d_head);
    let scaled = file.rope_scaling.is_some();
    // OLMo-3's windowed blocks keep the base and leave the scaling out.
    let local = file
        .rope_local_base_freq
        .or(scaled.then_some(file.rope_theta));
    let positive = |cap: Option<f64>| cap.filter(|cap| *cap > 0.0);
    Ok(Form {
        norms: traits.norms,
        norm_offset: traits.gemma,
        qk_norm_whole: traits.qk_norm == QkNorm::Whole,
        fused: traits.fused,
        activation,
        query_scalar: file.query_pre_attn_scalar.filter(|_| traits.gemma),
        attention_softcap: positive(file.attn_logit_softcapping).filter(|_| traits.caps_scores),
        logit_softcap: positive(file.final_logit_softcapping).filter(|_| traits.gemma),
        embedding_scale: traits.gemma.then(|| (file.hidden_size as f64).sqrt()),
        rotary_width,
        local_rope_theta: local.filter(|_| traits.local_rope),
        original_positions: file.original_max_position_embeddings,
    })
}

/// The window of every block: a list of kinds where the file has one and the architecture reads it, else its own rule.
fn windows(file: &File, windowed: Windowed) -> Result<Vec<Option<usize>>, String> {
    let n_layers = file.num_hidden_layers;
    let switched_off =
        windowed == Windowed::FromMaxWindowLayers && !file.use_sliding_window.unwrap_or(false);
    let window = file.sliding_window.filter(|_| !switched_off);
    let rule = |layer: usize| match windowed {
        Windowed::None => false,
        Windowed::All => true,
        Windowed::FromMaxWindowLayers => layer >= file.max_window_layers.unwrap_or(0),
        Windowed::AllButEvery(usual) => {
            !(layer + 1).is_multiple_of(file.sliding_window_pattern.unwrap_or(usual).max(1))
        }
    };
    let listed = !matches!(windowed, Windowed::None | Windowed::All);
    let Some(kinds) = file.layer_types.as_ref().filter(|_| listed) else {
        return Ok((0..n_layers)
            .map(|layer| window.filter(|_| rule(layer)))
            .collect());
    };
    if kinds.len() != n_layers {
        return Err(format!(
            "`layer_types` names {} blocks of {n_layers}",
            kinds.len()
        ));
    }
    let kind = |kind: &String| match kind.as_str() {
        "full_attention" => Ok(None),
        "sliding_attention" => Ok(window),
        other => Err(format!("unknown kind of block `{other}`")),
    };
    kinds.iter().map(kind).collect()
}
