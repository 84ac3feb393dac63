//! Everything a training run can be told, with the published recipes as defaults, and what follows for each step.

use super::partition::Block;
use crate::rule::{CodeNormalization, Rule};
use kernels::isa::Isa;
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

/// What a sparsity penalty charges for a rank value v.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Penalty {
    /// v.
    Linear,
    /// `tanh(c·v)`: strong activations cost no more than weak ones.
    Tanh {
        /// c.
        scale: f32,
    },
}

/// What the encoder's product is computed in; everything else is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// Three products of two bf16 parts, about 16 bits, where the machine has matrix tiles; f32 elsewhere.
    Bf16x3,
    /// Activations and encoder rounded to bf16, summed in f32.
    Bf16,
}

impl Precision {
    /// What of it the kernels of this machine have beside f32.
    pub(crate) fn narrow(self) -> Option<kernels::Precision> {
        let tiles = Isa::detected() >= Isa::Amx;
        match self {
            Self::F32 => None,
            Self::Bf16x3 => tiles.then_some(kernels::Precision::Bf16x3),
            Self::Bf16 => Some(kernels::Precision::Bf16),
        }
    }
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
    /// Share of the steps over which λ rises from 0 (`l1`, `jumprelu`).
    pub sparsity_ramp: f32,
    /// Features kept per row at the first step, annealed to the rule's `k`; `None`: `k` from the start.
    pub k_start: Option<usize>,
    /// Steps over which `k` is annealed.
    pub k_anneal_steps: u64,
    /// Rows without firing after which a feature counts as dead.
    pub dead_after: u64,
    /// Weight of the auxiliary loss that revives dead features (0 for `l1` and `jumprelu` unless asked for).
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
    /// How activations are weighed before they are ranked.
    pub code_normalization: CodeNormalization,
    /// Blocks of features that belong to some of the models; empty: all belong to all.
    pub partition: Vec<Block>,
    /// What the penalty of `l1` charges.
    pub penalty: Penalty,
    /// Ends of the nested dictionaries of `matryoshka`, ascending, the last `n_features`.
    pub groups: Vec<usize>,
    /// What the encoder's product is computed in.
    pub precision: Precision,
}

/// What the schedules say at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    /// Learning rate.
    pub(crate) learning_rate: f32,
    /// λ of `l1` and `jumprelu`, 0 otherwise.
    pub(crate) sparsity: f32,
    /// Features kept per row.
    pub(crate) k: Option<f64>,
}

impl Settings {
    /// The published recipe of a rule for a dictionary of `n_features` over models of width `d_model` and a run of `steps`.
    ///
    /// `batch-topk`, `topk` and `matryoshka` follow arXiv 2504.02922, `l1` follows arXiv 2604.25011, `jumprelu` the defaults
    /// of `dictionary_learning`. The papers' runs have 10⁵
    /// steps; what they give in absolute numbers is fitted to shorter ones: warm-up is at most 5 % of the run, the
    /// threshold begins at a quarter of it at the latest and remembers a twentieth of it at most, and below
    /// [`PUBLISHED_STEPS`] steps the learning rate is larger by the root of what is missing (at most 8 times), without
    /// which a run of a thousand steps ends where it began to learn. `dead_after` is 10 M rows; the caller shortens it.
    pub fn new(rule: Rule, n_features: usize, d_model: usize, steps: u64) -> Self {
        let l1 = matches!(rule, Rule::L1 { .. });
        // Given for any size of dictionary where they were published, and as a rule that scales with it.
        let published = match rule {
            Rule::L1 { .. } => 1e-4,
            Rule::JumpRelu { .. } => 7e-5,
            _ => 2e-4 / (n_features as f32 / 16_384.0).sqrt(),
        };
        let jump = matches!(rule, Rule::JumpRelu { .. });
        Self {
            rule,
            n_features,
            steps,
            learning_rate: published * haste(steps),
            warmup_steps: if l1 { 0 } else { 1000.min(steps / 20) },
            decay_share: 0.2,
            distance: if l1 || jump {
                Distance::Squared
            } else {
                Distance::Norm
            },
            sparsity_ramp: 0.05,
            k_start: None,
            k_anneal_steps: 0,
            dead_after: 10_000_000,
            aux_coefficient: if l1 || jump { 0.0 } else { 1.0 / 32.0 },
            aux_k: (d_model / 2).max(1),
            threshold_start: 1000.min(steps / 4),
            threshold_decay: 0.999f32.min(1.0 - 20.0 / steps.max(40) as f32),
            init_norm: if l1 { 0.08 } else { 1.0 },
            input_norm: if l1 { (d_model as f32).sqrt() } else { 1.0 },
            gradient_clip: 1.0,
            seed: 0,
            code_normalization: CodeNormalization::Crosscoder,
            partition: Vec::new(),
            penalty: Penalty::Linear,
            groups: if matches!(rule, Rule::Matryoshka { .. }) {
                nested(n_features)
            } else {
                Vec::new()
            },
            precision: Precision::F32,
        }
    }

    /// What makes these settings impossible for models of these widths.
    pub fn fault(&self, widths: &[usize]) -> Option<String> {
        let decoupled = self.code_normalization.is_decoupled();
        let sizes: usize = self.partition.iter().map(|block| block.n_features).sum();
        let outside = |block: &Block| block.models.iter().any(|&model| model >= widths.len());
        let unequal = widths.iter().any(|&width| width != widths[0]);
        if decoupled && matches!(self.rule, Rule::JumpRelu { .. } | Rule::Matryoshka { .. }) {
            Some(format!(
                "{} has one code for all models, it cannot be decoupled",
                self.rule.name()
            ))
        } else if !self.partition.is_empty() && sizes != self.n_features {
            Some(format!(
                "the blocks of features have {sizes} of {}",
                self.n_features
            ))
        } else if self.partition.iter().any(outside) {
            Some("a block of features belongs to a model that is not there".into())
        } else if self
            .partition
            .iter()
            .any(|block| block.tied && (unequal || !block.models.is_empty()))
        {
            Some("tied features belong to all models, which must have one width".into())
        } else if !self.groups.is_empty() && self.groups.last() != Some(&self.n_features) {
            Some("the last nested dictionary does not hold all features".into())
        } else {
            None
        }
    }

    /// What the schedules say at `step`, counted from 1.
    pub(crate) fn at(&self, step: u64) -> Schedule {
        let sparsity = match self.rule {
            Rule::L1 { sparsity } | Rule::JumpRelu { sparsity, .. } => {
                sparsity * rise(step, (self.steps as f32 * self.sparsity_ramp) as u64)
            }
            _ => 0.0,
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

/// Ends of the nested dictionaries: 1/32, 1/16, 1/8 and 1/4 of the features more each time, then the rest.
fn nested(n_features: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = [1, 3, 7, 15]
        .iter()
        .map(|share| n_features * share / 32)
        .collect();
    ends.push(n_features);
    ends.retain(|&end| end > 0);
    ends.dedup();
    ends
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
    fn the_rate_of_l1_is_that_of_its_paper_whatever_the_size() {
        let rate = |n_features| {
            Settings::new(Rule::L1 { sparsity: 2.0 }, n_features, 4, 400_000).learning_rate
        };
        assert_eq!((rate(4096), rate(32_768)), (1e-4, 1e-4));
    }

    #[test]
    fn nested_dictionaries_end_with_all_features() {
        assert_eq!(nested(64), [2, 6, 14, 30, 64]);
        assert_eq!(nested(2), [2]);
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
