//! Scores against those of an independent implementation (see golden/README.md).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use eap::{
    attribute::{Method, Plan, attribute},
    check,
    example::Example,
    graph::{Graph, Heads},
    pairs::{self, Metric},
};
use model::{DType, Device, Model};
use safetensors::SafeTensors;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn expected(name: &str) -> Vec<f64> {
    let bytes = std::fs::read(golden("layer.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor(name).unwrap().data().to_vec();
    data.chunks_exact(8)
        .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

fn scores(dtype: DType, method: Method, metric: Metric, batch: usize) -> Vec<f64> {
    let model = Model::load(&golden("model"), &Device::Cpu, dtype).unwrap();
    let examples = pairs::read(&golden("model/pairs.json"), metric, &golden("model")).unwrap();
    let examples: Vec<&Example> = examples.iter().collect();
    let graph = Graph::layers(model.config.n_layers);
    let plan = Plan { method, steps: 5 };
    examples
        .chunks(batch)
        .flat_map(|batch| attribute(&model, &graph, plan, batch).unwrap())
        .flatten()
        .collect()
}

const METRICS: [(&str, Metric); 2] = [("nll", Metric::Nll), ("logit-diff", Metric::LogitDiff)];
const METHODS: [(&str, Method); 4] = [
    ("eap-zero", Method::EapZero),
    ("eap", Method::Eap),
    ("clean-corrupted", Method::CleanCorrupted),
    ("eap-ig-inputs", Method::EapIgInputs),
];

/// Largest difference relative to the largest score.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected
        .iter()
        .fold(0.0, |most, score| f64::max(most, score.abs()));
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
        / scale
}

fn check_methods(dtype: DType, tolerance: f64) {
    for (metric_name, metric) in METRICS {
        for (method_name, method) in METHODS {
            let name = format!("{metric_name}/{method_name}");
            let distance = distance(&scores(dtype, method, metric, 4), &expected(&name));
            assert!(distance < tolerance, "{name}: {distance:e}");
        }
    }
}

#[test]
fn every_method_agrees_in_single_precision() {
    check_methods(DType::F32, 1e-4);
}

#[test]
fn every_method_agrees_in_double_precision() {
    check_methods(DType::F64, 1e-8);
}

#[test]
fn scores_do_not_depend_on_the_batch() {
    let whole = scores(DType::F64, Method::EapZero, Metric::Nll, 4);
    for batch in [1, 3] {
        let found = scores(DType::F64, Method::EapZero, Metric::Nll, batch);
        assert!(distance(&found, &whole) < 1e-12);
    }
}

#[test]
fn the_head_graph_has_the_nodes_of_eap_ig_in_its_order() {
    let names: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden("names.json")).unwrap()).unwrap();
    let graph = Graph::heads(
        3,
        Heads {
            n_heads: 8,
            n_kv_heads: 8,
        },
    );
    let sources: Vec<_> = (0..graph.n_sources())
        .map(|index| graph.source(index).to_string())
        .collect();
    let targets: Vec<_> = (0..graph.n_targets())
        .map(|index| graph.target(index).to_string())
        .collect();
    assert_eq!(serde_json::json!(sources), names["src"]);
    assert_eq!(serde_json::json!(targets), names["dst"]);
}

fn report(dtype: DType, method: Method) -> check::Report {
    let model = Model::load(&golden("model"), &Device::Cpu, dtype).unwrap();
    let examples = pairs::read(&golden("model/pairs.json"), Metric::Nll, &golden("model")).unwrap();
    let examples: Vec<&Example> = examples.iter().collect();
    let graph = Graph::layers(model.config.n_layers);
    check::check(&model, &graph, Plan { method, steps: 5 }, &examples).unwrap()
}

#[test]
fn the_identities_hold() {
    for (dtype, tolerance) in [(DType::F32, 1e-2), (DType::F64, 1e-4)] {
        for method in [Method::EapZero, Method::Eap] {
            let report = report(dtype, method);
            assert!(
                report.edge_error < tolerance && report.row_error < tolerance,
                "{report:?}"
            );
            assert!(
                report.column_error.is_none_or(|error| error < 1e-4),
                "{report:?}"
            );
            assert_eq!(report.column_error.is_some(), method == Method::EapZero);
        }
    }
}
