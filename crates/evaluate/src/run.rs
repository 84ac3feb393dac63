//! `evaluate run`: a model answers the items of task files, greedily or by sampling, and the answers are graded.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use cli::{Labelled, Progress, Shard, Stopped};
use model::{DType, Device, Model, Sampling, Tokenizer};
use serde::{Serialize, Serializer};
use store::Provenance;
use store::tables::Sample;

use crate::batches::{Answerer, plan};
use crate::parts::Parts;
use crate::questions::{self, Question};
use crate::results::Results;

/// Lets a model answer the items of task files, and grades the answers
///
/// An answer that does not come to an end within --max-new-tokens is never right. Batches hold prompts of like length;
/// every answer has random numbers of its own, taken from the seed, the task, the document and the number of the answer.
/// A run that is stopped or killed goes on where it was when started again.
#[derive(Debug, Serialize, clap::Args)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Model directory with its role: LABEL=DIR
    #[arg(long)]
    model: Labelled,
    /// Task files: .jsonl files, directories, globs, or - for stdin
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    #[serde(skip)]
    tasks: Vec<PathBuf>,
    /// The samples table to write
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    output: PathBuf,
    /// Accuracies with intervals, as JSON
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    results: Option<PathBuf>,
    /// Answers per document
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples_per_document: u32,
    /// 0 takes the likeliest token every time; 1 samples from the model's distribution
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    temperature: f64,
    /// Samples among the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    top_p: f64,
    /// Samples among this many of the likeliest tokens; 0 means all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Longest answer in tokens, the end token included
    #[arg(long, default_value_t = 256, value_parser = at_least_one)]
    max_new_tokens: usize,
    /// Prompts answered together
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    batch: usize,
    /// Ask the first N documents of each task only
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    limit: Option<usize>,
    /// Seed of the sampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Ask one of N contiguous ranges of the documents: I/N, I from 0
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Where the model is computed: cpu, cuda, cuda:1, metal
    #[arg(long, default_value = "cpu", value_parser = Place::parse)]
    device: Place,
    /// Precision of the model's arithmetic: f32, f16, bf16
    #[arg(long, default_value = "f32", value_parser = Precision::parse)]
    dtype: Precision,
}

const EXAMPLE: &str = "\
Example:
  evaluate run --model rl=models/grpo --tasks 'tasks/*.test.jsonl' -o rl.samples.parquet --results rl.json";

/// Answers every question, or goes on where an earlier run was stopped.
pub fn run(args: &Args) -> Result<()> {
    let provenance = provenance(args)?;
    let parts = Parts::beside(&args.output, &provenance);
    let samples = if let Some(samples) = finished(args, &provenance) {
        cli::say(&format!(
            "{} is complete: nothing to ask",
            args.output.display()
        ));
        renew(&args.output);
        samples
    } else {
        let samples = answers(args, &parts)?;
        store::write_table(&args.output, &samples, &provenance)?;
        summarize(&samples);
        samples
    };
    write_results(args, &samples, &provenance)?;
    parts.remove()
}

/// What the answers depend on: the settings, the model, the task files.
fn provenance(args: &Args) -> Result<Provenance> {
    let provenance = Provenance::new("evaluate run", args)?.seed(args.seed);
    Ok(provenance.input(&args.model.path)?.inputs(&args.tasks)?)
}

/// The answers that are there already, made from exactly these settings and inputs.
fn finished(args: &Args, provenance: &Provenance) -> Option<Vec<Sample>> {
    if !fs::metadata(&args.output).ok()?.is_file() {
        return None;
    }
    let found = store::table_provenance(&args.output).ok()?;
    (found == *provenance).then(|| store::read_table(std::slice::from_ref(&args.output)).ok())?
}

/// Gives a file a new time, so that `make`, which sees nothing else, is content. Where that cannot be, nothing is lost but
/// another rerun that does nothing.
fn renew(path: &Path) {
    let opened = File::options().append(true).open(path);
    opened
        .and_then(|file| file.set_modified(SystemTime::now()))
        .ok();
}

/// The answers to every question of this shard, in the order of the documents.
fn answers(args: &Args, parts: &Parts) -> Result<Vec<Sample>> {
    let items = questions::read(&args.tasks, args.limit)?;
    let shard = &items[args.shard.unwrap_or_default().range(items.len())];
    ensure!(
        !shard.is_empty(),
        "cannot ask anything: shard {} has no document",
        args.shard.unwrap_or_default()
    );
    let tokenizer = Tokenizer::load(&args.model.path)?;
    let model = Model::load(&args.model.path, &args.device.open()?, args.dtype.0)?;
    let questions = questions::prepare(shard, args.samples_per_document, &tokenizer)?;
    let answerer = Answerer {
        label: &args.model.label,
        model: &model,
        tokenizer: &tokenizer,
        sampling: &args.sampling(),
    };
    ask(&answerer, &questions, args.batch, parts)
}

/// Asks batch by batch, keeping each that is finished; the answers in the order of the questions.
fn ask(
    answerer: &Answerer,
    questions: &[Question],
    size: usize,
    parts: &Parts,
) -> Result<Vec<Sample>> {
    let batches = plan(questions, size);
    let title = format!("evaluate {}", answerer.label);
    let progress = Progress::start(&title, questions.len() as u64, "answers");
    let mut answers: Vec<(usize, Sample)> = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let samples = if let Some(samples) = parts.read(number, batch.len()) {
            progress.skip(batch.len() as u64);
            samples
        } else {
            stop_if_asked(number, batches.len())?;
            let asked: Vec<&Question> = batch.iter().map(|index| &questions[*index]).collect();
            let samples = answerer.answer(&asked)?;
            parts.write(number, &samples)?;
            progress.advance(batch.len() as u64);
            samples
        };
        answers.extend(batch.iter().copied().zip(samples));
    }
    progress.finish();
    answers.sort_by_key(|(index, _)| *index);
    Ok(answers.into_iter().map(|(_, sample)| sample).collect())
}

fn stop_if_asked(done: usize, all: usize) -> Result<()> {
    if cli::stop_requested() {
        return Err(Stopped {
            done: format!("{done} of {all} batches"),
        }
        .into());
    }
    Ok(())
}

fn write_results(args: &Args, samples: &[Sample], provenance: &Provenance) -> Result<()> {
    let Some(path) = &args.results else {
        return Ok(());
    };
    let text = Results::new(&args.model.label, samples, provenance).to_json();
    store::write_atomic(path, |file| file.write_all(text.as_bytes()))?;
    Ok(())
}

/// One line that says how it went.
fn summarize(samples: &[Sample]) {
    let right = samples.iter().filter(|sample| sample.correct).count();
    let unfinished = samples
        .iter()
        .filter(|sample| sample.finish_reason != "stop")
        .count();
    cli::say(&format!(
        "{right} of {} answers right, {unfinished} unfinished",
        samples.len()
    ));
}

impl Args {
    fn sampling(&self) -> Sampling {
        Sampling {
            max_new_tokens: self.max_new_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
        }
    }
}

fn temperature(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("expected a temperature from 0 to 100".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a share above 0, at most 1".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("expected a whole number".to_owned()),
    }
}

/// A device by name: `cpu`, `cuda`, `cuda:1`, `metal`.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
struct Place(String);

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        let place = Self(text.to_owned());
        match place.parts() {
            ("cpu", "0") | ("cuda" | "metal", _) if place.index().is_some() => Ok(place),
            _ => Err("expected cpu, cuda, cuda:N or metal".to_owned()),
        }
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or((&self.0, "0"))
    }

    fn index(&self) -> Option<usize> {
        self.parts().1.parse().ok()
    }

    fn open(&self) -> Result<Device> {
        let index = self.index().unwrap_or(0);
        let device = match self.parts().0 {
            "cuda" => Device::new_cuda(index),
            "metal" => Device::new_metal(index),
            _ => Ok(Device::Cpu),
        };
        device.with_context(|| format!("cannot use device {}", self.0))
    }
}

/// A floating-point type by name.
#[derive(Debug, Clone, Copy)]
struct Precision(DType);

impl Precision {
    fn parse(text: &str) -> Result<Self, String> {
        model::parse_dtype(text)
            .map(Self)
            .ok_or_else(|| "expected f32, f16 or bf16".to_owned())
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}
