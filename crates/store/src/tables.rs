//! Every table of the workspace: one documented struct, one column per field.
//!
//! A column exists in exactly one place. Units are in the names, ranges in the comments, intervals are
//! `x, x_low, x_high` (95 % unless said). `tests/golden/schema.txt` makes a change visible in review.

use serde::{Deserialize, Serialize};

/// One answer of one model to one document: written by `evaluate run` and `intervene run`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Role of the model, as the user labelled it: `base`, `sft`, `rl`, …
    pub model: String,
    /// What was done to it: `none`, or an intervention such as `disable`, `amplify-2`, `disable/random-03`.
    pub arm: String,
    /// Task the document belongs to.
    pub task: String,
    /// Identifier of the document within its task.
    pub doc_id: String,
    /// Which of the repeated answers to this document, from 0.
    pub sample: u32,
    /// Text given to the model, after the chat template.
    pub prompt: String,
    /// Text the model wrote.
    pub completion: String,
    /// Answer found in the completion; null when none was found.
    pub extracted: Option<String>,
    /// Answer expected.
    pub target: String,
    /// Whether `extracted` is equivalent to `target`.
    pub correct: bool,
    /// Tokens generated, the end token included.
    pub n_tokens: u32,
    /// `stop` (an end token or a stop string) or `length` (the budget ran out: not an answer).
    pub finish_reason: String,
    /// What the model thought before it answered (the text inside `<think>…</think>`); null when it did not.
    pub reasoning: Option<String>,
    /// What each way of reading the completion found, as a JSON object: `{"boxed":{"extracted":"12","correct":true},…}`; null
    /// where the grader has only one.
    pub readings: Option<String>,
}

/// Two sets of answers to the same documents, compared: written by `evaluate compare`. One row per task and one for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Task, or `all`.
    pub task: String,
    /// Model and arm of the first set, as `model` or `model/arm`.
    pub a: String,
    /// Model and arm of the second set.
    pub b: String,
    /// Documents answered in both sets.
    pub n: u32,
    /// Share of correct answers in the first set, 0 to 1, with its Wilson interval.
    pub accuracy_a: f64,
    /// Lower end of the interval.
    pub accuracy_a_low: f64,
    /// Upper end of the interval.
    pub accuracy_a_high: f64,
    /// Share of correct answers in the second set, 0 to 1, with its Wilson interval.
    pub accuracy_b: f64,
    /// Lower end of the interval.
    pub accuracy_b_low: f64,
    /// Upper end of the interval.
    pub accuracy_b_high: f64,
    /// `accuracy_b - accuracy_a`, −1 to 1, with its paired bootstrap interval.
    pub difference: f64,
    /// Lower end of the interval.
    pub difference_low: f64,
    /// Upper end of the interval.
    pub difference_high: f64,
    /// Documents `a` answers wrong and `b` right.
    pub wrong_to_right: u32,
    /// Documents `a` answers right and `b` wrong.
    pub right_to_wrong: u32,
    /// Exact two-sided McNemar test on the discordant documents.
    pub p: f64,
    /// `p` corrected over the tasks by Holm's method.
    pub p_holm: f64,
    /// `p` corrected over the tasks by Benjamini and Hochberg: the share of false discoveries expected among the tasks at or
    /// below it; null for `all`.
    pub q: Option<f64>,
    /// Standard error of `difference`, clustered by the clusters of documents where they were given.
    pub difference_error: Option<f64>,
    /// Smallest true difference, in absolute value, that a two-sided test at 5 % finds in four of five such comparisons:
    /// 2.80 standard errors.
    pub detectable: Option<f64>,
    /// Answers to each document in both sets; null where it is not the same for all.
    pub answers: Option<u32>,
    /// Share of documents whose most frequent answer in the first set is right; null with one answer a document.
    pub majority_a: Option<f64>,
    /// The same in the second set.
    pub majority_b: Option<f64>,
    /// Share of documents with a right answer among all in the first set (pass@n); null with one answer a document.
    pub pass_a: Option<f64>,
    /// The same in the second set.
    pub pass_b: Option<f64>,
}

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

/// One edge of the attribution graph: written by `eap score`. Only real edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Model label.
    pub model: String,
    /// Example number; null when averaged.
    pub example: Option<u32>,
    /// Document of the example, `task/doc_id`; null when averaged or scored on pairs.
    pub doc_id: Option<String>,
    /// Answer length as a share α of the mean length; null when not truncated.
    pub alpha: Option<f64>,
    /// Source node: `input`, `a0`, `m0`, `a0.h1`, …
    pub source: String,
    /// Target node: `a1<q>`, `m1`, `a1.h0<k>`, `logits`, …
    pub target: String,
    /// Score; positive: ablating the edge raises the loss.
    pub score: f64,
}

/// One edge of one example at one position: written by `eap score --per-position`. Over positions they add up to the edge's score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PositionEdge {
    /// Model label.
    pub model: String,
    /// Example number.
    pub example: u32,
    /// Document of the example, `task/doc_id`; null when scored on pairs.
    pub doc_id: Option<String>,
    /// Answer length as a share α of the mean length; null when not truncated.
    pub alpha: Option<f64>,
    /// Position in the sequence, from 0.
    pub position: u32,
    /// Source node.
    pub source: String,
    /// Target node.
    pub target: String,
    /// The position's share of the score; positive: ablating the edge there raises the loss.
    pub score: f64,
}

/// How one edge, or all edges of one layer, changed between two models: written by `eap compare`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeChange {
    /// `edge`: its mean score; `source-layer`, `target-layer`: Σ|score| over the edges that leave or enter a layer, mean over
    /// examples.
    pub unit: String,
    /// Truncation α of the answers; null when not truncated.
    pub alpha: Option<f64>,
    /// Label of the model before.
    pub before_model: String,
    /// Label of the model after.
    pub after_model: String,
    /// Source node of an edge, or a layer: `input`, `0`, `1`, …; null for a layer's targets.
    pub source: Option<String>,
    /// Target node of an edge, or a layer: `0`, `1`, …, `logits`; null for a layer's sources.
    pub target: Option<String>,
    /// Examples in common.
    pub n: u32,
    /// Mean before.
    pub before: f64,
    /// Mean after.
    pub after: f64,
    /// Mean of `after - before` over examples, with a paired bootstrap interval.
    pub difference: f64,
    /// Lower end of the interval.
    pub difference_low: f64,
    /// Upper end of the interval.
    pub difference_high: f64,
    /// Two-sided p-value of the paired difference.
    pub p: f64,
    /// `p` corrected over the rows of the same unit and truncation by Benjamini and Hochberg: the expected share of false
    /// discoveries among the rows at or below it.
    pub q: f64,
}

/// One figure of a circuit: written by `eap circuit`. Intervals are over examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CircuitPoint {
    /// Model label.
    pub model: String,
    /// `performance` (minus the loss, mean over examples), `faithfulness` (its place between no edge, 0, and all edges, 1),
    /// `cpr` (area under the faithfulness) or `cmd` (area between faithfulness and 1).
    pub measure: String,
    /// Share of the edges asked for, 0 to 1; null for areas.
    pub share: Option<f64>,
    /// Edges asked for; null for areas.
    pub edges: Option<u32>,
    /// Edges left once nodes without input or output were pruned; null for areas.
    pub kept: Option<u32>,
    /// Examples.
    pub n: u32,
    /// Value, with a bootstrap interval over examples.
    pub value: f64,
    /// Lower end of the interval.
    pub value_low: f64,
    /// Upper end of the interval.
    pub value_high: f64,
}

/// How much the circuits of two models have in common: written by `eap overlap`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CircuitOverlap {
    /// Label of the first model.
    pub a: String,
    /// Label of the second model.
    pub b: String,
    /// Truncation α of the answers; null when not truncated.
    pub alpha: Option<f64>,
    /// Share of the edges in each circuit, 0 to 1.
    pub share: f64,
    /// Edges in each circuit.
    pub edges: u32,
    /// |A ∩ B| / |A ∪ B| of the circuits of the mean scores, 0 to 1; the interval is over examples, drawn for both alike.
    pub jaccard: f64,
    /// Lower end of the interval.
    pub jaccard_low: f64,
    /// Upper end of the interval.
    pub jaccard_high: f64,
    /// Mean of the null: scores shuffled among the edges of each target.
    pub null: f64,
    /// Lower end of the middle 95 % of the null.
    pub null_low: f64,
    /// Upper end of the middle 95 % of the null.
    pub null_high: f64,
    /// Share of the null at or above `jaccard`, one-sided; the observation counts as one draw.
    pub p: f64,
}

/// One circuit metric of two models on the same documents: written by `eap metrics`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeMetric {
    /// `activation_intensity`, `information_complexity_nats`, `distribution_kurtosis`, `diversity`, `output_entropy_nats`,
    /// `gini`, `top_share`.
    pub metric: String,
    /// `all` (structural zeros of the matrix included, as in arXiv 2509.21044) or `real` edges only.
    pub entries: String,
    /// Truncation α of the answers; null when not truncated.
    pub alpha: Option<f64>,
    /// Label of the model before.
    pub before_model: String,
    /// Label of the model after.
    pub after_model: String,
    /// Examples in common.
    pub n: u32,
    /// Value before, with a bootstrap interval over examples.
    pub before: f64,
    /// Lower end of the interval.
    pub before_low: f64,
    /// Upper end of the interval.
    pub before_high: f64,
    /// Value after, with a bootstrap interval over examples.
    pub after: f64,
    /// Lower end of the interval.
    pub after_low: f64,
    /// Upper end of the interval.
    pub after_high: f64,
    /// `after - before`, with a paired bootstrap interval.
    pub difference: f64,
    /// Lower end of the interval.
    pub difference_low: f64,
    /// Upper end of the interval.
    pub difference_high: f64,
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
