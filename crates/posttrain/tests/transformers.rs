//! The directories `posttrain` writes, as `PyPI`'s transformers reads them. Skipped with a message where it is absent.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

use model::{Batch, DType, Device, Model, Tokenizer};
use std::path::Path;
use std::process::Command;

mod common;

/// Loads a directory and prints the logits of one prompt, and the ids its own tokenizer gives.
const SCRIPT: &str = r#"
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
message = [{"role": "user", "content": sys.argv[2]}]
ids = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_tensors="pt", return_dict=False)
with torch.no_grad():
    logits = model(ids).logits[0]
print(json.dumps({"ids": ids[0].tolist(), "logits": logits.tolist(), "text": tokenizer.decode(ids[0])}))
"#;

fn python() -> Option<String> {
    let candidates = [
        std::env::var("POSTSCOPE_PYTHON").ok(),
        Some("python3".into()),
    ];
    let works = |python: &String| {
        Command::new(python)
            .args(["-c", "import torch, transformers"])
            .output()
            .is_ok_and(|out| out.status.success())
    };
    candidates.into_iter().flatten().find(works)
}

fn compare(python: &str, directory: &Path) {
    let prompt = "add 59+63?";
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(directory)
        .arg(prompt)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let theirs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let tokenizer = Tokenizer::load(directory).unwrap();
    let ids = tokenizer.prompt_ids(prompt).unwrap();
    assert_eq!(serde_json::json!(ids), theirs["ids"]);
    let model = Model::load(directory, &Device::Cpu, DType::F32).unwrap();
    let logits = model
        .forward(&Batch::right_padded(&[ids], 0), &mut ())
        .unwrap();
    let ours: Vec<Vec<f32>> = logits.get(0).unwrap().to_vec2().unwrap();
    for (ours, theirs) in ours.iter().zip(theirs["logits"].as_array().unwrap()) {
        for (ours, theirs) in ours.iter().zip(theirs.as_array().unwrap()) {
            assert!(
                (f64::from(*ours) - theirs.as_f64().unwrap()).abs() < 1e-3,
                "{ours} {theirs}"
            );
        }
    }
}

#[test]
fn transformers_gives_the_same_tokens_and_logits() {
    let Some(python) = python() else {
        println!("skipped: no python3 with torch and transformers (set POSTSCOPE_PYTHON)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let models = common::models(folder.path());
    for directory in models {
        compare(&python, &directory);
    }
}
