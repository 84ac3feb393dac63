//! Tiny models in a temporary folder, as Hugging Face directories.

use model::config::Architecture;
use model::{Config, Device, Model};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Characters of the tokenizer, behind `<pad>` 0 and `<bos>` 1; the newline, 2, ends a text.
pub(crate) const CHARACTERS: &str = "\nabcdefghij0123456789+#?. ";

/// A folder that goes with the test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a random model; the same seed gives the same model.
    pub(crate) fn model(&self, name: &str, seed: u64) -> Model {
        let directory = self.path(name);
        std::fs::create_dir_all(&directory).unwrap();
        let model = Model::random(config(), seed, &Device::Cpu).unwrap();
        let weights = model.serialized_weights().unwrap();
        std::fs::write(directory.join("model.safetensors"), weights).unwrap();
        write(
            &directory.join("config.json"),
            &config().to_json(Some(1), Some(2)),
        );
        write(&directory.join("tokenizer.json"), &tokenizer(CHARACTERS));
        write(
            &directory.join("tokenizer_config.json"),
            &json!({
                "bos_token": "<bos>",
                "eos_token": "\n",
                "pad_token": "<pad>",
                "chat_template": "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}",
            }),
        );
        model
    }

    /// Runs the program in the folder.
    pub(crate) fn capture(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_capture"))
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// The same, which must succeed.
    pub(crate) fn captures(&self, arguments: &[&str]) -> Output {
        let output = self.capture(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        output
    }

    /// The same, which must fail with code 1 and one line that holds all of `words`.
    pub(crate) fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let output = self.capture(arguments);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let last = message.lines().last().unwrap();
        assert!(last.starts_with("capture: "), "{message}");
        for word in words {
            assert!(last.contains(word), "`{word}` is not in: {message}");
        }
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn write(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

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
        max_positions: 32,
        windows: vec![None; 3],
        qkv_bias: true,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        tied: true,
        form: model::config::Form::default(),
    }
}

/// One token per character.
pub(crate) fn tokenizer(characters: &str) -> Value {
    let words = ["<pad>", "<bos>"].map(String::from);
    let words = words
        .into_iter()
        .chain(characters.chars().map(String::from));
    let vocabulary: Map<String, Value> = words
        .zip(0..)
        .map(|(w, id): (_, u32)| (w, json!(id)))
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
