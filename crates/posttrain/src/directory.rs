//! Hugging Face directories: what is written so that `transformers` and this workspace read the same model.

use anyhow::{Context, Result};
use model::{Config, Model, Tokenizer};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use store::Provenance;

/// Files of a tokenizer.
const TOKENIZER_FILES: [&str; 3] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// Writes a model with the tokenizer found in `tokenizer_directory`; `config.json`, which makes it one, comes last.
///
/// The provenance is a key of `config.json`: `transformers` wants the only metadata key of the weights for itself.
pub fn write(
    directory: &Path,
    model: &Model,
    tokenizer_directory: &Path,
    provenance: &Provenance,
) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    for name in TOKENIZER_FILES {
        let from = tokenizer_directory.join(name);
        if from.exists() {
            let bytes =
                fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            store::write_atomic(&directory.join(name), |file| file.write_all(&bytes))?;
        }
    }
    let tokenizer = Tokenizer::load(directory)?;
    let weights = model.serialized_weights()?;
    store::write_atomic(&directory.join("model.safetensors"), |file| {
        file.write_all(&weights)
    })?;
    let eos = tokenizer.eos_ids().first().copied();
    let generation = json!({
        "bos_token_id": tokenizer.bos_id(),
        "eos_token_id": eos,
        "pad_token_id": tokenizer.pad_id(),
        "do_sample": false,
    });
    write_json(&directory.join("generation_config.json"), &generation)?;
    let mut config = model.config.to_json(tokenizer.bos_id(), eos);
    config["provenance"] = serde_json::to_value(provenance)?;
    write_json(&directory.join("config.json"), &config)
}

/// Whether a directory holds a whole model made in exactly this way.
pub fn is_complete(directory: &Path, provenance: &Provenance) -> bool {
    let text = fs::read_to_string(directory.join("config.json")).unwrap_or_default();
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    serde_json::to_value(provenance).is_ok_and(|wanted| config["provenance"] == wanted)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    store::write_atomic(path, |file| file.write_all(text.as_bytes()))?;
    Ok(())
}

/// Shapes of the controlled models: Qwen2 in small.
pub fn controlled(vocab: usize, size: Size) -> Config {
    let (d_model, n_layers, d_mlp) = match size {
        Size::Tiny => (64, 3, 176),
        Size::Small => (128, 4, 352),
    };
    Config {
        architecture: model::config::Architecture::Qwen2,
        vocab,
        d_model,
        n_layers,
        n_heads: 4,
        n_kv_heads: 2,
        d_head: d_model / 4,
        d_mlp,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_positions: 512,
        windows: vec![None; n_layers],
        qkv_bias: true,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        tied: true,
        form: model::config::Form::default(),
    }
}

/// How large a controlled model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
pub enum Size {
    /// 3 blocks of width 64: seconds, for tests
    Tiny,
    /// 4 blocks of width 128: minutes, learns every task of the suite
    Small,
}
