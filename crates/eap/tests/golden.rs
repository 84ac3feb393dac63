//! Scores against those of an independent implementation and of EAP-IG (see golden/README.md).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use eap::{
    attribute::Scorer,
    check,
    example::Example,
    graph::{Gqa, Graph, Heads, Level},
    method::{Ablation, Endpoints, Method, Plan},
    pairs::{self, Metric},
};
use model::{DType, Device, Model};
use safetensors::SafeTensors;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn tensor(file: &str, name: &str) -> Vec<f64> {
    let bytes = std::fs::read(golden(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor(name).unwrap().data().to_vec();
    data.chunks_exact(8)
        .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

fn load(dtype: DType) -> Model {
    Model::load(&golden("model"), &Device::Cpu, dtype).unwrap()
}

fn examples(metric: Metric) -> Vec<Example> {
    pairs::read(&golden("model/pairs.json"), metric, &golden("model")).unwrap()
}

/// Maps of the four pairs.
fn maps(
    dtype: DType,
    (level, gqa): (Level, Gqa),
    plan: Plan,
    metric: Metric,
    batch: usize,
) -> (Graph, Vec<Vec<f64>>) {
    let model = load(dtype);
    let examples = examples(metric);
    let examples: Vec<&Example> = examples.iter().collect();
    let graph = Graph::of(&model.config, level, gqa);
    let scorer = Scorer::new(&model, graph, plan, &examples).unwrap();
    let scored = examples
        .chunks(batch)
        .flat_map(|batch| scorer.score(batch).unwrap());
    (graph, scored.map(|scores| scores.map).collect())
}

fn scores(dtype: DType, plan: Plan, metric: Metric, batch: usize) -> Vec<f64> {
    maps(dtype, (Level::Layer, Gqa::Ungrouped), plan, metric, batch)
        .1
        .concat()
}

/// Mean over the pairs, real edges row by row.
fn head_scores(dtype: DType, plan: Plan, metric: Metric) -> Vec<f64> {
    let (graph, maps) = maps(dtype, (Level::Head, Gqa::Ungrouped), plan, metric, 4);
    let at = |(source, target): (usize, usize)| {
        maps.iter()
            .map(|map| map[source * graph.n_targets() + target])
            .sum::<f64>()
            / 4.0
    };
    graph.edges().map(at).collect()
}

const METRICS: [(&str, Metric); 2] = [("nll", Metric::Nll), ("logit-diff", Metric::LogitDiff)];
const LAYER_METHODS: [(&str, Method); 4] = [
    ("eap-zero", Method::EapZero),
    ("eap", Method::Eap),
    ("clean-corrupted", Method::CleanCorrupted),
    ("eap-ig-inputs", Method::EapIgInputs),
];

fn head_methods() -> Vec<(&'static str, Plan)> {
    let interpolated = |endpoints| Plan {
        endpoints,
        ..Plan::new(Method::EapIgInputs)
    };
    vec![
        ("EAP", Plan::new(Method::Eap)),
        ("EAP-zero", Plan::new(Method::EapZero)),
        ("EAP-at-corrupted", Plan::new(Method::EapAtCorrupted)),
        ("clean-corrupted", Plan::new(Method::CleanCorrupted)),
        ("EAP-IG-inputs", interpolated(Endpoints::Left)),
        ("EAP-IG-inputs-right", interpolated(Endpoints::Right)),
        ("EAP-IG-inputs-mid", interpolated(Endpoints::Mid)),
        ("EAP-IG-activations", Plan::new(Method::EapIgActivations)),
        (
            "EAP-IG-activations-own",
            Plan::new(Method::EapIgActivationsOwn),
        ),
        ("RelP", Plan::new(Method::Relp)),
        ("information-flow-routes", Plan::new(Method::Ifr)),
    ]
}

/// What EAP-IG itself gave, in single precision.
const BY_LIBRARY: [&str; 6] = [
    "EAP",
    "EAP-zero",
    "clean-corrupted",
    "EAP-IG-inputs",
    "EAP-IG-activations",
    "information-flow-routes",
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

fn check_layer_methods(dtype: DType, tolerance: f64) {
    for (metric_name, metric) in METRICS {
        for (method_name, method) in LAYER_METHODS {
            let name = format!("{metric_name}/{method_name}");
            let found = scores(dtype, Plan::new(method), metric, 4);
            let distance = distance(&found, &tensor("layer.safetensors", &name));
            assert!(distance < tolerance, "{name}: {distance:e}");
        }
    }
}

fn check_head_methods(dtype: DType, tolerance: f64) {
    for (metric_name, metric) in METRICS {
        for (method, plan) in head_methods() {
            let found = head_scores(dtype, plan, metric);
            let name = format!("{metric_name}/indep/{method}");
            let distance_indep = distance(&found, &tensor("head.safetensors", &name));
            assert!(distance_indep < tolerance, "{name}: {distance_indep:e}");
            if BY_LIBRARY.contains(&method) {
                let name = format!("{metric_name}/lib/{method}");
                let distance = distance(&found, &tensor("head.safetensors", &name));
                // The library adds up in single precision, whatever it computes in.
                assert!(distance < tolerance.max(1e-6), "{name}: {distance:e}");
            }
        }
    }
}

#[test]
fn every_method_of_the_layer_graph_agrees() {
    check_layer_methods(DType::F32, 1e-4);
    check_layer_methods(DType::F64, 1e-8);
}

#[test]
fn every_method_of_the_head_graph_agrees_in_single_precision() {
    check_head_methods(DType::F32, 1e-4);
}

#[test]
fn every_method_of_the_head_graph_agrees_in_double_precision() {
    check_head_methods(DType::F64, 1e-8);
}

#[test]
fn every_example_has_its_own_scores() {
    for (name, method) in [("EAP", Method::Eap), ("EAP-zero", Method::EapZero)] {
        let level = (Level::Head, Gqa::Ungrouped);
        let (graph, maps) = maps(DType::F64, level, Plan::new(method), Metric::Nll, 3);
        let at = |map: &Vec<f64>| -> Vec<f64> {
            graph
                .edges()
                .map(|(s, t)| map[s * graph.n_targets() + t])
                .collect()
        };
        let found: Vec<f64> = maps.iter().flat_map(at).collect();
        let expected = tensor("head.safetensors", &format!("nll/each/{name}"));
        assert!(distance(&found, &expected) < 1e-8, "{name}");
    }
}

#[test]
fn exact_patches_agree() {
    let bytes = std::fs::read(golden("head.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for (metric_name, metric) in METRICS {
        let edges = tensors
            .tensor(&format!("{metric_name}/exact/edges"))
            .unwrap()
            .data()
            .to_vec();
        let numbers: Vec<usize> = edges
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()) as usize)
            .collect();
        let edges: Vec<(usize, usize)> = numbers.chunks(2).map(|edge| (edge[0], edge[1])).collect();
        for (name, ablation) in [("patch", Ablation::Corrupted), ("zero", Ablation::Zero)] {
            let expected = tensor("head.safetensors", &format!("{metric_name}/exact/{name}"));
            for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::F64, 1e-8)] {
                let plan = Plan {
                    ablation,
                    ..Plan::new(Method::Exact)
                };
                let model = load(dtype);
                let examples = examples(metric);
                let examples: Vec<&Example> = examples.iter().collect();
                let graph = Graph::of(&model.config, Level::Head, Gqa::Ungrouped);
                let mut scorer = Scorer::new(&model, graph, plan, &examples).unwrap();
                scorer.edges = Some(edges.clone());
                let of_edges = |map: Vec<f64>| {
                    edges
                        .iter()
                        .map(move |(s, t)| map[s * graph.n_targets() + t])
                        .collect::<Vec<_>>()
                };
                let scored = scorer.score(&examples).unwrap().into_iter();
                let found: Vec<f64> = scored.flat_map(|scores| of_edges(scores.map)).collect();
                let distance = distance(&found, &expected);
                assert!(distance < tolerance, "{metric_name}/{name}: {distance:e}");
            }
        }
    }
}

#[test]
fn scores_do_not_depend_on_the_batch() {
    for method in [Method::EapZero, Method::EapIgInputs] {
        let whole = scores(DType::F64, Plan::new(method), Metric::Nll, 4);
        for batch in [1, 3] {
            let found = scores(DType::F64, Plan::new(method), Metric::Nll, batch);
            assert!(distance(&found, &whole) < 1e-12);
        }
    }
}

/// Sums of a map's entries, by where a function of their names sends them.
fn summed(
    (graph, map): (&Graph, &[f64]),
    to: &Graph,
    source: impl Fn(&str) -> String,
    target: impl Fn(&str) -> String,
) -> Vec<f64> {
    let mut sums = vec![0.0; to.n_entries()];
    for (s, t) in graph.edges() {
        let row = to.source_index(source(&graph.source(s).to_string()).parse().unwrap());
        let column = to.target_index(target(&graph.target(t).to_string()).parse().unwrap());
        sums[row.unwrap() * to.n_targets() + column.unwrap()] += map[s * graph.n_targets() + t];
    }
    sums
}

fn without_head(name: &str) -> String {
    let Some((layer, rest)) = name.split_once(".h") else {
        return name.to_owned();
    };
    let part = rest.find('<').map_or("", |place| &rest[place..]);
    format!("{layer}{part}")
}

#[test]
fn layers_and_shared_heads_are_sums_of_heads() {
    for method in [
        Method::Eap,
        Method::EapIgActivations,
        Method::Relp,
        Method::EapZero,
    ] {
        let of = |level, gqa| {
            let (graph, maps) = maps(DType::F64, (level, gqa), Plan::new(method), Metric::Nll, 4);
            (graph, maps[1].clone())
        };
        let heads = of(Level::Head, Gqa::Ungrouped);
        let (graph, expected) = of(Level::Layer, Gqa::Ungrouped);
        let found = summed((&heads.0, &heads.1), &graph, without_head, without_head);
        assert!(distance(&found, &expected) < 1e-10, "{method:?}");
        let (graph, expected) = of(Level::Head, Gqa::Grouped);
        let shared = |name: &str| match name.split_once(".h") {
            Some((layer, rest)) if !rest.ends_with("<q>") => {
                let (head, part) = rest.split_once('<').unwrap();
                format!("{layer}.h{}<{part}", head.parse::<usize>().unwrap() / 4)
            }
            _ => name.to_owned(),
        };
        let found = summed((&heads.0, &heads.1), &graph, str::to_owned, shared);
        assert!(distance(&found, &expected) < 1e-10, "{method:?}");
    }
}

#[test]
fn positions_add_up_to_the_score() {
    let model = load(DType::F64);
    let examples = examples(Metric::LogitDiff);
    let examples: Vec<&Example> = examples.iter().collect();
    for (level, method) in [
        (Level::Head, Method::EapIgInputs),
        (Level::Layer, Method::Eap),
        (Level::Head, Method::Ifr),
    ] {
        let graph = Graph::of(&model.config, level, Gqa::Ungrouped);
        let mut scorer = Scorer::new(&model, graph, Plan::new(method), &examples).unwrap();
        let whole = scorer.score(&examples).unwrap();
        scorer.by_position = true;
        for ((scores, whole), example) in scorer
            .score(&examples)
            .unwrap()
            .iter()
            .zip(&whole)
            .zip(&examples)
        {
            let first = if method == Method::Ifr {
                0
            } else {
                example.differing().start
            };
            let positions: Vec<usize> =
                scores.positions.iter().map(|position| position.0).collect();
            assert_eq!(positions, (first..example.tokens.len()).collect::<Vec<_>>());
            let mut sum = vec![0.0; graph.n_entries()];
            for (_, map) in &scores.positions {
                sum.iter_mut()
                    .zip(map)
                    .for_each(|(sum, score)| *sum += score);
            }
            assert!(distance(&sum, &whole.map) < 1e-10);
        }
    }
}

#[test]
fn mean_ablations_lie_where_they_should() {
    // Means over positions of sequences of unlike lengths are refused; a mean over one sequence's own positions has ΔO that
    // add up to 0, so the logits' scores of the embedding do not vanish but an ablation by position of one sequence does.
    let model = load(DType::F64);
    let examples = examples(Metric::Nll);
    let all: Vec<&Example> = examples.iter().collect();
    let graph = Graph::of(&model.config, Level::Head, Gqa::Ungrouped);
    let plan = |ablation| Plan {
        ablation,
        ..Plan::new(Method::Eap)
    };
    let refused = Scorer::new(&model, graph, plan(Ablation::MeanPositional), &all);
    assert!(refused.unwrap_err().to_string().contains("one length"));
    let one = [all[0]];
    let scorer = Scorer::new(&model, graph, plan(Ablation::MeanPositional), &one).unwrap();
    assert!(
        scorer.score(&one).unwrap()[0]
            .map
            .iter()
            .all(|score| score.abs() < 1e-12)
    );
    let scorer = Scorer::new(&model, graph, plan(Ablation::Mean), &one).unwrap();
    let report = check::check(&scorer, &one, 0).unwrap();
    assert!(
        report.edge_error < 1e-4 && report.row_error < 1e-4,
        "{report:?}"
    );
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

fn report(dtype: DType, level: Level, method: Method) -> check::Report {
    let model = load(dtype);
    let examples = examples(Metric::Nll);
    let examples: Vec<&Example> = examples.iter().collect();
    let graph = Graph::of(&model.config, level, Gqa::Grouped);
    let scorer = Scorer::new(&model, graph, Plan::new(method), &examples).unwrap();
    check::check(&scorer, &examples[..2], 0).unwrap()
}

#[test]
fn the_identities_hold() {
    for (dtype, tolerance) in [(DType::F32, 1e-2), (DType::F64, 1e-4)] {
        for level in [Level::Layer, Level::Head] {
            for method in [Method::EapZero, Method::Eap] {
                let report = report(dtype, level, method);
                assert!(
                    report.edge_error < tolerance && report.row_error < tolerance,
                    "{report:?}"
                );
                assert!(
                    report.column_error.is_none_or(|error| error < 1e-4),
                    "{report:?}"
                );
                assert_eq!(report.column_error.is_some(), method == Method::EapZero);
                let exact = report.exact.unwrap();
                // A straight line does not reach far here; zero ablation does not even see the embedding's first edges.
                assert!(
                    exact.correlation > 0.2 && exact.correlation_low < exact.correlation,
                    "{exact:?}"
                );
            }
        }
    }
}
