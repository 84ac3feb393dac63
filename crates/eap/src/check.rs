//! The run checked against itself: what the reverse pass says against what the forward pass does.
//!
//! - A score is the slope of the loss when ΔO of one source is added to what one target reads, and to nothing else. Taps see
//!   what a whole block reads, so queries, keys and values of a layer are tested by their sum.
//! - A source's scores add up to its node attribution: the slope when ΔO is added to what it writes.
//! - Under zero ablation the scores into one target cancel: they add up to the derivative of the loss by the scale of the
//!   residual before a norm, which does not see it (up to its ε).
//!
//! A failing identity is an error: then the scores of this model mean nothing.

use anyhow::ensure;
use model::{Batch, DType, Hook, Model, Site, Tap, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::{
    attribute::{Contraction, Plan, Run, hook_of},
    example::{Example, loss},
    graph::Graph,
    node::{Source, Target},
    values::Values,
};

/// Shares of ΔO that are added, largest first; each is half of the one before.
const STEPS: [f64; 4] = [0.16, 0.08, 0.04, 0.02];
/// Edges and nodes tested per example; half are those with the largest scores, half are drawn.
const SAMPLED: usize = 8;
/// Relative error of slopes that is still called equal.
const TOLERANCE: f64 = 0.05;
/// Slopes in nats that single precision cannot tell from 0 with steps of this size.
const RESOLUTION: f64 = 2e-5;
/// Sum of a target's scores, relative to the sum of their magnitudes, that is still called 0.
const COLUMN_TOLERANCE: f64 = 0.01;
/// Share of a position's mean square below which a norm's ε is out of sight.
const NEGLIGIBLE: f64 = 1e-3;

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
    /// the norm's ε is not small beside any residual.
    pub column_error: Option<f64>,
}

impl Report {
    /// One line for the person at the terminal.
    pub fn line(&self) -> String {
        let columns = self.column_error.map_or_else(String::new, |error| {
            format!(", columns cancel to {error:.1e}")
        });
        format!(
            "self-check on {} examples: {} edges equal their finite difference to {:.1e}, {} row sums to {:.1e}{columns}",
            self.examples, self.edges, self.edge_error, self.nodes, self.row_error
        )
    }
}

/// Tests the identities on these examples.
///
/// # Errors
/// When one of them fails.
pub fn check(
    model: &Model,
    graph: &Graph,
    plan: Plan,
    examples: &[&Example],
) -> anyhow::Result<Report> {
    let scored = examples
        .iter()
        .map(|example| Scored::new(model, graph, plan, example));
    report(&scored.collect::<anyhow::Result<Vec<_>>>()?, plan)
}

fn report(examples: &[Scored], plan: Plan) -> anyhow::Result<Report> {
    let (mut edges, mut nodes) = (Comparison::default(), Comparison::default());
    let mut column_error: Option<f64> = None;
    for (number, scored) in examples.iter().enumerate() {
        for (source, reader) in scored.sampled_edges(number as u64) {
            let slope = scored.slope(Nudge::at_reader(reader, scored.graph.n_layers), source)?;
            edges.add(slope, scored.read_score(source, reader));
        }
        nodes.add(scored.input_attribution()?, scored.row_sum(0));
        for source in scored.sampled_sources() {
            let slope = scored.slope(Nudge::at_source(scored.graph.source(source)), source)?;
            nodes.add(slope, scored.row_sum(source));
        }
        if !plan.needs_corrupted() {
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
    })
}

const DISTRUST: &str =
    "the scores of this model cannot be trusted (--check off writes them all the same)";

/// Slopes against scores, as norms of vectors.
#[derive(Debug, Default)]
struct Comparison {
    n: usize,
    squared_error: f64,
    squared_scores: f64,
}

impl Comparison {
    fn add(&mut self, slope: f64, score: f64) {
        self.n += 1;
        self.squared_error += (slope - score).powi(2);
        self.squared_scores += score.powi(2);
    }

    fn relative(&self) -> f64 {
        if self.squared_scores > 0.0 {
            (self.squared_error / self.squared_scores).sqrt()
        } else {
            0.0
        }
    }

    fn verdict(&self, failure: &str) -> anyhow::Result<()> {
        let resolution = RESOLUTION * (self.n as f64).sqrt();
        let holds =
            self.squared_error.sqrt() <= TOLERANCE * self.squared_scores.sqrt() + resolution;
        ensure!(
            holds,
            "{failure} by {:.2} of their size; {DISTRUST}",
            self.relative()
        );
        Ok(())
    }
}

/// A block, or the unembedding: what reads the residual in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Attention(usize),
    Mlp(usize),
    Logits,
}

fn reader_of(target: Target) -> Reader {
    match target {
        Target::Attention { layer, .. } => Reader::Attention(layer),
        Target::Mlp { layer } => Reader::Mlp(layer),
        Target::Logits => Reader::Logits,
    }
}

/// One example with its scores at the clean point.
struct Scored<'a> {
    model: &'a Model,
    graph: &'a Graph,
    example: &'a Example,
    /// ΔO of every source, `[1, seq, d_model]`.
    differences: Vec<Tensor>,
    /// `[n_sources, n_targets]`
    map: Vec<f64>,
    /// ∂L/∂embedding, `[1, seq, d_model]`.
    input_gradient: Tensor,
}

impl<'a> Scored<'a> {
    fn new(
        model: &'a Model,
        graph: &'a Graph,
        plan: Plan,
        example: &'a Example,
    ) -> anyhow::Result<Self> {
        let examples = [example];
        let Run {
            clean: (logits, trace),
            differences,
            ..
        } = Run::new(model, graph, plan, &examples)?;
        let mut contraction = Contraction::new(graph, &differences, &examples, 1.0)?;
        let (_, d_logits) = loss(&logits, &examples)?;
        let input_gradient = model.backward(&trace, &d_logits, &mut contraction, None)?;
        let map = contraction.finish()?.swap_remove(0);
        Ok(Self {
            model,
            graph,
            example,
            differences,
            map,
            input_gradient,
        })
    }

    fn score(&self, source: usize, target: usize) -> f64 {
        self.map[source * self.graph.n_targets() + target]
    }

    fn row_sum(&self, source: usize) -> f64 {
        (0..self.graph.n_targets())
            .map(|target| self.score(source, target))
            .sum()
    }

    /// Sum of the scores from a source into everything a reader reads.
    fn read_score(&self, source: usize, reader: Reader) -> f64 {
        let read = (0..self.graph.n_targets())
            .filter(|&target| reader_of(self.graph.target(target)) == reader);
        read.map(|target| self.score(source, target)).sum()
    }

    /// The edges with the largest scores, and as many at random.
    fn sampled_edges(&self, seed: u64) -> Vec<(usize, Reader)> {
        let mut edges: Vec<(usize, Reader)> = self
            .graph
            .edges()
            .map(|(source, target)| (source, reader_of(self.graph.target(target))))
            .collect();
        edges.dedup();
        edges.sort_by(|&(a, read_a), &(b, read_b)| {
            self.read_score(b, read_b)
                .abs()
                .total_cmp(&self.read_score(a, read_a).abs())
        });
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for place in SAMPLED / 2..SAMPLED.min(edges.len()) {
            let other = random.random_range(place..edges.len());
            edges.swap(place, other);
        }
        edges.truncate(SAMPLED);
        edges
    }

    /// A few sources spread over the depth; the embedding is tested by its gradient instead.
    fn sampled_sources(&self) -> Vec<usize> {
        let n = self.graph.n_sources() - 1;
        let mut sources: Vec<usize> = (0..SAMPLED / 2)
            .map(|place| 1 + place * n / (SAMPLED / 2))
            .collect();
        sources.dedup();
        sources
    }

    /// ⟨ΔO, ∂L/∂embedding⟩: the embedding's attribution by the reverse pass run to its end.
    fn input_attribution(&self) -> anyhow::Result<f64> {
        let (difference, gradient) = (
            Values::of(&self.differences[0])?,
            Values::of(&self.input_gradient)?,
        );
        Ok(difference.dot(&gradient, 0..self.input_gradient.elem_count()))
    }

    /// Slope of the loss as a source's ΔO is added where the nudge says: two steps of Richardson's extrapolation from
    /// central differences, at the pair of steps that agree best.
    fn slope(&self, mut nudge: Nudge, source: usize) -> anyhow::Result<f64> {
        let signed: Vec<f64> = STEPS.iter().flat_map(|&step| [step, -step]).collect();
        let difference = &self.differences[source];
        let steps =
            Tensor::new(signed.as_slice(), difference.device())?.to_dtype(difference.dtype())?;
        nudge.by = Some(difference.broadcast_mul(&steps.reshape((signed.len(), 1, 1))?)?);
        let losses = self.losses(&mut nudge, signed.len())?;
        let central: Vec<f64> = losses
            .chunks(2)
            .zip(STEPS)
            .map(|(pair, step)| (pair[0] - pair[1]) / (2.0 * step))
            .collect();
        let best = central
            .windows(2)
            .min_by(|a, b| (a[0] - a[1]).abs().total_cmp(&(b[0] - b[1]).abs()));
        Ok(best.map_or(0.0, |pair| (4.0 * pair[1] - pair[0]) / 3.0))
    }

    /// Loss of every row when the example is run `rows` times under a tap.
    fn losses(&self, tap: &mut dyn Tap, rows: usize) -> anyhow::Result<Vec<f64>> {
        let batch = Batch::right_padded(&vec![self.example.tokens.clone(); rows], 0);
        let logits = self.model.forward(&batch, tap)?;
        (0..rows)
            .map(|row| Ok(loss(&logits.narrow(0, row, 1)?.contiguous()?, &[self.example])?.0))
            .collect()
    }

    /// Largest |column sum| relative to the largest sum of magnitudes; none when the norm's ε counts in every column.
    fn column_error(&self) -> anyhow::Result<Option<f64>> {
        let (mut residual, mut written) = (self.differences[0].zeros_like()?, 0);
        let (mut residue, mut scale): (Option<f64>, f64) = (None, 0.0);
        for target in 0..self.graph.n_targets() {
            let sources = 0..self.graph.n_sources_before(target);
            while written < sources.end {
                residual = (residual - &self.differences[written])?;
                written += 1;
            }
            scale = scale.max(
                sources
                    .clone()
                    .map(|source| self.score(source, target).abs())
                    .sum(),
            );
            if self.model.config.rms_norm_eps < NEGLIGIBLE * smallest_square(&residual)? {
                let sum: f64 = sources.map(|source| self.score(source, target)).sum();
                residue = larger(residue, Some(sum.abs()));
            }
        }
        Ok(residue.map(|residue| if scale > 0.0 { residue / scale } else { 0.0 }))
    }
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.zip(b).map(|(a, b)| a.max(b)).or(a).or(b)
}

/// Smallest mean square over the positions of `[1, seq, d_model]`: what a norm's ε is added to.
fn smallest_square(residual: &Tensor) -> anyhow::Result<f64> {
    let squares = residual
        .sqr()?
        .mean_keepdim(2)?
        .flatten_all()?
        .to_dtype(DType::F64)?
        .to_vec1::<f64>()?;
    Ok(squares.into_iter().fold(f64::INFINITY, f64::min))
}

/// Adds to the residual in one place, and takes it back where the reader has read.
#[derive(Debug)]
struct Nudge {
    at: Hook,
    back: Option<Hook>,
    /// `[rows, seq, d_model]`
    by: Option<Tensor>,
}

impl Nudge {
    /// What a reader reads is changed, the stream after it is not: the block's own output gives the change back.
    fn at_reader(reader: Reader, n_layers: usize) -> Self {
        let (at, back) = match reader {
            Reader::Attention(layer) => (
                Hook::new(Site::ResidPre, layer),
                Some(Hook::new(Site::AttnOut, layer)),
            ),
            Reader::Mlp(layer) => (
                Hook::new(Site::ResidMid, layer),
                Some(Hook::new(Site::MlpOut, layer)),
            ),
            Reader::Logits => (Hook::new(Site::ResidPost, n_layers - 1), None),
        };
        Self { at, back, by: None }
    }

    /// What a source writes is changed for everything after it.
    fn at_source(source: Source) -> Self {
        Self {
            at: hook_of(source),
            back: None,
            by: None,
        }
    }
}

impl Tap for Nudge {
    fn wants(&self, hook: Hook) -> bool {
        hook == self.at || Some(hook) == self.back
    }

    fn tap(&mut self, hook: Hook, activation: Tensor) -> model::Result<Tensor> {
        let Some(by) = &self.by else {
            return Ok(activation);
        };
        Ok(if hook == self.at {
            (activation + by)?
        } else {
            (activation - by)?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use model::Device;

    use super::*;
    use crate::{
        attribute::Method,
        pairs::{self, Metric},
    };

    const PLAN: Plan = Plan {
        method: Method::EapZero,
        steps: 1,
    };

    /// What the check says of the golden model's first pair after `spoil` had its way with the scores.
    fn verdict(spoil: impl Fn(&Graph, &mut [f64])) -> Result<Report, String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model");
        let model = Model::load(&directory, &Device::Cpu, DType::F32).unwrap();
        let examples = pairs::read(&directory.join("pairs.json"), Metric::Nll, &directory).unwrap();
        let graph = Graph::layers(model.config.n_layers);
        let mut scored = Scored::new(&model, &graph, PLAN, &examples[0]).unwrap();
        spoil(&graph, &mut scored.map);
        report(&[scored], PLAN).map_err(|error| error.to_string())
    }

    #[test]
    fn scores_that_are_wrong_are_refused() {
        assert!(verdict(|_, _| ()).is_ok());
        let scaled = verdict(|_, map| map.iter_mut().for_each(|score| *score *= 1.2)).unwrap_err();
        assert!(scaled.contains("finite differences"), "{scaled}");
        let negated =
            verdict(|_, map| map.iter_mut().for_each(|score| *score = -*score)).unwrap_err();
        assert!(negated.contains("finite differences"), "{negated}");
    }

    #[test]
    fn columns_that_do_not_cancel_are_refused() {
        // Moves a tenth of the largest score from one query to the key of the same layer: no block reads another sum.
        let moved = verdict(|graph, map| {
            let (query, key) = (4, 5);
            let by = 0.1
                * map
                    .iter()
                    .fold(0.0, |most, score| f64::max(most, score.abs()));
            map[graph.n_targets() + query] += by;
            map[graph.n_targets() + key] -= by;
        });
        assert!(moved.unwrap_err().contains("do not cancel"));
    }
}
