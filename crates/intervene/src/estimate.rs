//! `--dry-run`: which arms would be run, and what that takes.

use crate::arms::Arm;
use crate::settings::Args;
use crate::target::Target;
use model::Config;
use std::path::Path;
use tasks::Question;

/// Answers, memory, then a line per arm.
pub fn text(
    args: &Args,
    target: &Target,
    arms: &[Arm],
    questions: &[Question],
) -> anyhow::Result<String> {
    let head = format!(
        "{} answers to {} questions, at most {} tokens each, into {}",
        arms.len() * questions.len(),
        questions.len(),
        args.max_new_tokens,
        args.output.display()
    );
    let memory = format!(
        "memory about {:.1} MB",
        memory(args, target, questions)? / 1e6
    );
    let line = |arm: &Arm| format!("{}\t{} features", arm.name, arm.edit.features.len());
    let lines = [head, memory].into_iter().chain(arms.iter().map(line));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// Bytes of the weights and of the keys and values of a batch, the companions' included.
fn memory(args: &Args, target: &Target, questions: &[Question]) -> anyhow::Result<f64> {
    let longest = questions.iter().map(|question| question.prompt_ids.len());
    let positions = longest.max().unwrap_or(0) + args.max_new_tokens;
    let rows = args.batch.min(questions.len());
    let size = if args.dtype == "f32" { 4 } else { 2 };
    let mut bytes = 0;
    for model in std::iter::once(&target.model).chain(&target.companions) {
        let config = Config::load(&model.path)?;
        let row = 2 * config.n_layers * config.n_kv_heads * config.d_head * size;
        bytes += weights(&model.path) + (rows * positions * row) as u64;
    }
    Ok(bytes as f64)
}

/// Bytes of the weight files of a model directory.
fn weights(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().ends_with(".safetensors")
    });
    files
        .filter_map(|file| file.metadata().ok())
        .map(|found| found.len())
        .sum()
}
