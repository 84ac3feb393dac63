//! `evaluate import`: samples of other evaluations, as a samples table.

mod discover;
mod lighteval;
mod lm_eval;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use model::Tokenizer;
use serde::Serialize;
use store::Provenance;
use store::tables::Sample;
use tasks::{Grader, check_target, grade, thinking};

use crate::grade::Preset;
use discover::{Found, Kind};

/// Reads the samples of lm-evaluation-harness and lighteval into a samples table
///
/// Takes `samples_<task>_<time>.jsonl` of lm-evaluation-harness (`--log_samples`), `details_<task>_<time>.parquet` of
/// lighteval (`--save-details`), or directories that hold them; of several runs of a task in one directory the latest. The
/// verdict is theirs, by the filter and the metric asked for, unless --preset grades the answers again. What every filter
/// found is kept. Where answers were repeated they tell the verdict of the first only: the others need --preset.
#[derive(Debug, Serialize, clap::Args)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Sample files, directories of them, or globs
    #[arg(required = true, value_name = "FILE")]
    #[serde(skip)]
    inputs: Vec<PathBuf>,
    /// The samples table to write
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    output: PathBuf,
    /// Role of the model [default: its name in the results beside the samples]
    #[arg(long, value_name = "LABEL")]
    model: Option<String>,
    /// Grade the answers again in this way
    #[arg(long, value_enum, visible_alias = "grader")]
    preset: Option<Preset>,
    /// Whose verdict counts, of lm-evaluation-harness' filters [default: the first]
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Whose verdict counts, of the metrics [default: the first]
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Model directory whose tokenizer counts the tokens of answers where the samples do not tell (0 without it)
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    tokenizer: Option<PathBuf>,
}

const EXAMPLE: &str = "\
Example:
  evaluate import results/my_model/ --model base -o base.samples.parquet
  evaluate import samples_gsm8k_2026-11-20T15-27-58.038369.jsonl --model base --filter flexible-extract -o base.samples.parquet
  evaluate import details/ --model rl --preset math -o rl.samples.parquet";

/// Reads everything, and writes the table.
pub fn run(args: &Args) -> Result<()> {
    let found = discover::discover(&args.inputs)?;
    let reader = Reader::new(args, &found)?;
    let mut samples = Vec::new();
    let mut left_out = 0;
    for file in &found {
        let context = || format!("cannot import {}", file.path.display());
        let (read, without_verdict) = match file.kind {
            Kind::LmEval => lm_eval::read(file, &reader),
            Kind::Lighteval => lighteval::read(file, &reader),
        }
        .with_context(context)?;
        samples.extend(read);
        left_out += without_verdict;
    }
    ensure!(
        !samples.is_empty(),
        "cannot import anything: no answer has a verdict (--preset grades them)"
    );
    let files: Vec<PathBuf> = found.iter().map(|file| file.path.clone()).collect();
    let mut provenance = Provenance::new("evaluate import", args)?.inputs(&files)?;
    if let Some(tokenizer) = &args.tokenizer {
        provenance = provenance.input(tokenizer)?;
    }
    store::write_table(&args.output, &samples, &provenance)?;
    cli::say(&summary(&samples, found.len(), left_out));
    Ok(())
}

fn summary(samples: &[Sample], files: usize, left_out: usize) -> String {
    let right = samples.iter().filter(|sample| sample.correct).count();
    let text = format!(
        "{right} of {} answers right, from {files} files",
        samples.len()
    );
    match left_out {
        0 => text,
        n => format!(
            "{text}; {n} repeated answers without a verdict left out (--preset grades them)"
        ),
    }
}

/// What reading a file needs to know.
struct Reader<'a> {
    label: String,
    grader: Option<Grader>,
    filter: Option<&'a str>,
    metric: Option<&'a str>,
    tokenizer: Option<Tokenizer>,
}

impl<'a> Reader<'a> {
    fn new(args: &'a Args, found: &[Found]) -> Result<Self> {
        let tokenizer = args
            .tokenizer
            .as_ref()
            .map(|directory| Tokenizer::load(directory))
            .transpose()?;
        Ok(Self {
            label: match &args.model {
                Some(label) => label.clone(),
                None => discover::model_name(found)?,
            },
            grader: args.preset.map(Preset::grader),
            filter: args.filter.as_deref(),
            metric: args.metric.as_deref(),
            tokenizer,
        })
    }

    /// Tokens of a text, an end token included where it came to an end; 0 without a tokenizer.
    fn length(&self, text: &str) -> Result<u32> {
        match &self.tokenizer {
            Some(tokenizer) => Ok(tokenizer.encode(text, false)?.len() as u32 + 1),
            None => Ok(0),
        }
    }

    /// Grades an answer where that was asked for; what was found before stays among its readings.
    fn graded(&self, mut sample: Sample) -> Result<Sample> {
        let (reasoning, _) = thinking::split(&sample.completion);
        sample.reasoning = sample.reasoning.or_else(|| reasoning.map(str::to_owned));
        let Some(grader) = self.grader else {
            return Ok(sample);
        };
        check_target(grader, &sample.target)
            .map_err(anyhow::Error::msg)
            .context("its target cannot be used")?;
        let verdict = grade(grader, &sample.completion, &sample.target);
        sample.readings = crate::grade::merged(sample.readings.as_deref(), &verdict)?;
        sample.correct = verdict.correct && sample.finish_reason != "length";
        sample.extracted = verdict.extracted;
        Ok(sample)
    }
}
