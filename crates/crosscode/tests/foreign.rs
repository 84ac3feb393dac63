//! Dictionaries and activations of other programs, through the program itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{crosscode, fail, succeed, workplace};
use std::fs;
use std::path::{Path, PathBuf};
use store::{ActivationStore, TensorFile};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// A dictionary trained on two models, in the directory it is in.
fn trained() -> tempfile::TempDir {
    let (directory, _) = workplace(256);
    let line =
        "-q train acts.safetensors -o d.safetensors --features 16 --k 3 --batch 32 --tokens 1600";
    succeed(directory.path(), line);
    directory
}

/// What the program says on stderr.
fn said(directory: &Path, line: &str) -> String {
    let output = crosscode(directory, line);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{line}: {text}");
    text
}

#[test]
fn a_dictionary_goes_out_and_comes_back_with_the_same_codes() {
    let directory = trained();
    let directory = directory.path();
    succeed(
        directory,
        "encode d.safetensors acts.safetensors -o before.parquet",
    );
    for format in [
        "crosscoder-learning",
        "opd",
        "sae-lens",
        "crosscode",
        "ckkissane",
        "dictionary-learning",
    ] {
        succeed(
            directory,
            &format!("export --to {format} d.safetensors -o {format}"),
        );
        let line =
            format!("import {format} --labels base,sft --hook resid_post.1 -o back.safetensors");
        let text = said(directory, &line);
        assert!(
            text.contains(&format!("{format} is a dictionary of {format}")),
            "{text}"
        );
        succeed(
            directory,
            "encode back.safetensors acts.safetensors -o after.parquet",
        );
        let read = |name: &str| {
            store::read_features(&directory.join(name))
                .unwrap()
                .remove(0)
        };
        let (before, after) = (read("before.parquet"), read("after.parquet"));
        assert_eq!(
            (&before.row, &before.feature),
            (&after.row, &after.feature),
            "{format}"
        );
        assert!(!before.feature.is_empty());
    }
}

#[test]
fn what_stays_unknown_is_said() {
    let directory = trained();
    let directory = directory.path();
    succeed(
        directory,
        "export --to crosscoder-learning d.safetensors -o theirs",
    );
    let text = said(
        directory,
        "import --from crosscoder-learning theirs -o back.safetensors",
    );
    assert!(
        text.contains("called m0, m1: name them with --labels"),
        "{text}"
    );
    assert!(
        text.contains("--hook") && text.contains("--tokenizer"),
        "{text}"
    );
    fs::write(directory.join("tokenizer.json"), "{}").unwrap();
    let line = "import theirs --labels a,b --hook resid_post.1 --tokenizer tokenizer.json -o named.safetensors";
    assert_eq!(said(directory, line).lines().count(), 1);
    let dictionary = dict::Crosscoder::load(&directory.join("named.safetensors")).unwrap();
    assert_eq!(dictionary.labels, ["a", "b"]);
    assert_eq!(dictionary.tokenizer_digest.len(), 64);
}

#[test]
fn a_file_that_would_run_something_is_1_and_said_in_one_line() {
    let directory = trained();
    let directory = directory.path();
    fs::create_dir(directory.join("bad")).unwrap();
    let runs = golden("../../../dict/tests/golden/torch/runs.pt");
    fs::copy(runs, directory.join("bad/model.pt")).unwrap();
    let (code, message) = fail(directory, "import bad -o back.safetensors");
    assert_eq!(code, 1);
    assert!(
        message.starts_with("crosscode: cannot read bad/model.pt: its pickle names `posix.system`"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1);
    assert!(!directory.join("it-ran").exists() && !directory.join("back.safetensors").exists());
}

#[test]
fn a_format_that_cannot_hold_a_dictionary_is_1_and_says_why() {
    let directory = trained();
    let (code, message) = fail(
        directory.path(),
        "export --to sparsify d.safetensors -o out",
    );
    let wanted = "crosscode: cannot write out: the rule is batch-topk, the format knows topk";
    assert_eq!((code, message.as_str()), (1, wanted));
}

/// The cache the golden script wrote with the program's own code, copied where it can be changed.
fn cache() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for model in ["base", "rl"] {
        let to = directory.path().join("cache").join(model);
        fs::create_dir_all(to.join("layer_3_out")).unwrap();
        for folder in [".", "layer_3_out"] {
            for entry in fs::read_dir(golden("cache").join(model).join(folder)).unwrap() {
                let entry = entry.unwrap();
                if entry.path().is_file() {
                    fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
                }
            }
        }
    }
    directory
}

const IMPORT: &str = "import --activations base=cache/base/layer_3_out --activations rl=cache/rl/layer_3_out --hook resid_post.3 -o acts";

#[test]
fn a_cache_becomes_a_store_without_a_copy() {
    let directory = cache();
    let directory = directory.path();
    // Links are looked for from where a program runs: this test does not run there, so they are absolute.
    let absolute = IMPORT.replace("=cache", &format!("={}/cache", directory.display()));
    succeed(directory, &format!("{absolute} --special 0,5"));
    let names: Vec<String> = fs::read_dir(directory.join("acts"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let store = ActivationStore::open(&directory.join("acts")).unwrap();
    assert_eq!(
        (store.labels(), store.hooks()),
        (
            &["base".to_owned(), "rl".to_owned()][..],
            &["resid_post.3".to_owned()][..]
        )
    );
    for (model, label) in ["base", "rl"].into_iter().enumerate() {
        let expected = TensorFile::open(
            &directory
                .join("cache")
                .join(label)
                .join("expected.safetensors"),
        )
        .unwrap();
        let mut rows = Vec::new();
        store.read(model, "resid_post.3", 0..50, &mut rows).unwrap();
        assert_eq!(rows, expected.f32("x").unwrap(), "{label}");
    }
    let tokens = store.tokens().unwrap();
    assert_eq!(tokens.len(), 50);
    let place = |row: usize| {
        (
            tokens[row].doc_index,
            tokens[row].pos,
            tokens[row].token_id,
            tokens[row].special,
        )
    };
    assert_eq!(
        [place(0), place(12), place(13), place(49)],
        [
            (0, 0, 0, true),
            (1, 0, 12, false),
            (2, 0, 13, false),
            (3, 9, 15, false)
        ]
    );
    // Models of unlike width, six special tokens left out.
    let line = "train acts -o d.safetensors --features 16 --k 3 --batch 8 --tokens 80";
    let text = said(directory, line);
    assert!(
        text.contains("44 of 50 rows") && text.contains("6 special"),
        "{text}"
    );
    succeed(directory, "encode d.safetensors acts -o f.parquet");
    // One folder alone is a store of one model.
    succeed(
        directory,
        "-q train cache/base/layer_3_out -o one.safetensors --features 16 --k 3 --batch 8 --tokens 80",
    );
}

#[test]
fn caches_that_are_not_of_the_same_tokens_are_refused() {
    let directory = cache();
    let directory = directory.path();
    let config = directory.join("cache/rl/layer_3_out/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("\"shuffle_shards\": false", "\"shuffle_shards\": true"),
    )
    .unwrap();
    let (code, message) = fail(directory, IMPORT);
    assert!(
        code == 1 && message.contains("cannot use cache/rl/layer_3_out: its rows were shuffled"),
        "{message}"
    );
    fs::write(&config, text).unwrap();
    let tokens = directory.join("cache/rl/tokens.pt");
    fs::copy(directory.join("cache/rl/sequence_ranges.pt"), &tokens).unwrap();
    let (code, message) = fail(directory, IMPORT);
    assert!(
        code == 1 && message.contains("5 tokens for 50 rows"),
        "{message}"
    );
    fs::remove_file(&tokens).unwrap();
    fs::remove_file(directory.join("cache/base/tokens.pt")).unwrap();
    let text = said(directory, IMPORT);
    assert!(
        text.contains("does not say which tokens its rows are"),
        "{text}"
    );
    let (code, _) = fail(
        directory,
        "import --activations base=cache/base/layer_3_out -o acts",
    );
    assert_eq!(code, 2);
}
