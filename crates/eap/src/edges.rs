//! A table of edges as what it stands for: one matrix per example and truncation.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    str::FromStr,
};

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
    /// Per truncation: the matrix of averages.
    pub averages: BTreeMap<Alpha, Vec<f64>>,
}

impl EdgeMaps {
    /// Reads tables of edges, a few thousand rows at a time.
    pub fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut gathered = Gathered::default();
        let mut wrong = None;
        store::read_table_by(paths, &mut |rows: Vec<Edge>| {
            if wrong.is_none() {
                wrong = gathered.push(&rows).err();
            }
            Ok(())
        })?;
        match wrong {
            Some(error) => Err(error),
            None => gathered.arrange(),
        }
    }

    /// Arranges the rows of a table.
    ///
    /// # Errors
    /// When rows of several models are mixed, when no row belongs to an example, and when an example lacks an edge, has
    /// one twice, or has a score that is not a number.
    pub fn new(rows: &[Edge]) -> anyhow::Result<Self> {
        let mut gathered = Gathered::default();
        gathered.push(rows)?;
        gathered.arrange()?.with_examples()
    }

    /// The same, unless it holds averages only.
    pub fn with_examples(self) -> anyhow::Result<Self> {
        ensure!(
            !self.maps.is_empty(),
            "there are only averages: this needs every example (--per-example)"
        );
        Ok(self)
    }

    /// The averages under a truncation; under the only one when none is named. Where the table has none, means over its
    /// examples.
    pub fn average(&self, alpha: Option<f64>) -> anyhow::Result<Vec<f64>> {
        let alphas: BTreeSet<Alpha> = self
            .averages
            .keys()
            .chain(self.maps.keys())
            .copied()
            .collect();
        let wanted = match alpha {
            Some(_) => Alpha::new(alpha),
            None if alphas.len() == 1 => *alphas.first().context("a set of one has a first")?,
            None => {
                let known = alphas
                    .iter()
                    .filter_map(|alpha| alpha.value())
                    .map(|alpha| alpha.to_string());
                bail!(
                    "there are several truncations, choose one: {}",
                    known.collect::<Vec<_>>().join(", ")
                )
            }
        };
        if let Some(average) = self.averages.get(&wanted) {
            return Ok(average.clone());
        }
        let maps = self
            .maps
            .get(&wanted)
            .context("there is no such truncation α")?;
        let mut mean = vec![0.0; self.graph.n_entries()];
        for map in maps.values() {
            mean.iter_mut()
                .zip(map)
                .for_each(|(sum, score)| *sum += score / maps.len() as f64);
        }
        Ok(mean)
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

/// Rows as they come, names told once: what a table needs until its graph is known.
#[derive(Debug, Default)]
struct Gathered {
    model: Option<String>,
    sources: Names,
    targets: Names,
    /// Scores of each example, or of the averages.
    scores: BTreeMap<(Alpha, Option<String>), Vec<Numbered>>,
}

/// Source, target and score of one edge.
type Numbered = (u32, u32, f64);

/// Names with a number each, in the order in which they came.
#[derive(Debug, Default)]
struct Names {
    numbers: BTreeMap<String, u32>,
    order: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.order.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.order.push(name.to_owned());
        number
    }

    fn parsed<T: FromStr<Err = anyhow::Error>>(&self) -> anyhow::Result<Vec<T>> {
        self.order.iter().map(|name| name.parse()).collect()
    }
}

impl Gathered {
    fn push(&mut self, rows: &[Edge]) -> anyhow::Result<()> {
        for row in rows {
            let model = self.model.get_or_insert_with(|| row.model.clone());
            ensure!(
                *model == row.model,
                "edges of two models are mixed: {model} and {}",
                row.model
            );
            ensure!(
                row.score.is_finite(),
                "edge {}->{} has the score {}",
                row.source,
                row.target,
                row.score
            );
            let (source, target) = (
                self.sources.number(&row.source),
                self.targets.number(&row.target),
            );
            let example = row.example.map(|_| key(row));
            let scores = self
                .scores
                .entry((Alpha::new(row.alpha), example))
                .or_default();
            scores.push((source, target, row.score));
        }
        Ok(())
    }

    fn arrange(self) -> anyhow::Result<EdgeMaps> {
        let model = self.model.clone().context("the table has no rows")?;
        let (sources, targets) = (
            self.sources.parsed::<Source>()?,
            self.targets.parsed::<Target>()?,
        );
        let graph = Graph::holding(&sources, &targets)?;
        let rows: Vec<Option<usize>> = sources
            .iter()
            .map(|&source| graph.source_index(source))
            .collect();
        let columns: Vec<Option<usize>> = targets
            .iter()
            .map(|&target| graph.target_index(target))
            .collect();
        let mut edges = EdgeMaps {
            model,
            graph,
            maps: BTreeMap::new(),
            averages: BTreeMap::new(),
        };
        for ((alpha, example), scores) in self.scores {
            let name = || {
                example
                    .clone()
                    .map_or_else(|| "the average".to_owned(), |key| format!("example {key}"))
            };
            let mut map = vec![f64::NAN; graph.n_entries()];
            for (source, target, score) in scores {
                let (row, column) = (rows[source as usize], columns[target as usize]);
                let edge = row
                    .zip(column)
                    .filter(|&(row, column)| graph.is_real(row, column));
                let names = (
                    &self.sources.order[source as usize],
                    &self.targets.order[target as usize],
                );
                let (row, column) =
                    edge.with_context(|| format!("{}->{} is not an edge", names.0, names.1))?;
                let entry = &mut map[row * graph.n_targets() + column];
                ensure!(
                    entry.is_nan(),
                    "edge {}->{} of {} is there twice",
                    names.0,
                    names.1,
                    name()
                );
                *entry = score;
            }
            close(&mut map, &graph).with_context(name)?;
            match example {
                Some(key) => {
                    edges.maps.entry(alpha).or_default().insert(key, map);
                }
                None => {
                    edges.averages.insert(alpha, map);
                }
            }
        }
        Ok(edges)
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

fn key(row: &Edge) -> String {
    row.doc_id
        .clone()
        .unwrap_or_else(|| format!("#{}", row.example.unwrap_or_default()))
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
        table.extend(rows(0).into_iter().map(|row| Edge {
            example: None,
            doc_id: None,
            ..row
        }));
        let edges = EdgeMaps::new(&table).unwrap();
        assert_eq!(edges.graph, Graph::layers(1));
        let maps = &edges.maps[&Alpha::new(Some(0.3))];
        assert_eq!(edges.average(None).unwrap(), maps["copy/0"]);
        assert!(edges.average(Some(0.5)).is_err());
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
        let averages = whole.iter().map(|row| Edge {
            example: None,
            ..row.clone()
        });
        refuses(&averages.collect::<Vec<_>>(), "only averages");
        let backward = Edge {
            source: "m0".into(),
            target: "a0<q>".into(),
            ..whole[0].clone()
        };
        refuses(&[whole, vec![backward]].concat(), "not an edge");
    }
}
