//! Edges, and circuits of them.

use serde::{Deserialize, Serialize};

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
