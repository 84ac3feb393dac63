//! Speed of a crosscoder's training step: `cargo bench -p dict --bench crosscoder -- [--rule R] [--shape MxDxF] …`.
//!
//! `bound_ms` is the encoder's product, the only dense one, at the f32 multiply-adds this machine reaches from registers.
//! Beside a plain torch step of the same recipe, in turns: `python benches/peers/crosscoder_step.py`.

#![expect(clippy::print_stdout, reason = "the measurement is what it prints")]
#![expect(
    clippy::expect_used,
    reason = "a measurement stops where it is told nonsense"
)]

use dict::{Normalizer, Precision, Rule, Settings, Subject, Trainer};
use std::time::Instant;

/// What is measured.
struct Options {
    rule: Rule,
    shape: [usize; 3],
    batch: usize,
    precision: Precision,
    steps: u64,
}

impl Options {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().collect();
        let value = |name: &str, usual: &str| {
            let place = words.iter().position(|word| word == name);
            place.map_or(usual.to_owned(), |place| words[place + 1].clone())
        };
        let number = |name, usual| value(name, usual).parse().expect("a number");
        let k = number("--k", "64");
        let shape: Vec<usize> = value("--shape", "3x512x16384")
            .split('x')
            .map(|part| part.parse().expect("n_models x d_model x n_features"))
            .collect();
        Self {
            rule: match value("--rule", "batch-topk").as_str() {
                "topk" => Rule::TopK { k },
                "matryoshka" => Rule::Matryoshka { k },
                "l1" => Rule::L1 { sparsity: 2.0 },
                _ => Rule::BatchTopK { k },
            },
            shape: shape.try_into().expect("three numbers"),
            batch: number("--batch", "2048"),
            precision: match value("--precision", "f32").as_str() {
                "bf16" => Precision::Bf16,
                "bf16x3" => Precision::Bf16x3,
                _ => Precision::F32,
            },
            steps: number("--steps", "5") as u64,
        }
    }
}

/// Values of a unit normal distribution, or nearly: sums of four uniform ones.
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let scale = 3f32.sqrt();
    (0..n)
        .map(|_| (uniform() + uniform() + uniform() + uniform()) * scale)
        .collect()
}

/// Highest resident memory so far, in MB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1e3
}

fn main() {
    let options = Options::read();
    let [n_models, width, n_features] = options.shape;
    let mut settings = Settings::new(options.rule, n_features, width, 100_000);
    (settings.precision, settings.warmup_steps) = (options.precision, 0);
    let subject = Subject {
        labels: (0..n_models).map(|model| format!("m{model}")).collect(),
        widths: vec![width; n_models],
        normalizer: vec![Normalizer::identity(width); n_models],
        hook: String::new(),
        tokenizer_digest: String::new(),
    };
    let mut trainer = Trainer::new(settings, subject);
    let x: Vec<Vec<f32>> = (0..n_models as u64)
        .map(|model| normal(options.batch * width, 99 + model))
        .collect();
    let x: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
    let mut step = || trainer.step(&x).expect("kernels compute").loss;
    step();
    step();
    let mut times = Vec::new();
    let mut loss = 0.0;
    for _ in 0..options.steps {
        let start = Instant::now();
        loss = step();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let products = 2.0 * (options.batch * n_models * width * n_features) as f64;
    println!(
        "{{\"ms\": {:.1}, \"fastest_ms\": {:.1}, \"rows_per_s\": {:.0}, \"peak_mb\": {:.0}, \"encode_gflop\": {:.1}, \"bound_ms\": {:.1}, \"loss\": {loss:.5}}}",
        1e3 * median,
        1e3 * times[0],
        options.batch as f64 / median,
        peak(),
        products / 1e9,
        products / 1e6 / kernels::peak::gigaflops().unwrap_or(f64::NAN)
    );
}
