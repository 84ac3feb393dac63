//! A tiny model with random weights, as files.

use std::fs;
use std::path::Path;

use model::config::Architecture;
use model::{Config, Device, Model};
use serde_json::{Map, Value, json};

/// A model with random weights over these tokens, of which those in `<…>` at the beginning are special: the end token, or
/// the beginning and the end.
pub(crate) fn written(to: &Path, tokens: &[String], unknown: &str, seed: u64, settings: &Value) {
    let special = tokens
        .iter()
        .take_while(|token| token.starts_with('<') && token.len() > 1)
        .count();
    let config = Config {
        architecture: Architecture::Qwen2,
        vocab: tokens.len(),
        d_model: 16,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        d_head: 8,
        d_mlp: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_positions: 512,
        windows: vec![None; 2],
        qkv_bias: true,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        tied: true,
        form: model::config::Form::default(),
    };
    let vocab: Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    let added = |id: usize| {
        json!({"id": id, "content": tokens[id], "special": true, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"},
        "added_tokens": (0..special).map(added).collect::<Vec<_>>(),
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": unknown},
    });
    let weights = Model::random(config.clone(), seed, &Device::Cpu).unwrap();
    fs::create_dir_all(to).unwrap();
    fs::write(
        to.join("model.safetensors"),
        weights.serialized_weights().unwrap(),
    )
    .unwrap();
    fs::write(
        to.join("config.json"),
        config
            .to_json((special > 1).then_some(0), Some(special as u32 - 1))
            .to_string(),
    )
    .unwrap();
    fs::write(to.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(to.join("tokenizer_config.json"), settings.to_string()).unwrap();
}
