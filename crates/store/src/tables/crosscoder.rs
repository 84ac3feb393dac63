//! Rows of activations, and what a crosscoder made of them.

use serde::{Deserialize, Serialize};

/// One token of an activation store: `tokens.parquet`, in the order of the rows of every part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Row of the activation tensors, from 0.
    pub row: u32,
    /// Document, as `task/doc_id/sample` for samples and the text's own id otherwise.
    pub doc_id: String,
    /// Number of the document in this store, from 0.
    pub doc_index: u32,
    /// Position in the document, from 0 (BOS included when there is one).
    pub pos: u32,
    /// Token id.
    pub token_id: u32,
    /// Who wrote the text: the model label of a sample, `text` otherwise.
    pub role: String,
    /// `prompt`, `completion`, or `text`.
    pub phase: String,
    /// Whether the tokenizer calls it special (BOS, EOS, padding, …).
    pub special: bool,
}

/// Quality of a crosscoder on one model's activations: written by `crosscode eval`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrosscoderEval {
    /// Model label.
    pub model: String,
    /// Rows the figures are computed over.
    pub n_rows: u32,
    /// 1 − Σ‖x−x̂‖² / Σ‖x−x̄‖², at most 1, with a bootstrap interval over documents.
    pub explained_variance: f64,
    /// Lower end of the interval.
    pub explained_variance_low: f64,
    /// Upper end of the interval.
    pub explained_variance_high: f64,
    /// `1 − Σ_j Var(e_j) / Σ_j Var(x_j)`: blind to a constant error.
    pub explained_variance_centred: f64,
    /// Mean over rows of 1 − ‖x−x̂‖² / ‖x−x̄‖².
    pub explained_variance_per_row: f64,
    /// Mean squared error per row, summed over coordinates, in the model's own units.
    pub mse: f64,
    /// Mean cosine between activation and reconstruction, −1 to 1.
    pub cosine: f64,
    /// Mean number of active features per row (the same for every model: the code is shared).
    pub l0: f64,
    /// Share of features that never fire on these rows, 0 to 1.
    pub dead: f64,
    /// Cross-entropy of the next token under the model itself, in nats; null, as all that follow, unless the model was given.
    pub ce_clean_nats: Option<f64>,
    /// The same with the hook's activations replaced by their reconstruction.
    pub ce_spliced_nats: Option<f64>,
    /// The same with them replaced by 0.
    pub ce_zero_nats: Option<f64>,
    /// (zero − spliced)/(zero − clean), at most about 1, with a bootstrap interval over documents.
    pub ce_recovered: Option<f64>,
    /// Lower end of the interval.
    pub ce_recovered_low: Option<f64>,
    /// Upper end of the interval.
    pub ce_recovered_high: Option<f64>,
    /// Mean KL divergence of the next token's distribution from clean to spliced, in nats, likewise.
    pub kl_nats: Option<f64>,
    /// Lower end of the interval.
    pub kl_nats_low: Option<f64>,
    /// Upper end of the interval.
    pub kl_nats_high: Option<f64>,
}

/// One step of a crosscoder's training: written by `crosscode train` beside the dictionary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrosscoderStep {
    /// Optimizer step, from 1.
    pub step: u32,
    /// Rows seen so far.
    pub tokens: u64,
    /// Total loss.
    pub loss: f64,
    /// Explained variance of the step's batch, mean over models.
    pub explained_variance: f64,
    /// Mean active features per row.
    pub l0: f64,
    /// Share of features silent for the dead window, 0 to 1.
    pub dead: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Features kept per row by the rule at this step (annealed); null for rules without one.
    pub k: Option<f64>,
    /// Rows per second since the row before; null unless the run was timed, which makes its bytes its own.
    pub tokens_per_s: Option<f64>,
}

/// Explained variance of one model at one step of a crosscoder's training: written by `crosscode train` beside the curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrosscoderModelStep {
    /// Optimizer step, from 1.
    pub step: u32,
    /// Model label.
    pub model: String,
    /// Explained variance of the step's batch, at most 1.
    pub explained_variance: f64,
}
