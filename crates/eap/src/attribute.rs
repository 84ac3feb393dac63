//! Edge attribution patching: the score of u→v is Σ ⟨ΔO, ∂L/∂H⟩ over positions and width.
//!
//! ΔO is what ablating the source u adds to the stream: −O for zero ablation, the corrupted run's output minus the clean
//! one's for patching. H is the residual the target v reads, before its norm. Sources are kept for the batch, gradients are
//! contracted as the reverse pass meets them, so memory is that of the sources: `n_sources × batch × seq × d_model`.
//! Products and sums are f64, example by example: no score depends on what else is in its batch.

use anyhow::{Context, ensure};
use clap::ValueEnum;
use model::{Batch, GradientTap, Hook, Model, Recorder, Site, Tap, Tensor, Trace};
use serde::Serialize;

use crate::{
    example::{Example, loss},
    graph::Graph,
    node::{Part, Source, Target},
    values::Values,
};

/// How ΔO and the gradient are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Zero ablation, gradient on the sequence itself (arXiv 2509.21044)
    EapZero,
    /// Patching by the corrupted run, gradient on the clean one
    Eap,
    /// Patching, mean of the gradients on the clean and on the corrupted run
    CleanCorrupted,
    /// Patching, mean gradient over interpolated embeddings from the corrupted one to short of the clean one
    EapIgInputs,
}

/// Where a gradient is taken.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// On the clean run.
    Clean,
    /// With this share of the clean embedding and the rest of the corrupted one.
    Mixed(f64),
}

/// A method with its number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The method.
    pub method: Method,
    /// Interpolations of `eap-ig-inputs`.
    pub steps: usize,
}

impl Plan {
    /// Where the gradient is taken, averaged over these.
    fn points(self) -> Vec<Point> {
        match self.method {
            Method::EapZero | Method::Eap => vec![Point::Clean],
            Method::CleanCorrupted => vec![Point::Clean, Point::Mixed(0.0)],
            Method::EapIgInputs => (0..self.steps)
                .map(|step| Point::Mixed(step as f64 / self.steps as f64))
                .collect(),
        }
    }

    /// The method with the same ablation whose gradient is that of the clean run alone: what finite differences test.
    #[must_use]
    pub fn at_the_clean_point(self) -> Self {
        let method = if self.needs_corrupted() {
            Method::Eap
        } else {
            Method::EapZero
        };
        Self { method, ..self }
    }

    /// Whether every example needs a corrupted sequence.
    pub fn needs_corrupted(self) -> bool {
        self.method != Method::EapZero
    }
}

/// One matrix `[n_sources, n_targets]` per example, row by row, 0 where there is no edge.
pub fn attribute(
    model: &Model,
    graph: &Graph,
    plan: Plan,
    examples: &[&Example],
) -> anyhow::Result<Vec<Vec<f64>>> {
    let batch = clean_batch(examples);
    let Run {
        clean,
        differences,
        embeddings,
    } = Run::new(model, graph, plan, examples)?;
    let (mut clean, points) = (Some(clean), plan.points());
    let mut contraction =
        Contraction::new(graph, &differences, examples, 1.0 / points.len() as f64)?;
    drop(differences);
    for point in points {
        let (logits, trace) = match point {
            Point::Clean => clean.take().context("the clean run is read once")?,
            Point::Mixed(share) => model.forward_trace(
                &batch,
                &mut Mix {
                    embeddings: &embeddings,
                    share,
                },
            )?,
        };
        let (_, d_logits) = loss(&logits, examples)?;
        model.backward(&trace, &d_logits, &mut contraction, None)?;
    }
    contraction.finish()
}

/// The clean sequences side by side.
pub fn clean_batch(examples: &[&Example]) -> Batch {
    let tokens: Vec<Vec<u32>> = examples
        .iter()
        .map(|example| example.tokens.clone())
        .collect();
    // Padding comes after every token that counts: no position that counts can see it.
    Batch::right_padded(&tokens, 0)
}

fn corrupted_batch(examples: &[&Example]) -> anyhow::Result<Batch> {
    let tokens = examples.iter().map(|example| {
        example
            .corrupted
            .clone()
            .context("an example has no corrupted tokens")
    });
    Ok(Batch::right_padded(
        &tokens.collect::<anyhow::Result<Vec<_>>>()?,
        0,
    ))
}

/// The hook at which a source is written.
pub fn hook_of(source: Source) -> Hook {
    match source {
        Source::Input => Hook::new(Site::Embed, 0),
        Source::Attention { layer, .. } => Hook::new(Site::AttnOut, layer),
        Source::Mlp { layer } => Hook::new(Site::MlpOut, layer),
    }
}

/// The node of a target of the reverse pass.
fn node_of(target: model::Target) -> Target {
    let attention = |layer, part| Target::Attention {
        layer,
        head: None,
        part,
    };
    match target {
        model::Target::Q(layer) => attention(layer, Part::Query),
        model::Target::K(layer) => attention(layer, Part::Key),
        model::Target::V(layer) => attention(layer, Part::Value),
        model::Target::Mlp(layer) => Target::Mlp { layer },
        model::Target::Logits => Target::Logits,
    }
}

/// The clean run, and what ablating each source would change in it.
pub struct Run {
    /// Logits and trace.
    pub clean: (Tensor, Trace),
    /// ΔO of every source of the graph, in its order: `[batch, seq, d_model]`.
    pub differences: Vec<Tensor>,
    /// Clean and corrupted embedding; the corrupted one only when the method patches.
    embeddings: (Tensor, Option<Tensor>),
}

impl Run {
    /// Runs the clean sequences, and the corrupted ones when the method patches.
    pub fn new(
        model: &Model,
        graph: &Graph,
        plan: Plan,
        examples: &[&Example],
    ) -> anyhow::Result<Self> {
        let mut recorder = recorder(graph);
        let clean = model.forward_trace(&clean_batch(examples), &mut recorder)?;
        let outputs = in_order(recorder, graph)?;
        let corrupted = plan
            .needs_corrupted()
            .then(|| corrupted_outputs(model, graph, examples))
            .transpose()?;
        let differences = match &corrupted {
            Some(corrupted) => corrupted
                .iter()
                .zip(&outputs)
                .map(|(to, from)| to - from)
                .collect::<Result<Vec<_>, _>>()?,
            None => outputs.iter().map(Tensor::neg).collect::<Result<_, _>>()?,
        };
        let embeddings = (
            outputs[0].clone(),
            corrupted.map(|outputs| outputs[0].clone()),
        );
        Ok(Self {
            clean,
            differences,
            embeddings,
        })
    }
}

fn recorder(graph: &Graph) -> Recorder {
    Recorder::new((0..graph.n_sources()).map(|index| hook_of(graph.source(index))))
}

fn corrupted_outputs(
    model: &Model,
    graph: &Graph,
    examples: &[&Example],
) -> anyhow::Result<Vec<Tensor>> {
    let mut recorder = recorder(graph);
    model.forward(&corrupted_batch(examples)?, &mut recorder)?;
    in_order(recorder, graph)
}

/// What every source wrote, in the order of the graph: `[batch, seq, d_model]` each.
fn in_order(mut recorder: Recorder, graph: &Graph) -> anyhow::Result<Vec<Tensor>> {
    let taken = (0..graph.n_sources())
        .map(|index| recorder.activations.remove(&hook_of(graph.source(index))));
    taken
        .collect::<Option<Vec<_>>>()
        .context("the model did not show every source")
}

/// Replaces the embedding by a mixture of the clean and the corrupted one.
struct Mix<'a> {
    embeddings: &'a (Tensor, Option<Tensor>),
    /// Share of the clean embedding.
    share: f64,
}

impl Tap for Mix<'_> {
    fn wants(&self, hook: Hook) -> bool {
        hook.site == Site::Embed
    }

    fn tap(&mut self, _: Hook, activation: Tensor) -> model::Result<Tensor> {
        let (clean, Some(corrupted)) = self.embeddings else {
            return Ok(activation);
        };
        Ok((((clean - corrupted)? * self.share)? + corrupted)?)
    }
}

/// Contracts every gradient it is shown with the ΔO of the sources before its target.
pub struct Contraction<'a> {
    graph: &'a Graph,
    examples: &'a [&'a Example],
    /// ΔO of every source.
    differences: Vec<Values>,
    /// Positions per row of the batch, padding included, and numbers per position.
    shape: (usize, usize),
    weight: f64,
    maps: Vec<Vec<f64>>,
}

impl<'a> Contraction<'a> {
    /// Starts at zero; every gradient counts `weight` times.
    pub fn new(
        graph: &'a Graph,
        differences: &[Tensor],
        examples: &'a [&'a Example],
        weight: f64,
    ) -> anyhow::Result<Self> {
        let (_, seq, d_model) = differences
            .first()
            .context("a graph has sources")?
            .dims3()?;
        let differences = differences
            .iter()
            .map(Values::of)
            .collect::<Result<_, _>>()?;
        let maps = vec![vec![0.0; graph.n_entries()]; examples.len()];
        Ok(Self {
            graph,
            examples,
            differences,
            shape: (seq, d_model),
            weight,
            maps,
        })
    }

    /// The matrices, once every gradient was seen.
    ///
    /// # Errors
    /// When a score is not a finite number.
    pub fn finish(self) -> anyhow::Result<Vec<Vec<f64>>> {
        for (map, example) in self.maps.iter().zip(self.examples) {
            let name = example.doc_id.as_deref().unwrap_or("a pair");
            ensure!(
                map.iter().all(|score| score.is_finite()),
                "{name}: a score is not a finite number"
            );
        }
        Ok(self.maps)
    }
}

impl GradientTap for Contraction<'_> {
    fn wants(&self, target: model::Target) -> bool {
        self.graph.target_index(node_of(target)).is_some()
    }

    fn gradient(&mut self, target: model::Target, gradient: Tensor) -> model::Result<()> {
        let Some(column) = self.graph.target_index(node_of(target)) else {
            return Ok(());
        };
        let ((seq, d_model), gradient) = (self.shape, Values::of(&gradient)?);
        for (row, (map, example)) in self.maps.iter_mut().zip(self.examples).enumerate() {
            let span = example.span();
            let numbers = (row * seq + span.start) * d_model..(row * seq + span.end) * d_model;
            for (source, difference) in self
                .differences
                .iter()
                .enumerate()
                .take(self.graph.n_sources_before(column))
            {
                let score = difference.dot(&gradient, numbers.clone());
                map[source * self.graph.n_targets() + column] += self.weight * score;
            }
        }
        Ok(())
    }
}
