//! Circuits: the edges that are kept, chosen by their scores.

use std::{cmp::Ordering, collections::BinaryHeap, ops::Range};

use clap::ValueEnum;
use serde::Serialize;

use crate::{
    graph::Graph,
    node::{Part, Target},
};

/// How the edges of a circuit are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// The largest scores anywhere
    TopN,
    /// From the logits backwards, always the largest score among the edges into nodes that are in already
    Greedy,
}

/// What makes a score large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ranking {
    /// Its magnitude: edges that matter, either way
    Absolute,
    /// Its sign and magnitude: edges that help
    Signed,
}

impl Ranking {
    /// What an edge is ranked by.
    pub fn of(self, score: f64) -> f64 {
        match self {
            Self::Absolute => score.abs(),
            Self::Signed => score,
        }
    }
}

/// How a circuit is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// How its edges are found.
    pub selection: Selection,
    /// What they are ranked by.
    pub ranking: Ranking,
    /// Whether nodes without an edge in or out are taken away again.
    pub prune: bool,
}

/// The circuit of `n` edges for scores `[n_sources, n_targets]`: which entries are kept.
pub fn select(graph: &Graph, scores: &[f64], n: usize, choice: Choice) -> Vec<bool> {
    let mut kept = match choice.selection {
        Selection::TopN => top(graph, scores, n, choice.ranking),
        Selection::Greedy => greedy(graph, scores, n, choice.ranking),
    };
    if choice.prune {
        prune(graph, &mut kept);
    }
    kept
}

/// An edge in a queue: larger ranks first, then rows and columns in order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ranked {
    rank: f64,
    entry: usize,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_rank = self.rank.total_cmp(&other.rank);
        by_rank.then(other.entry.cmp(&self.entry))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn ranked(graph: &Graph, scores: &[f64], ranking: Ranking, edge: (usize, usize)) -> Ranked {
    let entry = edge.0 * graph.n_targets() + edge.1;
    Ranked {
        rank: ranking.of(scores[entry]),
        entry,
    }
}

fn top(graph: &Graph, scores: &[f64], n: usize, ranking: Ranking) -> Vec<bool> {
    let mut edges: Vec<Ranked> = graph
        .edges()
        .map(|edge| ranked(graph, scores, ranking, edge))
        .collect();
    edges.sort_by(|a, b| b.cmp(a));
    let mut kept = vec![false; graph.n_entries()];
    edges
        .iter()
        .take(n)
        .for_each(|edge| kept[edge.entry] = true);
    kept
}

fn greedy(graph: &Graph, scores: &[f64], n: usize, ranking: Ranking) -> Vec<bool> {
    let mut kept = vec![false; graph.n_entries()];
    let mut open = vec![false; graph.n_targets()];
    let mut queue = BinaryHeap::new();
    let mut reach = |columns: Vec<usize>, queue: &mut BinaryHeap<Ranked>| {
        for column in columns {
            if !std::mem::replace(&mut open[column], true) {
                let sources = 0..graph.n_sources_before(column);
                queue
                    .extend(sources.map(|source| ranked(graph, scores, ranking, (source, column))));
            }
        }
    };
    reach(vec![graph.n_targets() - 1], &mut queue);
    for _ in 0..n {
        let Some(Ranked { entry, .. }) = queue.pop() else {
            break;
        };
        kept[entry] = true;
        reach(inputs_of(graph, entry / graph.n_targets()), &mut queue);
    }
    kept
}

/// Columns through which a source's node reads.
fn inputs_of(graph: &Graph, source: usize) -> Vec<usize> {
    (0..graph.n_targets())
        .filter(|&column| outputs_of(graph, column).contains(&source))
        .collect()
}

/// Rows that a column's node writes; none for the logits.
fn outputs_of(graph: &Graph, column: usize) -> Range<usize> {
    let row = |source| graph.source_index(source).map_or(0..0, |row| row..row + 1);
    match graph.target(column) {
        Target::Logits => 0..0,
        Target::Mlp { layer } => row(crate::node::Source::Mlp { layer }),
        Target::Attention {
            layer, head: None, ..
        } => row(crate::node::Source::Attention { layer, head: None }),
        Target::Attention {
            layer,
            head: Some(head),
            part,
        } => {
            let shared = match graph.heads {
                Some(heads) if part != Part::Query => heads.n_heads / heads.n_kv_heads,
                _ => 1,
            };
            let first = crate::node::Source::Attention {
                layer,
                head: Some(head * shared),
            };
            graph
                .source_index(first)
                .map_or(0..0, |row| row..row + shared)
        }
    }
}

/// Takes away nodes that nothing reaches or that reach nothing, with their edges, until none is left.
pub fn prune(graph: &Graph, kept: &mut [bool]) {
    let n_targets = graph.n_targets();
    let outputs: Vec<Range<usize>> = (0..n_targets)
        .map(|column| outputs_of(graph, column))
        .collect();
    loop {
        let mut reached = vec![false; graph.n_sources()];
        let mut reaching = vec![false; graph.n_sources()];
        reached[0] = true;
        for (source, column) in graph.edges().filter(|(s, t)| kept[s * n_targets + t]) {
            reaching[source] = true;
            reached[outputs[column].clone()].fill(true);
        }
        let alive = |source: usize| reached[source] && reaching[source];
        let mut changed = false;
        for (source, column) in graph.edges() {
            let entry = source * n_targets + column;
            let into = column == n_targets - 1 || outputs[column].clone().any(alive);
            if kept[entry] && !(alive(source) && into) {
                kept[entry] = false;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// Sources that have an edge in a circuit; the embedding counts when it has one.
pub fn nodes(graph: &Graph, kept: &[bool]) -> Vec<bool> {
    let mut nodes = vec![false; graph.n_sources()];
    for (source, column) in graph.edges() {
        nodes[source] |= kept[source * graph.n_targets() + column];
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Heads;

    fn entry(graph: &Graph, name: &str) -> usize {
        let (source, target) = name.split_once("->").unwrap();
        let source = graph.source_index(source.parse().unwrap()).unwrap();
        source * graph.n_targets() + graph.target_index(target.parse().unwrap()).unwrap()
    }

    fn scores(graph: &Graph, edges: &[(&str, f64)]) -> Vec<f64> {
        let mut scores = vec![0.0; graph.n_entries()];
        for &(name, score) in edges {
            scores[entry(graph, name)] = score;
        }
        scores
    }

    fn names(graph: &Graph, kept: &[bool]) -> Vec<String> {
        graph
            .edges()
            .filter(|(s, t)| kept[s * graph.n_targets() + t])
            .map(|(s, t)| format!("{}->{}", graph.source(s), graph.target(t)))
            .collect()
    }

    const CHOICE: Choice = Choice {
        selection: Selection::TopN,
        ranking: Ranking::Absolute,
        prune: true,
    };

    #[test]
    fn the_largest_edges_stay_and_dead_ends_go() {
        let graph = Graph::layers(2);
        let edges = [
            ("input->a0<v>", 3.0),
            ("a0->logits", -2.5),
            ("m0->m1", 9.0),
            ("input->m0", 0.5),
        ];
        let scores = scores(&graph, &edges);
        // m0->m1 is the largest, but nothing reaches m0 and m1 reaches nothing.
        let kept = select(&graph, &scores, 3, CHOICE);
        assert_eq!(names(&graph, &kept), ["input->a0<v>", "a0->logits"]);
        let kept = select(
            &graph,
            &scores,
            3,
            Choice {
                prune: false,
                ..CHOICE
            },
        );
        assert_eq!(names(&graph, &kept).len(), 3);
        let signed = Choice {
            ranking: Ranking::Signed,
            ..CHOICE
        };
        assert!(names(&graph, &select(&graph, &scores, 3, signed)).is_empty());
    }

    #[test]
    fn greed_starts_at_the_logits() {
        let graph = Graph::layers(2);
        let edges = [
            ("input->a0<v>", 3.0),
            ("a0->logits", 1.0),
            ("m0->m1", 9.0),
            ("input->m0", 0.5),
            ("m1->logits", 0.25),
        ];
        let scores = scores(&graph, &edges);
        let greedy = Choice {
            selection: Selection::Greedy,
            ..CHOICE
        };
        assert_eq!(
            names(&graph, &select(&graph, &scores, 2, greedy)),
            ["input->a0<v>", "a0->logits"]
        );
        let five = names(&graph, &select(&graph, &scores, 5, greedy));
        assert_eq!(
            five,
            [
                "input->a0<v>",
                "input->m0",
                "a0->logits",
                "m0->m1",
                "m1->logits"
            ]
        );
    }

    #[test]
    fn a_shared_key_reaches_every_head_of_its_group() {
        let graph = Graph::heads(
            1,
            Heads {
                n_heads: 4,
                n_kv_heads: 2,
            },
        );
        let mut kept = vec![false; graph.n_entries()];
        for name in ["input->a0.h1<k>", "a0.h2->logits", "a0.h3->logits"] {
            kept[entry(&graph, name)] = true;
        }
        let mut other = kept.clone();
        prune(&graph, &mut kept);
        assert_eq!(names(&graph, &kept).len(), 3);
        other[entry(&graph, "a0.h1->logits")] = true;
        prune(&graph, &mut other);
        assert_eq!(names(&graph, &other).len(), 3);
    }

    #[test]
    fn everything_is_a_circuit() {
        let graph = Graph::heads(
            2,
            Heads {
                n_heads: 2,
                n_kv_heads: 2,
            },
        );
        let scores: Vec<f64> = (0..graph.n_entries()).map(|i| (i as f64).sin()).collect();
        for selection in [Selection::TopN, Selection::Greedy] {
            let kept = select(
                &graph,
                &scores,
                graph.n_edges(),
                Choice {
                    selection,
                    ..CHOICE
                },
            );
            assert_eq!(names(&graph, &kept).len(), graph.n_edges());
            assert!(nodes(&graph, &kept).into_iter().all(|node| node));
        }
    }
}
