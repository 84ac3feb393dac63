//! Logits, residuals and greedy continuations of `transformers` on small random models of every architecture.

#![expect(clippy::float_cmp, reason = "the same arithmetic gives the same bits")]
#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

use candle_core::{DType, Device, Tensor, safetensors};
use model::{Batch, Hook, Model, Recorder, Sampling};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const ARCHITECTURES: [&str; 4] = ["qwen2", "qwen3", "llama3", "mistral-window"];
const PADDING: usize = 5;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn load(name: &str, dtype: DType) -> (Model, HashMap<String, Tensor>) {
    let expected =
        safetensors::load(directory(name).join("expected.safetensors"), &Device::Cpu).unwrap();
    (
        Model::load(&directory(name), &Device::Cpu, dtype).unwrap(),
        expected,
    )
}

fn rows(expected: &Tensor) -> Vec<Vec<u32>> {
    let rows: Vec<Vec<i64>> = expected.to_dtype(DType::I64).unwrap().to_vec2().unwrap();
    rows.into_iter()
        .map(|row| row.into_iter().map(|id| id as u32).collect())
        .collect()
}

fn worst(ours: &Tensor, wanted: &Tensor) -> f64 {
    let difference =
        (ours.to_dtype(DType::F64).unwrap() - wanted.to_dtype(DType::F64).unwrap()).unwrap();
    difference
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar()
        .unwrap()
}

/// Both forms of every operator: `kernels` in f32, plain candle in f64.
fn check(name: &str, dtype: DType, padded: bool) {
    let (model, expected) = load(name, dtype);
    let ids = rows(&expected["input_ids"]);
    let batch = if padded {
        Batch::left_padded(&[ids[0].clone(), ids[1][PADDING..].to_vec()], 0)
    } else {
        Batch::right_padded(&ids, 0)
    };
    let layers: Vec<usize> = (0..model.config.n_layers).collect();
    let mut recorder = Recorder::new(
        layers
            .iter()
            .map(|l| Hook::parse(&format!("resid_post.{l}"), 3).unwrap()),
    );
    let logits = model.forward(&batch, &mut recorder).unwrap();
    let real = |x: &Tensor| x.get(1).unwrap().narrow(0, PADDING, 14 - PADDING).unwrap();
    let pairs = |wanted: &str, padded_wanted: &str, ours: &Tensor| {
        if padded {
            let ours = real(ours);
            let wanted = expected[padded_wanted].reshape(ours.dims()).unwrap();
            worst(&ours, &wanted)
        } else {
            worst(ours, &expected[wanted])
        }
    };
    let error = pairs("logits", "padded_logits_row1", &logits);
    assert!(error < 1e-4, "{name} {dtype:?} logits differ by {error}");
    for (hook, ours) in &recorder.activations {
        let error = pairs(
            &hook.to_string(),
            &format!("padded_resid_post_row1.{}", hook.layer),
            ours,
        );
        assert!(error < 1e-4, "{name} {dtype:?} {hook} differs by {error}");
    }
}

#[test]
fn logits_and_residuals_are_those_of_transformers() {
    for name in ARCHITECTURES {
        check(name, DType::F32, false);
        check(name, DType::F64, false);
    }
}

#[test]
fn left_padding_changes_nothing_for_the_real_tokens() {
    for name in ARCHITECTURES {
        check(name, DType::F32, true);
        check(name, DType::F64, true);
    }
}

#[test]
fn greedy_generation_continues_as_transformers_does() {
    for name in ARCHITECTURES {
        let (model, expected) = load(name, DType::F32);
        let ids = rows(&expected["input_ids"]);
        let greedy: Vec<i64> = expected["greedy"]
            .to_dtype(DType::I64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        // A shorter row beside it, so that padding and the cache are at work together.
        let prompts = [ids[0].clone(), ids[1][PADDING..].to_vec()];
        let out = model
            .generate(&prompts, &[0, 1], &Sampling::greedy(12), &[], &mut ())
            .unwrap();
        let wanted: Vec<u32> = greedy[greedy.len() - 12..]
            .iter()
            .map(|id| *id as u32)
            .collect();
        assert_eq!(out[0].tokens, wanted, "{name}");
        let alone = model
            .generate(&prompts[1..], &[1], &Sampling::greedy(12), &[], &mut ())
            .unwrap();
        assert_eq!(
            out[1].tokens, alone[0].tokens,
            "{name}: a row depends on its neighbour"
        );
        let whole = [[prompts[0].clone(), wanted].concat()];
        let again = model.logprobs(&whole, 0, &mut ()).unwrap();
        for (step, logprob) in out[0].logprobs.iter().enumerate() {
            assert!(
                (logprob - again[0][prompts[0].len() - 1 + step]).abs() < 1e-4,
                "{name}: the cache changes step {step}"
            );
        }
    }
}

#[test]
fn a_tap_that_records_changes_nothing_and_one_that_replaces_does() {
    struct Doubler;
    impl model::Tap for Doubler {
        fn wants(&self, hook: Hook) -> bool {
            hook.to_string() == "resid_post.0"
        }
        fn tap(&mut self, _: Hook, activation: Tensor) -> model::Result<Tensor> {
            Ok((activation * 2.0)?)
        }
    }
    let (model, expected) = load("qwen2", DType::F32);
    let batch = Batch::right_padded(&rows(&expected["input_ids"]), 0);
    let plain = model.forward(&batch, &mut ()).unwrap();
    let all = [
        "embed",
        "resid_pre.1",
        "z.1",
        "attn_out.1",
        "resid_mid.1",
        "mlp_out.1",
        "resid_post.1",
        "logits",
    ];
    let mut recorder = Recorder::new(all.map(|name| Hook::parse(name, 3).unwrap()));
    assert_eq!(
        worst(&model.forward(&batch, &mut recorder).unwrap(), &plain),
        0.0
    );
    assert_eq!(recorder.activations.len(), all.len());
    assert!(worst(&model.forward(&batch, &mut Doubler).unwrap(), &plain) > 0.1);
}

#[test]
fn stored_weights_load_again_to_the_same_logits() {
    let (model, expected) = load("qwen3", DType::F32);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("model.safetensors"),
        model.serialized_weights().unwrap(),
    )
    .unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        model.config.to_json(None, None).to_string(),
    )
    .unwrap();
    let again = Model::load(folder.path(), &Device::Cpu, DType::F32).unwrap();
    assert_eq!(again.config, model.config);
    let batch = Batch::right_padded(&rows(&expected["input_ids"]), 0);
    assert_eq!(
        worst(
            &again.forward(&batch, &mut ()).unwrap(),
            &model.forward(&batch, &mut ()).unwrap()
        ),
        0.0
    );
}

#[test]
fn what_cannot_be_loaded_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |what: &str| {
        let error = Model::load(folder.path(), &Device::Cpu, DType::F32)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(what) && !error.contains('\n'),
            "`{error}` does not say `{what}`"
        );
    };
    problem("config.json");
    let config = std::fs::read_to_string(directory("qwen2").join("config.json")).unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        config.replace("\"qwen2\"", "\"mamba\""),
    )
    .unwrap();
    problem("unknown architecture `mamba`");
    std::fs::write(folder.path().join("config.json"), &config).unwrap();
    problem("neither model.safetensors");
    let weights = std::fs::read(directory("qwen2").join("model.safetensors")).unwrap();
    std::fs::write(
        folder.path().join("model.safetensors"),
        &weights[..weights.len() / 2],
    )
    .unwrap();
    problem("not a whole safetensors file");
    std::fs::write(folder.path().join("model.safetensors"), &weights).unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        config.replace("112", "113"),
    )
    .unwrap();
    problem("mlp.gate_proj.weight");
}
