//! Edge attribution patching: the score of u→v is Σ ⟨ΔO, ∂L/∂H⟩ over positions and width.
//!
//! ΔO is what ablating the source u adds to the stream, H the residual the target v reads before its norm. Every method is
//! a list of runs; the gradients of all of them are summed first and contracted with ΔO once, so that interpolation costs
//! passes through the model and nothing else. Memory is O(layers · positions · `d_model`) (see `reads`, `contract`).
//! Examples of a batch do not see each other: no score depends on what else is in its batch.

use std::ops::Range;

use anyhow::ensure;
use model::Model;

use crate::{
    blocks::sources_of,
    contract::{Contraction, tile_positions},
    exact,
    example::Example,
    expand::Expansion,
    graph::Graph,
    method::{Ablation, Method, Plan, Point},
    pass::Pass,
    routes,
    runs::{Means, Setting, Wanted},
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
            read_from: read_from(sets),
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

/// The first position whose logits any of them reads.
fn read_from(sets: &[Vec<&Example>]) -> usize {
    let examples = sets.iter().flatten();
    let read = examples.flat_map(|example| example.positions_read());
    read.min().unwrap_or(0)
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
