//! The training loop's body: one batch in, one optimizer step.

use super::aux::{Revival, revive};
use super::backward::{Backward, Gradients, Room};
use super::choose::Chosen;
use super::forward::{self, Forward, Loss};
use super::parameters::{Layout, Parameters, geometric_median};
use super::part::Part;
use super::partition::Partition;
use super::penalty::{Charge, Jump};
use super::settings::{Schedule, Settings};
use crate::normalizer::Normalizer;
use crate::rule::Rule;
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
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Step, from 1.
    pub step: u64,
    /// Rows seen so far.
    pub rows: u64,
    /// Loss, with its sparsity and auxiliary terms.
    pub loss: f64,
    /// Share of the batch's variance explained, mean over models, at most 1.
    pub explained_variance: f64,
    /// The same of each model.
    pub explained_variances: Vec<f64>,
    /// Mean active features per row; of decoupled codes, mean over models.
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
    /// First moments of Adam, as of each row's last gradient.
    pub(super) first: Parameters,
    /// Second moments of Adam, as of each row's last gradient.
    pub(super) second: Parameters,
    /// Steps since each feature's last gradient `[n_features]`.
    pub(super) ages: Vec<u32>,
    pub(super) steps_done: u64,
    pub(super) rows_seen: u64,
    /// Rows since each feature last fired `[n_features]`.
    pub(super) silent: Vec<u64>,
    /// Moving averages of the smallest rank value kept: one, or one per model for decoupled codes.
    pub(super) averages: Vec<Option<f32>>,
    pub(super) scratch: Scratch,
}

/// The forward half of a step.
struct Reconstructed {
    n_rows: usize,
    /// `‖d_k^m‖₂` `[n_features, n_models]`.
    norms: Vec<f32>,
    chosen: Chosen,
    loss: Loss,
}

/// Buffers kept from step to step: fresh ones cost page faults. Nothing in them outlives a step but a guess.
#[derive(Debug, Clone, Default)]
pub(super) struct Scratch {
    /// Normalised activations `[n_rows, d_total]`.
    pub(super) x: Vec<f32>,
    /// A block of the encoder's product.
    pub(super) product: Vec<f32>,
    /// Gradient of the reconstructions `[n_rows, n_outputs, d_total]`.
    output: Vec<f32>,
    /// x̂ − x `[n_rows, d_total]`.
    residual: Vec<f32>,
    room: Room,
    pub(super) gradients: Gradients,
    /// Smallest rank values kept last, where the next search begins.
    pub(super) guesses: Vec<Option<f32>>,
}

/// Two trainers are alike when they go on alike: what their buffers hold does not matter.
impl PartialEq for Scratch {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Trainer {
    /// Initial weights from the seed.
    ///
    /// # Panics
    /// When the settings contradict each other or the subject; see [`Settings::fault`].
    pub fn new(settings: Settings, subject: Subject) -> Self {
        if let Some(fault) = settings.fault(&subject.widths) {
            panic!("{fault}");
        }
        let layout = Layout::new(&subject.widths);
        let parameters = Parameters::random(&settings, &layout);
        let mut zeros = Parameters::zeros(settings.n_features, layout.d_total);
        zeros.thresholds = vec![0.0; parameters.thresholds.len()];
        let n_codes = if settings.code_normalization.is_decoupled() {
            layout.models.len()
        } else {
            1
        };
        Self {
            parameters,
            first: zeros.clone(),
            second: zeros,
            ages: vec![0; settings.n_features],
            silent: vec![0; settings.n_features],
            steps_done: 0,
            rows_seen: 0,
            averages: vec![None; n_codes],
            scratch: Scratch {
                guesses: vec![None; n_codes],
                ..Scratch::default()
            },
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
        let schedule = self.settings.at(self.steps_done + 1);
        let Reconstructed {
            n_rows,
            norms,
            mut chosen,
            loss,
        } = self.reconstruct(x, &schedule);
        self.note_firing(&chosen.parts, n_rows);
        self.average_thresholds(&chosen.smallest);
        let revival = self.revive(&mut chosen);
        let (cost, by_weight, thresholds) = self.charge(&mut chosen, &schedule, n_rows);
        self.scratch.gradients.thresholds = thresholds;
        Backward {
            parameters: &self.parameters,
            layout: &self.layout,
            partition: Partition::new(&self.settings.partition),
            x: &self.scratch.x,
            output: &self.scratch.output,
            n_outputs: self.n_outputs(),
            by_weight: &by_weight,
            normalization: &self.settings.code_normalization,
            norms: &norms,
        }
        .run(
            &chosen.parts,
            revival
                .as_ref()
                .map(|revival| (&revival.part, revival.output.as_slice())),
            &mut self.scratch.room,
            &mut self.scratch.gradients,
        );
        self.update(schedule.learning_rate);
        let value = loss.value + cost + revival.map_or(0.0, |revival| revival.value);
        self.report(value, &loss.squared, &schedule, chosen.l0(n_rows))
    }

    /// The reconstruction loss of a batch under the weights as they are, nothing learned from it.
    ///
    /// # Panics
    /// As [`Trainer::step`].
    pub fn loss(&mut self, x: &[&[f32]]) -> f64 {
        let schedule = self.settings.at(self.steps_done + 1);
        self.reconstruct(x, &schedule).loss.value
    }

    /// The forward half of a step; it leaves the gradient of the reconstructions in the scratch buffers.
    fn reconstruct(&mut self, x: &[&[f32]], schedule: &Schedule) -> Reconstructed {
        let n_rows = self.load(x);
        let norms = self.parameters.norms(&self.layout);
        let mut chosen = self.choose(schedule, &norms, n_rows);
        let loss = Forward {
            parameters: &self.parameters,
            layout: &self.layout,
            x: &self.scratch.x,
            distance: self.settings.distance,
            n_outputs: self.n_outputs(),
        }
        .run(
            &mut chosen.parts,
            &mut self.scratch.output,
            &mut self.scratch.residual,
        );
        Reconstructed {
            n_rows,
            norms,
            chosen,
            loss,
        }
    }

    /// Reconstructions that count: 1, or the nested dictionaries.
    fn n_outputs(&self) -> usize {
        self.settings.groups.len().max(1)
    }

    fn report(&self, loss: f64, squared: &[f64], schedule: &Schedule, l0: f64) -> StepReport {
        let explained_variances = self.explained_variances(squared);
        let n_models = explained_variances.len() as f64;
        StepReport {
            step: self.steps_done,
            rows: self.rows_seen,
            loss,
            explained_variance: explained_variances.iter().sum::<f64>() / n_models,
            explained_variances,
            l0,
            dead: self.dead().filter(|&dead| dead).count() as f64 / self.settings.n_features as f64,
            learning_rate: f64::from(schedule.learning_rate),
            k: schedule.k,
            gradient_norm: self.scratch.gradients.norm,
        }
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

    /// Moving averages of the smallest rank values kept: the thresholds of inference.
    fn average_thresholds(&mut self, smallest: &[Option<f32>]) {
        if self.steps_done + 1 < self.settings.threshold_start {
            return;
        }
        let decay = self.settings.threshold_decay;
        for (average, smallest) in self.averages.iter_mut().zip(smallest) {
            if let Some(smallest) = *smallest {
                let old = average.unwrap_or(smallest);
                *average = Some(decay * old + (1.0 - decay) * smallest);
            }
        }
    }

    fn note_firing(&mut self, parts: &[Part], n_rows: usize) {
        self.rows_seen += n_rows as u64;
        self.silent
            .iter_mut()
            .for_each(|rows| *rows += n_rows as u64);
        for part in parts {
            let entries = part.codes.features.iter().zip(&part.codes.activations);
            for (&feature, _) in entries.filter(|(_, activation)| **activation > 0.0) {
                self.silent[feature as usize] = 0;
            }
        }
    }

    /// Whether each feature is dead.
    pub(super) fn dead(&self) -> impl Iterator<Item = bool> + '_ {
        self.silent
            .iter()
            .map(|&rows| rows >= self.settings.dead_after)
    }

    /// The auxiliary loss of the dead features that were found.
    fn revive(&self, chosen: &mut Chosen) -> Option<Revival> {
        let mut codes = chosen.dead.take()?;
        // Those that fired in this very batch are alive.
        codes.retain(|feature| self.silent[feature as usize] > 0);
        revive(
            codes,
            &self.scratch.residual,
            (&self.parameters.decoder, &self.layout),
            self.settings.aux_coefficient,
        )
    }

    /// Adds the sparsity penalty to the entries' gradients; its value, `∂L/∂w` by part, and the thresholds' gradient.
    fn charge(
        &self,
        chosen: &mut Chosen,
        schedule: &Schedule,
        n_rows: usize,
    ) -> (f64, Vec<Vec<f32>>, Vec<f32>) {
        let n_features = self.settings.n_features;
        match self.settings.rule {
            Rule::L1 { .. } if schedule.sparsity > 0.0 => {
                let factors = Partition::new(&self.settings.partition).penalties(n_features);
                let mut cost = 0.0;
                let mut by_weight = Vec::new();
                for (part, weights) in chosen.parts.iter_mut().zip(&chosen.weights) {
                    let charge = Charge {
                        penalty: self.settings.penalty,
                        share: schedule.sparsity / n_rows as f32,
                        factors: &factors,
                        weights,
                    };
                    let (value, gradient) = charge.apply(part);
                    cost += value;
                    by_weight.push(gradient);
                }
                (cost, by_weight, Vec::new())
            }
            Rule::JumpRelu { k, bandwidth, .. } => {
                let jump = Jump {
                    k,
                    sparsity: schedule.sparsity,
                    bandwidth,
                    thresholds: &self.parameters.thresholds,
                    weights: &chosen.weights[0],
                };
                let (cost, gradient) = jump.apply(&chosen.parts[0], &chosen.values);
                (cost, Vec::new(), gradient)
            }
            _ => (0.0, Vec::new(), Vec::new()),
        }
    }

    /// 1 − Σ‖e‖² / Σ‖x − x̄‖² of each model.
    fn explained_variances(&self, squared: &[f64]) -> Vec<f64> {
        let spread = forward::spread(&self.scratch.x, &self.layout);
        let shares = squared.iter().zip(spread);
        shares
            .map(|(error, total)| 1.0 - error / total.max(f64::MIN_POSITIVE))
            .collect()
    }
}
