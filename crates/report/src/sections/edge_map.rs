//! Maps of the graph by blocks: every attention block and every MLP is a row, a column, or both.

use super::edges::{Name, Scores};
use crate::svg::heat::Heat;
use crate::text;
use std::collections::BTreeSet;

/// A value for every pair of blocks.
pub(super) struct Map {
    sources: Vec<String>,
    targets: Vec<String>,
    cells: Vec<Vec<Option<f64>>>,
}

impl Map {
    /// A cell for every source block and target block of the scored edges.
    pub(super) fn of(scores: &Scores, cell: impl Fn(&str, &str) -> Option<f64>) -> Self {
        let (sources, targets) = (blocks(scores, |edge| edge.0), blocks(scores, |edge| edge.1));
        let row = |source: &String| targets.iter().map(|target| cell(source, target)).collect();
        Self {
            cells: sources.iter().map(row).collect(),
            sources,
            targets,
        }
    }

    /// Largest absolute value.
    pub(super) fn largest(&self) -> f64 {
        self.cells
            .iter()
            .flatten()
            .flatten()
            .map(|value| value.abs())
            .fold(0.0, f64::max)
    }

    /// The drawing: differences around zero when a fullest shade is given, else sizes.
    pub(super) fn draw(&self, title: &str, full: Option<f64>) -> String {
        Heat {
            title: title.to_owned(),
            rows: self.sources.clone(),
            columns: self.targets.clone(),
            cells: self.cells.clone(),
            diverging: full.is_some(),
            full,
            format: if full.is_some() {
                text::signed
            } else {
                text::number
            },
            width: match self.targets.len() {
                0..=10 => 250.0,
                11..=26 => 344.0,
                _ => 520.0,
            },
        }
        .draw()
    }
}

fn blocks(scores: &Scores, of: fn(Name) -> &str) -> Vec<String> {
    let all: BTreeSet<&str> = scores.edges.keys().map(|edge| block(of(*edge))).collect();
    let mut all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    all.sort_by_key(|block| (block != "input", depth(block)));
    all
}

/// A node without its head and its input: `a1.h0<k>` → `a1`.
pub(super) fn block(node: &str) -> &str {
    node.split(['.', '<']).next().unwrap_or(node)
}

/// Where a block stands in the forward pass.
fn depth(block: &str) -> (u32, u32) {
    let layer = |text: &str| text.parse().unwrap_or(u32::MAX - 1);
    match block.split_at_checked(1) {
        Some(("a", layer_text)) => (layer(layer_text), 0),
        Some(("m", layer_text)) => (layer(layer_text), 1),
        _ if block == "logits" => (u32::MAX, 0),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_belong_to_blocks_in_the_order_of_the_forward_pass() {
        assert_eq!(
            [
                block("a1.h0<k>"),
                block("m3"),
                block("a10<q>"),
                block("logits")
            ],
            ["a1", "m3", "a10", "logits"]
        );
        let mut blocks = ["logits", "m0", "a10", "a2", "a0"];
        blocks.sort_by_key(|block| depth(block));
        assert_eq!(blocks, ["a0", "m0", "a2", "a10", "logits"]);
    }
}
