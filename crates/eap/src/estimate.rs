//! `--dry-run`: what would be scored, and the memory that takes.

use std::path::Path;

use model::{Config, config::Norms};

use crate::{
    contract::tile_positions,
    expand::Expansion,
    graph::Graph,
    method::{Method, Plan},
    pass::RUNS,
    sets::Set,
};

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Estimate<'a> {
    /// The model.
    pub config: &'a Config,
    /// Bytes of its weight files; 0 when they are not there yet.
    pub stored: usize,
    /// Its graph.
    pub graph: &'a Graph,
    /// How edges are scored.
    pub plan: Plan,
    /// Examples per pass.
    pub batch: usize,
    /// Bytes of a number that is computed with.
    pub width: usize,
    /// Whether weights are kept as integers of one byte.
    pub int8: bool,
}

/// Bytes that are needed together when most are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The weights.
    pub weights: usize,
    /// What passes leave for each other: traces, what the sources wrote, logits.
    pub passes: usize,
    /// Gradients by what the targets read, a tile of both, and the scores.
    pub contraction: usize,
}

impl Memory {
    /// All of it.
    pub fn total(self) -> usize {
        self.weights + self.passes + self.contraction
    }
}

impl Estimate<'_> {
    /// Examples, positions, edges, passes and memory, a line each.
    pub fn text(&self, sets: &[Set], output: &Path) -> String {
        let examples = || sets.iter().flat_map(|set| &set.examples);
        let n = examples().count();
        let longest = examples()
            .map(|example| example.tokens.len())
            .max()
            .unwrap_or(0);
        let positions: usize = examples().map(|example| example.tokens.len()).sum();
        let memory = self.memory(sets);
        let mb = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
        [
            format!(
                "{n} examples, {positions} positions, the longest of {longest}, into {}",
                output.display()
            ),
            format!(
                "{} edges of {} sources and {} targets",
                self.graph.n_edges(),
                self.graph.n_sources(),
                self.graph.n_targets()
            ),
            format!("{} reverse passes per example", self.reverse_passes()),
            format!(
                "memory about {}: weights {}, passes {}, sources and gradients {}",
                mb(memory.total()),
                mb(memory.weights),
                mb(memory.passes),
                mb(memory.contraction)
            ),
        ]
        .join("\n")
    }

    fn reverse_passes(&self) -> usize {
        self.plan
            .groups(self.graph.n_layers)
            .iter()
            .map(Vec::len)
            .sum()
    }

    /// What a batch of the longest examples takes, once the file of the weights is read.
    ///
    /// Two moments compete: the end of the forward passes, when what clean and ablated sources wrote stands beside their
    /// difference, and the end of the last reverse pass, when all gradients stand beside it.
    pub fn memory(&self, sets: &[Set]) -> Memory {
        let examples = || sets.iter().flat_map(|set| &set.examples);
        let longest = examples().map(|example| example.tokens.len()).max();
        let read = examples()
            .map(|example| example.positions_read().len())
            .max();
        let n = sets.iter().map(|set| set.examples.len()).max();
        let n = self.batch.min(n.unwrap_or(1));
        let longest = longest.unwrap_or(0);
        let (tokens, width) = (n * longest, self.width);
        let rows = if self.plan.needs_corrupted() { 2 } else { 1 };
        let differences = tokens * self.written();
        let ends_forward = rows * tokens * (self.written() + self.alive_forward());
        let ends_backward = tokens * (self.read(sets.len()) + self.alive_backward());
        let tile = tile_positions(self.graph, self.config.d_model, width).min(longest.max(1));
        let columns = self.graph.part_columns(0, 0).len() + 2 * self.graph.part_columns(0, 1).len();
        let tile = (self.graph.n_sources() + columns + 1) * tile * self.config.d_model * width;
        let maps = 2 * sets.len() * n * self.graph.n_entries() * 8;
        // Logits, their gradient, and both in double precision while a loss of one position is read.
        let logits = n * read.unwrap_or(1) * self.config.vocab * (2 * width + 24);
        let traces = tokens * self.traced() * self.traces(sets.len());
        Memory {
            weights: self.weights(),
            passes: with_freed((traces + differences) * width + logits),
            contraction: with_freed((ends_forward.max(ends_backward)) * width + tile + maps),
        }
    }

    /// Numbers a token that the sources of a run write.
    fn written(&self) -> usize {
        let (q, d_model) = (
            self.config.n_heads * self.config.d_head,
            self.config.d_model,
        );
        let attention = if self.graph.heads.is_some() {
            q
        } else {
            d_model
        };
        self.config.n_layers * (attention + d_model) + 2 * d_model
    }

    /// Numbers a token that a pass leaves for its reverse.
    fn traced(&self) -> usize {
        let config = self.config;
        let (q, kv) = self.widths();
        let norms = if config.qk_norm { q + kv } else { 0 };
        let after = if config.form.norms == Norms::Before {
            0
        } else {
            2 * config.d_model
        };
        let layer = 2 * config.d_model + 2 * q + 2 * kv + 2 * config.d_mlp + norms + after;
        match self.plan.method {
            Method::Ifr => 2 * 2 * config.d_model * config.n_layers,
            Method::Exact => (3 * config.d_model + q) * config.n_layers,
            _ => layer * config.n_layers + config.d_model,
        }
    }

    /// Traces of the clean sequences that are there together: truncations have their own beside the whole, and the two halves
    /// of one run have theirs.
    fn traces(&self, sets: usize) -> usize {
        let both = self.plan.method == Method::CleanCorrupted && self.plan.needs_corrupted();
        match (both, sets) {
            (true, _) => 4,
            (false, sets) if sets > 1 => 2,
            _ => 1,
        }
    }

    /// Numbers a token that one layer holds together on the way forward.
    fn alive_forward(&self) -> usize {
        let (q, kv) = self.widths();
        3 * self.config.d_mlp + 2 * q + 2 * kv + 7 * self.config.d_model
    }

    /// The same on the way back.
    fn alive_backward(&self) -> usize {
        let (q, kv) = self.widths();
        4 * self.config.d_mlp + 2 * q + 4 * kv + 6 * self.config.d_model
    }

    /// Numbers a token that are kept of the gradients by what the targets read.
    fn read(&self, sets: usize) -> usize {
        let config = self.config;
        let of_layer = match self.graph.heads {
            None => 4 * config.d_model,
            Some(heads) => {
                let own = heads.n_heads + 2 * heads.n_kv_heads;
                let runs = self.reverse_passes().min(RUNS);
                let held = runs.saturating_sub(1) * config.d_model;
                own * (config.d_head + runs) + held + config.d_model
            }
        };
        sets.max(1) * (config.n_layers * of_layer + config.d_model)
    }

    fn widths(&self) -> (usize, usize) {
        let config = self.config;
        (
            config.n_heads * config.d_head,
            config.n_kv_heads * config.d_head,
        )
    }

    /// Bytes of the weights, and of those that heads are expanded with.
    fn weights(&self) -> usize {
        let config = self.config;
        let n = config.numbers(config.n_layers);
        let kept = match (self.int8, self.width, self.stored) {
            (true, _, _) => n,
            (false, 4, stored) if stored > 0 => stored.min(n * 4),
            (false, width, _) => n * width,
        };
        let dense = kept < n * self.width;
        kept + Expansion::bytes(config, self.graph.heads.is_some(), dense, self.width)
    }
}

/// With a tenth more, for blocks that are freed and not given back at once. Found, not derived: without it the cases of
/// `tests/memory.rs` were foretold from 18 % too low (head level) to 3 % too high.
fn with_freed(bytes: usize) -> usize {
    bytes + bytes / 10
}

/// Bytes of the weight files of a model directory.
pub fn stored(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().ends_with(".safetensors")
    });
    files
        .filter_map(|file| file.metadata().ok())
        .map(|found| found.len() as usize)
        .sum()
}
