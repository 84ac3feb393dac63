//! `evaluate grade`: answers that exist are graded again, without a model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use store::Provenance;
use store::tables::Sample;
use tasks::{Grader, Item, grade};

use crate::{pairs, questions};

/// Grades answers again, without a model
///
/// Either the answers of samples tables, whose items are looked up in --tasks by task and document; or --answers, JSON
/// lines with a "target" and a "completion" each, graded by --preset and written back with "extracted" and "correct".
#[derive(Debug, Serialize, clap::Args)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Samples tables: files, directories, globs, or - for stdin
    #[arg(required_unless_present = "answers", conflicts_with = "answers")]
    #[serde(skip)]
    samples: Vec<PathBuf>,
    /// Task files of the samples
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "answers", conflicts_with = "answers")]
    #[serde(skip)]
    tasks: Vec<PathBuf>,
    /// JSON lines {"target": …, "completion": …}, or - for stdin
    #[arg(long, value_name = "FILE", requires = "preset")]
    #[serde(skip)]
    answers: Option<PathBuf>,
    /// How the answers of --answers are read and compared
    #[arg(long, value_enum, requires = "answers")]
    preset: Option<Preset>,
    /// The samples table, or the JSON lines, to write
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    output: PathBuf,
}

const EXAMPLE: &str = "\
Example:
  evaluate grade rl.samples.parquet --tasks 'tasks/*.test.jsonl' -o regraded.parquet
  evaluate grade --preset lab --answers pairs.jsonl -o verdicts.jsonl";

/// Ways of reading and comparing answers.
#[derive(Debug, Clone, Copy, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Preset {
    /// The letters and digits right after the last #, compared exactly
    Lab,
}

impl Preset {
    fn grader(self) -> Grader {
        match self {
            Self::Lab => Grader::Lab,
        }
    }
}

/// Grades a table, or JSON lines.
pub fn run(args: &Args) -> Result<()> {
    match (&args.answers, args.preset) {
        (Some(answers), Some(preset)) => pairs::run(answers, preset.grader(), &args.output),
        _ => grade_samples(args),
    }
}

fn grade_samples(args: &Args) -> Result<()> {
    let samples: Vec<Sample> = store::read_table(&args.samples)?;
    let items = questions::read(&args.tasks, None)?;
    let items = questions::by_name(&items);
    let graded: Vec<Sample> = samples
        .iter()
        .map(|sample| again(sample, &items))
        .collect::<Result<_>>()?;
    let provenance = Provenance::new("evaluate grade", args)?
        .inputs(&args.samples)?
        .inputs(&args.tasks)?;
    store::write_table(&args.output, &graded, &provenance)?;
    let changed = samples
        .iter()
        .zip(&graded)
        .filter(|(before, after)| before.correct != after.correct)
        .count();
    cli::say(&format!(
        "{} answers graded, {changed} verdicts changed",
        graded.len()
    ));
    Ok(())
}

/// The answer with a new verdict. One that did not come to an end is never right.
fn again(sample: &Sample, items: &BTreeMap<(&str, &str), &Item>) -> Result<Sample> {
    let name = (sample.task.as_str(), sample.doc_id.as_str());
    let item = items.get(&name);
    let item =
        item.with_context(|| format!("cannot grade {}/{}: no task file holds it", name.0, name.1))?;
    let verdict = grade(item.grader, &sample.completion, &item.target);
    Ok(Sample {
        extracted: verdict.extracted,
        target: item.target.clone(),
        correct: verdict.correct && sample.finish_reason != "length",
        ..sample.clone()
    })
}
