//! Everything a training run can be told, with the published recipes as defaults, and what follows for each step.

use crate::rule::Rule;
use serde::{Deserialize, Serialize};

/// Steps from which the published learning rates hold as they are.
pub const PUBLISHED_STEPS: u64 = 20_000;

/// How the distance between an activation and its reconstruction enters the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// Mean over rows and models of ‖e‖₂, un-squared (arXiv 2504.02922; default of `topk` and `batch-topk`).
    Norm,
    /// Mean over rows of `Σ_m ‖e‖₂²` (default of `l1`).
    Squared,
}

/// Settings of a run. [`Settings::new`] gives the published recipe of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Sparsity rule.
    pub rule: Rule,
    /// Number of features.
    pub n_features: usize,
    /// Optimizer steps planned; the schedules are shares of it.
    pub steps: u64,
    /// Largest learning rate of Adam (β 0.9 and 0.999).
    pub learning_rate: f32,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: u64,
    /// Share of the steps, at the end, over which the learning rate falls to 0.
    pub decay_share: f32,
    /// Distance of the reconstruction.
    pub distance: Distance,
    /// Share of the steps over which λ rises from 0 (`l1`).
    pub sparsity_ramp: f32,
    /// Features kept per row at the first step, annealed to the rule's `k`; `None`: `k` from the start.
    pub k_start: Option<usize>,
    /// Steps over which `k` is annealed.
    pub k_anneal_steps: u64,
    /// Rows without firing after which a feature counts as dead.
    pub dead_after: u64,
    /// Weight of the auxiliary loss that revives dead features (`topk`, `batch-topk`).
    pub aux_coefficient: f32,
    /// Dead features per row that reconstruct what the living ones leave.
    pub aux_k: usize,
    /// Step from which the inference threshold is averaged.
    pub threshold_start: u64,
    /// Decay of the threshold's moving average.
    pub threshold_decay: f32,
    /// `‖d_k^m‖₂` of every model at the start.
    pub init_norm: f32,
    /// √(total variance) of every model's normalised activations.
    pub input_norm: f32,
    /// Largest norm of the whole gradient.
    pub gradient_clip: f32,
    /// Seed of the initial weights.
    pub seed: u64,
}

/// What the schedules say at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    /// Learning rate.
    pub(crate) learning_rate: f32,
    /// λ of `l1`, 0 otherwise.
    pub(crate) sparsity: f32,
    /// Features kept per row.
    pub(crate) k: Option<f64>,
}

impl Settings {
    /// The published recipe of a rule for a dictionary of `n_features` over models of width `d_model` and a run of `steps`.
    ///
    /// `batch-topk` and `topk` follow arXiv 2504.02922, `l1` follows arXiv 2604.25011 (METHODS §A). The papers' runs have 10⁵
    /// steps; what they give in absolute numbers is fitted to shorter ones: warm-up is at most 5 % of the run, the
    /// threshold begins at a quarter of it at the latest and remembers a twentieth of it at most, and below
    /// [`PUBLISHED_STEPS`] steps the learning rate is larger by the root of what is missing (at most 8 times), without
    /// which a run of a thousand steps ends where it began to learn. `dead_after` is 10 M rows; the caller shortens it.
    pub fn new(rule: Rule, n_features: usize, d_model: usize, steps: u64) -> Self {
        let l1 = matches!(rule, Rule::L1 { .. });
        let width_factor = (n_features as f32 / 16_384.0).sqrt();
        Self {
            rule,
            n_features,
            steps,
            learning_rate: if l1 { 1e-4 } else { 2e-4 } / width_factor * haste(steps),
            warmup_steps: if l1 { 0 } else { 1000.min(steps / 20) },
            decay_share: 0.2,
            distance: if l1 {
                Distance::Squared
            } else {
                Distance::Norm
            },
            sparsity_ramp: 0.05,
            k_start: None,
            k_anneal_steps: 0,
            dead_after: 10_000_000,
            aux_coefficient: if l1 { 0.0 } else { 1.0 / 32.0 },
            aux_k: (d_model / 2).max(1),
            threshold_start: 1000.min(steps / 4),
            threshold_decay: 0.999f32.min(1.0 - 20.0 / steps.max(40) as f32),
            init_norm: if l1 { 0.08 } else { 1.0 },
            input_norm: if l1 { (d_model as f32).sqrt() } else { 1.0 },
            gradient_clip: 1.0,
            seed: 0,
        }
    }

    /// What the schedules say at `step`, counted from 1.
    pub(crate) fn at(&self, step: u64) -> Schedule {
        let sparsity = match self.rule {
            Rule::L1 { sparsity } => {
                sparsity * rise(step, (self.steps as f32 * self.sparsity_ramp) as u64)
            }
            Rule::TopK { .. } | Rule::BatchTopK { .. } => 0.0,
        };
        let learning_rate = self.learning_rate * rise(step, self.warmup_steps) * self.decay(step);
        Schedule {
            learning_rate,
            sparsity,
            k: self.rule.k().map(|k| self.k_at(k, step)),
        }
    }

    /// Factor of the learning rate at the end of the run: 1, then linearly towards 0 at the step after the last.
    fn decay(&self, step: u64) -> f32 {
        let tail = self.steps as f32 * self.decay_share;
        let left = (self.steps + 1).saturating_sub(step) as f32;
        if left < tail { left / tail } else { 1.0 }
    }

    /// Features kept per row at `step`, linear from `k_start` to `k`.
    fn k_at(&self, k: usize, step: u64) -> f64 {
        let Some(start) = self.k_start.filter(|_| step <= self.k_anneal_steps) else {
            return k as f64;
        };
        let share = (step - 1) as f64 / self.k_anneal_steps as f64;
        start as f64 + (k as f64 - start as f64) * share
    }
}

/// Factor of the published learning rate for a run of `steps`.
fn haste(steps: u64) -> f32 {
    (PUBLISHED_STEPS as f32 / steps.max(1) as f32)
        .sqrt()
        .clamp(1.0, 8.0)
}

/// From near 0 to 1 over the first `over` steps, 1 afterwards.
fn rise(step: u64, over: u64) -> f32 {
    if step < over {
        step as f32 / over as f32
    } else {
        1.0
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn schedules_begin_and_end_where_they_should() {
        let mut settings = Settings::new(Rule::L1 { sparsity: 2.0 }, 16_384, 4, 1000);
        (settings.warmup_steps, settings.learning_rate) = (10, 1e-4);
        assert!((settings.at(1).learning_rate - 1e-5).abs() < 1e-9);
        assert!((settings.at(500).learning_rate - 1e-4).abs() < 1e-9);
        assert!((settings.at(901).learning_rate - 0.5e-4).abs() < 1e-8);
        assert!(settings.at(1000).learning_rate > 0.0);
        assert!((settings.at(25).sparsity - 1.0).abs() < 1e-6);
        assert_eq!(settings.at(50).sparsity, 2.0);
    }

    #[test]
    fn a_long_run_has_the_published_learning_rate_and_a_short_one_hurries() {
        let rate = |steps| Settings::new(Rule::BatchTopK { k: 1 }, 16_384, 4, steps).learning_rate;
        assert_eq!((rate(20_000), rate(400_000)), (2e-4, 2e-4));
        assert!((rate(5_000) / 2e-4 - 2.0).abs() < 1e-5 && (rate(10) / 2e-4 - 8.0).abs() < 1e-5);
    }

    #[test]
    fn k_is_annealed_linearly() {
        let mut settings = Settings::new(Rule::BatchTopK { k: 10 }, 64, 4, 100);
        (settings.k_start, settings.k_anneal_steps) = (Some(30), 20);
        assert_eq!(settings.at(1).k, Some(30.0));
        assert_eq!(settings.at(11).k, Some(20.0));
        assert_eq!(settings.at(21).k, Some(10.0));
    }
}
