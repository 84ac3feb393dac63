//! Plain tensors against the kernels: the same losses and the same dictionary, up to rounding.

use super::{subject, uniform};
use crate::rule::{CodeNormalization, Rule};
use crate::train::{Block, Penalty, Settings, Trainer};
use candle_core::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const WIDTH: usize = 12;
const FEATURES: usize = 40;
const ROWS: usize = 48;
const STEPS: u64 = 40;

fn batches() -> Vec<[Vec<f32>; 2]> {
    let mut random = ChaCha8Rng::seed_from_u64(21);
    let batch = |_| [0; 2].map(|_| uniform(&mut random, ROWS * WIDTH));
    (0..STEPS).map(batch).collect()
}

fn settings(rule: Rule) -> Settings {
    let mut settings = Settings::new(rule, FEATURES, WIDTH, STEPS);
    (settings.learning_rate, settings.dead_after) = (1e-3, 3 * ROWS as u64);
    settings.aux_coefficient = 1.0 / 32.0;
    settings
}

/// Largest relative difference of the losses, and of the weights at the end from the kernels' largest.
fn compare(settings: &Settings) -> (f64, f32) {
    let subject = subject(&[WIDTH, WIDTH]);
    let mut kernels = Trainer::new(settings.clone(), subject.clone());
    let mut tensors = Trainer::on(&Device::Cpu, settings.clone(), subject).unwrap();
    let mut worst = 0f64;
    for [a, b] in &batches() {
        let ours = kernels.step(&[a, b]).unwrap();
        let plain = tensors.step(&[a, b]).unwrap();
        worst = worst.max((ours.loss - plain.loss).abs() / ours.loss.abs());
        assert!(
            (ours.dead - plain.dead).abs() < 0.051 && (ours.l0 - plain.l0).abs() < 0.05,
            "{ours:?} by kernels, {plain:?} by tensors"
        );
    }
    let [ours, plain] = [kernels, tensors].map(|trainer| trainer.into_crosscoder().unwrap());
    let pairs = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        let pairs = a.iter().flatten().zip(b.iter().flatten());
        pairs.fold(0f32, |worst, (a, b)| worst.max((a - b).abs()))
    };
    let apart = pairs(&ours.decoder, &plain.decoder).max(pairs(&ours.encoder, &plain.encoder));
    assert!((ours.threshold - plain.threshold).abs() < 1e-3 * ours.threshold.abs().max(1.0));
    (worst, apart)
}

fn rules() -> [Rule; 5] {
    let jump = Rule::JumpRelu {
        k: 5,
        sparsity: 0.5,
        bandwidth: 0.2,
    };
    [
        Rule::L1 { sparsity: 0.05 },
        Rule::TopK { k: 5 },
        Rule::BatchTopK { k: 5 },
        jump,
        Rule::Matryoshka { k: 5 },
    ]
}

#[test]
fn every_rule_follows_the_kernels() {
    for rule in rules() {
        let (losses, weights) = compare(&settings(rule));
        assert!(
            losses < 1e-4 && weights < 1e-3,
            "{}: losses {losses}, weights {weights}",
            rule.name()
        );
    }
}

#[test]
fn partitions_follow_the_kernels() {
    let only = |model: usize| Block {
        models: vec![model],
        ..Block::shared(6)
    };
    let tied = Block {
        tied: true,
        penalty: 0.2,
        ..Block::shared(8)
    };
    for rule in [Rule::BatchTopK { k: 5 }, Rule::L1 { sparsity: 0.05 }] {
        let mut settings = settings(rule);
        settings.partition = vec![only(0), only(1), tied.clone(), Block::shared(20)];
        let (losses, weights) = compare(&settings);
        assert!(
            losses < 1e-4 && weights < 1e-3,
            "{}: losses {losses}, weights {weights}",
            rule.name()
        );
    }
}

#[test]
fn normalizations_penalties_and_annealing_follow_the_kernels() {
    let decoupled = CodeNormalization::Decoupled {
        thresholds: Vec::new(),
    };
    let mixed = CodeNormalization::Mixed {
        alpha_sae: 1.0,
        alpha_crosscoder: 0.1,
    };
    let normalizations = [
        CodeNormalization::Sae,
        CodeNormalization::None,
        mixed,
        decoupled,
    ];
    for normalization in normalizations {
        for rule in [
            Rule::BatchTopK { k: 5 },
            Rule::TopK { k: 5 },
            Rule::L1 { sparsity: 0.05 },
        ] {
            let mut settings = settings(rule);
            settings.code_normalization = normalization.clone();
            settings.penalty = Penalty::Tanh { scale: 2.0 };
            (settings.k_start, settings.k_anneal_steps) = (Some(12), 15);
            let (losses, weights) = compare(&settings);
            assert!(
                losses < 1e-4 && weights < 1e-3,
                "{} {normalization:?}: losses {losses}, weights {weights}",
                rule.name()
            );
        }
    }
}

#[test]
fn a_restored_run_on_tensors_ends_in_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.safetensors");
    for rule in rules() {
        let new = || Trainer::on(&Device::Cpu, settings(rule), subject(&[WIDTH, WIDTH])).unwrap();
        let (mut straight, mut resumed) = (new(), new());
        for (step, [a, b]) in batches().iter().enumerate() {
            if step == 17 {
                let provenance = store::Provenance::new("test", &()).unwrap();
                let about = std::collections::BTreeMap::new();
                let write =
                    |tensors: &[_]| store::write_tensors(&path, tensors, &about, &provenance);
                straight.with_state(Vec::new(), write).unwrap().unwrap();
                resumed
                    .restore(&store::TensorFile::open(&path).unwrap())
                    .unwrap();
            }
            straight.step(&[a, b]).unwrap();
            if step >= 17 {
                resumed.step(&[a, b]).unwrap();
            }
        }
        assert!(straight.history == resumed.history);
        assert!(straight.crosscoder().unwrap() == resumed.crosscoder().unwrap());
    }
}
