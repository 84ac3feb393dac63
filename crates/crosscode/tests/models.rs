//! Training without a store, and reconstructions spliced into the models that are explained.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "here the activations come from models")]
mod common;

use common::{crosscode, fail, succeed};
use dict::Crosscoder;
use model::{Batch, Config, DType, Device, Hook, Model, Recorder};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use store::tables::{CrosscoderEval, CrosscoderStep};
use store::{Provenance, TensorData, read_table, write_tensors};

const WORDS: u32 = 40;
const WIDTH: usize = 16;
const HOOK: &str = "resid_post.1";

/// A random model of two blocks, as a Hugging Face directory; 0 is padding, 1 begins a text, a text is words `w2 w3 …`.
fn write_model(at: &Path, name: &str, seed: u64) -> Model {
    let directory = at.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let write =
        |file: &str, value: Value| std::fs::write(directory.join(file), value.to_string()).unwrap();
    let words: Map<String, Value> = (0..WORDS).map(|id| (format!("w{id}"), json!(id))).collect();
    let special = |id: u32| {
        json!({"id": id, "content": format!("w{id}"), "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    write(
        "config.json",
        json!({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": WORDS, "hidden_size": WIDTH,
               "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32,
               "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 32, "tie_word_embeddings": true,
               "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 0}),
    );
    write(
        "tokenizer.json",
        json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [special(0), special(1)],
               "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
               "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}}),
    );
    write(
        "tokenizer_config.json",
        json!({"bos_token": "w1", "eos_token": "w0", "pad_token": "w0"}),
    );
    let model = Model::random(Config::load(&directory).unwrap(), seed, &Device::Cpu).unwrap();
    std::fs::write(
        directory.join("model.safetensors"),
        model.serialized_weights().unwrap(),
    )
    .unwrap();
    model
}

/// Documents of 5 to 20 words after the token that begins a text.
fn documents(n: usize) -> Vec<Vec<u32>> {
    let mut random = common::Random(3);
    let mut word = || 2 + (random.next() * (WORDS - 2) as f32) as u32;
    (0..n)
        .map(|i| {
            std::iter::once(1)
                .chain((0..5 + i % 16).map(|_| word()))
                .collect()
        })
        .collect()
}

/// Two models, and what they read, in a folder.
fn workplace() -> (tempfile::TempDir, [Model; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let models = [write_model(at, "one", 1), write_model(at, "two", 2)];
    let line = |ids: Vec<u32>| json!({"input_ids": ids}).to_string() + "\n";
    std::fs::write(
        at.join("ids.jsonl"),
        documents(120).into_iter().map(line).collect::<String>(),
    )
    .unwrap();
    (directory, models)
}

/// The same activations as one bare file; the first token of every document is left out.
fn write_acts(at: &Path, models: &[Model; 2]) {
    let hook = Hook::parse(HOOK, 2).unwrap();
    let mut values: Vec<f32> = Vec::new();
    for ids in documents(120) {
        let one = |model: &Model| {
            let mut recorder = Recorder::new([hook]);
            model
                .forward_until(
                    &Batch::right_padded(std::slice::from_ref(&ids), 0),
                    hook,
                    &mut recorder,
                )
                .unwrap();
            let found = recorder.activations[&hook].to_dtype(DType::F32).unwrap();
            found.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let [a, b] = [one(&models[0]), one(&models[1])];
        let rows = a.chunks(WIDTH).zip(b.chunks(WIDTH)).skip(1);
        values.extend(rows.flat_map(|(a, b)| [a, b].concat()));
    }
    let shape = vec![values.len() / (2 * WIDTH), 2, WIDTH];
    let tensors = [("acts".to_owned(), TensorData::F32 { shape, values })];
    let about = [("labels", "base,sft"), ("hook", HOOK)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let provenance = Provenance::new("test", &()).unwrap();
    write_tensors(
        &at.join("acts.safetensors"),
        &tensors,
        &BTreeMap::from(about),
        &provenance,
    )
    .unwrap();
}

const LIVE: &str = "-q train --from-models base=one --from-models sft=two --hook resid_post.1 --token-ids ids.jsonl \
                    --features 64 --k 6 --batch 64 --tokens 32k --lr 3e-3 --buffer-rows 600";

#[test]
fn activations_are_computed_as_training_needs_them() {
    let (directory, models) = workplace();
    let at = directory.path();
    succeed(at, &format!("{LIVE} -o live.safetensors"));
    let curve: Vec<CrosscoderStep> = read_table(&[at.join("live.curve.parquet")]).unwrap();
    assert!(
        curve.last().unwrap().loss < 0.6 * curve[0].loss && curve.last().unwrap().tokens == 32_000
    );
    write_acts(at, &models);
    // What the models gave in training is what a store would have held: the dictionary explains it.
    succeed(at, "-q eval live.safetensors acts.safetensors -o e.parquet");
    let rows: Vec<CrosscoderEval> = read_table(&[at.join("e.parquet")]).unwrap();
    assert!(
        rows.iter().all(|row| row.explained_variance > 0.5),
        "{rows:?}"
    );
    let dictionary = Crosscoder::load(&at.join("live.safetensors")).unwrap();
    assert_eq!(
        (dictionary.labels.as_slice(), dictionary.hook.as_str()),
        (&["base".to_owned(), "sft".to_owned()][..], HOOK)
    );
    assert_eq!(dictionary.tokenizer_digest.len(), 64);
    let line = LIVE.replace("--tokens 32k", "--tokens 32k --checkpoint-every 9");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_crosscode"));
    command
        .current_dir(at)
        .args(line.split_whitespace())
        .args(["-o", "again.safetensors"]);
    let mut child = command.spawn().unwrap();
    for _ in 0..4000 {
        if at.join("again.state.safetensors").exists() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    succeed(at, &format!("{line} -o again.safetensors"));
    assert!(
        Crosscoder::load(&at.join("again.safetensors")).unwrap() == dictionary,
        "a killed run goes on where it was"
    );
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one evaluation after the other on the same models"
)]
fn a_perfect_reconstruction_costs_nothing_and_a_poor_one_something() {
    let (directory, models) = workplace();
    let at = directory.path();
    write_acts(at, &models);
    succeed(at, &format!("{LIVE} -o d.safetensors"));
    let splice = "--model base=one --model sft=two --token-ids ids.jsonl --documents 30";
    let text = succeed(
        at,
        &format!("-q eval d.safetensors acts.safetensors {splice} -o e.parquet"),
    );
    assert!(text.contains("cross-entropy"), "{text}");
    let rows: Vec<CrosscoderEval> = read_table(&[at.join("e.parquet")]).unwrap();
    for row in &rows {
        let [clean, spliced, zero] =
            [row.ce_clean_nats, row.ce_spliced_nats, row.ce_zero_nats].map(Option::unwrap);
        assert!(
            clean > 0.0 && spliced.is_finite() && (zero - clean).abs() > 1e-6,
            "{row:?}"
        );
        let recovered = (zero - spliced) / (zero - clean);
        assert!(
            (row.ce_recovered.unwrap() - recovered).abs() < 1e-9,
            "{row:?}"
        );
        let kl = [row.kl_nats_low, row.kl_nats, row.kl_nats_high].map(Option::unwrap);
        assert!(0.0 < kl[0] && kl[0] <= kl[1] && kl[1] <= kl[2], "{row:?}");
    }
    // Features that are the coordinates themselves, up and down, reconstruct exactly.
    let mut exact = Crosscoder::load(&at.join("d.safetensors")).unwrap();
    for model in 0..2 {
        exact.encoder[model] = vec![0.0; WIDTH * 64];
        exact.decoder[model] = vec![0.0; 64 * WIDTH];
        exact.decoder_bias[model] = vec![0.0; WIDTH];
        for place in 0..WIDTH {
            for (sign, feature) in [
                (1.0, 2 * (model * WIDTH + place)),
                (-1.0, 2 * (model * WIDTH + place) + 1),
            ] {
                exact.encoder[model][place * 64 + feature] = sign;
                exact.decoder[model][feature * WIDTH + place] = sign;
            }
        }
    }
    exact.encoder_bias = vec![0.0; 64];
    exact.rule = dict::Rule::L1 { sparsity: 0.0 };
    exact
        .save(
            &at.join("exact.safetensors"),
            &Provenance::new("test", &()).unwrap(),
        )
        .unwrap();
    succeed(
        at,
        &format!("-q eval exact.safetensors acts.safetensors {splice} -o x.parquet"),
    );
    let rows: Vec<CrosscoderEval> = read_table(&[at.join("x.parquet")]).unwrap();
    for row in &rows {
        assert!(
            row.kl_nats.unwrap().abs() < 1e-6 && (row.ce_recovered.unwrap() - 1.0).abs() < 1e-3,
            "{row:?}"
        );
        assert!(row.explained_variance > 0.9999, "{row:?}");
    }
    let (code, message) = fail(
        at,
        "-q eval d.safetensors acts.safetensors --model base=one --token-ids ids.jsonl -o y.parquet",
    );
    assert!(
        code == 2 && message.contains("--model sft=DIR"),
        "{message}"
    );
    let (code, message) = fail(
        at,
        "-q eval d.safetensors acts.safetensors --model base=one --model sft=two -o y.parquet",
    );
    assert!(code == 2 && message.contains("--texts"), "{message}");
}

#[test]
fn models_that_do_not_read_the_same_tokens_are_refused() {
    let (directory, _) = workplace();
    let at = directory.path();
    std::fs::write(
        at.join("two/tokenizer.json"),
        std::fs::read_to_string(at.join("two/tokenizer.json")).unwrap() + " ",
    )
    .unwrap();
    let (code, message) = fail(at, &format!("{LIVE} -o d.safetensors"));
    assert!(
        code == 1 && message.contains("their tokenizers differ"),
        "{message}"
    );
    let output = crosscode(at, "-q train --from-models base=one -o d.safetensors");
    assert_eq!(output.status.code(), Some(2), "there is nothing to read");
}
