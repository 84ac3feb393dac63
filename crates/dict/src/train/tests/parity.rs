//! Loss curves of a plain PyTorch implementation (`benches/peers/crosscoder_parity.py`), reproduced step by step.

use super::subject;
use crate::rule::Rule;
use crate::train::compute::Compute;
use crate::train::parameters::{Layout, Parameters};
use crate::train::tensors::Tensors;
use crate::train::{Settings, Trainer};
use candle_core::Device;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use store::TensorFile;

const WIDTHS: [usize; 2] = [24, 16];
const FEATURES: usize = 96;
const ROWS: usize = 64;
const STEPS: u64 = 100;
const K: usize = 6;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/parity")
        .join(name)
}

/// A plain implementation's run: batches that no rounding decides about.
#[derive(Deserialize)]
struct Run {
    seed: u64,
    losses: Vec<f64>,
}

/// The generator the Python side has too.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32 - 0.5
    }
}

fn settings(rule: Rule) -> Settings {
    let mut settings = Settings::new(rule, FEATURES, WIDTHS[0], STEPS);
    (
        settings.learning_rate,
        settings.warmup_steps,
        settings.decay_share,
    ) = (2e-3, 10, 0.2);
    settings.dead_after = 640;
    if let Rule::Matryoshka { .. } = rule {
        settings.groups = vec![FEATURES / 8, FEATURES / 2, FEATURES];
        settings.aux_coefficient = 0.0;
    }
    if let Rule::TopK { .. } = rule {
        settings.aux_coefficient = 0.0;
    }
    settings
}

/// The plain implementation's initial weights.
fn start(parameters: &mut Parameters) {
    let start = TensorFile::open(&golden("start.safetensors")).unwrap();
    let names = parameters.parts().map(|(name, _)| name);
    for (name, values) in names.into_iter().zip(parameters.parts_mut()) {
        if name != "thresholds" || !values.is_empty() {
            *values = start.f32(name).unwrap();
        }
    }
}

/// By the kernels, and by plain tensors.
fn trainers(rule: Rule) -> [Trainer; 2] {
    let new = || Trainer::new(settings(rule), subject(&WIDTHS));
    let (mut kernels, mut tensors) = (new(), new());
    start(&mut super::kernels(&mut kernels).parameters);
    start(&mut super::kernels(&mut tensors).parameters);
    let parameters = &super::kernels(&mut tensors).parameters;
    let same = Tensors::new(
        parameters,
        &settings(rule),
        &Layout::new(&WIDTHS),
        &Device::Cpu,
    );
    tensors.compute = Compute::Tensors(Box::new(same.unwrap()));
    [kernels, tensors]
}

/// Largest difference of our losses from theirs over the run; where the first dead features were seen.
fn compare(mut trainer: Trainer, theirs: &Run) -> (f64, bool) {
    let (mut random, mut worst, mut died) = (Random(theirs.seed), 0f64, false);
    for wanted in &theirs.losses {
        let mut x = [Vec::new(), Vec::new()];
        for _ in 0..ROWS {
            for (x, width) in x.iter_mut().zip(WIDTHS) {
                x.extend((0..width).map(|_| random.next()));
            }
        }
        let report = trainer.step(&[&x[0], &x[1]]).unwrap();
        worst = worst.max((report.loss - wanted).abs() / wanted.abs());
        died |= report.dead > 0.0;
    }
    (worst, died)
}

#[test]
fn losses_follow_a_plain_implementation_for_a_hundred_steps() {
    let text = std::fs::read_to_string(golden("losses.json")).unwrap();
    let runs: BTreeMap<String, Run> = serde_json::from_str(&text).unwrap();
    let rules = [
        Rule::L1 { sparsity: 0.05 },
        Rule::TopK { k: K },
        Rule::BatchTopK { k: K },
        Rule::JumpRelu {
            k: K,
            sparsity: 0.5,
            bandwidth: 0.2,
        },
        Rule::Matryoshka { k: K },
    ];
    for rule in rules {
        let theirs = &runs[rule.name()];
        let losses = &theirs.losses;
        assert!(
            losses.len() == STEPS as usize && losses[99] < 0.97 * losses[0],
            "the curve should fall"
        );
        for (trainer, by) in trainers(rule).into_iter().zip(["kernels", "tensors"]) {
            let (worst, died) = compare(trainer, theirs);
            let name = rule.name();
            assert!(worst < 1e-4, "{name} by {by}: relative difference {worst}");
            assert!(
                died || rule != (Rule::BatchTopK { k: K }),
                "the auxiliary loss should take part"
            );
        }
    }
}
