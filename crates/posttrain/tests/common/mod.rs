//! A suite and models of the smallest size, made by the program itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the program.
pub(crate) fn posttrain(folder: &Path, line: &str) -> Output {
    let words = line.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_posttrain"))
        .args(words)
        .arg("-q")
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Runs the program, which must succeed.
pub(crate) fn succeed(folder: &Path, line: &str) {
    let output = posttrain(folder, line);
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes a suite.
pub(crate) fn suite(folder: &Path) {
    succeed(
        folder,
        "tasks --documents 300 --train 40 --tune 4 --test 4 -o tasks",
    );
}

/// The settings of every training command here: seconds, and ten steps.
pub(crate) const PRETRAIN: &str =
    "pretrain --corpus tasks/corpus.jsonl --size tiny --steps 10 --batch 4 -o base";
pub(crate) const SFT: &str =
    "sft --model base --tasks tasks/arith.train.jsonl --steps 10 --batch 4 --prompts 20 -o sft";
pub(crate) const GRPO: &str = "grpo --model base --tasks tasks/arith.train.jsonl --steps 5 --batch 2 --rollouts 4 --max-new-tokens 12 --prompts 20 -o grpo";

/// A base model, one after SFT and one after GRPO.
pub(crate) fn models(folder: &Path) -> Vec<PathBuf> {
    suite(folder);
    for line in [PRETRAIN, SFT, GRPO] {
        succeed(folder, line);
    }
    ["base", "sft", "grpo"]
        .map(|name| folder.join(name))
        .to_vec()
}
