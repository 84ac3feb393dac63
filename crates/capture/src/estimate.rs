//! `--dry-run`: what a capture reads, writes and needs.

use crate::acts::Args;
use crate::bytes;
use crate::forward::{last, width_of};
use crate::models::Source;
use crate::plan::Plan;
use model::Hook;
use std::path::Path;

/// Rows, then a line per model and hook, then disk and memory.
pub fn text(args: &Args, sources: &[Source], hooks: &[Hook], plan: &Plan) -> String {
    let mut lines = vec![args.describe(plan)];
    let mut disk = 0;
    for source in sources {
        for &hook in hooks {
            let width = width_of(&source.config, hook);
            let size = args.stored(plan, width);
            disk += size;
            let (label, n_rows) = (&source.label, plan.n_rows());
            lines.push(format!(
                "{label}\t{hook}\t[{n_rows}, {width}]\t{}",
                bytes(size)
            ));
        }
    }
    let memory = sources
        .iter()
        .map(|source| memory(args, source, hooks, plan));
    let memory = memory.max().unwrap_or(0);
    lines.push(format!("disk {}", bytes(disk)));
    lines.push(format!("memory about {}", bytes(memory)));
    lines.join("\n")
}

/// One model's weights, the rows of a part, and the widest activations of a batch: models are run one after another.
fn memory(args: &Args, source: &Source, hooks: &[Hook], plan: &Plan) -> u64 {
    let config = &source.config;
    let widths: usize = hooks.iter().map(|&hook| width_of(config, hook)).sum();
    let rows = (args.rows_held(plan) * widths * 4) as u64;
    // Residual stream, its norm, queries, keys and values, and the three activations of the MLP are alive together.
    let per_token = 8 * config.d_model + 3 * config.d_mlp;
    let batch = (args.batch_held(plan) * per_token) as u64 * args.compute_size();
    let blocks = last(hooks).blocks(config.n_layers);
    let share = config.numbers(blocks) as f64 / config.numbers(config.n_layers) as f64;
    (weights(&source.path) as f64 * share) as u64 + rows + batch
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
