//! The attribution graph: which nodes write to the residual stream, which read it, and which of them are joined.
//!
//! An edge is real when its source is written before its target reads. Sources and targets are in the order of EAP-IG:
//! layer by layer, attention before MLP, all queries before all keys before all values.

use std::{fmt, ops::Range};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use model::Config;
use serde::Serialize;

use crate::node::{Part, Source, Target};

/// How finely attention is split into nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// One attention output and three attention inputs per layer, as in arXiv 2509.21044
    Layer,
    /// Every head's output, query, key and value apart, as in EAP-IG
    Head,
}

/// How key and value targets are counted where query heads share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gqa {
    /// A key and a value target per query head, as in EAP-IG
    Ungrouped,
    /// A key and a value target per key/value head: the sums over the query heads that share it
    Grouped,
}

/// Heads of the graph that splits attention: how many write and read queries, how many read keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads of a layer.
    pub n_heads: usize,
    /// Key and value targets of a layer: the query heads again, or the key/value heads when grouped.
    pub n_kv_heads: usize,
}

/// The graph of a model: every node has an index, every edge a place in a matrix `[n_sources, n_targets]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Graph {
    /// Layers of the model.
    pub n_layers: usize,
    /// Heads when attention is split, none at layer level.
    pub heads: Option<Heads>,
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers", self.n_layers)?;
        match self.heads {
            None => write!(f, ", attention whole"),
            Some(heads) => write!(
                f,
                " of {} heads, {} for keys and values",
                heads.n_heads, heads.n_kv_heads
            ),
        }
    }
}

impl Graph {
    /// The layer graph of arXiv 2509.21044: 2L+1 sources, 4L+1 targets, 4L²+3L+1 edges.
    pub fn layers(n_layers: usize) -> Self {
        Self {
            n_layers,
            heads: None,
        }
    }

    /// The graph of EAP-IG, attention split by head.
    pub fn heads(n_layers: usize, heads: Heads) -> Self {
        Self {
            n_layers,
            heads: Some(heads),
        }
    }

    /// The graph of a model.
    pub fn of(config: &Config, level: Level, gqa: Gqa) -> Self {
        match level {
            Level::Layer => Self::layers(config.n_layers),
            Level::Head => Self::heads(
                config.n_layers,
                Heads {
                    n_heads: config.n_heads,
                    n_kv_heads: match gqa {
                        Gqa::Ungrouped => config.n_heads,
                        Gqa::Grouped => config.n_kv_heads,
                    },
                },
            ),
        }
    }

    /// The smallest graph that holds all these nodes: the graph of a table of edges.
    ///
    /// # Errors
    /// When there is no node, or when some have heads and some have not.
    pub fn holding(sources: &[Source], targets: &[Target]) -> anyhow::Result<Self> {
        let layers = sources.iter().filter_map(|source| source.layer());
        let layers = layers.chain(targets.iter().filter_map(|target| target.layer()));
        let n_layers = layers.max().context("there is no attention or MLP node")? + 1;
        let writers = sources.iter().filter_map(|source| match source {
            Source::Attention { head, .. } => Some(*head),
            _ => None,
        });
        let keys = targets.iter().filter_map(|target| match target {
            Target::Attention {
                head,
                part: Part::Key,
                ..
            } => Some(*head),
            _ => None,
        });
        let (n_heads, n_kv_heads) = (width(writers.collect())?, width(keys.collect())?);
        ensure!(n_heads.is_some() == n_kv_heads.is_some(), MIXED);
        let heads = n_heads.zip(n_kv_heads).map(|(n_heads, n_kv_heads)| Heads {
            n_heads,
            n_kv_heads,
        });
        Ok(Self { n_layers, heads })
    }

    /// Attention nodes of a layer on the source axis and in the query part of the target axis.
    fn query_width(&self) -> usize {
        self.heads.map_or(1, |heads| heads.n_heads)
    }

    /// Attention targets of a layer in each of the key and value parts.
    fn key_width(&self) -> usize {
        self.heads.map_or(1, |heads| heads.n_kv_heads)
    }

    fn sources_per_layer(&self) -> usize {
        self.query_width() + 1
    }

    fn targets_per_layer(&self) -> usize {
        self.query_width() + 2 * self.key_width() + 1
    }

    /// Sources: rows of the matrix. 2L+1 at layer level.
    pub fn n_sources(&self) -> usize {
        1 + self.n_layers * self.sources_per_layer()
    }

    /// Targets: columns of the matrix. 4L+1 at layer level.
    pub fn n_targets(&self) -> usize {
        1 + self.n_layers * self.targets_per_layer()
    }

    /// Entries of the matrix, structural zeros included.
    pub fn n_entries(&self) -> usize {
        self.n_sources() * self.n_targets()
    }

    /// Real edges. 4L²+3L+1 at layer level.
    pub fn n_edges(&self) -> usize {
        (0..self.n_targets())
            .map(|target| self.n_sources_before(target))
            .sum()
    }

    /// The source in row `index`.
    pub fn source(&self, index: usize) -> Source {
        let Some(rest) = index.checked_sub(1) else {
            return Source::Input;
        };
        let (layer, place) = (
            rest / self.sources_per_layer(),
            rest % self.sources_per_layer(),
        );
        if place == self.query_width() {
            return Source::Mlp { layer };
        }
        Source::Attention {
            layer,
            head: self.heads.map(|_| place),
        }
    }

    /// The target in column `index`.
    pub fn target(&self, index: usize) -> Target {
        let (layer, place) = (
            index / self.targets_per_layer(),
            index % self.targets_per_layer(),
        );
        if layer == self.n_layers {
            return Target::Logits;
        }
        let (query, key) = (self.query_width(), self.key_width());
        let (part, head) = match place {
            _ if place < query => (Part::Query, place),
            _ if place < query + key => (Part::Key, place - query),
            _ if place < query + 2 * key => (Part::Value, place - query - key),
            _ => return Target::Mlp { layer },
        };
        Target::Attention {
            layer,
            head: self.heads.map(|_| head),
            part,
        }
    }

    /// Row of a source; none when the graph has no such node.
    pub fn source_index(&self, source: Source) -> Option<usize> {
        let index = match source {
            Source::Input => 0,
            Source::Attention { layer, head } => {
                1 + layer * self.sources_per_layer() + head.unwrap_or(0)
            }
            Source::Mlp { layer } => 1 + layer * self.sources_per_layer() + self.query_width(),
        };
        (index < self.n_sources() && self.source(index) == source).then_some(index)
    }

    /// Column of a target; none when the graph has no such node.
    pub fn target_index(&self, target: Target) -> Option<usize> {
        let (query, key) = (self.query_width(), self.key_width());
        let index = match target {
            Target::Logits => self.n_targets() - 1,
            Target::Mlp { layer } => layer * self.targets_per_layer() + query + 2 * key,
            Target::Attention { layer, head, part } => {
                let before = match part {
                    Part::Query => 0,
                    Part::Key => query,
                    Part::Value => query + key,
                };
                layer * self.targets_per_layer() + before + head.unwrap_or(0)
            }
        };
        (index < self.n_targets() && self.target(index) == target).then_some(index)
    }

    /// Columns of a layer's queries (part 0), keys (1) or values (2).
    pub fn part_columns(&self, layer: usize, part: usize) -> Range<usize> {
        let (query, key) = (self.query_width(), self.key_width());
        let first = layer * self.targets_per_layer();
        match part {
            0 => first..first + query,
            part => first + query + (part - 1) * key..first + query + part * key,
        }
    }

    /// How many sources a target sees: its edges are exactly those from rows `0..n`.
    pub fn n_sources_before(&self, target: usize) -> usize {
        match self.target(target) {
            Target::Attention { layer, .. } => 1 + layer * self.sources_per_layer(),
            Target::Mlp { layer } => 1 + layer * self.sources_per_layer() + self.query_width(),
            Target::Logits => self.n_sources(),
        }
    }

    /// Whether the edge exists: the source is written before the target reads.
    pub fn is_real(&self, source: usize, target: usize) -> bool {
        source < self.n_sources_before(target)
    }

    /// The real edges as (row, column), row by row.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let targets = self.n_targets();
        (0..self.n_entries())
            .map(move |entry| (entry / targets, entry % targets))
            .filter(|&(s, t)| self.is_real(s, t))
    }
}

const MIXED: &str = "nodes of a layer graph and of a head graph are mixed";

/// Largest head + 1 of attention nodes: some when all have heads, none when none has.
fn width(heads: Vec<Option<usize>>) -> anyhow::Result<Option<usize>> {
    let split = heads.iter().filter(|head| head.is_some()).count();
    ensure!(split == 0 || split == heads.len(), MIXED);
    Ok(heads.into_iter().flatten().max().map(|head| head + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_graph_has_the_papers_counts() {
        for n_layers in [1, 3, 28, 30, 32] {
            let graph = Graph::layers(n_layers);
            assert_eq!(graph.n_sources(), 2 * n_layers + 1);
            assert_eq!(graph.n_targets(), 4 * n_layers + 1);
            assert_eq!(
                graph.n_entries(),
                8 * n_layers * n_layers + 6 * n_layers + 1
            );
            assert_eq!(graph.n_edges(), 4 * n_layers * n_layers + 3 * n_layers + 1);
            assert_eq!(graph.edges().count(), graph.n_edges());
        }
    }

    #[test]
    fn the_head_graph_has_the_counts_of_published_models() {
        let count = |n_layers, n_heads| {
            Graph::heads(
                n_layers,
                Heads {
                    n_heads,
                    n_kv_heads: n_heads,
                },
            )
            .n_edges()
        };
        assert_eq!(count(12, 12), 32_491); // gpt2-small
        assert_eq!(count(24, 14), 179_749); // Qwen2.5-0.5B, keys and values by query head
        assert_eq!(count(32, 32), 1_592_881); // Llama-3-8B
    }

    #[test]
    fn indices_and_names_are_inverses() {
        let grouped = Graph::heads(
            3,
            Heads {
                n_heads: 8,
                n_kv_heads: 2,
            },
        );
        for graph in [
            Graph::layers(3),
            grouped,
            Graph::heads(
                2,
                Heads {
                    n_heads: 4,
                    n_kv_heads: 4,
                },
            ),
        ] {
            for index in 0..graph.n_sources() {
                let source = graph.source(index);
                assert_eq!(graph.source_index(source), Some(index));
                assert_eq!(source.to_string().parse::<Source>().unwrap(), source);
            }
            for index in 0..graph.n_targets() {
                let target = graph.target(index);
                assert_eq!(graph.target_index(target), Some(index));
                assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
            }
        }
    }

    #[test]
    fn a_node_of_another_graph_has_no_index() {
        let graph = Graph::layers(2);
        assert_eq!(graph.source_index("a2".parse().unwrap()), None);
        assert_eq!(graph.source_index("a1.h0".parse().unwrap()), None);
        assert_eq!(graph.target_index("m2".parse().unwrap()), None);
        assert_eq!(graph.target_index("a1.h0<k>".parse().unwrap()), None);
    }

    #[test]
    fn attention_does_not_see_its_own_layer_and_the_mlp_sees_its_attention() {
        let graph = Graph::layers(2);
        let real = |source: &str, target: &str| {
            let source = graph.source_index(source.parse().unwrap()).unwrap();
            graph.is_real(source, graph.target_index(target.parse().unwrap()).unwrap())
        };
        assert!(
            real("input", "a0<q>")
                && real("a0", "m0")
                && real("m0", "a1<v>")
                && real("m1", "logits")
        );
        assert!(
            !real("a0", "a0<k>") && !real("m0", "m0") && !real("a1", "m0") && !real("m1", "a1<q>")
        );
    }

    #[test]
    fn a_graph_is_found_again_from_its_nodes() {
        for graph in [
            Graph::layers(4),
            Graph::heads(
                3,
                Heads {
                    n_heads: 8,
                    n_kv_heads: 2,
                },
            ),
        ] {
            let sources: Vec<_> = (0..graph.n_sources())
                .map(|index| graph.source(index))
                .collect();
            let targets: Vec<_> = (0..graph.n_targets())
                .map(|index| graph.target(index))
                .collect();
            assert_eq!(Graph::holding(&sources, &targets).unwrap(), graph);
        }
        let mixed = ["a0".parse().unwrap(), "a0.h1".parse().unwrap()];
        assert!(Graph::holding(&mixed, &[]).is_err());
    }
}
