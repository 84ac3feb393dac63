//! Scores as rows of the edges table.

use model::Model;
use store::tables::Edge;

use crate::{
    attribute::{Plan, attribute},
    example::Example,
    graph::Graph,
    sets::Set,
};

/// Scores the sets of one model.
#[derive(Debug)]
pub struct Scorer<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its label.
    pub label: &'a str,
    /// Its graph.
    pub graph: Graph,
    /// How edges are scored.
    pub plan: Plan,
}

impl Scorer<'_> {
    /// The rows of a set: example by example if asked for, then their average. `batch` examples are scored at a time.
    pub fn rows(
        &self,
        set: &Set,
        batch: usize,
        with_examples: bool,
        progress: &cli::Progress,
    ) -> anyhow::Result<Vec<Edge>> {
        let examples: Vec<&Example> = set.examples.iter().collect();
        let mut maps = Vec::new();
        for batch in examples.chunks(batch) {
            if cli::stop_requested() {
                return Err(cli::Stopped {
                    done: "nothing is kept of scores that are not complete".into(),
                }
                .into());
            }
            maps.extend(attribute(self.model, &self.graph, self.plan, batch)?);
            progress.advance(batch.len() as u64);
        }
        let numbered = maps.iter().enumerate().filter(|_| with_examples);
        let rows = numbered.flat_map(|(number, map)| self.rows_of(set, Some(number), map));
        Ok(rows.chain(self.rows_of(set, None, &mean(&maps))).collect())
    }

    /// The real edges of one matrix.
    fn rows_of(&self, set: &Set, example: Option<usize>, map: &[f64]) -> Vec<Edge> {
        let row = |(source, target): (usize, usize)| Edge {
            model: self.label.into(),
            example: example.map(|number| number as u32),
            doc_id: example.and_then(|number| set.examples[number].doc_id.clone()),
            alpha: set.alpha,
            source: self.graph.source(source).to_string(),
            target: self.graph.target(target).to_string(),
            score: map[source * self.graph.n_targets() + target],
        };
        self.graph.edges().map(row).collect()
    }
}

fn mean(maps: &[Vec<f64>]) -> Vec<f64> {
    let n_entries = maps.first().map_or(0, Vec::len);
    (0..n_entries)
        .map(|entry| maps.iter().map(|map| map[entry]).sum::<f64>() / maps.len() as f64)
        .collect()
}
