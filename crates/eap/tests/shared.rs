//! What runs have in common is run once, and no score is another for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use eap::{
    attribute::{Scorer, Scores},
    example::{Example, Objective},
    graph::{Gqa, Graph, Level},
    method::{Ablation, Method, Plan},
};
use model::{DType, Device, Model};

fn model(dtype: DType) -> Model {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model");
    Model::load(&directory, &Device::Cpu, dtype).unwrap()
}

fn tokens(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32)
        .map(|i| 3 + (i * 7 + seed * 13) % 40)
        .collect()
}

/// An answer of `n` tokens to a prompt of six.
fn answer(n: usize, seed: u32) -> Example {
    let whole = tokens(30, seed);
    Example {
        doc_id: Some(format!("task/{seed}")),
        tokens: whole[..5 + n].to_vec(),
        corrupted: None,
        objective: Objective::Likelihood((0..n).map(|i| (5 + i - 1, whole[5 + i])).collect()),
    }
}

/// A pair that differs from this position on.
fn pair(n: usize, first: usize) -> Example {
    let clean = tokens(n, 1);
    let mut corrupted = clean.clone();
    corrupted[first] = 2;
    corrupted[n - 2] = 1;
    Example {
        doc_id: None,
        tokens: clean,
        corrupted: Some(corrupted),
        objective: Objective::LogitDifference {
            better: 4,
            worse: 9,
        },
    }
}

fn close(found: &Scores, wanted: &Scores, tolerance: f64) {
    let largest = wanted
        .map
        .iter()
        .fold(0.0, |most: f64, score| most.max(score.abs()));
    assert!(largest > 0.0);
    for (a, b) in found.map.iter().zip(&wanted.map) {
        assert!((a - b).abs() <= tolerance * largest, "{a} {b}");
    }
    assert_eq!(found.positions.len(), wanted.positions.len());
    for ((place, a), (other, b)) in found.positions.iter().zip(&wanted.positions) {
        assert_eq!(place, other);
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= tolerance * largest, "{place}: {a} {b}");
        }
    }
}

#[test]
fn truncations_of_one_pass_have_the_scores_of_their_own() {
    let model = model(DType::F64);
    let sets: Vec<Vec<Example>> = [(1, 2), (3, 7), (9, 4)]
        .map(|(a, b)| vec![answer(a, 1), answer(b, 2)])
        .into();
    let sets: Vec<Vec<&Example>> = sets.iter().map(|set| set.iter().collect()).collect();
    for level in [Level::Layer, Level::Head] {
        for (method, ablation) in [
            (Method::EapZero, Ablation::Zero),
            (Method::EapIgInputs, Ablation::Zero),
            (Method::EapIgActivationsOwn, Ablation::Mean),
        ] {
            let graph = Graph::of(&model.config, level, Gqa::Ungrouped);
            let plan = Plan {
                ablation,
                steps: 2,
                ..Plan::new(method)
            };
            let mut scorer = Scorer::new(&model, graph, plan, &sets[2]).unwrap();
            scorer.by_position = true;
            let together = scorer.score_sets(&sets).unwrap();
            for (found, examples) in together.iter().zip(&sets) {
                for (found, wanted) in found.iter().zip(scorer.score(examples).unwrap()) {
                    close(found, &wanted, 1e-10);
                }
            }
        }
    }
}

#[test]
fn a_run_that_begins_where_a_pair_differs_has_the_scores_of_a_whole_one() {
    // Beside a pair that differs from its second token on, both are run from the first.
    let (late, early) = (pair(48, 40), pair(48, 1));
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-4)] {
        let model = model(dtype);
        for method in [
            Method::Eap,
            Method::CleanCorrupted,
            Method::EapIgInputs,
            Method::EapIgActivations,
        ] {
            for level in [Level::Layer, Level::Head] {
                let graph = Graph::of(&model.config, level, Gqa::Grouped);
                let plan = Plan {
                    steps: 2,
                    ..Plan::new(method)
                };
                let mut scorer = Scorer::new(&model, graph, plan, &[]).unwrap();
                scorer.by_position = true;
                let whole = scorer.score(&[&late, &early]).unwrap();
                let part = scorer.score(&[&late]).unwrap();
                assert_eq!(part[0].positions.len(), 8);
                close(&part[0], &whole[0], tolerance);
            }
        }
    }
}
