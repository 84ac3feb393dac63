//! Edge attribution patching: the score of u→v is Σ ⟨ΔO, ∂L/∂H⟩ over positions and width.
//!
//! ΔO is what ablating the source u adds to the stream, H the residual the target v reads before its norm. Every method is
//! a list of runs; the gradients of all of them are summed first and contracted with ΔO once, so that interpolation costs
//! passes through the model and nothing else. Memory is O(layers · positions · `d_model`) (see `reads`, `contract`).
//! Examples of a batch do not see each other: no score depends on what else is in its batch.

use std::ops::Range;

use anyhow::{Context, ensure};
use model::Model;

use crate::{
    blocks::{Blocks, sources_of},
    contract::{Contraction, Place, tile_positions},
    exact,
    example::Example,
    expand::Expansion,
    graph::Graph,
    loss::Readout,
    method::{Ablation, Method, Plan, Point},
    reads::Reads,
    routes,
    runs::{Means, Run, Setting, Shift, clean_batch},
};

/// Scores of one example.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// `[n_sources, n_targets]`, row by row, 0 where there is no edge.
    pub map: Vec<f64>,
    /// The same position by position, when asked for: each position's share of `map`.
    pub positions: Vec<(usize, Vec<f64>)>,
}

/// Scores the edges of one model.
#[derive(Debug)]
pub struct Scorer<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its graph.
    pub graph: Graph,
    /// How edges are scored.
    pub plan: Plan,
    /// Whether positions are kept apart.
    pub by_position: bool,
    /// `exact`: the edges that are patched, as (row, column); all of them when absent.
    pub edges: Option<Vec<(usize, usize)>>,
    /// Weights of its heads.
    pub expansion: Expansion,
    means: Option<Means>,
}

impl<'a> Scorer<'a> {
    /// Prepares a model; `examples` are all of the run, for mean ablations.
    pub fn new(
        model: &'a Model,
        graph: Graph,
        plan: Plan,
        examples: &[&Example],
    ) -> anyhow::Result<Self> {
        Ok(Self {
            model,
            graph,
            plan,
            by_position: false,
            edges: None,
            expansion: Expansion::new(model, &graph)?,
            means: Means::for_ablation(model, &graph, plan.ablation, examples)?,
        })
    }

    /// The same with another method of the same ablation.
    #[must_use]
    pub fn with_plan(&self, plan: Plan) -> Self {
        Self {
            plan,
            edges: None,
            by_position: false,
            expansion: self.expansion.clone(),
            means: self.means.clone(),
            ..*self
        }
    }

    /// What its runs are made for.
    pub fn setting(&self) -> Setting<'_> {
        Setting {
            model: self.model,
            graph: &self.graph,
            plan: self.plan,
            means: self.means.as_ref(),
            expansion: &self.expansion,
        }
    }

    /// Scores of every example of a batch.
    pub fn score(&self, examples: &[&Example]) -> anyhow::Result<Vec<Scores>> {
        let scores = match self.plan.method {
            Method::Ifr => routes::flow(self, examples)?,
            Method::Exact => exact::all(self, examples)?,
            _ => self.attribute(examples)?,
        };
        for (scores, example) in scores.iter().zip(examples) {
            let name = example.doc_id.as_deref().unwrap_or("a pair");
            ensure!(
                scores.map.iter().all(|score| score.is_finite()),
                "{name}: a score is not a finite number"
            );
        }
        Ok(scores)
    }

    /// A contraction with this model's heads.
    pub fn contraction(&self) -> Contraction<'_> {
        let width = self.model.dtype().size_in_bytes();
        Contraction {
            graph: &self.graph,
            expansion: &self.expansion,
            tile: tile_positions(&self.graph, self.model.config.d_model, width),
        }
    }

    /// Positions of an example at which ΔO may differ from 0.
    pub fn positions(&self, example: &Example) -> Range<usize> {
        match self.plan.ablation {
            Ablation::Corrupted => example.differing(),
            _ => example.span(),
        }
    }

    fn attribute(&self, examples: &[&Example]) -> anyhow::Result<Vec<Scores>> {
        let groups = self.plan.groups(self.graph.n_layers);
        let divergence = examples.iter().any(|example| example.is_divergence());
        let at_clean = groups
            .iter()
            .flatten()
            .any(|(point, _)| *point == Point::Clean);
        let Run { clean, differences } =
            Run::new(self.setting(), examples, at_clean || divergence)?;
        let mut pass = Pass::new(self, examples, &differences, clean)?;
        let n_groups = groups.len();
        for (block, points) in groups.into_iter().enumerate() {
            let sources = if n_groups == 1 {
                0..self.graph.n_sources()
            } else {
                sources_of(&self.graph, block)
            };
            pass.group(&points, &sources)?;
        }
        Ok(pass.finish())
    }
}

/// A stretch of one example's positions with scores of its own.
struct Cell {
    example: usize,
    /// ΔO of the example.
    differences: Blocks,
    place: Place,
    map: Vec<f64>,
}

/// The passes over one batch.
struct Pass<'a> {
    scorer: &'a Scorer<'a>,
    examples: &'a [&'a Example],
    differences: &'a Blocks,
    readout: Readout,
    clean: Option<(model::Tensor, model::Trace)>,
    /// Logits of the clean run, for divergences.
    reference: Option<model::Tensor>,
    cells: Vec<Cell>,
}

impl<'a> Pass<'a> {
    fn new(
        scorer: &'a Scorer<'a>,
        examples: &'a [&'a Example],
        differences: &'a Blocks,
        clean: Option<(model::Tensor, model::Trace)>,
    ) -> anyhow::Result<Self> {
        let seq = clean_batch(examples).seq;
        let mut cells = Vec::new();
        for (row, example) in examples.iter().enumerate() {
            let own = differences.row(row, example.tokens.len())?;
            let positions = scorer.positions(example);
            let stretches: Vec<Range<usize>> = if scorer.by_position {
                positions.map(|position| position..position + 1).collect()
            } else {
                vec![positions]
            };
            cells.extend(stretches.into_iter().map(|positions| Cell {
                example: row,
                differences: own.clone(),
                place: Place {
                    offset: row * seq,
                    positions,
                },
                map: vec![0.0; scorer.graph.n_entries()],
            }));
        }
        Ok(Self {
            scorer,
            examples,
            differences,
            readout: Readout::new(examples, seq),
            reference: clean.as_ref().map(|(logits, _)| logits.clone()),
            clean,
            cells,
        })
    }

    /// The runs of one group, contracted with these sources.
    fn group(&mut self, points: &[(Point, f64)], sources: &Range<usize>) -> anyhow::Result<()> {
        let scorer = self.scorer;
        let contraction = scorer.contraction();
        let mut reads = Reads::new(&scorer.graph, &scorer.expansion);
        reads.norms_constant = scorer.plan.rules().norms_constant;
        for (number, &(point, weight)) in points.iter().enumerate() {
            if number > 0 {
                let norms = reads.take_norms();
                for Cell {
                    differences,
                    place,
                    map,
                    ..
                } in &mut self.cells
                {
                    contraction.add_norms(map, differences, &norms, place, sources)?;
                }
            }
            reads.weight = weight;
            self.run(point, &mut reads)?;
        }
        for Cell {
            differences,
            place,
            map,
            ..
        } in &mut self.cells
        {
            contraction.add(map, differences, &reads, place, sources)?;
        }
        Ok(())
    }

    /// One forward and reverse pass.
    fn run(&mut self, point: Point, reads: &mut Reads<'_>) -> anyhow::Result<()> {
        let (model, mut held) = (self.scorer.model, None);
        reads.skips_first_attention = false;
        let (logits, trace) = match point {
            Point::Clean => self.clean.take().context("the clean run is read once")?,
            Point::Between {
                block,
                share,
                held: holds,
            } => {
                let setting = self.scorer.setting();
                let mut shift = Shift::new(setting, self.differences, block, share)?;
                held = (holds && block > 0).then_some(shift.hook);
                reads.skips_first_attention = holds && block == 0;
                let batch = clean_batch(self.examples);
                model.forward_trace_at(&batch, &self.readout.rows, &mut shift)?
            }
        };
        let trace = trace.with_rules(self.scorer.plan.rules());
        let trace = match held {
            Some(hook) => trace.holding(hook),
            None => trace,
        };
        let losses = self
            .readout
            .losses(&logits, self.reference.as_ref(), self.examples)?;
        model.backward(&trace, &losses.d_logits, reads, None)?;
        Ok(())
    }

    fn finish(self) -> Vec<Scores> {
        let empty = || Scores {
            map: vec![0.0; self.scorer.graph.n_entries()],
            positions: Vec::new(),
        };
        let mut scores: Vec<Scores> = self.examples.iter().map(|_| empty()).collect();
        for cell in self.cells {
            let own = &mut scores[cell.example];
            own.map
                .iter_mut()
                .zip(&cell.map)
                .for_each(|(sum, score)| *sum += score);
            if self.scorer.by_position {
                own.positions.push((cell.place.positions.start, cell.map));
            }
        }
        scores
    }
}
