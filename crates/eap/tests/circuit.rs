//! Circuits, their faithfulness, and EAP-IG's files, against what EAP-IG gives (see golden/README.md).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::float_cmp, reason = "these values are exact")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use eap::{
    attribute::Scorer,
    circuit::{self, Choice, Ranking, Selection},
    example::Example,
    graph::{Gqa, Graph, Level},
    import,
    loss::Readout,
    masked::Masked,
    method::{Ablation, Method, Plan},
    pairs::{self, Metric},
    runs::clean_batch,
};
use model::{DType, Device, Model};
use serde_json::Value;
use store::{
    read_table,
    tables::{CircuitPoint, Edge},
};

const METRICS: [(&str, Metric); 2] = [("nll", Metric::Nll), ("logit-diff", Metric::LogitDiff)];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn load() -> Model {
    Model::load(&golden("model"), &Device::Cpu, DType::F64).unwrap()
}

fn examples(metric: Metric) -> Vec<Example> {
    pairs::read(&golden("model/pairs.json"), metric, &golden("model")).unwrap()
}

/// Mean scores of eap-ig-inputs in f64.
fn scores(model: &Model, graph: Graph, examples: &[&Example]) -> Vec<f64> {
    let plan = Plan::new(Method::EapIgInputs);
    let scorer = Scorer::new(model, graph, plan, examples).unwrap();
    let mut mean = vec![0.0; graph.n_entries()];
    for scores in scorer.score(examples).unwrap() {
        mean.iter_mut()
            .zip(&scores.map)
            .for_each(|(sum, score)| *sum += score / examples.len() as f64);
    }
    mean
}

#[test]
fn circuits_are_those_of_eap_ig() {
    let golden = json("circuits.json");
    let model = load();
    let graph = Graph::of(&model.config, Level::Head, Gqa::Ungrouped);
    for (name, metric) in METRICS {
        let examples = examples(metric);
        let scores = scores(&model, graph, &examples.iter().collect::<Vec<_>>());
        let mut checked = 0;
        for (circuit, edges) in golden[name]["circuits"].as_object().unwrap() {
            let (selection, n) = circuit.split_once('-').unwrap();
            let choice = Choice {
                selection: if selection == "topn" {
                    Selection::TopN
                } else {
                    Selection::Greedy
                },
                ranking: Ranking::Absolute,
                prune: true,
            };
            let kept = circuit::select(&graph, &scores, n.parse().unwrap(), choice);
            let found: Vec<u64> = graph
                .edges()
                .zip(0..)
                .filter_map(|((s, t), number)| kept[s * graph.n_targets() + t].then_some(number))
                .collect();
            let expected: Vec<u64> = edges
                .as_array()
                .unwrap()
                .iter()
                .map(|edge| edge.as_u64().unwrap())
                .collect();
            assert_eq!(found, expected, "{name} {circuit}");
            checked += 1;
        }
        assert_eq!(checked, 20);
    }
}

#[test]
fn with_all_edges_a_circuit_is_the_model_and_with_none_the_ablated_run() {
    let model = load();
    let examples = examples(Metric::LogitDiff);
    for (level, gqa) in [
        (Level::Layer, Gqa::Grouped),
        (Level::Head, Gqa::Ungrouped),
        (Level::Head, Gqa::Grouped),
    ] {
        let graph = Graph::of(&model.config, level, gqa);
        let scorer = Scorer::new(&model, graph, Plan::new(Method::Exact), &[]).unwrap();
        for example in &examples {
            let loss_of = |tokens: &Vec<u32>| {
                let plain = Example {
                    tokens: tokens.clone(),
                    ..example.clone()
                };
                let readout = Readout::new(&[&plain], tokens.len());
                let (logits, _) = model
                    .forward_trace_at(&clean_batch(&[&plain]), &readout.rows, &mut ())
                    .unwrap();
                readout.losses(&logits, None, &[&plain]).unwrap().values[0]
            };
            let masked = Masked::new(&scorer, example).unwrap();
            let all = masked.loss(&vec![true; graph.n_entries()]).unwrap();
            let none = masked.loss(&vec![false; graph.n_entries()]).unwrap();
            assert!((all - loss_of(&example.tokens)).abs() < 1e-10);
            assert!((none - loss_of(example.corrupted.as_ref().unwrap())).abs() < 1e-10);
        }
    }
}

#[test]
fn a_circuit_without_one_edge_is_an_exact_patch() {
    let model = load();
    let examples = examples(Metric::Nll);
    let examples: Vec<&Example> = examples.iter().take(2).collect();
    for (gqa, ablation) in [
        (Gqa::Ungrouped, Ablation::Corrupted),
        (Gqa::Grouped, Ablation::Zero),
        (Gqa::Grouped, Ablation::Mean),
    ] {
        let graph = Graph::of(&model.config, Level::Head, gqa);
        let plan = Plan {
            ablation,
            ..Plan::new(Method::Exact)
        };
        let mut scorer = Scorer::new(&model, graph, plan, &examples).unwrap();
        let edges: Vec<(usize, usize)> = graph.edges().step_by(67).collect();
        scorer.edges = Some(edges.clone());
        let scored = scorer.score(&examples).unwrap();
        for (example, scores) in examples.iter().zip(scored) {
            let masked = Masked::new(&scorer, example).unwrap();
            let whole = masked.loss(&vec![true; graph.n_entries()]).unwrap();
            for &(source, target) in &edges {
                let entry = source * graph.n_targets() + target;
                let mut kept = vec![true; graph.n_entries()];
                kept[entry] = false;
                let effect = masked.loss(&kept).unwrap() - whole;
                assert!(
                    (effect - scores.map[entry]).abs() < 1e-10,
                    "{source} {target} {gqa:?}"
                );
            }
        }
    }
}

/// A scratch folder with the golden graph as a table of edges.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn eap(&self, line: &str) -> String {
        let line = line.replace("MODEL", golden("model").to_str().unwrap());
        let line = line.replace("GOLDEN", golden("").to_str().unwrap());
        let output = Command::new(env!("CARGO_BIN_EXE_eap"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn the_curve_and_its_areas_are_those_of_eap_ig() {
    let golden = json("circuits.json");
    let folder = Folder::new();
    for (name, _) in METRICS {
        folder.eap(&format!(
            "score --model m=MODEL --pairs MODEL/pairs.json --method eap-ig-inputs --metric {name} --level head --dtype f64 \
             --check off -o edges.parquet"
        ));
        folder.eap("circuit --model m=MODEL --pairs MODEL/pairs.json --edges edges.parquet --dtype f64 -o circuit.parquet");
        let rows: Vec<CircuitPoint> = read_table(&[folder.path("circuit.parquet")]).unwrap();
        let of = |measure: &str| {
            rows.iter()
                .filter(|row| row.measure == measure)
                .collect::<Vec<_>>()
        };
        let curve = golden[name]["curve"].as_array().unwrap();
        for (place, point) in curve.iter().enumerate() {
            let number = |i: usize| point[i].as_f64().unwrap();
            let (performance, faithfulness) = (of("performance")[place], of("faithfulness")[place]);
            assert_eq!(f64::from(performance.edges.unwrap()), number(1));
            assert!(
                (performance.value - number(2)).abs() < 1e-8,
                "{performance:?}"
            );
            assert!(
                (faithfulness.value - number(3)).abs() < 1e-7,
                "{faithfulness:?}"
            );
            assert!(
                performance.value_low <= performance.value
                    && performance.value <= performance.value_high
            );
        }
        for (measure, key) in [("cpr", "CPR"), ("cmd", "CMD")] {
            let expected = golden[name][key].as_f64().unwrap();
            assert!(
                (of(measure)[0].value - expected).abs() < 1e-7,
                "{measure} {expected}"
            );
        }
    }
}

#[test]
fn graphs_of_eap_ig_are_read_in_both_forms_and_written_as_they_were() {
    let (json_form, torch_form) = (
        import::read(&golden("eapig.json")).unwrap(),
        import::read(&golden("eapig.pt")).unwrap(),
    );
    assert_eq!(
        (json_form.graph, json_form.d_model),
        (torch_form.graph, torch_form.d_model)
    );
    assert_eq!(json_form.in_graph, torch_form.in_graph);
    assert_eq!(json_form.scores, torch_form.scores);
    assert_eq!(json_form.in_graph.iter().filter(|&&kept| kept).count(), 67);

    let folder = Folder::new();
    folder.eap("import --from eap-ig GOLDEN/eapig.pt --label m -o edges.parquet");
    folder.eap("export --to eap-ig edges.parquet --top 80 -o graph.json");
    folder.eap("export --to eap-ig edges.parquet --top 80 -o graph.pt");
    let (theirs, ours) = (
        json("eapig.json"),
        fs::read(folder.path("graph.json")).unwrap(),
    );
    let ours: Value = serde_json::from_slice(&ours).unwrap();
    assert_eq!(ours["cfg"], theirs["cfg"]);
    for part in ["nodes", "edges"] {
        let names = |graph: &Value| {
            graph[part]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&ours), names(&theirs));
    }
    assert_eq!(ours["edges"], theirs["edges"]);
    let again = import::read(&folder.path("graph.pt")).unwrap();
    assert_eq!(again, torch_form);
    folder.eap("export --to mib edges.parquet -o mib");
    folder.eap("import --from mib mib --label m -o again.parquet");
    let rows = |name: &str| read_table::<Edge>(&[folder.path(name)]).unwrap();
    assert_eq!(rows("again.parquet"), rows("edges.parquet"));
    let drawing = folder.eap("export --to dot edges.parquet --top 5 -o -");
    assert_eq!(drawing.matches("->").count(), 5);
}

#[test]
fn a_mib_submission_holds_a_circuit_of_every_size() {
    let folder = Folder::new();
    folder.eap("import --from eap-ig GOLDEN/eapig.json -o edges.parquet");
    folder.eap(
        "circuit --model m=MODEL --pairs MODEL/pairs.json --edges edges.parquet --metric kl --sizes 0.1,0.5,1 --draws 10 \
         --circuits mib -o circuit.parquet",
    );
    let kept = |name: &str| {
        let graph = import::read(&folder.path("mib").join(name)).unwrap();
        graph.in_graph.iter().filter(|&&kept| kept).count()
    };
    assert_eq!(kept("importances.json"), 802);
    assert!(
        (1..=80).contains(&kept("circuit-0.1.json"))
            && (81..=401).contains(&kept("circuit-0.5.json"))
    );
    assert_eq!(fs::read_dir(folder.path("mib")).unwrap().count(), 3);
    // The whole model is at no distance from itself.
    let rows: Vec<CircuitPoint> = read_table(&[folder.path("circuit.parquet")]).unwrap();
    let whole = rows
        .iter()
        .find(|row| row.measure == "performance" && row.share == Some(1.0));
    assert!(whole.unwrap().value.abs() < 1e-6);
}
