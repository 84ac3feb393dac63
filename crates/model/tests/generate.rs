//! Generation: the same text in any batch, and where it stops.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

use model::{
    DType, Device, Finish, Generated, Loading, Model, Precision, Sampling, Stops, Storage,
    Tokenizer,
};
use std::path::{Path, PathBuf};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn load(name: &str, storage: Storage, precision: Precision) -> Model {
    let loading = Loading {
        dtype: DType::F32,
        storage,
        precision,
    };
    Model::load_with(&directory(name), &Device::Cpu, loading).unwrap()
}

/// Unequal lengths, so that there is padding of several widths.
fn prompts() -> Vec<Vec<u32>> {
    let token = |row: u32, i: u32| (row * 17 + i * i * 5 + 3) % 60;
    [3, 41, 1, 18, 9]
        .iter()
        .zip(0..)
        .map(|(&n, row)| (0..n).map(|i| token(row, i)).collect())
        .collect()
}

fn sampling() -> Sampling {
    Sampling {
        temperature: 0.9,
        top_p: 0.95,
        top_k: 30,
        seed: 7,
        ..Sampling::greedy(24)
    }
}

fn written(model: &Model, rows: &[usize]) -> Vec<Generated> {
    let prompts = prompts();
    let chosen: Vec<Vec<u32>> = rows.iter().map(|&row| prompts[row].clone()).collect();
    let streams: Vec<u64> = rows.iter().map(|&row| 100 + row as u64).collect();
    model
        .generate(&chosen, &streams, &sampling(), &[5], &mut ())
        .unwrap()
}

#[test]
fn a_document_has_the_same_text_and_bits_in_any_batch() {
    let settings = [
        ("qwen2", Storage::Computed, Precision::F32),
        ("qwen3", Storage::Stored, Precision::Bf16x3),
        ("mistral-window", Storage::Bf16, Precision::F32),
        ("gemma2", Storage::Bf16, Precision::Bf16),
        ("llama3", Storage::Int8, Precision::F32),
        ("phi3", Storage::Int8, Precision::Bf16),
    ];
    for (name, storage, precision) in settings {
        let model = load(name, storage, precision);
        let together = written(&model, &[0, 1, 2, 3, 4]);
        let shards = [written(&model, &[3, 0]), written(&model, &[4, 1, 2])].concat();
        for (row, other) in [3, 0, 4, 1, 2].into_iter().zip(shards) {
            assert_eq!(
                together[row], other,
                "{name} {storage:?} {precision:?}, document {row}"
            );
        }
    }
}

#[test]
fn threads_do_not_change_the_text() {
    let model = load("qwen3", Storage::Computed, Precision::F32);
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    };
    let by = |threads| pool(threads).install(|| written(&model, &[0, 1, 2, 3, 4]));
    assert_eq!(by(1), by(5));
}

#[test]
fn rounded_weights_move_the_logits_a_little() {
    let batch = model::Batch::right_padded(&prompts()[1..2], 0);
    let logits = |storage, precision| -> Vec<f32> {
        let model = load("llama3", storage, precision);
        let logits = model.forward(&batch, &mut ()).unwrap();
        logits.flatten_all().unwrap().to_vec1().unwrap()
    };
    let exact = logits(Storage::Computed, Precision::F32);
    let size = exact.iter().fold(0f32, |a, b| a.max(b.abs()));
    let distance = |storage, precision| {
        let ours = logits(storage, precision);
        ours.iter()
            .zip(&exact)
            .fold(0f32, |worst, (a, b)| worst.max((a - b).abs()))
            / size
    };
    assert!(
        distance(Storage::Stored, Precision::F32) < 1e-6,
        "the file holds f32"
    );
    assert!(distance(Storage::Computed, Precision::Bf16x3) < 1e-4);
    for (storage, precision, limit) in [
        (Storage::Bf16, Precision::F32, 0.02),
        (Storage::Computed, Precision::Bf16, 0.02),
        (Storage::Int8, Precision::F32, 0.04),
    ] {
        let distance = distance(storage, precision);
        assert!(
            distance > 1e-5 && distance < limit,
            "{storage:?} {precision:?}: {distance}"
        );
    }
}

#[test]
fn weights_take_the_bytes_their_storage_says() {
    let bytes = |storage| load("llama3", storage, Precision::F32).matrix_bytes() as f64;
    let whole = bytes(Storage::Computed);
    assert!((bytes(Storage::Bf16) / whole - 0.5).abs() < 1e-9);
    let share = bytes(Storage::Int8) / whole;
    assert!(share > 0.25 && share < 0.5, "{share}");
}

/// A character for every token of the golden models.
fn characters(folder: &Path) -> Tokenizer {
    let character = |id: u32| char::from_u32(0x4e00 + id).unwrap().to_string();
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0..200).map(|id| (character(id), id.into())).collect();
    let description = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null,
        "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": character(0)},
    });
    std::fs::write(folder.join("tokenizer.json"), description.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), "{}").unwrap();
    Tokenizer::load(folder).unwrap()
}

#[test]
fn a_text_to_stop_at_ends_the_row_with_the_token_that_completes_it() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = characters(folder.path());
    let model = load("qwen2", Storage::Computed, Precision::F32);
    let prompts = &prompts()[..2];
    let run = |texts: &[String]| {
        let stops = Stops {
            ids: &[],
            texts: Some((&tokenizer, texts)),
        };
        model
            .generate_until(prompts, &[0, 1], &sampling(), stops, &mut ())
            .unwrap()
    };
    let free = run(&[]);
    assert!(
        free.iter()
            .all(|row| row.finish == Finish::Length && row.tokens.len() == 24)
    );
    let text = tokenizer.decode(&free[0].tokens[9..12]).unwrap();
    assert_eq!(text.chars().count(), 3);
    let stopped = run(&["zzzzzz".into(), text.clone()]);
    let whole = tokenizer.decode(&stopped[0].tokens).unwrap();
    assert_eq!(stopped[0].finish, Finish::Stop);
    assert!(whole.ends_with(&text) && stopped[0].tokens.len() <= 12);
    assert_eq!(stopped[0].tokens, free[0].tokens[..stopped[0].tokens.len()]);
    assert_eq!(
        format!(
            "{}{text}",
            model::generate::cut(&whole, std::slice::from_ref(&text))
        ),
        whole
    );
}

#[test]
fn a_text_is_cut_at_the_first_stop() {
    let stops = ["\n\n".to_owned(), "Q:".to_owned(), String::new()];
    assert_eq!(model::generate::cut("4\nQ: 5\n\n", &stops), "4\n");
    assert_eq!(model::generate::cut("no end", &stops), "no end");
}
