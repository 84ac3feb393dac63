//! The store a capture writes, on tiny models.

use crate::common::{Folder, stderr, stdout, tokenizer, write};
use model::{Batch, Hook, Recorder};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use store::tables::Sample;
use store::{ActivationStore, Provenance};

const TEXTS: &str = r#"{"id": "first", "text": "ab 12+34?"}
{"text": "c"}
{"id": 7, "text": "0123456789 abc"}
{"text": "jih #3.\nab"}
"#;

/// Three models, two of them the same, and texts.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.model("base", 0);
    folder.model("twin", 0);
    folder.model("rl", 1);
    std::fs::write(folder.path("texts.jsonl"), TEXTS).unwrap();
    folder
}

fn arguments<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["--model", "base=base", "--model", "rl=rl"];
    all.extend(["--texts", "texts.jsonl", "-o", output]);
    all.extend(more);
    all
}

/// Every file of a store by its relative name.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, directory: &Path, all: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, all);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                all.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, root, &mut all);
    all
}

#[test]
fn rows_are_what_the_model_computes_for_each_text_alone() {
    let folder = folder();
    let model = folder.model("base", 0);
    let hooks = [
        "--hook",
        "resid_post.0.5",
        "--hook",
        "attn_out.2",
        "--dtype",
        "f32",
    ];
    folder.captures(&arguments("acts", &hooks));
    let store = ActivationStore::open(&folder.path("acts")).unwrap();
    assert_eq!(store.labels(), ["base", "rl"]);
    assert_eq!(store.hooks(), ["resid_post.1", "attn_out.2"]);

    let tokens = store.tokens().unwrap();
    assert!(
        tokens
            .iter()
            .all(|t| !t.special && t.phase == "text" && t.role == "text")
    );
    let names: Vec<&str> = tokens.iter().map(|t| t.doc_id.as_str()).collect();
    assert_eq!((names[0], names[9], names[10]), ("first", "1", "7"));
    // Nine characters, one, fourteen, and nine of ten: the newline is an end token.
    assert_eq!(tokens.len(), 9 + 1 + 14 + 9);

    let texts = ["ab 12+34?", "c", "0123456789 abc", "jih #3.\nab"];
    for (index, text) in texts.iter().enumerate() {
        let ids = std::iter::once(1).chain(text.chars().map(id)).collect();
        for hook in ["resid_post.1", "attn_out.2"] {
            let mut recorder = Recorder::new([Hook::parse(hook, 3).unwrap()]);
            let batch = Batch::right_padded(&[Vec::clone(&ids)], 0);
            model.forward(&batch, &mut recorder).unwrap();
            let seen = recorder.activations.pop_first().unwrap().1;
            for token in tokens.iter().filter(|t| t.doc_index as usize == index) {
                assert_eq!(token.token_id, ids[token.pos as usize]);
                let mut row = Vec::new();
                store.read_rows(0, hook, &[token.row], &mut row).unwrap();
                let wanted: Vec<f32> = seen
                    .get(0)
                    .unwrap()
                    .get(token.pos as usize)
                    .unwrap()
                    .to_vec1()
                    .unwrap();
                for (a, b) in row.iter().zip(&wanted) {
                    assert!((a - b).abs() < 1e-5, "{text} {hook} {a} {b}");
                }
            }
        }
    }
}

fn id(character: char) -> u32 {
    2 + crate::common::CHARACTERS
        .chars()
        .position(|c| c == character)
        .unwrap() as u32
}

#[test]
fn weights_and_products_change_the_rows_a_little() {
    let folder = folder();
    let rows = |name: &str, flags: &[&str]| {
        folder.captures(&arguments(name, &[&["--dtype", "f32"], flags].concat()));
        let store = ActivationStore::open(&folder.path(name)).unwrap();
        let mut rows = Vec::new();
        store
            .read(0, "resid_post.1", 0..store.n_rows(), &mut rows)
            .unwrap();
        rows
    };
    let exact = rows("exact", &[]);
    for (name, flags) in [
        ("int8", ["--weights", "int8"]),
        ("bf16", ["--precision", "bf16"]),
    ] {
        let rounded = rows(name, &flags);
        let size: f32 = exact.iter().map(|x| x * x).sum();
        let error: f32 = exact
            .iter()
            .zip(&rounded)
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        assert!(
            error > 0.0 && error < 1e-3 * size,
            "{name}: {error} of {size}"
        );
    }
}

#[test]
fn equal_models_give_equal_rows_and_all_tokens_can_be_kept() {
    let folder = folder();
    let twins = ["--model", "twin=twin", "--keep", "all"];
    folder.captures(&arguments("acts", &twins));
    let store = ActivationStore::open(&folder.path("acts")).unwrap();
    assert_eq!(store.n_rows(), 10 + 2 + 15 + 11);
    assert_eq!(
        store.tokens().unwrap().iter().filter(|t| t.special).count(),
        5
    );
    let read = |label: usize| {
        let mut rows = Vec::new();
        store
            .read(label, "resid_post.1", 0..store.n_rows(), &mut rows)
            .unwrap();
        rows
    };
    assert_eq!(read(0), read(2));
    assert_ne!(read(0), read(1));
}

#[test]
fn any_layout_of_jobs_and_any_interruption_give_the_same_bytes() {
    let folder = folder();
    let small = ["--rows-per-part", "7", "--batch-tokens", "20"];
    folder.captures(&arguments("whole", &small));
    let whole = files(&folder.path("whole"));
    assert_eq!(whole.len(), 2 * 5 + 2);

    for shard in ["2/3", "0/3", "1/3"] {
        let more = [&small[..], &["--shard", shard, "--threads", "1"]].concat();
        let output = folder.captures(&arguments("pieces", &more));
        let complete = folder.path("pieces/manifest.json").exists();
        assert_eq!(complete, shard == "1/3", "{}", stderr(&output));
    }
    assert_eq!(files(&folder.path("pieces")), whole);

    // What a kill leaves: no manifest, a part missing, another of another run.
    let part = |n: usize| {
        folder.path(&format!(
            "pieces/rl/resid_post.1/part-0000{n}-of-00005.safetensors"
        ))
    };
    std::fs::remove_file(folder.path("pieces/manifest.json")).unwrap();
    std::fs::remove_file(part(1)).unwrap();
    std::fs::write(part(3), b"half a part").unwrap();
    folder.captures(&arguments("pieces", &small));
    assert_eq!(files(&folder.path("pieces")), whole);

    let again = folder.captures(&arguments("whole", &small));
    assert!(
        stderr(&again).contains("nothing to do"),
        "{}",
        stderr(&again)
    );
}

#[test]
fn other_settings_replace_a_store() {
    let folder = folder();
    folder.captures(&arguments("acts", &[]));
    folder.captures(&arguments("acts", &["--limit", "1", "--max-tokens", "3"]));
    let store = ActivationStore::open(&folder.path("acts")).unwrap();
    assert_eq!(store.n_rows(), 2);
}

#[test]
fn check_and_info_say_what_is_there() {
    let folder = folder();
    folder.captures(&arguments("acts", &["--rows-per-part", "20"]));
    let output = folder.captures(&["check", "acts"]);
    assert!(stdout(&output).contains("4 parts") && stdout(&output).contains("33 rows"));
    let output = folder.captures(&["info", "acts"]);
    assert!(
        stdout(&output).contains("rl\tresid_post.1\t33\t8\tbf16\t2\t"),
        "{}",
        stdout(&output)
    );

    let part = folder.path("acts/rl/resid_post.1/part-00001-of-00002.safetensors");
    let bytes = std::fs::read(&part).unwrap();
    std::fs::write(&part, &bytes[..bytes.len() - 5]).unwrap();
    folder.refuses(&["check", "acts"], &["part-00001-of-00002"]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = folder();
    let output = folder.captures(&arguments("acts", &["--dry-run"]));
    let text = stdout(&output);
    assert!(
        text.contains("33 rows of 38 tokens in 4 documents"),
        "{text}"
    );
    assert!(
        text.contains("base\tresid_post.1\t[33, 8]\t528 B"),
        "{text}"
    );
    assert!(!folder.path("acts").exists());
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = folder();
    folder.model("other", 2);
    write(&folder.path("other/tokenizer.json"), &tokenizer("\nabc"));
    folder.refuses(
        &arguments("acts", &["--model", "other=other"]),
        &["base", "other", "tokenizers differ"],
    );
    folder.refuses(
        &arguments("acts", &["--hook", "resid_post.9"]),
        &["base", "resid_post.9"],
    );
    folder.refuses(
        &arguments("acts", &["--hook", "0.5,logits"]),
        &["resid_post.1", "logits"],
    );

    std::fs::write(
        folder.path("ids.jsonl"),
        r#"{"id": "x", "input_ids": [1, 5, 900]}"#,
    )
    .unwrap();
    let ids = [
        "--model",
        "base=base",
        "--token-ids",
        "ids.jsonl",
        "-o",
        "acts",
    ];
    folder.refuses(&ids, &["document x", "token 900"]);
    std::fs::write(
        folder.path("texts.jsonl"),
        "{\"text\": \"a\"}\n{\"txt\": 1}\n",
    )
    .unwrap();
    folder.refuses(&arguments("acts", &[]), &["texts.jsonl", "line 2"]);
}

#[test]
fn a_model_that_computes_no_number_is_refused() {
    let folder = folder();
    let mut model = folder.model("rl", 1);
    for (_, weight) in model.parameters_mut().iter_mut().take(1) {
        **weight = (&**weight * f64::NAN).unwrap();
    }
    let weights = model.serialized_weights().unwrap();
    std::fs::write(folder.path("rl/model.safetensors"), weights).unwrap();
    folder.refuses(
        &arguments("acts", &[]),
        &["rl/resid_post.1", "NaN", "row 0"],
    );
    assert!(!folder.path("acts/manifest.json").exists());
}

#[test]
fn token_ids_are_taken_as_they_are() {
    let folder = folder();
    std::fs::write(
        folder.path("ids.jsonl"),
        r#"{"id": "x", "input_ids": [5, 1, 6]}"#,
    )
    .unwrap();
    folder.captures(&[
        "--model",
        "base=base",
        "--token-ids",
        "ids.jsonl",
        "--hook",
        "logits",
        "-o",
        "acts",
    ]);
    let store = ActivationStore::open(&folder.path("acts")).unwrap();
    let tokens = store.tokens().unwrap();
    let ids: Vec<(u32, u32)> = tokens.iter().map(|t| (t.pos, t.token_id)).collect();
    assert_eq!(
        (ids, store.width(0)),
        (vec![(0, 5), (2, 6)], crate::common::config().vocab)
    );
}

/// An answer to document `doc_id` of task `t`.
fn sample(model: &str, doc_id: &str, correct: bool, finished: bool) -> Sample {
    Sample {
        model: model.into(),
        arm: "none".into(),
        task: "t".into(),
        doc_id: doc_id.into(),
        sample: 0,
        prompt: "<bos>ab?".into(),
        completion: "c#1".into(),
        extracted: None,
        target: "1".into(),
        correct,
        n_tokens: if finished { 4 } else { 3 },
        finish_reason: if finished { "stop" } else { "length" }.into(),
        ..Sample::default()
    }
}

/// A folder with the answers of rl to two documents, of which base got only the first right, and how they are captured.
fn with_answers() -> (Folder, Vec<&'static str>) {
    let folder = folder();
    let provenance = Provenance::new("test", &()).unwrap();
    let samples = |name: &str, rows: &[Sample]| {
        store::write_table(&folder.path(name), rows, &provenance).unwrap();
    };
    samples(
        "rl.parquet",
        &[
            sample("rl", "1", true, true),
            sample("rl", "2", true, false),
        ],
    );
    samples(
        "base.parquet",
        &[
            sample("base", "1", true, true),
            sample("base", "2", false, true),
        ],
    );
    let mut arguments = vec!["--model", "base=base", "--model", "rl=rl"];
    arguments.extend(["--samples", "rl.parquet", "--keep", "all", "-o", "acts"]);
    (folder, arguments)
}

#[test]
fn answers_are_prompt_and_completion_with_the_end_token_where_there_was_one() {
    let (folder, arguments) = with_answers();
    folder.captures(&arguments);
    let store = ActivationStore::open(&folder.path("acts")).unwrap();
    let tokens = store.tokens().unwrap();
    let first: Vec<(u32, &str)> = tokens
        .iter()
        .filter(|token| token.doc_id == "t/1/0")
        .map(|token| (token.token_id, token.phase.as_str()))
        .collect();
    let wanted: Vec<(u32, &str)> = std::iter::once((1, "prompt"))
        .chain("ab?".chars().map(|c| (id(c), "prompt")))
        .chain("c#1\n".chars().map(|c| (id(c), "completion")))
        .collect();
    assert_eq!(first, wanted);
    let unfinished = tokens.iter().filter(|token| token.doc_id == "t/2/0");
    assert_eq!(unfinished.count(), 7);
    assert!(tokens.iter().all(|token| token.role == "rl"));
}

#[test]
fn key_samples_can_be_captured_alone() {
    let (folder, arguments) = with_answers();
    let keys = [
        "--where-correct",
        "rl=rl.parquet",
        "--where-wrong",
        "base=base.parquet",
    ];
    let output = folder.captures(&[&arguments[..], &keys].concat());
    assert!(
        stderr(&output).contains("1 of 2 answers pass"),
        "{}",
        stderr(&output)
    );
    let store = ActivationStore::open(&folder.path("acts")).unwrap();
    let tokens = store.tokens().unwrap();
    assert!(tokens.iter().all(|token| token.doc_id == "t/2/0"));
    let none = [&arguments[..], &["--task", "u"]].concat();
    folder.refuses(&none, &["rl.parquet", "none of 2 answers"]);
}
