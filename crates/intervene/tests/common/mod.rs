//! Tiny models and a dictionary over them.

use dict::{CodeNormalization, Crosscoder, Normalizer, Rule};
use model::config::Architecture;
use model::{Config, Device, Model};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Characters of the tokenizer, behind `<pad>` 0 and `<bos>` 1; the newline, 2, ends a text.
pub(crate) const CHARACTERS: &str = "\nabcdefghij0123456789+#?. ";

/// Three blocks of width 8.
pub(crate) fn config() -> Config {
    Config {
        architecture: Architecture::Qwen2,
        vocab: 2 + CHARACTERS.chars().count(),
        d_model: 8,
        n_layers: 3,
        n_heads: 2,
        n_kv_heads: 1,
        d_head: 4,
        d_mlp: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_positions: 64,
        windows: vec![None; 3],
        qkv_bias: true,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        tied: false,
        form: model::config::Form::default(),
    }
}

/// A random model whose embedding is large enough for its answers to vary.
pub(crate) fn model(seed: u64) -> Model {
    let mut model = Model::random(config(), seed, &Device::Cpu).unwrap();
    for (name, weight) in model.parameters_mut() {
        if name.contains("embed_tokens") || name.contains("lm_head") {
            *weight = (&*weight * 20.0).unwrap();
        }
    }
    model
}

/// A dictionary of 12 features over base, sft and rl after block 1, with weights that look like noise.
pub(crate) fn dictionary() -> Crosscoder {
    let (n_features, width) = (12, config().d_model);
    let mut state = 1_u32;
    let mut noise = |n: usize, scale: f32| -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next() * scale).collect()
    };
    Crosscoder {
        labels: ["base", "sft", "rl"].map(String::from).to_vec(),
        widths: vec![width; 3],
        n_features,
        encoder: (0..3).map(|_| noise(width * n_features, 0.5)).collect(),
        encoder_bias: noise(n_features, 0.1),
        decoder: (0..3).map(|_| noise(width * n_features, 0.7)).collect(),
        decoder_bias: (0..3).map(|_| noise(width, 0.1)).collect(),
        normalizer: (0..3)
            .map(|_| Normalizer {
                mean: noise(width, 0.1),
                std: vec![1.0; width],
                scale: 0.6 + noise(1, 0.2)[0],
            })
            .collect(),
        threshold: 0.0,
        thresholds: Vec::new(),
        rule: Rule::L1 { sparsity: 1.0 },
        code_normalization: CodeNormalization::Crosscoder,
        hook: "resid_post.1".into(),
        tokenizer_digest: String::new(),
    }
}

/// Writes a model as a Hugging Face directory.
pub(crate) fn write_model(directory: &Path, seed: u64) {
    std::fs::create_dir_all(directory).unwrap();
    let weights = model(seed).serialized_weights().unwrap();
    std::fs::write(directory.join("model.safetensors"), weights).unwrap();
    let write = |name: &str, value: &Value| {
        std::fs::write(directory.join(name), value.to_string()).unwrap();
    };
    write("config.json", &config().to_json(Some(1), Some(2)));
    write("tokenizer.json", &tokenizer());
    write(
        "tokenizer_config.json",
        &json!({
            "bos_token": "<bos>",
            "eos_token": "\n",
            "pad_token": "<pad>",
            "chat_template": "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}",
        }),
    );
}

/// One token per character.
fn tokenizer() -> Value {
    let words = ["<pad>", "<bos>"].map(String::from);
    let words = words
        .into_iter()
        .chain(CHARACTERS.chars().map(String::from));
    let vocabulary: Map<String, Value> = words
        .zip(0..)
        .map(|(word, id): (_, u32)| (word, json!(id)))
        .collect();
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(0, "<pad>"), special(1, "<bos>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": false},
        "post_processor": null,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    })
}
