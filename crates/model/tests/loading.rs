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
        // transformers refuses a rope scaling that leaves out one of its keys.
        let given = self::config(name)["rope_scaling"].as_object().cloned();
        for key in given
            .unwrap_or_default()
            .keys()
            .filter(|key| !key.contains("type"))
        {
            let written = &model.config.to_json(None, None)["rope_scaling"][key];
            assert!(!written.is_null(), "{name}: `{key}` is not written");
        }
        assert_eq!(
            worst(&logits(&again, name), &logits(&model, name)),
            0.0,
            "{name}"
        );
        let names = |path: &Path| {
            let stored = safetensors::load(path.join("model.safetensors"), &Device::Cpu).unwrap();
            let mut shapes: Vec<_> = stored
                .into_iter()
                .map(|(n, t)| (n, t.dims().to_vec()))
                .collect();
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
    let shard = |weight: &str| {
        if weight.contains("layers.1") {
            "b.safetensors"
        } else {
            "a.safetensors"
        }
    };
    for file in ["a.safetensors", "b.safetensors"] {
        let part: HashMap<String, Tensor> = weights
            .clone()
            .into_iter()
            .filter(|(weight, _)| shard(weight) == file)
            .collect();
        safetensors::save(&part, folder.path().join(file)).unwrap();
    }
    let map: HashMap<&String, &str> = weights
        .keys()
        .map(|weight| (weight, shard(weight)))
        .collect();
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(
        &index,
        json!({"metadata": {}, "weight_map": map}).to_string(),
    )
    .unwrap();
    let whole = logits(&load(name, DType::F32), name);
    assert_eq!(
        worst(&logits(&load_from(folder.path()).unwrap(), name), &whole),
        0.0
    );

    let problem = |what: &str| refused(folder.path(), what);
    let bytes = fs::read(folder.path().join("b.safetensors")).unwrap();
    fs::write(
        folder.path().join("b.safetensors"),
        &bytes[..bytes.len() - 8],
    )
    .unwrap();
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
    assert!(
        error.contains(what) && !error.contains('\n'),
        "`{error}` does not say `{what}`"
    );
}

#[test]
fn weights_of_every_floating_dtype_are_computed_in_the_one_asked_for() {
    let name = "qwen2";
    for stored in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let cast = |weight: &Tensor, dtype| weight.to_dtype(dtype).unwrap();
        let weights = tensors(name, "model.safetensors").into_iter();
        let rounded: HashMap<_, _> = weights.map(|(key, w)| (key, cast(&w, stored))).collect();
        let exact = rounded
            .iter()
            .map(|(key, w)| (key.clone(), cast(w, DType::F64)));
        let exact = folder(&config(name), &exact.collect());
        let exact = Model::load(exact.path(), &Device::Cpu, DType::F64).unwrap();
        let exact = logits(&exact, name);
        let folder = folder(&config(name), &rounded);
        // Logits reach 3.4; computed in bf16, transformers itself is 0.1 away.
        for (dtype, within) in [(DType::F64, 1e-12), (DType::F32, 1e-5), (DType::BF16, 0.3)] {
            let model = Model::load(folder.path(), &Device::Cpu, dtype).unwrap();
            assert_eq!(model.dtype(), dtype);
            let error = worst(&logits(&model, name), &exact);
            assert!(error < within, "{stored:?} in {dtype:?}: {error}");
        }
    }
}

#[test]
fn the_text_half_of_a_model_that_sees_is_found_by_its_prefix() {
    let name = "gemma3";
    let whole = logits(&load(name, DType::F32), name);
    let mut text = config(name);
    for inherited in [
        "architectures",
        "hidden_activation",
        "rope_local_base_freq",
        "tie_word_embeddings",
    ] {
        text.as_object_mut().unwrap().remove(inherited);
    }
    let outer =
        json!({"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 8}});
    for prefix in ["language_model.model.", "model.language_model."] {
        let renamed = |(key, weight): (String, Tensor)| (key.replacen("model.", prefix, 1), weight);
        let weights = tensors(name, "model.safetensors")
            .into_iter()
            .map(renamed)
            .collect();
        let model = load_from(folder(&outer, &weights).path()).unwrap();
        assert_eq!(worst(&logits(&model, name), &whole), 0.0, "{prefix}");
    }
}

/// The least that a `config.json` says, with more keys.
fn least(model_type: &str, more: &Value) -> Value {
    let mut keys = json!({
        "model_type": model_type, "vocab_size": 8, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 7,
        "num_attention_heads": 8, "num_key_value_heads": 4,
    });
    keys.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    keys
}

/// A configuration from these keys.
fn read(keys: &Value) -> model::Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), keys.to_string()).unwrap();
    Config::load(folder.path())
}

/// Blocks with a window.
fn windowed(model_type: &str, more: &Value) -> Vec<usize> {
    let config = read(&least(model_type, more)).unwrap();
    let windows = config.windows.iter().enumerate();
    windows
        .filter_map(|(layer, window)| window.map(|_| layer))
        .collect()
}

#[test]
fn windows_follow_each_architectures_own_rule() {
    let (none, all): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..7).collect());
    let nothing = json!({});
    assert_eq!(windowed("llama", &json!({"sliding_window": 4})), none);
    assert_eq!(windowed("mistral", &nothing), all);
    assert_eq!(windowed("mistral", &json!({"sliding_window": null})), none);
    assert_eq!(windowed("phi3", &nothing), none);
    assert_eq!(windowed("phi3", &json!({"sliding_window": 4})), all);
    assert_eq!(windowed("qwen2", &nothing), none);
    assert_eq!(windowed("qwen2", &json!({"sliding_window": 4})), none);
    assert_eq!(
        windowed("qwen3", &json!({"use_sliding_window": true})),
        none
    );
    let late = json!({"use_sliding_window": true, "max_window_layers": 5});
    assert_eq!(windowed("qwen2", &late), [5, 6]);
    let kinds = ["full_attention", "sliding_attention"].repeat(4);
    let listed = json!({"use_sliding_window": true, "layer_types": &kinds[..7]});
    assert_eq!(windowed("qwen3", &listed), [1, 3, 5]);
    assert_eq!(windowed("gemma2", &nothing), [0, 2, 4, 6]);
    assert_eq!(windowed("gemma3_text", &nothing), [0, 1, 2, 3, 4, 6]);
    assert_eq!(
        windowed("gemma3_text", &json!({"sliding_window_pattern": 2})),
        [0, 2, 4, 6]
    );
    assert_eq!(windowed("olmo2", &nothing), none);
    assert_eq!(windowed("olmo3", &nothing), [0, 1, 2, 4, 5, 6]);
}

#[test]
fn keys_that_are_left_out_have_the_values_of_transformers() {
    let config = |model_type| read(&least(model_type, &json!({}))).unwrap();
    assert_eq!((config("qwen3").d_head, config("llama").d_head), (128, 2));
    let gemma =
        read(&json!({"model_type": "gemma3", "text_config": {"hidden_size": 2560}})).unwrap();
    assert_eq!(
        (gemma.vocab, gemma.n_heads, gemma.n_kv_heads, gemma.d_head),
        (262_208, 8, 4, 256)
    );
    assert!(gemma.tied && gemma.rope_theta == 1e6 && gemma.windows[0] == Some(4096));
    assert_eq!(gemma.form.local_rope_theta, Some(1e4));
    assert_eq!(config("gemma2").form.attention_softcap, Some(50.0));
    assert_eq!(config("gemma2").form.logit_softcap, Some(30.0));
    assert_eq!(
        (config("olmo2").rms_norm_eps, config("llama").rms_norm_eps),
        (1e-5, 1e-6)
    );
}

#[test]
fn rope_keys_of_every_dialect_mean_the_same() {
    let scaled = |more: Value| read(&least("llama", &more)).unwrap();
    let plain =
        scaled(json!({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}));
    for other in [
        json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}}),
        json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4.0}}),
        json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4.0}}),
    ] {
        assert_eq!(scaled(other), plain);
    }
    for none in [
        json!(null),
        json!({"rope_type": "default"}),
        json!({"type": "default"}),
    ] {
        assert_eq!(scaled(json!({"rope_scaling": none})).rope_scaling, None);
    }
    let gemma = json!({"rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 2e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 3e4},
    }});
    let gemma = read(&least("gemma3_text", &gemma)).unwrap();
    assert_eq!(
        (gemma.rope_theta, gemma.form.local_rope_theta),
        (2e6, Some(3e4))
    );
    assert_eq!(gemma.rope_scaling.unwrap().factor, 8.0);
    let factors = |n: usize| json!({"rope_scaling": {"type": "su", "short_factor": vec![1.0; n], "long_factor": vec![2.0; n]}});
    let phi = read(&least("phi3", &factors(1))).unwrap();
    assert_eq!(phi.rope_scaling.unwrap().rope_type, "longrope");
    let error = read(&least("phi3", &factors(3))).unwrap_err().to_string();
    assert!(
        error.contains("`short_factor` of the rope scaling has 3 numbers for 1 pairs"),
        "{error}"
    );
}

#[test]
fn a_configuration_that_cannot_be_computed_is_refused_by_name() {
    let refused = |model_type: &str, more: Value, what: &str| {
        let error = read(&least(model_type, &more)).unwrap_err().to_string();
        assert!(
            error.contains(what) && !error.contains('\n'),
            "`{error}` does not say `{what}`"
        );
        assert!(error.contains("config.json"), "{error}");
    };
    refused(
        "mamba",
        json!({}),
        "unknown architecture `mamba` (known: qwen2, qwen3, llama,",
    );
    refused(
        "llama",
        json!({"hidden_act": "relu2"}),
        "unknown activation `relu2`",
    );
    refused(
        "llama",
        json!({"num_key_value_heads": 3}),
        "8 query heads do not divide into 3 key heads",
    );
    refused(
        "llama",
        json!({"head_dim": 3}),
        "cannot be rotated in pairs",
    );
    refused("llama", json!({"vocab_size": 0}), "a size is 0");
    refused(
        "llama",
        json!({"rope_scaling": {"rope_type": "mrope"}}),
        "unknown rope scaling `mrope`",
    );
    refused(
        "llama",
        json!({"rope_scaling": {"rope_type": "llama3"}}),
        "original_max_position_embeddings",
    );
    refused(
        "llama",
        json!({"quantization_config": {"quant_method": "gptq"}}),
        "quantized weights (`gptq`)",
    );
    refused(
        "gemma3_text",
        json!({"use_bidirectional_attention": true}),
        "use_bidirectional_attention",
    );
    refused(
        "gemma2",
        json!({"layer_types": ["full_attention"]}),
        "`layer_types` names 1 blocks of 7",
    );
    refused("qwen2", json!({"hidden_size": "16"}), "invalid type");
    refused(
        "mistral",
        json!({"sliding_window": 0}),
        "a sliding window of 0 positions",
    );
}

#[test]
fn weights_that_cannot_be_read_are_named() {
    let name = "qwen2";
    let folder = tempfile::tempdir().unwrap();
    let problem = |what: &str| refused(folder.path(), what);
    problem("config.json");
    fs::write(folder.path().join("config.json"), "{\"model_type\"").unwrap();
    problem("config.json");
    fs::write(folder.path().join("config.json"), config(name).to_string()).unwrap();
    problem("neither model.safetensors nor");
    fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
    problem("pytorch_model.bin is: save the model again");
    let weights = fs::read(directory(name).join("model.safetensors")).unwrap();
    let path = folder.path().join("model.safetensors");
    for length in [0, 4, 100, weights.len() / 2, weights.len() - 1] {
        fs::write(&path, &weights[..length]).unwrap();
        problem("model.safetensors: not a whole safetensors file");
    }
    let change = |key: &str, tensor: Option<Tensor>| {
        let mut weights = tensors(name, "model.safetensors");
        weights.remove(key);
        weights.extend(tensor.map(|tensor| (key.to_owned(), tensor)));
        safetensors::save(&weights, &path).unwrap();
    };
    change("model.layers.1.mlp.up_proj.weight", None);
    problem("tensor `model.layers.1.mlp.up_proj.weight` is missing");
    change(
        "model.norm.weight",
        Some(Tensor::zeros(7, DType::F32, &Device::Cpu).unwrap()),
    );
    problem("tensor `model.norm.weight` is [7], not [48] as config.json says");
    change(
        "model.norm.weight",
        Some(Tensor::zeros(48, DType::U8, &Device::Cpu).unwrap()),
    );
    problem("tensor `model.norm.weight` is stored as U8");
}
