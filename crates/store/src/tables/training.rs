//! Training runs.

use serde::{Deserialize, Serialize};

/// One step of a training run: `metrics.parquet` beside the models of `posttrain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingStep {
    /// `pretrain`, `sft`, `grpo`, …
    pub stage: String,
    /// Optimizer step, from 1.
    pub step: u32,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Loss in nats per token (pretrain, sft) or the policy objective (grpo, …).
    pub loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Mean outcome reward of the step's rollouts, 0 to 1; null where there is none.
    pub reward: Option<f64>,
    /// Mean KL divergence to the reference in nats per token; null where there is none.
    pub kl_nats: Option<f64>,
    /// Mean length of the rollouts in tokens; null where there is none.
    pub length: Option<f64>,
}
