//! Features: how they moved between models, and which of them matter.

use serde::{Deserialize, Serialize};

/// One feature seen from one tuned model against the base: written by `drift features`.
///
/// A pairwise crosscoder gives one row per feature, N models give N−1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Feature, from 0.
    pub feature: u32,
    /// Label of the base model (the first of the dictionary unless chosen).
    pub base: String,
    /// Label of the tuned model.
    pub tuned: String,
    /// L1 norm of the base decoder row, divided by `√d_model` when the widths differ.
    pub norm_l1_base: f64,
    /// L1 norm of the tuned decoder row, likewise.
    pub norm_l1_tuned: f64,
    /// L2 norm of the base decoder row.
    pub norm_l2_base: f64,
    /// L2 norm of the tuned decoder row.
    pub norm_l2_tuned: f64,
    /// Normalised relative norm ‖tuned‖₁ / (‖base‖₁ + ‖tuned‖₁): 0 base only, 0.5 shared, 1 tuned only.
    pub nrn: f64,
    /// Model attribution score of the base: ‖base‖₁ / Σ over all models, 0 to 1.
    pub mas_base: f64,
    /// Model attribution score of the tuned model, 0 to 1.
    pub mas_tuned: f64,
    /// ½(1 + (‖tuned‖₂ − ‖base‖₂)/max): 0 base only, 1 tuned only.
    pub delta_norm: f64,
    /// Cosine between the two decoder rows, −1 to 1.
    pub cosine: f64,
    /// `β_base/β_tuned` on the error target (high: complete shrinkage); null without activations or for a silent feature.
    pub nu_error: Option<f64>,
    /// `β_base/β_tuned` on the reconstruction target (high: latent decoupling); null likewise.
    pub nu_reconstruction: Option<f64>,
    /// Share of rows on which the feature fires, 0 to 1; null without activations.
    pub firing_rate: Option<f64>,
    /// Mean activation over the rows on which it fires; null without activations or for a silent feature.
    pub mean_activation: Option<f64>,
    /// `base-only`, `tuned-only`, `shared`, `rotated` (shared norms, low cosine), `other` or `dead`.
    pub class: String,
}

/// Overlap of the most specific features of two checkpoints of one series: written by `drift dynamics`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dynamics {
    /// Series label: `sft`, `rl`, …
    pub series: String,
    /// Earlier checkpoint, from 1.
    pub from: u32,
    /// Later checkpoint.
    pub to: u32,
    /// How many features each set holds.
    pub top: u32,
    /// |A ∩ B| / top, 0 to 1.
    pub overlap: f64,
    /// Lower end of the bootstrap interval over documents.
    pub overlap_low: f64,
    /// Upper end of the interval.
    pub overlap_high: f64,
    /// |A ∩ B| / |A ∪ B|, 0 to 1.
    pub jaccard: f64,
    /// Overlap expected of two random sets of live features.
    pub overlap_null: f64,
    /// Explained variance of the swapped input of the earlier checkpoint: the readout is valid only where it holds up.
    pub explained_variance_from: f64,
    /// Explained variance of the swapped input of the later checkpoint.
    pub explained_variance_to: f64,
    /// Mean over rows of the L1 distance between the later checkpoint's code and the base's, relative to the base's L1 norm.
    pub code_shift: f64,
}

/// One feature of one set: the selected set, or a matched random set: written by `select`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// `selected`, or `random-00` … : features matched on firing rate × decoder norm × mean activation.
    pub set: String,
    /// Feature.
    pub feature: u32,
    /// Rank by mean relative score, from 0; a random feature has the rank of the one it stands for.
    pub rank: u32,
    /// For a random feature, the selected feature it stands for.
    pub matched_to: Option<u32>,
    /// Whether the selected feature (the one it stands for) fires less in the model after: edits go the other way.
    #[serde(default)]
    pub lowered: bool,
    /// Mean over the tasks of score / largest score of the task; negative where it fires less.
    pub relative_score: f64,
    /// The one nearest to 0 over the tasks, or beyond it.
    pub relative_score_min: f64,
    /// Largest q-value over the tasks (label permutation within documents, Benjamini–Hochberg over features).
    pub q: Option<f64>,
    /// Share of rows on which the feature fires, 0 to 1.
    pub firing_rate: f64,
    /// Mean activation over the rows on which it fires.
    pub mean_activation: f64,
    /// Σ over models of the L2 norm of its decoder rows.
    pub decoder_norm: f64,
    /// Share of the mean shift between the two models that disabling the feature in the model after takes out (doubling a
    /// lowered one), on the tokens read: `±f_k·⟨d_k, Δ⟩ / ‖Δ‖²`, any sign; shares of features add up. Absent where the models cannot be subtracted.
    pub removal_share: Option<f64>,
}

/// One feature's score on one task: the second table of `select` (`--scores`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Task.
    pub task: String,
    /// Feature.
    pub feature: u32,
    /// Mean over key samples of f^after − f^before, with a bootstrap interval over samples.
    pub score: f64,
    /// Lower end of the interval.
    pub score_low: f64,
    /// Upper end of the interval.
    pub score_high: f64,
    /// `score` divided by the largest score of the task, at most 1.
    pub relative: f64,
    /// Whether the feature passes the task's threshold.
    pub passes: bool,
    /// Key samples behind the score.
    pub n: u32,
}
