//! The run checked against itself: what the reverse pass says against what the forward pass does.
//!
//! - A score is the slope of the loss when ΔO of one source is added to what one target reads, and to nothing else.
//! - A source's scores add up to its node attribution: the slope when ΔO is added to what it writes.
//! - Under zero ablation the scores into one target cancel: they add up to the derivative of the loss by the scale of the
//!   residual before a norm, which does not see it (up to its ε). Information flow adds up to 1 instead.
//! - Scores stand for exact patches: of a random sample of edges both are made, and their correlation is told.
//!
//! The first three are identities; one that fails is an error, for then the scores of this model mean nothing. The last is
//! a figure: how far a straight line reaches depends on the model.

use anyhow::ensure;
use serde::Serialize;

use crate::{
    agreement::{Comparison, DISTRUST},
    attribute::Scorer,
    exact::Patch,
    example::Example,
    method::{Ablation, Method},
    tested::{Scored, draw, larger},
};

/// Edges patched exactly per example.
const PATCHED: usize = 24;
/// Sum of a target's scores, relative to the sum of their magnitudes, that is still called 0.
const COLUMN_TOLERANCE: f64 = 0.01;

/// What the identities gave: stored in the provenance of the edges.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Examples tested.
    pub examples: usize,
    /// Edges tested by finite differences.
    pub edges: usize,
    /// ‖slopes − scores‖ / ‖scores‖ over these edges.
    pub edge_error: f64,
    /// Nodes whose row sums were tested.
    pub nodes: usize,
    /// ‖slopes − row sums‖ / ‖row sums‖ over these nodes.
    pub row_error: f64,
    /// Largest |sum| of a column relative to the largest sum of magnitudes; none unless the ablation is zero, and none when
    /// the norm's ε is not small beside any residual. Under information flow, the largest distance of a column's sum from 1.
    pub column_error: Option<f64>,
    /// Scores of the method against exact patches of the same edges; none for methods that are no approximation of them.
    pub exact: Option<Exact>,
}

/// How well scores stand for exact patches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Exact {
    /// Edges patched.
    pub edges: usize,
    /// Pearson correlation of scores and exact effects, −1 to 1; not a number where one of them does not vary.
    pub correlation: f64,
    /// Lower end of its bootstrap interval over edges.
    pub correlation_low: f64,
    /// Upper end of the interval.
    pub correlation_high: f64,
}

impl Report {
    /// One line for the person at the terminal.
    pub fn line(&self) -> String {
        let columns = self.column_error.map_or_else(String::new, |error| {
            format!(", columns add up to {error:.1e}")
        });
        let exact = self.exact.map_or_else(String::new, |exact| {
            format!(
                "; correlation with {} exact patches {:.3} [{:.3}, {:.3}]",
                exact.edges, exact.correlation, exact.correlation_low, exact.correlation_high
            )
        });
        format!(
            "self-check on {} examples: {} edges equal their finite difference to {:.1e}, {} row sums to {:.1e}{columns}{exact}",
            self.examples, self.edges, self.edge_error, self.nodes, self.row_error
        )
    }
}

/// Tests the identities on these examples.
///
/// # Errors
/// When one of them fails.
pub fn check(scorer: &Scorer<'_>, examples: &[&Example], seed: u64) -> anyhow::Result<Report> {
    let at_clean = scorer.with_plan(scorer.plan.at_the_clean_point());
    let scored = examples
        .iter()
        .map(|example| Scored::new(&at_clean, example));
    let scored = scored.collect::<anyhow::Result<Vec<_>>>()?;
    let mut report = report(&scored, seed)?;
    if scorer.plan.method == Method::Ifr {
        report.column_error = Some(shares(scorer, examples)?);
    }
    report.exact = exact(scorer, &scored, seed)?;
    Ok(report)
}

/// Largest distance from 1 of the shares into a target.
fn shares(scorer: &Scorer<'_>, examples: &[&Example]) -> anyhow::Result<f64> {
    let n_targets = scorer.graph.n_targets();
    let mut worst: f64 = 0.0;
    for scores in scorer.score(examples)? {
        for target in 0..n_targets {
            let column = scores.map.iter().skip(target).step_by(n_targets);
            worst = worst.max((column.sum::<f64>() - 1.0).abs());
        }
    }
    ensure!(
        worst <= COLUMN_TOLERANCE,
        "the shares into a target add up to 1 only within {worst:.2}; {DISTRUST}"
    );
    Ok(worst)
}

fn report(examples: &[Scored<'_>], seed: u64) -> anyhow::Result<Report> {
    let (mut edges, mut nodes) = (Comparison::default(), Comparison::default());
    let mut column_error: Option<f64> = None;
    for (number, scored) in examples.iter().enumerate() {
        let sampled = scored.sampled_edges(seed.wrapping_add(number as u64));
        for ((source, target), slope) in sampled.iter().zip(scored.slopes(&sampled)?) {
            edges.add(slope, scored.score(*source, *target));
        }
        for source in scored.sampled_sources() {
            nodes.add(scored.node_slope(source)?, scored.row_sum(source));
        }
        if scored.scorer.plan.ablation == Ablation::Zero {
            column_error = larger(column_error, scored.column_error()?);
        }
    }
    edges.verdict("the finite differences of edges differ from their scores")?;
    nodes.verdict("the attributions of nodes differ from their row sums")?;
    let column = column_error.unwrap_or(0.0);
    ensure!(
        column <= COLUMN_TOLERANCE,
        "the scores into a target do not cancel: {column:.2} of them is left; {DISTRUST}"
    );
    Ok(Report {
        examples: examples.len(),
        edges: edges.n,
        edge_error: edges.relative(),
        nodes: nodes.n,
        row_error: nodes.relative(),
        column_error,
        exact: None,
    })
}

/// Scores of the method itself against exact patches of edges drawn at random.
fn exact(scorer: &Scorer<'_>, examples: &[Scored<'_>], seed: u64) -> anyhow::Result<Option<Exact>> {
    if matches!(scorer.plan.method, Method::Ifr | Method::Exact) {
        return Ok(None);
    }
    let (mut scores, mut effects) = (Vec::new(), Vec::new());
    for (number, scored) in examples.iter().enumerate() {
        let edges = draw(&scorer.graph, PATCHED, seed.wrapping_add(number as u64));
        let own = &scorer.score(&[scored.example])?[0].map;
        let patch = |&(source, target): &(usize, usize)| Patch {
            source,
            target,
            scale: 1.0,
        };
        let patches: Vec<Patch> = edges.iter().map(patch).collect();
        let losses = scored.patcher.losses(&patches)?;
        effects.extend(losses.iter().map(|loss| loss - scored.patcher.loss));
        scores.extend(
            edges
                .iter()
                .map(|(s, t)| own[s * scorer.graph.n_targets() + t]),
        );
    }
    let of = |places: &[usize]| {
        let pick = |values: &[f64]| places.iter().map(|&p| values[p]).collect::<Vec<f64>>();
        stats::pearson(&pick(&scores), &pick(&effects))
    };
    let estimate = stats::bootstrap(scores.len(), stats::DRAWS, seed, of);
    Ok(Some(Exact {
        edges: scores.len(),
        correlation: estimate.value,
        correlation_low: estimate.low,
        correlation_high: estimate.high,
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use model::{DType, Device, Model};

    use super::*;
    use crate::{
        graph::{Gqa, Graph, Level},
        method::Plan,
        pairs::{self, Metric},
    };

    /// What the check says of the golden model's first pair after `spoil` had its way with the scores.
    fn verdict(level: Level, spoil: impl Fn(&Graph, &mut [f64])) -> Result<Report, String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model");
        let model = Model::load(&directory, &Device::Cpu, DType::F32).unwrap();
        let examples = pairs::read(&directory.join("pairs.json"), Metric::Nll, &directory).unwrap();
        let graph = Graph::of(&model.config, level, Gqa::Grouped);
        let scorer = Scorer::new(&model, graph, Plan::new(Method::EapZero), &[]).unwrap();
        let mut scored = Scored::new(&scorer, &examples[0]).unwrap();
        spoil(&graph, &mut scored.map);
        report(&[scored], 0).map_err(|error| error.to_string())
    }

    #[test]
    fn scores_that_are_wrong_are_refused() {
        for level in [Level::Layer, Level::Head] {
            assert!(verdict(level, |_, _| ()).is_ok());
            let scaled = verdict(level, |_, map| {
                for score in map {
                    *score *= 1.2;
                }
            })
            .unwrap_err();
            assert!(scaled.contains("finite differences"), "{scaled}");
        }
    }

    #[test]
    fn columns_that_do_not_cancel_are_refused() {
        // Takes the smallest score of the last column that reads its row from it: no sampled edge and no row notices.
        let moved = verdict(Level::Layer, |graph, map| {
            let largest = map
                .iter()
                .fold(0.0, |most, score| f64::max(most, score.abs()));
            let n = graph.n_targets();
            let size = |place: &usize| map[3 * n + place].abs();
            let mut columns: Vec<usize> = (0..n).filter(|&t| graph.is_real(3, t)).collect();
            columns.sort_by(|a, b| size(a).total_cmp(&size(b)));
            map[3 * n + columns[0]] += 0.2 * largest;
            map[3 * n + columns[1]] -= 0.2 * largest;
        });
        assert!(moved.is_err());
    }
}
