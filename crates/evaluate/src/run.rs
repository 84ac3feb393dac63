//! `evaluate run`: a model answers the items of task files, or the documents of lm-evaluation-harness' tasks, and the answers
//! are graded.

use std::fs::{self, File};
use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Instant, SystemTime};

use anyhow::Result;
use cli::{Labelled, Shard};
use model::{Model, Names, Place, Sampling, Tokenizer};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use store::tables::Sample;
use store::{Parts, Provenance};

use crate::answers;
use crate::harness::ask::Overrides;
use crate::harness::export;
use crate::harness::header::{self, Header};
use crate::harness::open::{self, Opened, Sources};
use crate::harness::preset::Preset;
use crate::harness::units::Writing;
use crate::questions;
use crate::results::Results;

/// Lets a model answer the questions of task files, and grades the answers
///
/// Task files are items as JSON lines; YAML files of lm-evaluation-harness (which Python they name must be known here), or
/// names of tasks, groups and tags among those under --include-path; and with --preset JSON lines of any kind. An answer
/// that does not come to an end is never right. Batches hold prompts of like length; every answer has random numbers of its
/// own, taken from the seed, the task, the document and the number of the answer. A run that is stopped or killed goes on
/// where it was when started again.
#[derive(Debug, Serialize, clap::Args)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Model directory with its role: LABEL=DIR
    #[arg(long)]
    pub(crate) model: Labelled,
    /// Task files: .jsonl or .yaml files, directories, globs, - for stdin, or names of tasks
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
    /// Answers per document [default: what the task says, else 1]
    #[arg(long, visible_alias = "n", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(serialize_with = "or_one")]
    samples_per_document: Option<u32>,
    /// 0 takes the likeliest token every time; 1 samples from the model's distribution [default: what the task says, else 0]
    #[arg(long, value_parser = temperature)]
    #[serde(serialize_with = "or_greedy")]
    temperature: Option<f64>,
    /// Samples among the likeliest tokens that together have this probability [default: what the task says, else 1]
    #[arg(long, value_parser = share)]
    #[serde(serialize_with = "or_whole")]
    top_p: Option<f64>,
    /// Samples among this many of the likeliest tokens; 0 means all [default: what the task says, else 0]
    #[arg(long)]
    #[serde(serialize_with = "or_all")]
    top_k: Option<usize>,
    /// Longest answer in tokens, the end token included [default: what the task says, else 256]
    #[arg(long, value_parser = at_least_one)]
    #[serde(serialize_with = "or_budget")]
    max_new_tokens: Option<usize>,
    /// Prompts answered together
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// Ask the first N documents of each task only
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) limit: Option<usize>,
    /// Seed of the sampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Ask one of N contiguous ranges of the documents: I/N, I from 0
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
    /// Precision of the model's arithmetic: f32, f16, bf16
    #[arg(long, default_value = "f32", value_parser = ["f32", "f16", "bf16"], hide_possible_values = true)]
    pub(crate) dtype: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) compute: cli::Compute,
    /// What the lines of the .jsonl files are, where they are no items
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<Preset>,
    /// Directories with the rows of tasks: data sets, or the files that task files name
    #[arg(long, value_name = "DIR", num_args = 1..)]
    #[serde(skip)]
    data: Vec<PathBuf>,
    /// Directories with task files that --tasks may name
    #[arg(long, value_name = "DIR", num_args = 1..)]
    #[serde(skip)]
    include_path: Vec<PathBuf>,
    /// Examples before each question [default: what the task says]; a task that says 0 has none
    #[arg(long, visible_alias = "num_fewshot", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    num_fewshot: Option<usize>,
    /// End answers at these texts, in place of those of the task (tasks of YAML files and presets)
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Vec<String>>,
    /// Put the model's chat template around the prompts of YAML files and presets (items always have it)
    #[arg(long, visible_alias = "apply_chat_template")]
    #[serde(skip_serializing_if = "is_unset")]
    apply_chat_template: bool,
    /// What stands before all else: the system's turn in a chat
    #[arg(long, visible_alias = "system_instruction", value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<String>,
    /// Write examples and question as one turn of a chat, rather than as turns
    #[arg(long, requires = "apply_chat_template")]
    #[serde(skip_serializing_if = "is_unset")]
    fewshot_in_one_turn: bool,
    /// The pipeline of filters whose verdict counts [default: the last of the task]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<String>,
    /// Also write the files of lm-evaluation-harness into this directory
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    lm_eval: Option<PathBuf>,
}

const EXAMPLE: &str = "\
Example:
  evaluate run --model rl=models/grpo --tasks 'tasks/*.test.jsonl' -o rl.samples.parquet --results rl.json
  evaluate run --model rl=models/grpo --tasks gsm8k.yaml arc_challenge.yaml --data data/ -o rl.samples.parquet --lm-eval out/";

/// Answers every question, or goes on where an earlier run was stopped.
pub fn run(args: &Args) -> Result<()> {
    let (date, start) = (header::now(), Instant::now());
    args.place()?;
    let opened = open::open(args.sources())?;
    args.check(&opened)?;
    let items = questions::read(&opened.items, args.limit)?;
    let (provenance, model) = begin(args, &opened)?;
    let parts = Parts::beside(&args.output, &provenance);
    let samples = if let Some(samples) = finished(args, &provenance) {
        cli::say(&format!(
            "{} is complete: nothing to ask",
            args.output.display()
        ));
        renew(&args.output);
        samples
    } else {
        let model = model.map_or_else(|| load(args), Ok)?;
        let samples = answers::all(args, (&opened, &items), &model, &parts)?;
        store::write_table(&args.output, &samples, &provenance)?;
        summarize(&samples);
        samples
    };
    write_results(args, &samples, &provenance)?;
    if let Some(directory) = &args.lm_eval {
        let tokenizer = Tokenizer::load(&args.model.path)?;
        let header = Header {
            model: &args.model.path,
            writing: args.writing(&tokenizer),
            overrides: &args.overrides(),
            limit: args.limit,
            batch: args.batch,
            device: &args.compute.device,
            date,
            time: header::stamp(date),
            seconds: start.elapsed().as_secs_f64(),
            provenance: &provenance,
        };
        let path = export::write(&opened, &samples, &header, directory)?;
        cli::say(&format!("{} written", path.display()));
    }
    Ok(parts.remove()?)
}

/// What the answers depend on, and the model unless there may be nothing to ask: digests and loading take as long as each
/// other, and neither needs all threads.
fn begin(args: &Args, opened: &Opened) -> Result<(Provenance, Option<Model>)> {
    if args.output.exists() {
        return Ok((provenance(args, opened)?, None));
    }
    thread::scope(|scope| {
        let digesting = scope.spawn(|| provenance(args, opened));
        let model = load(args);
        let provenance = digesting
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic));
        Ok((provenance?, Some(model?)))
    })
}

fn load(args: &Args) -> Result<Model> {
    let place = args.place()?;
    Ok(place.load(&args.model.path, &place.open()?)?)
}

/// What the answers depend on: the settings, the model, the task files and their rows.
fn provenance(args: &Args, opened: &Opened) -> Result<Provenance> {
    let settings = Settings {
        args,
        tasks: opened
            .tasks
            .iter()
            .map(|task| described(args, task))
            .collect(),
    };
    let provenance = Provenance::new("evaluate run", &settings)?.seed(args.seed);
    let mut provenance = provenance.input(&args.model.path)?.inputs(&opened.items)?;
    for file in opened.files() {
        provenance = provenance.input(&file)?;
    }
    Ok(provenance)
}

/// The settings of a run, those of every task file with what it includes among them.
#[derive(Serialize)]
struct Settings<'a> {
    #[serde(flatten)]
    args: &'a Args,
    #[serde(skip_serializing_if = "Map::is_empty")]
    tasks: Map<String, Value>,
}

fn described(args: &Args, task: &tasks::harness::Task) -> (String, Value) {
    let overrides = args.overrides();
    let mut keys = task.definition.raw.clone();
    keys.insert("num_fewshot".to_owned(), task.n_fewshot.into());
    keys.insert(
        "generation_kwargs".to_owned(),
        Value::Object(overrides.generation(task)),
    );
    keys.insert("repeats".to_owned(), overrides.samples_of(task).into());
    (task.name().to_owned(), Value::Object(keys))
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
        .filter(|sample| sample.finish_reason == "length")
        .count();
    cli::say(&format!(
        "{right} of {} answers right, {unfinished} unfinished",
        samples.len()
    ));
}

impl Args {
    fn sources(&self) -> Sources<'_> {
        Sources {
            tasks: &self.tasks,
            include: &self.include_path,
            data: &self.data,
            preset: self.preset,
            n_fewshot: self.num_fewshot,
        }
    }

    /// Refuses settings that nothing would follow.
    fn check(&self, opened: &Opened) -> Result<()> {
        let of_documents = [
            (self.until.is_some(), "--until"),
            (self.apply_chat_template, "--apply-chat-template"),
            (self.system_instruction.is_some(), "--system-instruction"),
            (self.num_fewshot.is_some(), "--num-fewshot"),
            (self.lm_eval.is_some(), "--lm-eval"),
            (self.filter.is_some(), "--filter"),
        ];
        if opened.tasks.is_empty()
            && let Some((_, flag)) = of_documents.into_iter().find(|(is_set, _)| *is_set)
        {
            anyhow::bail!(cli::Usage(format!(
                "{flag} is for tasks of YAML files and presets, and --tasks names none"
            )));
        }
        let Some(filter) = &self.filter else {
            return Ok(());
        };
        for task in &opened.tasks {
            let names: Vec<&str> = task.pipelines.iter().map(|one| one.name.as_str()).collect();
            anyhow::ensure!(
                names.contains(&filter.as_str()),
                "cannot use --filter {filter} with {}: it has {}",
                task.name(),
                names.join(", ")
            );
        }
        Ok(())
    }

    /// Where and how the model is computed.
    pub(crate) fn place(&self) -> Result<Place> {
        let names = Names {
            device: &self.compute.device,
            dtype: &self.dtype,
            weights: &self.compute.weights,
            precision: &self.compute.precision,
        };
        Place::named(names).map_err(|error| cli::Usage(error.to_string()).into())
    }

    /// Answers per item.
    pub(crate) fn samples(&self) -> u32 {
        self.samples_per_document.unwrap_or(1)
    }

    /// How answers to items are drawn.
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            max_new_tokens: self.max_new_tokens.unwrap_or(256),
            temperature: self.temperature.unwrap_or(0.0),
            top_p: self.top_p.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            seed: self.seed,
        }
    }

    /// What is set in place of what task files say.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            samples: self.samples_per_document,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            max_new_tokens: self.max_new_tokens,
            until: self.until.clone(),
            seed: self.seed,
        }
    }

    /// How prompts of task files are written.
    pub(crate) fn writing<'a>(&'a self, tokenizer: &'a Tokenizer) -> Writing<'a> {
        Writing {
            tokenizer,
            chat: self.apply_chat_template,
            multiturn: !self.fewshot_in_one_turn,
            system: self.system_instruction.as_deref(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_unset(flag: &bool) -> bool {
    !*flag
}

/// What an option that is not given means for items, as it stands in the provenance.
macro_rules! or {
    ($name:ident, $type:ty, $default:expr) => {
        #[expect(clippy::ref_option, reason = "serde gives a reference")]
        fn $name<S: Serializer>(value: &Option<$type>, serializer: S) -> Result<S::Ok, S::Error> {
            value.unwrap_or($default).serialize(serializer)
        }
    };
}

or!(or_one, u32, 1);
or!(or_greedy, f64, 0.0);
or!(or_whole, f64, 1.0);
or!(or_all, usize, 0);
or!(or_budget, usize, 256);

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
