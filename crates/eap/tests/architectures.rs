//! The identities on every architecture of `model`: norms around and behind sublayers, soft caps, windows, partial rotation.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use eap::{
    attribute::Scorer,
    check,
    example::{Example, Objective},
    graph::{Gqa, Graph, Level},
    masked::Masked,
    method::{Method, Plan},
};
use model::{DType, Device, Model};

/// Model directories among the goldens of `model`.
fn models() -> Vec<PathBuf> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden");
    let mut found: Vec<PathBuf> = std::fs::read_dir(goldens)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("model.safetensors").exists() && path.join("config.json").exists())
        .collect();
    found.sort();
    assert!(found.len() > 4);
    found
}

fn example() -> Example {
    Example {
        doc_id: None,
        tokens: vec![5, 17, 23, 9, 41, 60, 3],
        corrupted: Some(vec![5, 17, 70, 9, 41, 12, 3]),
        objective: Objective::Likelihood(vec![(4, 8), (6, 33)]),
    }
}

#[test]
fn the_identities_hold_on_every_architecture() {
    for directory in models() {
        let model = Model::load(&directory, &Device::Cpu, DType::F64).unwrap();
        let example = example();
        for (level, gqa) in [
            (Level::Layer, Gqa::Grouped),
            (Level::Head, Gqa::Grouped),
            (Level::Head, Gqa::Ungrouped),
        ] {
            let graph = Graph::of(&model.config, level, gqa);
            for method in [Method::EapZero, Method::Eap, Method::Ifr] {
                let name = format!("{} {level:?} {gqa:?} {method:?}", directory.display());
                let scorer = Scorer::new(&model, graph, Plan::new(method), &[]).unwrap();
                if method == Method::Ifr && (model.config.output_bias && graph.heads.is_some()) {
                    continue;
                }
                let report = check::check(&scorer, &[&example], 1)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(report.edge_error < 1e-3, "{name}: {report:?}");
                assert!(report.row_error < 1e-3, "{name}: {report:?}");
            }
        }
    }
}

#[test]
fn every_architecture_runs_on_part_of_its_edges() {
    for directory in models() {
        let model = Model::load(&directory, &Device::Cpu, DType::F64).unwrap();
        let example = example();
        let graph = Graph::of(&model.config, Level::Head, Gqa::Grouped);
        let mut scorer = Scorer::new(&model, graph, Plan::new(Method::Exact), &[]).unwrap();
        let edges: Vec<(usize, usize)> = graph.edges().step_by(23).collect();
        scorer.edges = Some(edges.clone());
        let exact = scorer.score(&[&example]).unwrap().swap_remove(0).map;
        let masked = Masked::new(&scorer, &example).unwrap();
        let whole = masked.loss(&vec![true; graph.n_entries()]).unwrap();
        for (source, target) in edges {
            let entry = source * graph.n_targets() + target;
            let mut kept = vec![true; graph.n_entries()];
            kept[entry] = false;
            let effect = masked.loss(&kept).unwrap() - whole;
            assert!(
                (effect - exact[entry]).abs() < 1e-9,
                "{} {source} {target}",
                directory.display()
            );
        }
    }
}
