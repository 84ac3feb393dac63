//! A training step by hand-written kernels: the rows of active features only.

use super::aux::{Revival, revive};
use super::backward::{Backward, Gradients};
use super::choose::Chosen;
use super::compute::{Outcome, Task};
use super::forward::{Forward, Loss};
use super::history::History;
use super::parameters::Parameters;
use super::part::Part;
use super::partition::Partition;
use super::penalty::{Charge, Jump};
use super::settings::Schedule;
use super::update::Moments;
use crate::rule::Rule;

/// Weights on the CPU, with what Adam remembers of them.
#[derive(Debug)]
pub(super) struct Kernels {
    pub(super) parameters: Parameters,
    /// As of each row's last gradient.
    pub(super) moments: Moments,
    /// Steps since each feature's last gradient `[n_features]`.
    pub(super) ages: Vec<u32>,
    pub(super) scratch: Scratch,
}

/// Buffers kept from step to step: fresh ones cost page faults. Nothing in them outlives a step but a guess.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A block of the encoder's product.
    pub(super) product: Vec<f32>,
    /// Gradient of the reconstructions `[n_rows, n_outputs, d_total]`.
    output: Vec<f32>,
    /// x̂ − x `[n_rows, d_total]` where dead features are to reconstruct it, otherwise empty.
    residual: Vec<f32>,
    /// Smallest rank values kept last, where the next search begins, by code.
    pub(super) guesses: Vec<Option<f32>>,
}

/// The forward half of a step.
struct Reconstructed {
    /// `‖d_k^m‖₂` `[n_features, n_models]`.
    norms: Vec<f32>,
    chosen: Chosen,
    loss: Loss,
}

impl Kernels {
    pub(super) fn new(parameters: Parameters) -> Self {
        Self {
            moments: Moments::zeros(&parameters),
            ages: vec![0; parameters.encoder_bias.len()],
            scratch: Scratch::default(),
            parameters,
        }
    }

    /// Gives back all memory but that of the weights.
    pub(super) fn forget(&mut self) {
        self.moments = Moments::zeros(&Parameters::zeros(0, 0));
        self.scratch = Scratch::default();
    }

    /// One optimizer step.
    pub(super) fn step(&mut self, task: &Task<'_>, history: &mut History) -> Outcome {
        let Reconstructed {
            norms,
            mut chosen,
            loss,
        } = self.reconstruct(task, history);
        history.note_firing(fired(&chosen.parts), task.n_rows);
        history.average_thresholds(&chosen.smallest, task.settings);
        let revival = self.revive(&mut chosen, task, history);
        let (cost, by_weight, thresholds) = self.charge(&mut chosen, task);
        let backward = Backward {
            n_features: task.settings.n_features,
            layout: task.layout,
            partition: Partition::new(&task.settings.partition),
            x: task.x,
            output: &self.scratch.output,
            n_outputs: task.n_outputs(),
            by_weight: &by_weight,
            normalization: &task.settings.code_normalization,
            norms: &norms,
        };
        let residual = &self.scratch.residual;
        let revived = revival
            .as_ref()
            .map(|revival| (&revival.part, residual.as_slice()));
        let mut gradients: Gradients<'_> = backward.run(&chosen.parts, revived);
        gradients.thresholds = thresholds;
        history.steps_done += 1;
        let gradient_norm = gradients.norm(&self.parameters);
        let options = task.adam(gradient_norm, history.steps_done);
        (self.moments).update(&mut self.parameters, &mut self.ages, &gradients, options);
        Outcome {
            loss: loss.value + cost + revival.as_ref().map_or(0.0, |revival| revival.value),
            squared: loss.squared,
            l0: chosen.l0(task.n_rows),
            gradient_norm,
        }
    }

    /// The reconstruction loss, nothing learned from it.
    pub(super) fn loss(&mut self, task: &Task<'_>, history: &History) -> f64 {
        self.reconstruct(task, history).loss.value
    }

    /// The forward half of a step; it leaves the gradient of the reconstructions in the scratch buffers.
    fn reconstruct(&mut self, task: &Task<'_>, history: &History) -> Reconstructed {
        let norms = self.parameters.norms(task.layout);
        let mut chosen = self.choose(task, &norms, history);
        let loss = Forward {
            parameters: &self.parameters,
            layout: task.layout,
            x: task.x,
            distance: task.settings.distance,
            n_outputs: task.n_outputs(),
        }
        .run(
            &mut chosen.parts,
            &mut self.scratch.output,
            chosen.dead.is_some().then_some(&mut self.scratch.residual),
        );
        Reconstructed {
            norms,
            chosen,
            loss,
        }
    }

    /// The auxiliary loss of the dead features that were found; its gradient takes the residual's place.
    fn revive(
        &mut self,
        chosen: &mut Chosen,
        task: &Task<'_>,
        history: &History,
    ) -> Option<Revival> {
        let mut codes = chosen.dead.take()?;
        // Those that fired in this very batch are alive.
        codes.retain(|feature| history.silent[feature as usize] > 0);
        revive(
            codes,
            &mut self.scratch.residual,
            (&self.parameters.decoder, task.layout),
            task.settings.aux_coefficient,
        )
    }

    /// Adds the sparsity penalty to the entries' gradients; its value, `∂L/∂w` by part, and the thresholds' gradient.
    fn charge(&self, chosen: &mut Chosen, task: &Task<'_>) -> (f64, Vec<Vec<f32>>, Vec<f32>) {
        let Schedule { sparsity, .. } = task.schedule;
        match task.settings.rule {
            Rule::L1 { .. } if sparsity > 0.0 => {
                let (cost, by_weight) = charge_l1(chosen, task, sparsity);
                (cost, by_weight, Vec::new())
            }
            Rule::JumpRelu { k, bandwidth, .. } => {
                let jump = Jump {
                    k,
                    sparsity,
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
}

/// The penalty of `l1`, and `∂L/∂w` by part.
fn charge_l1(chosen: &mut Chosen, task: &Task<'_>, sparsity: f32) -> (f64, Vec<Vec<f32>>) {
    let factors = Partition::new(&task.settings.partition).penalties(task.settings.n_features);
    let (mut cost, mut by_weight) = (0.0, Vec::new());
    for (part, weights) in chosen.parts.iter_mut().zip(&chosen.weights) {
        let charge = Charge {
            penalty: task.settings.penalty,
            share: sparsity / task.n_rows as f32,
            factors: &factors,
            weights,
        };
        let (value, gradient) = charge.apply(part);
        cost += value;
        by_weight.push(gradient);
    }
    (cost, by_weight)
}

/// Features with a positive activation, as often as they have one.
fn fired(parts: &[Part]) -> impl Iterator<Item = usize> {
    let entries = parts
        .iter()
        .flat_map(|part| part.codes.features.iter().zip(&part.codes.activations));
    entries
        .filter(|(_, activation)| **activation > 0.0)
        .map(|(&feature, _)| feature as usize)
}
