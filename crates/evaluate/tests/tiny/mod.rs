//! A tiny model, and lines of JSON.

use std::fs;
use std::path::Path;

use model::config::Architecture;
use model::{Config, Device, Model};
use serde_json::{Map, Value, json};

/// A model that reads and writes single characters: the printable ones and the line end.
pub(crate) fn model(to: &Path) {
    let mut tokens: Vec<String> = ["<end>".to_owned(), "\n".to_owned()].into();
    tokens.extend((b' '..=b'~').map(|byte| char::from(byte).to_string()));
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
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"},
        "added_tokens": [{"id": 0, "content": "<end>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<end>"},
    });
    let weights = Model::random(config.clone(), 7, &Device::Cpu).unwrap();
    fs::create_dir_all(to).unwrap();
    fs::write(
        to.join("model.safetensors"),
        weights.serialized_weights().unwrap(),
    )
    .unwrap();
    fs::write(
        to.join("config.json"),
        config.to_json(None, Some(0)).to_string(),
    )
    .unwrap();
    fs::write(to.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let template = "{% for m in messages %}[{{m.role}}]{{m.content}}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    let settings = json!({"eos_token": "<end>", "chat_template": template});
    fs::write(to.join("tokenizer_config.json"), settings.to_string()).unwrap();
}

/// The lines of a file, each a JSON value.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
