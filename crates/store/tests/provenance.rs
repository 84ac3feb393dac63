//! Where a file came from: the same for the same inputs, different for any other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{directory, line, provenance};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use store::{Input, Provenance, TensorData, write_table, write_tensors};

#[test]
fn a_digest_is_that_of_every_other_program() {
    let dir = directory();
    let path = dir.path().join("a.txt");
    fs::write(&path, "abc").unwrap();
    let input = Input::of(&path).unwrap();
    assert_eq!(input.bytes, 3);
    assert_eq!(
        input.sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(input.path, path.to_str().unwrap());
    assert_eq!(input.provenance_id, None);
}

#[test]
fn json_and_back_is_the_same_provenance_and_name() {
    let first = provenance().input(Path::new(file!()).file_name().unwrap().as_ref());
    assert!(first.is_err(), "tests run in the directory of the crate");
    let whole = provenance()
        .input(Path::new("tests/provenance.rs"))
        .unwrap();
    let back = Provenance::from_json(&whole.to_json()).unwrap();
    assert_eq!(back, whole);
    assert_eq!(back.id(), whole.id());
    assert_eq!(whole.id().len(), 16);
    assert_ne!(whole.clone().seed(8).id(), whole.id());
    assert!(Provenance::from_json("{}").is_err());
}

#[test]
fn an_input_of_ours_is_known_by_its_own_provenance() {
    let dir = directory();
    let [table, tensors, json] =
        ["a.parquet", "a.safetensors", "a.json"].map(|name| dir.path().join(name));
    write_table::<store::tables::Edge>(&table, &[], &provenance()).unwrap();
    let metadata = BTreeMap::from([("rule".to_owned(), "l1".to_owned())]);
    let one = (
        "w".to_owned(),
        TensorData::I64 {
            shape: vec![1],
            values: vec![1],
        },
    );
    write_tensors(&tensors, &[one], &metadata, &provenance()).unwrap();
    fs::write(
        &json,
        format!("{{\"provenance\": {}}}", provenance().to_json()),
    )
    .unwrap();
    for path in [table, tensors, json] {
        assert_eq!(
            Input::of(&path).unwrap().provenance_id,
            Some(provenance().id()),
            "{path:?}"
        );
    }
}

fn model(dir: &Path) {
    for (name, text) in [
        ("config.json", "{}"),
        ("model-00001-of-00002.safetensors", "a"),
        ("model-00002-of-00002.safetensors", "b"),
        ("tokenizer.json", "{}"),
        ("README.md", "a model"),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
}

#[test]
fn a_model_directory_is_what_decides_its_output() {
    let dir = directory();
    model(dir.path());
    let before = Input::of(dir.path()).unwrap();
    assert_eq!(before.bytes, 6);
    fs::write(dir.path().join("README.md"), "the same model").unwrap();
    assert_eq!(Input::of(dir.path()).unwrap(), before);
    for name in [
        "config.json",
        "model-00002-of-00002.safetensors",
        "tokenizer.json",
    ] {
        model(dir.path());
        fs::write(dir.path().join(name), "changed").unwrap();
        assert_ne!(
            Input::of(dir.path()).unwrap().sha256,
            before.sha256,
            "{name}"
        );
    }
}

#[test]
fn inputs_are_given_as_users_write_them() {
    let dir = directory();
    for name in ["b.jsonl", "a.jsonl", "c.txt"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let all = provenance()
        .inputs(&[dir.path().join("c.txt"), dir.path().join("*.jsonl")])
        .unwrap();
    let names: Vec<PathBuf> = all
        .inputs
        .iter()
        .map(|input| input.path.clone().into())
        .collect();
    assert_eq!(
        names,
        ["c.txt", "a.jsonl", "b.jsonl"].map(|name| dir.path().join(name))
    );
    let missing = dir.path().join("missing");
    line(
        provenance().inputs(std::slice::from_ref(&missing)),
        &missing,
    );
    let empty = directory();
    assert!(line(Input::of(empty.path()), empty.path()).contains("no file"));
}
