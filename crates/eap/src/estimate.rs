//! `--dry-run`: what would be scored, and the memory that takes.

use std::path::Path;

use model::Config;

use crate::{
    contract::tile_positions,
    example::Example,
    expand::Expansion,
    graph::Graph,
    method::{Method, Plan},
    sets::Set,
};

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Estimate<'a> {
    /// The model.
    pub config: &'a Config,
    /// Its graph.
    pub graph: &'a Graph,
    /// How edges are scored.
    pub plan: Plan,
    /// Examples per pass.
    pub batch: usize,
    /// Bytes of a number.
    pub width: usize,
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
        let [weights, passes, contraction] = self.memory(longest, examples());
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
                mb(weights + passes + contraction),
                mb(weights),
                mb(passes),
                mb(contraction)
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

    /// Bytes of the weights; of a forward pass with its trace; of what is kept of sources and targets, and a tile.
    fn memory<'b>(
        &self,
        longest: usize,
        examples: impl Iterator<Item = &'b Example>,
    ) -> [usize; 3] {
        let (config, width) = (self.config, self.width);
        let tokens = self.batch * longest;
        let (q, kv) = (
            config.n_heads * config.d_head,
            config.n_kv_heads * config.d_head,
        );
        // Residuals, q, k, v, z, gate and up of every layer, and one layer's intermediate values.
        let per_layer = 2 * config.d_model + 2 * q + 2 * kv + 2 * config.d_mlp;
        let trace = tokens * per_layer * width * config.n_layers;
        let read = examples
            .map(|example| example.positions_read().len())
            .max()
            .unwrap_or(1);
        let logits = 3 * self.batch * read * config.vocab * width;
        let by_head = self.graph.heads.is_some();
        let (written, reads) = if by_head {
            (q + config.d_model, 3 * q + config.d_model)
        } else {
            (2 * config.d_model, 4 * config.d_model)
        };
        // Clean, ablated and their difference while sources are compared.
        let kept = tokens * config.n_layers * (3 * written + reads) * width;
        let tile = tile_positions(self.graph, config.d_model, width).min(longest.max(1));
        let tile = 2 * self.graph.n_sources() * tile * config.d_model * width;
        let maps = self.batch * self.graph.n_entries() * 8;
        let folded = Expansion::bytes(config, by_head, width);
        let traced = if self.plan.method == Method::Ifr {
            0
        } else {
            trace
        };
        [
            weights(config, width),
            traced + logits,
            kept + tile + maps + folded,
        ]
    }
}

/// Bytes of the weights as they are computed with.
fn weights(config: &Config, width: usize) -> usize {
    let (q, kv) = (
        config.n_heads * config.d_head,
        config.n_kv_heads * config.d_head,
    );
    let layer = config.d_model * (2 * q + 2 * kv + 3 * config.d_mlp);
    let embeddings = if config.tied { 1 } else { 2 } * config.vocab * config.d_model;
    (config.n_layers * layer + embeddings) * width
}
