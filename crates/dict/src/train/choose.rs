//! Which features of a batch are kept: the encoder's product, searched as the rule says.

use super::compute::Task;
use super::history::History;
use super::kernels::Kernels;
use super::parameters::rank_weights;
use super::part::Part;
use crate::codes::Codes;
use crate::encode::{JUMP, jump_scale};
use crate::rule::Rule;
use crate::search::{Search, batch_top_k, search};
use kernels::linear::{Layer, Matrix, linear};
use kernels::matmul_nt;
use std::ops::Range;

/// What was kept of a batch.
pub(super) struct Chosen {
    /// The entries, by what they reconstruct.
    pub(super) parts: Vec<Part>,
    /// Rank weights of each code `[n_features]`.
    pub(super) weights: Vec<Vec<f32>>,
    /// Smallest rank value kept of each code, for rules that rank the batch.
    pub(super) smallest: Vec<Option<f32>>,
    /// Rank value of every entry (`jumprelu`).
    pub(super) values: Vec<f32>,
    /// The largest dead features of each row, where they are to be revived.
    pub(super) dead: Option<Codes>,
    /// How many codes a row has.
    n_codes: usize,
}

impl Chosen {
    /// Mean active features per row and code.
    pub(super) fn l0(&self, n_rows: usize) -> f64 {
        let active = self.parts.iter().flat_map(|part| &part.codes.activations);
        active.filter(|&&value| value > 0.0).count() as f64 / (n_rows * self.n_codes) as f64
    }
}

impl Kernels {
    /// Searches the batch.
    pub(super) fn choose(&mut self, task: &Task<'_>, norms: &[f32], history: &History) -> Chosen {
        let weights = rank_weights_by_code(task, norms);
        self.scratch.guesses.resize(weights.len(), None);
        let mut dead = dead_search(task, &weights, history);
        let mut chosen = Vec::new();
        for (code, weights) in weights.iter().enumerate() {
            chosen.push(self.choose_one((code, weights), task, &mut dead));
        }
        let smallest = chosen.iter().map(|(_, smallest)| *smallest).collect();
        let codes: Vec<Codes> = chosen.into_iter().map(|(codes, _)| codes).collect();
        let n_codes = codes.len();
        let mut values = Vec::new();
        let mut parts = cut(task, codes);
        if let Rule::JumpRelu { .. } = task.settings.rule {
            values = self.close_gates(&mut parts[0].codes, &weights[0]);
        }
        Chosen {
            parts,
            weights,
            smallest,
            values,
            dead: dead.and_then(|(search, done)| done.then(|| search.codes(|_, _| true))),
            n_codes,
        }
    }

    /// Codes under one set of rank weights, and the smallest rank value where the batch was ranked.
    fn choose_one(
        &mut self,
        (code, weights): (usize, &[f32]),
        task: &Task<'_>,
        dead: &mut Option<(Search, bool)>,
    ) -> (Codes, Option<f32>) {
        let (k, n_rows) = (task.schedule.k.unwrap_or(0.0), task.n_rows);
        let mut wanted = match task.settings.rule {
            Rule::BatchTopK { .. } | Rule::Matryoshka { .. } => {
                let (guess, keep) = (self.scratch.guesses[code], (k * n_rows as f64) as usize);
                let run = |n: usize, found: &mut Search| self.search(n, task, found, dead);
                let (codes, smallest) = batch_top_k((n_rows, keep), weights, guess, run);
                self.scratch.guesses[code] = smallest;
                return (codes, smallest);
            }
            Rule::L1 { .. } => Search::above(weights.to_vec(), 0.0, n_rows),
            Rule::TopK { .. } => Search::largest(weights.to_vec(), k.round() as usize, n_rows),
            Rule::JumpRelu { bandwidth, .. } => {
                let floors: Vec<f32> = self
                    .parameters
                    .thresholds
                    .iter()
                    .map(|value| value - bandwidth / 2.0)
                    .collect();
                Search::above(jump_scale(weights, &floors), JUMP, n_rows)
            }
        };
        self.search(n_rows, task, &mut wanted, dead);
        (wanted.codes(|_, _| true), None)
    }

    /// Searches the first `n` rows; for the dead features too, the first time that all rows are.
    fn search(
        &mut self,
        n: usize,
        task: &Task<'_>,
        wanted: &mut Search,
        dead: &mut Option<(Search, bool)>,
    ) {
        let (d_total, narrow) = (task.layout.d_total, task.settings.precision.narrow());
        let (x, encoder) = (&task.x[..n * d_total], &self.parameters.encoder);
        let product = |features: Range<usize>, out: &mut [f32]| {
            let rows = &encoder[features.start * d_total..features.end * d_total];
            let layer = Layer {
                weight: Matrix::F32(rows),
                bias: None,
            };
            match narrow {
                None => matmul_nt(out, x, rows, (n, features.len(), d_total)),
                Some(narrow) => linear(&mut [out], x, d_total, &[layer], narrow),
            }
        };
        let room = (
            self.parameters.encoder_bias.as_slice(),
            &mut self.scratch.product,
        );
        match dead {
            Some((dead, done)) if n == task.n_rows && !*done => {
                *done = true;
                search(&mut [wanted, dead], room, product);
            }
            _ => search(&mut [wanted], room, product),
        }
    }

    /// Sets the activations at or below their threshold to 0; the rank value of every entry.
    fn close_gates(&self, codes: &mut Codes, weights: &[f32]) -> Vec<f32> {
        let entries = codes.features.iter().zip(&mut codes.activations);
        entries
            .map(|(&feature, activation)| {
                let value = *activation * weights[feature as usize];
                if value <= self.parameters.thresholds[feature as usize] {
                    *activation = 0.0;
                }
                value
            })
            .collect()
    }
}

/// Factors of the rank values, one set for each code: `w_k`, or `‖d_k^m‖` of every model for decoupled codes.
fn rank_weights_by_code(task: &Task<'_>, norms: &[f32]) -> Vec<Vec<f32>> {
    let n_models = task.layout.models.len();
    let normalization = &task.settings.code_normalization;
    if !normalization.is_decoupled() {
        return vec![rank_weights(normalization, norms, n_models)];
    }
    let of = |model: usize| {
        norms
            .iter()
            .skip(model)
            .step_by(n_models)
            .copied()
            .collect()
    };
    (0..n_models).map(of).collect()
}

/// A search for the dead features that could be revived, and whether it was done.
fn dead_search(task: &Task<'_>, weights: &[Vec<f32>], history: &History) -> Option<(Search, bool)> {
    if task.settings.aux_coefficient <= 0.0
        || !history.dead(task.settings.dead_after).any(|dead| dead)
    {
        return None;
    }
    let masked = |(dead, weight): (bool, &f32)| if dead { *weight } else { 0.0 };
    let weights = history
        .dead(task.settings.dead_after)
        .zip(&weights[0])
        .map(masked)
        .collect();
    Some((
        Search::largest(weights, task.settings.aux_k, task.n_rows),
        false,
    ))
}

/// Cuts the codes by what they reconstruct.
fn cut(task: &Task<'_>, mut codes: Vec<Codes>) -> Vec<Part> {
    let all = 0..task.layout.d_total;
    if task.settings.code_normalization.is_decoupled() {
        let parts = codes.into_iter().zip(&task.layout.models);
        return parts
            .map(|(codes, model)| Part::new(codes, model.clone()))
            .collect();
    }
    let codes = codes.pop().unwrap_or_default();
    if task.settings.groups.is_empty() {
        vec![Part::new(codes, all)]
    } else {
        Part::nested(&codes, &task.settings.groups, &all)
    }
}
