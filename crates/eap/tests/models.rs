//! Every method, ablation and metric on other architectures, against scores by definition (see golden/README.md,
//! `golden/make_models.py`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use eap::{
    attribute::Scorer,
    example::Example,
    graph::{Gqa, Graph, Level},
    method::{Ablation, Endpoints, Method, Plan},
    pairs::{self, Metric},
};
use model::{DType, Device, Model};
use safetensors::SafeTensors;

const MODELS: [&str; 6] = [
    "qwen3",
    "gemma2",
    "llama3",
    "olmo2",
    "llama-linear-bias",
    "mistral-window",
];
/// Exact patches are of every so manieth edge.
const EVERY: usize = 37;

struct Case {
    name: &'static str,
    metric: Metric,
    plan: Plan,
}

fn case(
    name: &'static str,
    metric: Metric,
    method: Method,
    ablation: Ablation,
    (steps, endpoints): (usize, Endpoints),
) -> Case {
    let plan = Plan {
        ablation,
        steps,
        endpoints,
        constant_attention: name.contains("attention"),
        ..Plan::new(method)
    };
    Case { name, metric, plan }
}

fn cases() -> Vec<Case> {
    use Ablation::{Corrupted, Mean, MeanPositional, Zero};
    use Metric::{Kl, LogitDiff, Nll, ProbDiff};
    let once = (1, Endpoints::Left);
    let (own, held) = (Method::EapIgActivationsOwn, Method::EapIgActivations);
    let (inputs, mixed) = (Method::EapIgInputs, Method::CleanCorrupted);
    let (mid, both, right) = (Endpoints::Mid, Endpoints::Both, Endpoints::Right);
    let at_corrupted = Method::EapAtCorrupted;
    vec![
        case("eap-nll-zero", Nll, Method::EapZero, Zero, once),
        case("eap-nll-mean", Nll, Method::Eap, Mean, once),
        case("eap-logit-diff", LogitDiff, Method::Eap, Corrupted, once),
        case("eap-prob-diff", ProbDiff, Method::Eap, Corrupted, once),
        case(
            "at-corrupted-prob-diff",
            ProbDiff,
            at_corrupted,
            Corrupted,
            once,
        ),
        case("clean-corrupted-kl", Kl, mixed, Corrupted, once),
        case("inputs-kl-mid", Kl, inputs, Corrupted, (3, mid)),
        case("inputs-nll-zero-mid", Nll, inputs, Zero, (2, mid)),
        case(
            "inputs-prob-diff-both",
            ProbDiff,
            inputs,
            Corrupted,
            (2, both),
        ),
        case(
            "inputs-prob-diff-positional",
            ProbDiff,
            inputs,
            MeanPositional,
            (2, Endpoints::Left),
        ),
        case("activations-kl", Kl, held, Corrupted, (2, right)),
        case("activations-nll-zero", Nll, held, Zero, (2, mid)),
        case(
            "own-prob-diff-positional",
            ProbDiff,
            own,
            MeanPositional,
            (2, both),
        ),
        case("relp-prob-diff", ProbDiff, Method::Relp, Corrupted, once),
        case("relp-attention-nll-zero", Nll, Method::Relp, Zero, once),
        case("ifr", Nll, Method::Ifr, Zero, once),
        case("exact-kl", Kl, Method::Exact, Corrupted, once),
        case("exact-prob-diff-mean", ProbDiff, Method::Exact, Mean, once),
    ]
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// The sequences of a model; logit differences take the first label of each side.
fn examples(model: &str, metric: Metric) -> Vec<Example> {
    let text = std::fs::read_to_string(golden("models.json")).unwrap();
    let mut all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut own = all[model].take();
    if metric == Metric::LogitDiff {
        for pair in own.as_array_mut().unwrap() {
            for side in pair["label"].as_array_mut().unwrap() {
                *side = side[0].take();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pairs.json");
    std::fs::write(&path, own.to_string()).unwrap();
    pairs::read(&path, metric, directory.path()).unwrap()
}

fn found(model: &Model, name: &str, case: &Case, dtype: DType) -> Vec<f64> {
    let mut examples = examples(name, case.metric);
    if case.plan.ablation == Ablation::MeanPositional {
        examples.truncate(2);
    }
    let examples: Vec<&Example> = examples.iter().collect();
    let graph = Graph::of(&model.config, Level::Head, Gqa::Ungrouped);
    let mut edges: Vec<(usize, usize)> = graph.edges().collect();
    let mut scorer = Scorer::new(model, graph, case.plan, &examples).unwrap();
    if case.plan.method == Method::Exact {
        edges = edges.into_iter().step_by(EVERY).collect();
        scorer.edges = Some(edges.clone());
    }
    assert_eq!(scorer.model.dtype(), dtype);
    let scores = scorer.score(&examples).unwrap();
    let mean = |(source, target): (usize, usize)| {
        let entry = source * graph.n_targets() + target;
        scores.iter().map(|own| own.map[entry]).sum::<f64>() / scores.len() as f64
    };
    edges.into_iter().map(mean).collect()
}

fn check(dtype: DType, tolerance: f64) {
    let bytes = std::fs::read(golden("models.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut failures = Vec::new();
    for name in MODELS {
        let directory = golden("../../../model/tests/golden").join(name);
        let model = Model::load(&directory, &Device::Cpu, dtype).unwrap();
        for case in cases() {
            let expected = tensors.tensor(&format!("{name}/{}", case.name)).unwrap();
            let expected: Vec<f64> = expected
                .data()
                .chunks_exact(8)
                .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            let found = found(&model, name, &case, dtype);
            assert_eq!(found.len(), expected.len(), "{name} {}", case.name);
            let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            let pairs = found.iter().zip(&expected);
            let error = pairs.fold(0.0, |most: f64, (a, b)| most.max((a - b).abs())) / largest;
            if error.is_nan() || error >= tolerance {
                failures.push(format!("{name} {}: {error:.1e}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn other_models_agree_in_double_precision() {
    check(DType::F64, 1e-8);
}

#[test]
fn other_models_agree_in_single_precision() {
    check(DType::F32, 1e-4);
}
