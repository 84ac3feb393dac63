//! Hugging Face directories in every form they come in, and what is said of those that cannot be read.

#![expect(clippy::float_cmp, reason = "the same arithmetic gives the same bits")]
#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

mod common;

use candle_core::{DType, Device, Tensor, safetensors};
use common::{ARCHITECTURES, directory, load, rows, tensors, worst};
use model::{Batch, Config, Model};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn logits(model: &Model, name: &str) -> Tensor {
    let batch = Batch::right_padded(&rows(&tensors(name, "expected.safetensors")), 0);
    model.forward(&batch, &mut ()).unwrap()
}

fn config(name: &str) -> Value {
    serde_json::from_slice(&fs::read(directory(name).join("config.json")).unwrap()).unwrap()
}

/// A directory with this configuration and these weights.
fn folder(config: &Value, weights: &HashMap<String, Tensor>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    safetensors::save(weights, folder.path().join("model.safetensors")).unwrap();
    folder
}

fn load_from(folder: &Path) -> model::Result<Model> {
    Model::load(folder, &Device::Cpu, DType::F32)
}

#[test]
fn what_is_written_loads_again_to_the_same_model() {
    for name in ARCHITECTURES {
        let model = load(name, DType::F32);
        let folder = tempfile::tempdir().unwrap();
        let bytes = model.serialized_weights().unwrap();
        fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
        let config = model.config.to_json(None, None).to_string();
        fs::write(folder.path().join("config.json"), config).unwrap();
        let again = load_from(folder.path()).unwrap();
        assert_eq!(again.config, model.config, "{name}");
        assert_eq!(worst(&logits(&again, name), &logits(&model, name)), 0.0, "{name}");
        let names = |path: &Path| {
            let stored = safetensors::load(path.join("model.safetensors"), &Device::Cpu).unwrap();
            let mut shapes: Vec<_> = stored.into_iter().map(|(n, t)| (n, t.dims().to_vec())).collect();
            shapes.sort();
            shapes
        };
        assert_eq!(names(folder.path()), names(&directory(name)), "{name}");
    }
}

#[test]
fn shards_are_found_through_their_index() {
    let name = "gemma2";
    let weights = tensors(name, "model.safetensors");
    let folder = folder(&config(name), &weights);
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let shard = |weight: &str| if weight.contains("layers.1") { "b.safetensors" } else { "a.safetensors" };
    for file in ["a.safetensors", "b.safetensors"] {
        let part: HashMap<String, Tensor> =
            weights.clone().into_iter().filter(|(weight, _)| shard(weight) == file).collect();
        safetensors::save(&part, folder.path().join(file)).unwrap();
    }
    let map: HashMap<&String, &str> = weights.keys().map(|weight| (weight, shard(weight))).collect();
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    let whole = logits(&load(name, DType::F32), name);
    assert_eq!(worst(&logits(&load_from(folder.path()).unwrap(), name), &whole), 0.0);

    let problem = |what: &str| refused(folder.path(), what);
    let bytes = fs::read(folder.path().join("b.safetensors")).unwrap();
    fs::write(folder.path().join("b.safetensors"), &bytes[..bytes.len() - 8]).unwrap();
    problem("b.safetensors: not a whole safetensors file");
    fs::remove_file(folder.path().join("b.safetensors")).unwrap();
    problem("b.safetensors");
    fs::write(&index, "{\"weight_map\": {").unwrap();
    problem("model.safetensors.index.json");
    fs::write(&index, "{}").unwrap();
    problem("weight_map");
    fs::write(&index, "{\"weight_map\": {}}").unwrap();
    problem("names no file");
}

/// Loading fails with one line that says this.
fn refused(folder: &Path, what: &str) {
    let error = load_from(folder).unwrap_err().to_string();
    assert!(error.contains(what) && !error.contains('\n'), "`{error}` does not say `{what}`");
}

#[test]
fn weights_of_every_floating_dtype_are_computed_in_the_one_asked_for() {
    let name = "qwen2";
    let whole = logits(&load(name, DType::F64), name);
    for (stored, within) in [(DType::F64, 1e-6), (DType::F16, 0.01), (DType::BF16, 0.05)] {
        let cast = |(key, weight): (String, Tensor)| (key, weight.to_dtype(stored).unwrap());
        let weights = tensors(name, "model.safetensors").into_iter().map(cast).collect();
        let folder = folder(&config(name), &weights);
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let model = Model::load(folder.path(), &Device::Cpu, dtype).unwrap();
            assert_eq!(model.dtype(), dtype);
            let error = worst(&logits(&model, name), &whole);
            let within = if dtype == DType::BF16 { 0.1 } else { within };
            assert!(error < within, "{stored:?} in {dtype:?}: {error}");
        }
    }
}

#[test]
fn the_text_half_of_a_model_that_sees_is_found_by_its_prefix() {
    let name = "gemma3";
    let whole = logits(&load(name, DType::F32), name);
    let mut text = config(name);
    for inherited in ["architectures", "hidden_activation", "rope_local_base_freq", "tie_word_embeddings"] {
        text.as_object_mut().unwrap().remove(inherited);
    }
    let outer = json!({"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 8}});
    for prefix in ["language_model.model.", "model.language_model."] {
        let renamed = |(key, weight): (String, Tensor)| (key.replacen("model.", prefix, 1), weight);
        let weights = tensors(name, "model.safetensors").into_iter().map(renamed).collect();
        let model = load_from(folder(&outer, &weights).path()).unwrap();
        assert_eq!(worst(&logits(&model, name), &whole), 0.0, "{prefix}");
    }
}

#[test]
fn keys_that_are_left_out_have_the_values_of_transformers() {
    let least = |model_type: &str| {
        let keys = json!({
            "model_type": model_type, "vocab_size": 8, "hidden_size": 16, "intermediate_size": 8,
            "num_hidden_layers": 7, "num_attention_heads": 4, "max_position_embeddings": 32,
        });
        read(&keys).unwrap()
    };
    let windows = |config: &Config| config.windows.iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(least("mistral").windows, [Some(4096); 7]);
    assert_eq!(least("mistral").n_kv_heads, 8.min(4), "replaced below");
}

/// A configuration from these keys.
fn read(keys: &Value) -> model::Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), keys.to_string()).unwrap();
    Config::load(folder.path())
}
