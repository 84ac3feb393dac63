//! Against candle-transformers' own models, where it has them, on the same weights.
//!
//! Its masks see one position more than a window says, and Gemma-2's has a window in every block; so windows are set wide
//! here, for both. Where a configuration is none that it computes (rope scaling, biases, partial rotation), it is left out.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

mod common;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{gemma2, gemma3, llama, mistral, olmo2, phi3, qwen2, qwen3};
use common::{directory, rows, tensors, worst};
use model::{Batch, Model};
use serde_json::{Value, json};
use std::fs;

/// Logits of the last position, `[vocab]`.
type Theirs = fn(Value, VarBuilder, &Tensor) -> Result<Tensor>;

fn read<T: serde::de::DeserializeOwned>(config: Value) -> T {
    serde_json::from_value(config).unwrap()
}

const MODELS: [(&str, Theirs); 8] = [
    ("qwen2", |config, weights, ids| {
        qwen2::ModelForCausalLM::new(&read(config), weights)?.forward(ids, 0)
    }),
    ("qwen3", |config, weights, ids| {
        qwen3::ModelForCausalLM::new(&read(config), weights)?.forward(ids, 0)
    }),
    ("llama3", |config, weights, ids| {
        let config = read::<llama::LlamaConfig>(config).into_config(false);
        let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu)?;
        llama::Llama::load(weights, &config)?.forward(ids, 0, &mut cache)
    }),
    ("mistral-window", |config, weights, ids| {
        mistral::Model::new(&read(config), weights)?.forward(ids, 0)
    }),
    ("gemma2", |config, weights, ids| {
        gemma2::Model::new(false, &read(config), weights)?.forward(ids, 0)
    }),
    ("gemma3", |config, weights, ids| {
        // One token at a time: its cache takes no more of several key heads.
        let mut model = gemma3::Model::new(false, &read(config), weights)?;
        let step = |at| model.forward(&ids.narrow(1, at, 1)?, at);
        (0..ids.dim(1)?).map(step).last().unwrap()
    }),
    ("phi3", |config, weights, ids| {
        phi3::Model::new(&read(config), weights)?.forward(ids, 0)
    }),
    ("olmo2", |config, weights, ids| {
        olmo2::Model::new(&read(config), weights)?.forward(ids, 0)
    }),
];

/// The golden configuration with wide windows, and without what candle does not compute.
fn config(name: &str) -> Value {
    let bytes = fs::read(directory(name).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&bytes).unwrap();
    config["sliding_window"] = json!(1024);
    if name == "qwen2" || name == "qwen3" {
        config["use_sliding_window"] = json!(false);
        config["max_window_layers"] = json!(0);
    }
    if name.starts_with("gemma") {
        // candle divides the scores by √d_head whatever the configuration says.
        config["query_pre_attn_scalar"] = config["head_dim"].clone();
    }
    if name == "gemma3" {
        config["sliding_window_pattern"] = json!(3);
        config["rope_scaling"] = Value::Null;
    }
    config
}

#[test]
fn logits_are_those_of_candles_own_models() {
    println!("| model | max abs Δlogit from candle-transformers |");
    println!("|---|---|");
    for (name, theirs) in MODELS {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), config(name).to_string()).unwrap();
        let weights = directory(name).join("model.safetensors");
        fs::copy(&weights, folder.path().join("model.safetensors")).unwrap();
        let model = Model::load(folder.path(), &Device::Cpu, DType::F32).unwrap();
        let ids = rows(&tensors(name, "expected.safetensors"))[0].clone();
        let batch = Batch::right_padded(std::slice::from_ref(&ids), 0);
        let ours = model.forward(&batch, &mut ()).unwrap();
        let ours = ours.get(0).unwrap().get(ids.len() - 1).unwrap();

        let input = Tensor::new(ids.as_slice(), &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let bytes = fs::read(&weights).unwrap();
        let weights =
            VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap();
        let theirs = theirs(config(name), weights, &input).unwrap();
        let error = worst(&ours, &theirs.flatten_all().unwrap());
        println!("| {name} | {error:.1e} |");
        assert!(error < 1e-4, "{name} differs by {error}");
    }
}
