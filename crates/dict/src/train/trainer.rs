//! The training loop's body: one batch in, one optimizer step.

use super::compute::{Compute, DeviceError, Outcome, Task};
use super::forward::spread;
use super::history::History;
use super::kernels::Kernels;
use super::parameters::{Layout, Parameters, geometric_median};
use super::settings::{Schedule, Settings};
use super::tensors::Tensors;
use crate::normalizer::Normalizer;
use candle_core::Device;
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
#[derive(Debug)]
pub struct Trainer {
    pub(super) settings: Settings,
    pub(super) subject: Subject,
    pub(super) layout: Layout,
    pub(super) history: History,
    pub(super) compute: Compute,
    /// Normalised activations of a batch `[n_rows, d_total]`, kept from step to step: fresh memory costs page faults.
    x: Vec<f32>,
}

impl Trainer {
    /// Initial weights from the seed, trained by the kernels of this machine's CPU.
    ///
    /// # Panics
    /// When the settings contradict each other or the subject; see [`Settings::fault`].
    pub fn new(settings: Settings, subject: Subject) -> Self {
        Self::begin(settings, subject, |parameters, _, _| {
            Compute::Kernels(Box::new(Kernels::new(parameters)))
        })
    }

    /// The same weights, trained by plain tensors on a device: every product is dense, codes and gradients stay there.
    /// Follows [`Trainer::new`] up to rounding.
    ///
    /// # Errors
    /// When the device refuses the weights.
    ///
    /// # Panics
    /// As [`Trainer::new`].
    pub fn on(device: &Device, settings: Settings, subject: Subject) -> Result<Self, DeviceError> {
        let mut refused = Ok(());
        let trainer =
            Self::begin(
                settings,
                subject,
                |parameters, settings, layout| match Tensors::new(
                    &parameters,
                    settings,
                    layout,
                    device,
                ) {
                    Ok(tensors) => Compute::Tensors(Box::new(tensors)),
                    Err(error) => {
                        refused = Err(error.into());
                        Compute::Kernels(Box::new(Kernels::new(parameters)))
                    }
                },
            );
        refused.map(|()| trainer)
    }

    fn begin(
        settings: Settings,
        subject: Subject,
        compute: impl FnOnce(Parameters, &Settings, &Layout) -> Compute,
    ) -> Self {
        if let Some(fault) = settings.fault(&subject.widths) {
            panic!("{fault}");
        }
        let layout = Layout::new(&subject.widths);
        let parameters = Parameters::random(&settings, &layout);
        let n_codes = if settings.code_normalization.is_decoupled() {
            layout.models.len()
        } else {
            1
        };
        Self {
            history: History::new(settings.n_features, n_codes),
            compute: compute(parameters, &settings, &layout),
            settings,
            subject,
            layout,
            x: Vec::new(),
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
        self.history.steps_done
    }

    /// Rows seen so far.
    pub fn rows_seen(&self) -> u64 {
        self.history.rows_seen
    }

    /// One optimizer step on a batch: each model's activations `[n_rows, d_model]` in the model's own units.
    ///
    /// # Errors
    /// When a device refuses to compute; the kernels never do.
    ///
    /// # Panics
    /// When the models disagree on the number of rows, or there are none.
    pub fn step(&mut self, x: &[&[f32]]) -> Result<StepReport, DeviceError> {
        let n_rows = self.load(x)?;
        let schedule = self.settings.at(self.history.steps_done + 1);
        let task = Task {
            settings: &self.settings,
            layout: &self.layout,
            schedule,
            x: &self.x,
            n_rows,
        };
        let outcome = match &mut self.compute {
            Compute::Kernels(kernels) => kernels.step(&task, &mut self.history),
            Compute::Tensors(tensors) => tensors.step(&task, &mut self.history)?,
        };
        Ok(self.report(&outcome, &schedule))
    }

    /// The reconstruction loss of a batch under the weights as they are, nothing learned from it.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    ///
    /// # Panics
    /// As [`Trainer::step`].
    pub fn loss(&mut self, x: &[&[f32]]) -> Result<f64, DeviceError> {
        let n_rows = self.load(x)?;
        let task = Task {
            settings: &self.settings,
            layout: &self.layout,
            schedule: self.settings.at(self.history.steps_done + 1),
            x: &self.x,
            n_rows,
        };
        match &mut self.compute {
            Compute::Kernels(kernels) => Ok(kernels.loss(&task, &self.history)),
            Compute::Tensors(tensors) => Ok(tensors.loss(&task)?),
        }
    }

    fn report(&self, outcome: &Outcome, schedule: &Schedule) -> StepReport {
        let explained_variances = self.explained_variances(&outcome.squared);
        let n_models = explained_variances.len() as f64;
        let dead = self.history.dead(self.settings.dead_after);
        StepReport {
            step: self.history.steps_done,
            rows: self.history.rows_seen,
            loss: outcome.loss,
            explained_variance: explained_variances.iter().sum::<f64>() / n_models,
            explained_variances,
            l0: outcome.l0,
            dead: dead.filter(|&dead| dead).count() as f64 / self.settings.n_features as f64,
            learning_rate: f64::from(schedule.learning_rate),
            k: schedule.k,
            gradient_norm: outcome.gradient_norm,
        }
    }

    /// Normalises a batch; at the first one the decoder bias becomes its geometric median.
    fn load(&mut self, x: &[&[f32]]) -> Result<usize, DeviceError> {
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
        self.x.resize(n_rows * d_total, 0.0);
        self.x
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
        if self.history.steps_done == 0 {
            let median = geometric_median(&self.x, &self.layout);
            match &mut self.compute {
                Compute::Kernels(kernels) => kernels.parameters.decoder_bias = median,
                Compute::Tensors(tensors) => tensors.set_decoder_bias(&median)?,
            }
        }
        Ok(n_rows)
    }

    /// 1 − Σ‖e‖² / Σ‖x − x̄‖² of each model.
    fn explained_variances(&self, squared: &[f64]) -> Vec<f64> {
        let spread = spread(&self.x, &self.layout);
        let shares = squared.iter().zip(spread);
        shares
            .map(|(error, total)| 1.0 - error / total.max(f64::MIN_POSITIVE))
            .collect()
    }
}
