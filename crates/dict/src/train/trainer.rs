//! The training loop's body: one batch in, one optimizer step.

use super::aux::{Aux, AuxLoss};
use super::backward::{self, Batch};
use super::forward;
use super::parameters::{Layout, Parameters, geometric_median};
use super::settings::{Schedule, Settings};
use crate::codes::Codes;
use crate::crosscoder::Crosscoder;
use crate::normalizer::Normalizer;
use crate::rule::{CodeNormalization, Rule};
use crate::select;
use kernels::adam::{AdamStep, adam};
use rayon::prelude::*;

/// What a crosscoder is trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Label of each model.
    pub labels: Vec<String>,
    /// Width of each model.
    pub widths: Vec<usize>,
    /// Normaliser of each model.
    pub normalizer: Vec<Normalizer>,
    /// Hook of the activations.
    pub hook: String,
    /// Digest of the tokenizer.
    pub tokenizer_digest: String,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Step, from 1.
    pub step: u64,
    /// Rows seen so far.
    pub rows: u64,
    /// Loss, with its sparsity and auxiliary terms.
    pub loss: f64,
    /// Share of the batch's variance explained, mean over models, at most 1.
    pub explained_variance: f64,
    /// Mean active features per row.
    pub l0: f64,
    /// Share of features silent for the dead window, 0 to 1.
    pub dead: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Features kept per row by the rule at this step; `None` for rules without one.
    pub k: Option<f64>,
    /// ‖gradient‖₂ before clipping.
    pub gradient_norm: f64,
}

/// A crosscoder in training.
#[derive(Debug, Clone, PartialEq)]
pub struct Trainer {
    pub(super) settings: Settings,
    pub(super) subject: Subject,
    pub(super) layout: Layout,
    pub(super) parameters: Parameters,
    /// First moments of Adam.
    pub(super) first: Parameters,
    /// Second moments of Adam.
    pub(super) second: Parameters,
    gradients: Parameters,
    pub(super) steps_done: u64,
    pub(super) rows_seen: u64,
    /// Rows since each feature last fired `[n_features]`.
    pub(super) silent: Vec<u64>,
    pub(super) threshold: Option<f32>,
    scratch: Scratch,
}

/// Buffers kept from step to step: fresh ones cost page faults.
#[derive(Debug, Clone, Default, PartialEq)]
struct Scratch {
    /// Normalised activations `[n_rows, d_total]`.
    x: Vec<f32>,
    /// Dense activations `[n_rows, n_features]`.
    activations: Vec<f32>,
    /// x̂ − x, then the gradient of the reconstruction `[n_rows, d_total]`.
    error: Vec<f32>,
}

impl Trainer {
    /// Initial weights from the seed.
    pub fn new(settings: Settings, subject: Subject) -> Self {
        let layout = Layout::new(&subject.widths);
        let zeros = Parameters::zeros(settings.n_features, layout.d_total);
        Self {
            parameters: Parameters::random(&settings, &layout),
            first: zeros.clone(),
            second: zeros.clone(),
            gradients: zeros,
            silent: vec![0; settings.n_features],
            steps_done: 0,
            rows_seen: 0,
            threshold: None,
            scratch: Scratch::default(),
            settings,
            subject,
            layout,
        }
    }

    /// Settings of the run.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What it is trained on.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Steps done so far.
    pub fn steps_done(&self) -> u64 {
        self.steps_done
    }

    /// Rows seen so far.
    pub fn rows_seen(&self) -> u64 {
        self.rows_seen
    }

    /// One optimizer step on a batch: each model's activations `[n_rows, d_model]` in the model's own units.
    ///
    /// # Panics
    /// When the models disagree on the number of rows, or there are none.
    pub fn step(&mut self, x: &[&[f32]]) -> StepReport {
        let n_rows = self.load(x);
        let schedule = self.settings.at(self.steps_done + 1);
        let (codes, weights) = self.encode(&schedule);
        self.note_firing(&codes, n_rows);
        forward::error(
            &self.parameters,
            &codes,
            &self.scratch.x,
            &mut self.scratch.error,
        );
        let aux = self.aux(&weights);
        let loss = forward::loss_and_gradient(
            &mut self.scratch.error,
            &self.layout,
            self.settings.distance,
        );
        let penalty = schedule.sparsity / n_rows as f32;
        self.differentiate(&codes, aux.as_ref(), penalty);
        let gradient_norm = backward::gradient_norm(&self.gradients);
        self.update(schedule.learning_rate, gradient_norm);
        let sparsity_loss = f64::from(penalty) * weighted_sum(&codes, &weights);
        StepReport {
            step: self.steps_done,
            rows: self.rows_seen,
            loss: loss.value + sparsity_loss + aux.map_or(0.0, |aux| aux.value),
            explained_variance: self.explained_variance(&loss.squared),
            l0: codes.len() as f64 / n_rows as f64,
            dead: self.dead().filter(|&dead| dead).count() as f64 / self.settings.n_features as f64,
            learning_rate: f64::from(schedule.learning_rate),
            k: schedule.k,
            gradient_norm,
        }
    }

    /// The crosscoder as it stands.
    pub fn crosscoder(&self) -> Crosscoder {
        let part = |model: usize, rows: &[f32]| -> Vec<f32> {
            let range = self.layout.models[model].clone();
            rows.chunks(self.layout.d_total)
                .flat_map(|row| &row[range.clone()])
                .copied()
                .collect()
        };
        let n_models = self.layout.models.len();
        let n_features = self.settings.n_features;
        let encoder = |model: usize| transpose(&part(model, &self.parameters.encoder), n_features);
        let unset = if matches!(self.settings.rule, Rule::BatchTopK { .. }) {
            -1.0
        } else {
            0.0
        };
        Crosscoder {
            labels: self.subject.labels.clone(),
            widths: self.subject.widths.clone(),
            n_features,
            encoder: (0..n_models).map(encoder).collect(),
            encoder_bias: self.parameters.encoder_bias.clone(),
            decoder: (0..n_models)
                .map(|model| part(model, &self.parameters.decoder))
                .collect(),
            decoder_bias: (0..n_models)
                .map(|model| part(model, &self.parameters.decoder_bias))
                .collect(),
            normalizer: self.subject.normalizer.clone(),
            threshold: self.threshold.unwrap_or(unset),
            rule: self.settings.rule,
            code_normalization: CodeNormalization::Crosscoder,
            hook: self.subject.hook.clone(),
            tokenizer_digest: self.subject.tokenizer_digest.clone(),
        }
    }

    /// Ends training.
    pub fn into_crosscoder(self) -> Crosscoder {
        self.crosscoder()
    }

    /// Normalises a batch into the scratch buffer; at the first one the decoder bias becomes its geometric median.
    fn load(&mut self, x: &[&[f32]]) -> usize {
        let n_rows = x[0].len() / self.subject.widths[0];
        assert!(n_rows > 0, "a batch without rows");
        for (rows, width) in x.iter().zip(&self.subject.widths) {
            assert_eq!(
                rows.len(),
                n_rows * width,
                "the models disagree on the number of rows"
            );
        }
        let d_total = self.layout.d_total;
        self.scratch.x.resize(n_rows * d_total, 0.0);
        self.scratch
            .x
            .par_chunks_mut(d_total)
            .with_min_len(64)
            .enumerate()
            .for_each(|(row, out)| {
                for (model, range) in self.layout.models.iter().enumerate() {
                    let width = range.len();
                    self.subject.normalizer[model]
                        .apply(&x[model][row * width..][..width], &mut out[range.clone()]);
                }
            });
        if self.steps_done == 0 {
            self.parameters.decoder_bias = geometric_median(&self.scratch.x, &self.layout);
        }
        n_rows
    }

    /// Codes of the batch, and the rank weights they were chosen with.
    fn encode(&mut self, schedule: &Schedule) -> (Codes, Vec<f32>) {
        let Scratch { x, activations, .. } = &mut self.scratch;
        forward::activations(&self.parameters, x, self.layout.d_total, activations);
        let weights = self.parameters.rank_weights(&self.layout);
        let n_rows = activations.len() / weights.len();
        let k = schedule.k.unwrap_or(0.0);
        let codes = match self.settings.rule {
            Rule::L1 { .. } => select::above(activations, &weights, 0.0),
            Rule::TopK { .. } => select::top_k(activations, &weights, k.round() as usize),
            Rule::BatchTopK { .. } => {
                let (codes, smallest) =
                    select::batch_top_k(activations, &weights, (k * n_rows as f64) as usize);
                self.average_threshold(smallest);
                codes
            }
        };
        (codes, weights)
    }

    /// Moving average of the smallest rank value kept: the threshold of inference.
    fn average_threshold(&mut self, smallest: Option<f32>) {
        let Some(smallest) =
            smallest.filter(|_| self.steps_done + 1 >= self.settings.threshold_start)
        else {
            return;
        };
        let decay = self.settings.threshold_decay;
        self.threshold = Some(
            self.threshold
                .map_or(smallest, |old| decay * old + (1.0 - decay) * smallest),
        );
    }

    fn note_firing(&mut self, codes: &Codes, n_rows: usize) {
        self.rows_seen += n_rows as u64;
        self.silent
            .iter_mut()
            .for_each(|rows| *rows += n_rows as u64);
        for &feature in &codes.features {
            self.silent[feature as usize] = 0;
        }
    }

    /// Whether each feature is dead.
    pub(super) fn dead(&self) -> impl Iterator<Item = bool> + '_ {
        self.silent
            .iter()
            .map(|&rows| rows >= self.settings.dead_after)
    }

    /// The auxiliary loss, when there are dead features and it is asked for.
    fn aux(&self, weights: &[f32]) -> Option<AuxLoss> {
        let dead: Vec<bool> = self.dead().collect();
        let coefficient = self.settings.aux_coefficient;
        if coefficient <= 0.0 || !dead.contains(&true) {
            return None;
        }
        let aux = Aux {
            dead: &dead,
            k: self.settings.aux_k,
            coefficient,
            error: &self.scratch.error,
        };
        aux.forward(
            &self.parameters,
            &self.layout,
            &self.scratch.activations,
            weights,
        )
    }

    /// Fills the gradients from the batch in the scratch buffers.
    fn differentiate(&mut self, codes: &Codes, aux: Option<&AuxLoss>, penalty: f32) {
        let batch = Batch {
            parameters: &self.parameters,
            layout: &self.layout,
            x: &self.scratch.x,
            output: &self.scratch.error,
            penalty,
        };
        backward::gradients(&batch, codes, &mut self.gradients);
        if let Some(aux) = aux {
            aux.backward(&batch, &mut self.gradients);
        }
    }

    /// Adam on every parameter, with the gradient clipped.
    fn update(&mut self, learning_rate: f32, gradient_norm: f64) {
        self.steps_done += 1;
        let options = AdamStep {
            step: self.steps_done as u32,
            learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            gradient_scale: (f64::from(self.settings.gradient_clip) / (gradient_norm + 1e-6))
                .min(1.0) as f32,
        };
        let moments = self
            .first
            .parts_mut()
            .into_iter()
            .zip(self.second.parts_mut());
        let weights = self
            .parameters
            .parts_mut()
            .into_iter()
            .zip(self.gradients.parts());
        for ((weights, (_, gradient)), (first, second)) in weights.zip(moments) {
            adam(weights, first, second, gradient, options);
        }
    }

    /// Mean over models of 1 − Σ‖e‖² / Σ‖x − x̄‖².
    fn explained_variance(&self, squared: &[f64]) -> f64 {
        let spread = forward::spread(&self.scratch.x, &self.layout);
        let shares = squared
            .iter()
            .zip(spread)
            .map(|(error, total)| 1.0 - error / total.max(f64::MIN_POSITIVE));
        shares.sum::<f64>() / squared.len() as f64
    }
}

/// `Σ f_k · w_k` over a batch.
fn weighted_sum(codes: &Codes, weights: &[f32]) -> f64 {
    let entries = codes.features.iter().zip(&codes.activations);
    entries
        .map(|(feature, activation)| f64::from(activation * weights[*feature as usize]))
        .sum()
}

/// `[rows, columns]` → `[columns, rows]`.
fn transpose(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    let mut out = vec![0.0; values.len()];
    for (row, values) in values.chunks(columns).enumerate() {
        for (column, value) in values.iter().enumerate() {
            out[column * rows + row] = *value;
        }
    }
    out
}
