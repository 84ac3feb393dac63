//! What every training method promises: checkpoints, metrics, and the same bytes whatever interrupts it.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

mod common;

use common::{GRPO, PRETRAIN, SFT, models, posttrain, succeed, suite};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use store::tables::TrainingStep;

/// Every file below a directory with its bytes.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() {
            let below = contents(&path).into_iter();
            all.extend(below.map(|(below, bytes)| (Path::new(name).join(below), bytes)));
        } else {
            all.insert(name.into(), fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn a_run_leaves_a_model_its_checkpoints_and_its_metrics() {
    let folder = tempfile::tempdir().unwrap();
    for directory in models(folder.path()) {
        for part in ["", "checkpoint-1", "checkpoint-5"] {
            for file in [
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "generation_config.json",
            ] {
                assert!(
                    directory.join(part).join(file).is_file(),
                    "{} {part} {file}",
                    directory.display()
                );
            }
        }
        assert!(
            !directory.join("state.safetensors").exists(),
            "the state of a finished run stays"
        );
        let weights =
            |part: &str| fs::read(directory.join(part).join("model.safetensors")).unwrap();
        assert!(
            weights("checkpoint-5") == weights(""),
            "the last checkpoint is the model"
        );
        // Ten steps of pretraining answer nothing right, so reinforcement has nothing to go on.
        let moves = !directory.ends_with("grpo");
        assert_eq!(weights("checkpoint-1") != weights(""), moves);
        let metrics: Vec<TrainingStep> =
            store::read_table(&[directory.join("metrics.parquet")]).unwrap();
        assert!(
            metrics.len() >= 5
                && metrics
                    .iter()
                    .all(|step| step.loss.is_finite() && step.gradient_norm >= 0.0)
        );
    }
}

#[test]
fn training_lowers_the_loss() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    let metrics: Vec<TrainingStep> =
        store::read_table(&[folder.path().join("base/metrics.parquet")]).unwrap();
    assert!(
        metrics[9].loss < metrics[0].loss - 0.2,
        "{} → {}",
        metrics[0].loss,
        metrics[9].loss
    );
}

#[test]
fn a_finished_run_does_nothing_again_and_another_seed_gives_another_model() {
    let folder = tempfile::tempdir().unwrap();
    suite(folder.path());
    succeed(folder.path(), PRETRAIN);
    let first = contents(&folder.path().join("base"));
    succeed(folder.path(), PRETRAIN);
    assert!(contents(&folder.path().join("base")) == first);
    succeed(
        folder.path(),
        &PRETRAIN.replace("-o base", "--seed 1 -o other"),
    );
    let other = contents(&folder.path().join("other"));
    assert!(other[Path::new("model.safetensors")] != first[Path::new("model.safetensors")]);
}

#[test]
fn killed_and_run_again_every_method_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    for (line, name) in [(PRETRAIN, "base"), (SFT, "sft"), (GRPO, "grpo")] {
        let again = line.replace(&format!("-o {name}"), "-o again");
        for wait in [60, 120, 250] {
            let mut child = Command::new(env!("CARGO_BIN_EXE_posttrain"))
                .args(again.split_whitespace())
                .current_dir(folder.path())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(wait));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        succeed(folder.path(), &again);
        let wanted = contents(&folder.path().join(name));
        let got = contents(&folder.path().join("again"));
        // A kill in the middle of a write may leave its temporary file, which starts with a dot.
        let left = |name: &&PathBuf| {
            !wanted.contains_key(*name)
                && !name.file_name().unwrap().to_string_lossy().starts_with('.')
        };
        let names: Vec<_> = got.keys().filter(left).collect();
        assert!(names.is_empty(), "{name}: left behind: {names:?}");
        for (file, bytes) in wanted {
            assert!(got[&file] == bytes, "{name}: {} differs", file.display());
        }
        fs::remove_dir_all(folder.path().join("again")).unwrap();
    }
}

#[test]
fn the_state_of_other_settings_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    suite(folder.path());
    // A run that is told to stop after its first step leaves its state.
    let child = Command::new(env!("CARGO_BIN_EXE_posttrain"))
        .args(
            PRETRAIN
                .replace("--steps 10", "--steps 5000")
                .split_whitespace(),
        )
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(3));
    assert!(folder.path().join("base/state.safetensors").exists());
    let refused = posttrain(folder.path(), PRETRAIN);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("other settings"));
}
