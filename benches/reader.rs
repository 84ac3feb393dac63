//! Rows per second: `cargo bench -p crosscode --bench reader -- reader|encode [--shape MxDxF] [--rows N] [--dtype D]`.
//!
//! `reader` hands out shuffled batches of a store that lies in the page cache, as training gets them: four epochs after
//! the first, when its buffers have their memory.
//! `encode` is `crosscode encode` without its table, beside the forward half of a training step on the same rows.
//! Beside a loader in Python, in turns: `python benches/peers/crosscoder_loader.py`.

#![expect(clippy::print_stdout, reason = "the measurement is what it prints")]

use anyhow::Context;
use crosscode::reader::{Order, Position};
use crosscode::sample::Sampled;
use crosscode::source::Source;
use dict::{
    Acts, Crosscoder, Filter, Normalizer, Readout, Rule, Selection, Settings, Subject, Trainer,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use store::tables::Token;
use store::{ActivationWriter, Dtype, Provenance, Spec};

const HOOK: &str = "resid_post.0";
/// Epochs measured.
const EPOCHS: usize = 4;

/// What is measured.
struct Options {
    shape: [usize; 3],
    rows: usize,
    batch: usize,
    dtype: Dtype,
}

impl Options {
    fn read(words: &[String], shape: &str, rows: &str) -> anyhow::Result<Self> {
        let value = |name: &str, usual: &str| {
            let place = words.iter().position(|word| word == name);
            place
                .and_then(|place| words.get(place + 1).cloned())
                .unwrap_or_else(|| usual.to_owned())
        };
        let shape: Vec<usize> = value("--shape", shape)
            .split('x')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shape: shape
                .try_into()
                .ok()
                .context("--shape is n_models x d_model x n_features")?,
            rows: value("--rows", rows).parse()?,
            batch: value("--batch", "2048").parse()?,
            dtype: value("--dtype", "bf16")
                .parse()
                .map_err(anyhow::Error::msg)?,
        })
    }
}

/// Values around 0, `n` of them.
fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed * 2 + 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| uniform() + uniform()).collect()
}

/// Writes a store of random rows.
fn write(directory: &Path, options: &Options) -> anyhow::Result<()> {
    let [n_models, width, _] = options.shape;
    let rows_per_part = 16_384;
    let labels: Vec<String> = (0..n_models).map(|model| format!("m{model}")).collect();
    let spec = Spec {
        paths: labels.iter().map(PathBuf::from).collect(),
        labels: labels.clone(),
        hooks: vec![HOOK.into()],
        widths: vec![width; n_models],
        dtype: options.dtype,
        n_rows: options.rows,
        rows_per_part,
        tokenizer_digest: String::new(),
        provenance: Provenance::new("bench", &())?,
    };
    let mut writer = ActivationWriter::create(directory, spec)?;
    for (model, label) in labels.iter().enumerate() {
        for part in 0..writer.n_parts() {
            let n = writer.part_rows(part).len() * width;
            writer.write_part(part, label, HOOK, &values(n, (model * 1000 + part) as u64))?;
        }
    }
    let token = |row: u32| Token {
        row,
        doc_id: (row / 512).to_string(),
        doc_index: row / 512,
        pos: row % 512,
        token_id: row % 1000,
        role: "text".into(),
        phase: "text".into(),
        special: row.is_multiple_of(512),
    };
    let tokens: Vec<Token> = (0..options.rows as u32).map(token).collect();
    Ok(writer.finish(&tokens)?)
}

/// Rows per second of the epochs after the first, in batches.
fn read(directory: &Path, options: &Options) -> anyhow::Result<f64> {
    let source = Arc::new(Source::Store(Acts::open(
        &[directory.to_owned()],
        &[],
        None,
    )?));
    let filter = Filter {
        max_norm: 10.0,
        ..Filter::default()
    };
    let sampled = Arc::new(Sampled::new(&source, filter)?);
    let n_rows = sampled.rows.len() / options.batch * options.batch;
    let order = Order::new(Arc::clone(&source), sampled, 0, 65_536);
    let mut x = vec![Vec::new(); options.shape[0]];
    let mut reader = order.read_from(Position::default());
    let mut epoch =
        || (0..n_rows / options.batch).try_for_each(|_| reader.next(options.batch, &mut x));
    epoch()?;
    let start = Instant::now();
    for _ in 0..EPOCHS {
        epoch()?;
    }
    Ok((EPOCHS * n_rows) as f64 / start.elapsed().as_secs_f64())
}

/// A trainer after three steps, so that it has a threshold.
fn trained(options: &Options, x: &[&[f32]]) -> Trainer {
    let [n_models, width, n_features] = options.shape;
    let mut settings = Settings::new(Rule::BatchTopK { k: 64 }, n_features, width, 100_000);
    (
        settings.warmup_steps,
        settings.threshold_start,
        settings.threshold_decay,
    ) = (0, 1, 0.0);
    let subject = Subject {
        labels: (0..n_models).map(|model| format!("m{model}")).collect(),
        widths: vec![width; n_models],
        normalizer: vec![Normalizer::identity(width); n_models],
        hook: HOOK.into(),
        tokenizer_digest: String::new(),
    };
    let mut trainer = Trainer::new(settings, subject);
    for _ in 0..3 {
        trainer.step(x).expect("kernels compute");
    }
    trainer
}

/// Rows per second of the encoder, and of the forward half of a training step.
fn encode(directory: &Path, options: &Options) -> anyhow::Result<(f64, f64)> {
    let acts = Acts::open(&[directory.to_owned()], &[], None)?;
    let x = acts.read_all(&(0..options.batch))?;
    let x: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
    let mut trainer = trained(options, &x);
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let start = Instant::now();
            trainer.loss(&x).expect("kernels compute");
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let dictionary: Crosscoder = trainer.into_crosscoder()?;
    let (start, mut found) = (Instant::now(), 0);
    crosscode::encode::encode(
        &dictionary,
        &acts,
        Readout::Joint,
        Selection::Threshold,
        |_, codes| {
            found += codes.len();
            Ok(())
        },
    )?;
    let seconds = start.elapsed().as_secs_f64();
    anyhow::ensure!(
        found > options.rows,
        "{found} activations of {} rows",
        options.rows
    );
    Ok((
        options.rows as f64 / seconds,
        options.batch as f64 / times[2],
    ))
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let directory = tempfile::tempdir()?;
    if words.iter().any(|word| word == "encode") {
        let options = Options::read(&words, "3x512x16384", "16384")?;
        write(directory.path(), &options)?;
        let (encode, forward) = encode(directory.path(), &options)?;
        println!("{{\"encode_rows_per_s\": {encode:.0}, \"forward_rows_per_s\": {forward:.0}}}");
    } else {
        let options = Options::read(&words, "2x2304x1", "98304")?;
        write(directory.path(), &options)?;
        let rows_per_s = read(directory.path(), &options)?;
        println!("{{\"rows_per_s\": {rows_per_s:.0}}}");
    }
    Ok(())
}
