//! How fast a step is: `cargo test --release -p dict --test speed -- --ignored --nocapture`.

#![expect(clippy::print_stdout, reason = "the measurement is what it prints")]

use dict::{Normalizer, Rule, Settings, Subject, Trainer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

/// Rows per second of `steps` steps at `n_models × width × n_features`.
fn measure(
    rule: Rule,
    (n_models, width, n_features): (usize, usize, usize),
    batch: usize,
    steps: u64,
) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut settings = Settings::new(rule, n_features, width, steps + 50);
    settings.dead_after = 20 * batch as u64;
    let subject = Subject {
        labels: (0..n_models).map(|model| format!("m{model}")).collect(),
        widths: vec![width; n_models],
        normalizer: vec![Normalizer::identity(width); n_models],
        hook: String::new(),
        tokenizer_digest: String::new(),
    };
    let mut trainer = Trainer::new(settings, subject);
    let scale = 1.0 / (width as f32).sqrt();
    let x: Vec<Vec<f32>> = (0..n_models)
        .map(|_| {
            (0..batch * width)
                .map(|_| random.random_range(-scale..scale))
                .collect()
        })
        .collect();
    let x: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
    (0..50).for_each(|_| drop(Box::new(trainer.step(&x))));
    let start = Instant::now();
    let mut dead = 0.0;
    for _ in 0..steps {
        dead = trainer.step(&x).dead;
    }
    let rate = (batch as u64 * steps) as f64 / start.elapsed().as_secs_f64();
    println!(
        "{rule:?} {n_models}×{width}×{n_features}, batch {batch}: {rate:.0} rows/s (dead at the end {dead:.2})"
    );
    rate
}

#[test]
#[ignore = "a measurement"]
fn rows_per_second() {
    measure(Rule::BatchTopK { k: 16 }, (3, 128, 2048), 1024, 100);
    measure(Rule::BatchTopK { k: 32 }, (3, 128, 4096), 2048, 30);
    measure(Rule::TopK { k: 16 }, (3, 128, 2048), 1024, 100);
    measure(Rule::L1 { sparsity: 0.2 }, (3, 128, 2048), 1024, 50);
    measure(Rule::BatchTopK { k: 64 }, (3, 512, 16_384), 2048, 3);
}
