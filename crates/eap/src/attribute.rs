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
    runs::{Means, Run, Setting, Shift, Wanted},
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
            _ => self.attribute(&[examples.to_vec()])?.swap_remove(0),
        };
        for (scores, example) in scores.iter().zip(examples) {
            finite(scores, example)?;
        }
        Ok(scores)
    }

    /// A contraction with this model's heads.
    pub fn contraction(&self) -> Contraction<'_> {
        let width = self.model.dtype().size_in_bytes();
        Contraction {
            graph: &self.graph,
            expansion: &self.expansion,
            d_model: self.model.config.d_model,
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

    /// Scores of the same documents under several truncations: `sets` of equally many examples, number i of one the
    /// beginning of number i of a longer one. Every forward pass is made once, on the longest.
    pub fn score_sets(&self, sets: &[Vec<&Example>]) -> anyhow::Result<Vec<Vec<Scores>>> {
        if sets.len() > 1 && self.shares(sets) {
            let scores = self.attribute(sets)?;
            let examples = sets.iter().flatten();
            for (scores, example) in scores.iter().flatten().zip(examples) {
                finite(scores, example)?;
            }
            return Ok(scores);
        }
        sets.iter().map(|examples| self.score(examples)).collect()
    }

    /// Whether passes over the longest examples hold those over all of them.
    fn shares(&self, sets: &[Vec<&Example>]) -> bool {
        let longest = longest(sets);
        let begins = |examples: &Vec<&Example>| {
            let pairs = examples.iter().zip(&longest);
            let mut pairs = pairs.map(|(part, whole)| {
                whole.tokens.starts_with(&part.tokens) && part.corrupted.is_none()
            });
            examples.len() == longest.len() && pairs.all(|begins| begins)
        };
        !matches!(self.plan.method, Method::Ifr | Method::Exact)
            && self.model.config.rotation_changes_after().is_none()
            && sets.iter().all(begins)
    }

    fn attribute(&self, sets: &[Vec<&Example>]) -> anyhow::Result<Vec<Vec<Scores>>> {
        let groups = self.plan.groups(self.graph.n_layers);
        let points = || groups.iter().flatten().map(|(point, _)| *point);
        let wanted = Wanted {
            clean: points().any(|point| point == Point::Clean),
            corrupted: points().any(Point::is_ablated_input),
        };
        let longest = longest(sets);
        let mut pass = Pass::new(self, &longest, sets, wanted)?;
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

fn finite(scores: &Scores, example: &Example) -> anyhow::Result<()> {
    let name = example.doc_id.as_deref().unwrap_or("a pair");
    ensure!(
        scores.map.iter().all(|score| score.is_finite()),
        "{name}: a score is not a finite number"
    );
    Ok(())
}

/// Of every document the example with the most tokens.
fn longest<'e>(sets: &[Vec<&'e Example>]) -> Vec<&'e Example> {
    let n = sets.first().map_or(0, Vec::len);
    let of_document = |number: usize| {
        let examples = sets.iter().map(move |examples| examples[number]);
        examples.max_by_key(|example| example.tokens.len())
    };
    (0..n).filter_map(of_document).collect()
}

/// Runs whose gradients are summed before they are contracted: each leaves the residuals its norms read.
const RUNS: usize = 8;

/// A stretch of one example's positions with scores of its own.
struct Cell {
    example: usize,
    /// ΔO of the example.
    differences: Blocks,
    place: Place,
    map: Vec<f64>,
}

/// The examples under one truncation.
struct Truncation<'a> {
    examples: &'a [&'a Example],
    /// Positions of a row of the batch.
    seq: usize,
    readout: Readout,
    /// Logits of the clean run, for divergences.
    reference: Option<model::Tensor>,
    cells: Vec<Cell>,
}

/// The passes over one batch.
struct Pass<'a> {
    scorer: &'a Scorer<'a>,
    /// Of every document the longest example.
    longest: &'a [&'a Example],
    run: Run,
    truncations: Vec<Truncation<'a>>,
}

impl<'a> Pass<'a> {
    fn new(
        scorer: &'a Scorer<'a>,
        longest: &'a [&'a Example],
        sets: &'a [Vec<&'a Example>],
        wanted: Wanted,
    ) -> anyhow::Result<Self> {
        let run = Run::new(scorer.setting(), longest, wanted)?;
        let truncations = sets
            .iter()
            .map(|examples| Truncation::new(scorer, &run, examples));
        Ok(Self {
            scorer,
            longest,
            truncations: truncations.collect::<anyhow::Result<_>>()?,
            run,
        })
    }

    /// The runs of one group, contracted with these sources.
    fn group(&mut self, points: &[(Point, f64)], sources: &Range<usize>) -> anyhow::Result<()> {
        let scorer = self.scorer;
        let contraction = scorer.contraction();
        let mut reads = Reads::new(&scorer.graph, &scorer.expansion);
        reads.norms_constant = scorer.plan.rules().norms_constant;
        let mut all: Vec<Reads<'_>> = vec![reads; self.truncations.len()];
        for (number, &(point, weight)) in points.iter().enumerate() {
            for reads in &mut all {
                reads.weight = weight;
            }
            self.run(point, &mut all)?;
            if all.iter().all(|reads| reads.runs() < RUNS) && number + 1 < points.len() {
                continue;
            }
            for (truncation, reads) in self.truncations.iter_mut().zip(&mut all) {
                for cell in &mut truncation.cells {
                    let Cell {
                        differences,
                        place,
                        map,
                        ..
                    } = cell;
                    contraction.add(map, differences, reads, place, sources)?;
                }
                reads.clear();
            }
        }
        Ok(())
    }

    /// One forward pass, and a reverse pass for every truncation.
    fn run(&mut self, point: Point, all: &mut [Reads<'_>]) -> anyhow::Result<()> {
        let (model, mut held) = (self.scorer.model, None);
        let ablated = point.is_ablated_input() && self.run.corrupted.is_some();
        let mut skips = false;
        let trace = match point {
            Point::Clean => self
                .run
                .clean
                .take()
                .context("the clean run is read once")?,
            _ if ablated => {
                let trace = self.run.corrupted.take();
                trace.context("the corrupted run is read once")?
            }
            Point::Between {
                block,
                share,
                held: holds,
            } => {
                let setting = self.scorer.setting();
                let mut shift = Shift::new(setting, &self.run.differences, block, share)?;
                held = (holds && block > 0).then_some(shift.hook);
                skips = holds && block == 0;
                self.run.again(model, self.longest, &mut shift)?
            }
        };
        let trace = trace.with_rules(self.scorer.plan.rules());
        let mut trace = match held {
            Some(hook) => trace.holding(hook),
            None => trace,
        };
        let whole = 0..self.longest.len();
        let several = self.truncations.len() > 1;
        for (truncation, reads) in self.truncations.iter().zip(all) {
            reads.skips_first_attention = skips;
            if several {
                let mut part = trace.part(model, &whole, truncation.seq)?;
                truncation.reverse(model, &mut part, reads)?;
            } else {
                truncation.reverse(model, &mut trace, reads)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<Vec<Scores>> {
        let (scorer, start) = (self.scorer, self.run.start);
        let truncations = self.truncations.into_iter();
        truncations
            .map(|truncation| truncation.finish(scorer, start))
            .collect()
    }
}

impl<'a> Truncation<'a> {
    fn new(scorer: &Scorer<'_>, run: &Run, examples: &'a [&'a Example]) -> anyhow::Result<Self> {
        let (model, start) = (scorer.model, run.start);
        let lengths = examples.iter().map(|example| example.tokens.len());
        let seq = lengths.max().unwrap_or(start) - start;
        let mut cells = Vec::new();
        for (row, example) in examples.iter().enumerate() {
            let own = run.differences.row(row, example.tokens.len() - start)?;
            let positions = scorer.positions(example);
            let positions = positions.start.max(start) - start..positions.end - start;
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
        let readout = Readout::from_start(examples, seq, start);
        let reference = if examples.iter().any(|example| example.is_divergence()) {
            let whole = run.differences.0[0].dim(1)?;
            let rows = Readout::from_start(examples, whole, start).rows;
            let rows = model::Tensor::new(rows, model.device())?;
            Some(model.logits_of(&run.last.index_select(&rows, 0)?)?)
        } else {
            None
        };
        Ok(Self {
            examples,
            seq,
            readout,
            reference,
            cells,
        })
    }

    /// One reverse pass.
    fn reverse(
        &self,
        model: &Model,
        trace: &mut model::Trace,
        reads: &mut Reads<'_>,
    ) -> anyhow::Result<()> {
        let logits = model.logits_at(trace, &self.readout.rows)?;
        let losses = self
            .readout
            .losses(&logits, self.reference.as_ref(), self.examples)?;
        model.backward(trace, &losses.d_logits, reads, None)?;
        Ok(())
    }

    fn finish(self, scorer: &Scorer<'_>, start: usize) -> Vec<Scores> {
        let empty = || Scores {
            map: vec![0.0; scorer.graph.n_entries()],
            positions: Vec::new(),
        };
        let mut scores: Vec<Scores> = self.examples.iter().map(|_| empty()).collect();
        for cell in self.cells {
            let own = &mut scores[cell.example];
            own.map
                .iter_mut()
                .zip(&cell.map)
                .for_each(|(sum, score)| *sum += score);
            if scorer.by_position {
                let position = start + cell.place.positions.start;
                own.positions.push((position, cell.map));
            }
        }
        scores
    }
}
