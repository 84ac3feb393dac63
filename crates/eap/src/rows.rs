//! Scores as rows of the edges table.

use store::tables::{Edge, PositionEdge};

use crate::{attribute::Scores, example::Example, graph::Graph};

/// Turns maps of one model under one truncation into rows.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    /// The model's label.
    pub model: &'a str,
    /// Its graph.
    pub graph: &'a Graph,
    /// Share of T̄ that was scored.
    pub alpha: Option<f64>,
    /// Edges that were scored, when not all were.
    pub edges: Option<&'a [(usize, usize)]>,
}

impl Rows<'_> {
    fn edges(&self) -> Vec<(usize, usize)> {
        self.edges
            .map_or_else(|| self.graph.edges().collect(), <[_]>::to_vec)
    }

    /// The edges of one matrix: an example with its number, or an average.
    pub fn of(&self, example: Option<(usize, &Example)>, map: &[f64]) -> Vec<Edge> {
        let edges = self.edges().into_iter();
        edges
            .map(|(source, target)| Edge {
                model: self.model.into(),
                example: example.map(|(number, _)| number as u32),
                doc_id: example.and_then(|(_, example)| example.doc_id.clone()),
                alpha: self.alpha,
                source: self.graph.source(source).to_string(),
                target: self.graph.target(target).to_string(),
                score: map[source * self.graph.n_targets() + target],
            })
            .collect()
    }

    /// The edges of one example position by position.
    pub fn by_position(
        &self,
        (number, example): (usize, &Example),
        scores: &Scores,
    ) -> Vec<PositionEdge> {
        let edges = self.edges();
        let of_position = |(position, map): &(usize, Vec<f64>)| {
            let position = *position as u32;
            let row = |&(source, target): &(usize, usize)| PositionEdge {
                model: self.model.into(),
                example: number as u32,
                doc_id: example.doc_id.clone(),
                alpha: self.alpha,
                position,
                source: self.graph.source(source).to_string(),
                target: self.graph.target(target).to_string(),
                score: map[source * self.graph.n_targets() + target],
            };
            edges.iter().map(row).collect::<Vec<_>>()
        };
        scores.positions.iter().flat_map(of_position).collect()
    }
}
