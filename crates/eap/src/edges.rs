//! A table of edges as what it stands for: one matrix per example and truncation.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use store::tables::Edge;

use crate::{
    graph::Graph,
    node::{Source, Target},
};

/// Which entries of the matrix a metric is computed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entries {
    /// The whole matrix, structural zeros included, as in arXiv 2509.21044.
    All,
    /// Real edges only.
    Real,
}

impl Entries {
    /// Both, in the order of the table.
    pub const BOTH: [Self; 2] = [Self::All, Self::Real];

    /// Name in the column `entries`.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Real => "real",
        }
    }
}

/// A truncation α that can be a key: ordered, and equal when its bits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alpha(Option<u64>);

impl Alpha {
    /// Wraps the column `alpha`. Positive floating-point numbers are ordered as their bits are.
    pub fn new(alpha: Option<f64>) -> Self {
        Self(alpha.map(f64::to_bits))
    }

    /// The column `alpha` again.
    pub fn value(self) -> Option<f64> {
        self.0.map(f64::from_bits)
    }
}

/// The edges of one model, example by example.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeMaps {
    /// Label of the model.
    pub model: String,
    /// Its graph.
    pub graph: Graph,
    /// Per truncation and example: the matrix `[n_sources, n_targets]`, row by row, 0 where there is no edge. An
    /// example's key is its document, or `#` and its number when it has none.
    pub maps: BTreeMap<Alpha, BTreeMap<String, Vec<f64>>>,
}

impl EdgeMaps {
    /// Arranges the rows of a table; rows of averages are passed over.
    ///
    /// # Errors
    /// When rows of several models are mixed, when no row belongs to an example, and when an example lacks an edge, has
    /// one twice, or has a score that is not a number.
    pub fn new(rows: &[Edge]) -> anyhow::Result<Self> {
        let rows: Vec<&Edge> = rows.iter().filter(|row| row.example.is_some()).collect();
        let first = rows
            .first()
            .context("there are only averages: the metrics need every example (--per-example)")?;
        if let Some(other) = rows.iter().find(|row| row.model != first.model) {
            bail!(
                "edges of two models are mixed: {} and {}",
                first.model,
                other.model
            );
        }
        let nodes = Nodes::of(&rows)?;
        let mut maps: BTreeMap<Alpha, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
        for row in rows.iter().copied() {
            let empty = || vec![f64::NAN; nodes.graph.n_entries()];
            let map = maps
                .entry(Alpha::new(row.alpha))
                .or_default()
                .entry(key(row))
                .or_insert_with(empty);
            place(map, nodes.entry(row)?, row)?;
        }
        for (example, map) in maps.values_mut().flatten() {
            close(map, &nodes.graph).with_context(|| format!("example {example}"))?;
        }
        Ok(Self {
            model: first.model.clone(),
            graph: nodes.graph,
            maps,
        })
    }

    /// Targets per source among these entries: how a row of [`entries_of`] is divided.
    pub fn row_lengths(&self, entries: Entries) -> Vec<usize> {
        let real = |source| {
            (0..self.graph.n_targets())
                .filter(|&target| self.graph.is_real(source, target))
                .count()
        };
        match entries {
            Entries::All => vec![self.graph.n_targets(); self.graph.n_sources()],
            Entries::Real => (0..self.graph.n_sources()).map(real).collect(),
        }
    }
}

/// The entries of one matrix that a metric sees, source by source.
pub fn entries_of(graph: &Graph, map: &[f64], entries: Entries) -> Vec<f64> {
    match entries {
        Entries::All => map.to_vec(),
        Entries::Real => graph
            .edges()
            .map(|(source, target)| map[source * graph.n_targets() + target])
            .collect(),
    }
}

/// Nodes of a table by name: names repeat in every example, so each is read once.
struct Nodes<'a> {
    graph: Graph,
    sources: BTreeMap<&'a str, usize>,
    targets: BTreeMap<&'a str, usize>,
}

impl<'a> Nodes<'a> {
    fn of(rows: &[&'a Edge]) -> anyhow::Result<Self> {
        let names =
            |of: fn(&Edge) -> &str| rows.iter().map(|row| of(row)).collect::<BTreeSet<&str>>();
        let (sources, targets) = (names(|row| &row.source), names(|row| &row.target));
        let parsed_sources = sources
            .iter()
            .map(|name| name.parse())
            .collect::<anyhow::Result<Vec<Source>>>()?;
        let parsed_targets = targets
            .iter()
            .map(|name| name.parse())
            .collect::<anyhow::Result<Vec<Target>>>()?;
        let graph = Graph::holding(&parsed_sources, &parsed_targets)?;
        let index_sources = parsed_sources
            .iter()
            .filter_map(|&source| graph.source_index(source));
        let index_targets = parsed_targets
            .iter()
            .filter_map(|&target| graph.target_index(target));
        Ok(Self {
            graph,
            sources: sources.iter().copied().zip(index_sources).collect(),
            targets: targets.iter().copied().zip(index_targets).collect(),
        })
    }

    /// Place of the row's edge in the matrix.
    fn entry(&self, row: &Edge) -> anyhow::Result<usize> {
        let (source, target) = (
            self.sources.get(row.source.as_str()),
            self.targets.get(row.target.as_str()),
        );
        let edge = source
            .zip(target)
            .filter(|&(&source, &target)| self.graph.is_real(source, target));
        let (source, target) =
            edge.with_context(|| format!("{}->{} is not an edge", row.source, row.target))?;
        Ok(source * self.graph.n_targets() + target)
    }
}

fn key(row: &Edge) -> String {
    row.doc_id
        .clone()
        .unwrap_or_else(|| format!("#{}", row.example.unwrap_or_default()))
}

fn place(map: &mut [f64], entry: usize, row: &Edge) -> anyhow::Result<()> {
    let edge = || {
        format!(
            "edge {}->{} of example {}",
            row.source,
            row.target,
            key(row)
        )
    };
    ensure!(
        row.score.is_finite(),
        "{} has the score {}",
        edge(),
        row.score
    );
    ensure!(map[entry].is_nan(), "{} is there twice", edge());
    map[entry] = row.score;
    Ok(())
}

/// Refuses a matrix with edges missing, and puts zeros where the graph has none.
fn close(map: &mut [f64], graph: &Graph) -> anyhow::Result<()> {
    let there = map.iter().filter(|score| !score.is_nan()).count();
    ensure!(
        there == graph.n_edges(),
        "has {there} of the {} edges of its graph",
        graph.n_edges()
    );
    map.iter_mut()
        .filter(|score| score.is_nan())
        .for_each(|score| *score = 0.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges of a one-layer model, scored 1, 2, … in order.
    fn rows(example: u32) -> Vec<Edge> {
        let graph = Graph::layers(1);
        let row = |(number, (source, target)): (usize, (usize, usize))| Edge {
            model: "base".into(),
            example: Some(example),
            doc_id: Some(format!("copy/{example}")),
            alpha: Some(0.3),
            source: graph.source(source).to_string(),
            target: graph.target(target).to_string(),
            score: number as f64 + 1.0,
        };
        graph.edges().enumerate().map(row).collect()
    }

    #[test]
    fn a_table_becomes_one_matrix_per_example() {
        let mut table = [rows(0), rows(1)].concat();
        table.push(Edge {
            example: None,
            doc_id: None,
            ..table[0].clone()
        });
        let edges = EdgeMaps::new(&table).unwrap();
        assert_eq!(edges.graph, Graph::layers(1));
        let maps = &edges.maps[&Alpha::new(Some(0.3))];
        assert_eq!(maps.keys().collect::<Vec<_>>(), ["copy/0", "copy/1"]);
        // input → q, k, v, m0, logits; a0 → m0, logits; m0 → logits.
        let expected = [1., 2., 3., 4., 5., 0., 0., 0., 6., 7., 0., 0., 0., 0., 8.];
        assert_eq!(maps["copy/0"], expected);
        assert_eq!(edges.row_lengths(Entries::Real), [5, 2, 1]);
        let real = entries_of(&edges.graph, &maps["copy/0"], Entries::Real);
        assert_eq!(real, [1., 2., 3., 4., 5., 6., 7., 8.]);
    }

    #[test]
    fn a_table_that_is_not_whole_is_refused() {
        let refuses = |table: &[Edge], word: &str| {
            let error = format!("{:#}", EdgeMaps::new(table).unwrap_err());
            assert!(error.contains(word), "{error}");
        };
        let whole = rows(0);
        refuses(&whole[1..], "7 of the 8 edges");
        refuses(&[whole.clone(), whole[..1].to_vec()].concat(), "twice");
        refuses(
            &[Edge {
                score: f64::NAN,
                ..whole[0].clone()
            }],
            "NaN",
        );
        refuses(
            &[
                whole.clone(),
                vec![Edge {
                    model: "rl".into(),
                    ..whole[0].clone()
                }],
            ]
            .concat(),
            "two models",
        );
        refuses(
            &[Edge {
                example: None,
                ..whole[0].clone()
            }],
            "only averages",
        );
        let backward = Edge {
            source: "m0".into(),
            target: "a0<q>".into(),
            ..whole[0].clone()
        };
        refuses(&[whole, vec![backward]].concat(), "not an edge");
    }
}
