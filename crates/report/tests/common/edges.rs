//! Edge scores and circuit metrics.

use super::Fixture;
use serde_json::json;
use store::tables::*;

impl Fixture {
    pub(super) fn edges(&mut self) {
        for (label, scale) in [("base", 1.0), ("sft", 0.9), ("rl", 1.25)] {
            let rows = self.edge_rows(label, scale);
            let from = format!("{label}.samples.parquet");
            self.table(
                &format!("{label}.edges.parquet"),
                "eap score",
                &json!({"level": "layer", "method": "eap"}),
                &[&from],
                &rows,
            );
        }
        let mut rows = Vec::new();
        for (after, change) in [("sft", -0.04), ("rl", 0.15)] {
            for alpha in [0.1, 0.3, 0.5] {
                for entries in ["all", "real"] {
                    rows.extend(metric_rows(("base", after), entries, alpha, change));
                }
            }
        }
        self.table(
            "metrics.parquet",
            "eap metrics",
            &json!({"bins": 100, "range": "own"}),
            &["base.edges.parquet", "rl.edges.parquet"],
            &rows,
        );
        let null: Vec<EdgeMetric> = ["all", "real"]
            .iter()
            .flat_map(|entries| metric_rows(("a", "b"), entries, 0.5, 0.0))
            .collect();
        self.table(
            "null/metrics.parquet",
            "eap metrics",
            &json!({"bins": 100}),
            &[],
            &null,
        );
    }

    fn edge_rows(&mut self, model: &str, scale: f64) -> Vec<Edge> {
        let mut rows = Vec::new();
        for example in 0..24_u32 {
            for (source, target) in layer_edges(4) {
                let strength = if source == "input" && target == "logits" {
                    4.0
                } else {
                    1.0
                };
                let extra = if target.starts_with("m2") { scale } else { 1.0 };
                let score = 1e-3 * strength * extra * self.normal();
                rows.push(Edge {
                    model: model.to_owned(),
                    example: Some(example),
                    doc_id: Some(format!("add/test-{example:04}")),
                    alpha: Some(0.5),
                    source: source.clone(),
                    target: target.clone(),
                    score,
                });
            }
        }
        rows
    }
}

/// Every real edge of the layer graph.
pub(crate) fn layer_edges(n_layers: usize) -> Vec<(String, String)> {
    let mut sources = vec!["input".to_owned()];
    let mut edges = Vec::new();
    for layer in 0..n_layers {
        for input in ["q", "k", "v"] {
            edges.extend(
                sources
                    .iter()
                    .map(|source| (source.clone(), format!("a{layer}<{input}>"))),
            );
        }
        sources.push(format!("a{layer}"));
        edges.extend(
            sources
                .iter()
                .map(|source| (source.clone(), format!("m{layer}"))),
        );
        sources.push(format!("m{layer}"));
    }
    edges.extend(
        sources
            .iter()
            .map(|source| (source.clone(), "logits".to_owned())),
    );
    edges
}

fn metric_rows(
    (before, after): (&str, &str),
    entries: &str,
    alpha: f64,
    change: f64,
) -> Vec<EdgeMetric> {
    let metrics = [
        ("activation_intensity", 1.1e-3, 1.0),
        ("information_complexity_nats", 0.172, 2.0),
        ("distribution_kurtosis", 357.0, -2.0),
        ("diversity", 0.4, 0.5),
        ("output_entropy_nats", 2.1, 0.1),
        ("gini", 0.8, -0.2),
        ("top_share", 0.3, -0.3),
    ];
    let row = |(metric, level, factor): (&str, f64, f64)| {
        let after_value = level * (1.0 + change * factor * (0.7 + 0.6 * alpha));
        let difference = after_value - level;
        let half = 0.04 * level;
        let half_difference = if change == 0.0 { 0.0 } else { 0.05 * level };
        EdgeMetric {
            metric: metric.to_owned(),
            entries: entries.to_owned(),
            alpha: Some(alpha),
            before_model: before.to_owned(),
            after_model: after.to_owned(),
            n: 100,
            before: level,
            before_low: level - half,
            before_high: level + half,
            after: after_value,
            after_low: after_value - half,
            after_high: after_value + half,
            difference,
            difference_low: difference - half_difference,
            difference_high: difference + half_difference,
        }
    };
    metrics.into_iter().map(row).collect()
}
