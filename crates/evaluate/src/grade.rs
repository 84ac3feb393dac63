//! `evaluate grade`: answers that exist are graded again, without a model; old and new verdicts side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};
use store::Provenance;
use store::tables::Sample;
use tasks::{Grader, Item, Verdict, check_target, grade, thinking};

use crate::{pairs, questions, verdicts};

/// Grades answers again, without a model
///
/// Either the answers of samples tables: by the graders of --tasks, where items are looked up by task and document, or all by
/// --preset against the targets in the table. Or --answers: JSON lines with a "target" and a "completion" each, graded by
/// --preset and written back with "extracted", "correct" and what every way of reading found. An answer that did not come to
/// an end is never right. The verdict before is kept among the readings as "before"; what changed is shown.
#[derive(Debug, Serialize, clap::Args)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Samples tables: files, directories, globs, or - for stdin
    #[arg(required_unless_present = "answers", conflicts_with = "answers")]
    #[serde(skip)]
    samples: Vec<PathBuf>,
    /// Task files of the samples
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present_any = ["answers", "preset"], conflicts_with = "answers")]
    #[serde(skip)]
    tasks: Vec<PathBuf>,
    /// JSON lines {"target": …, "completion": …}, or - for stdin
    #[arg(long, value_name = "FILE", requires = "preset")]
    #[serde(skip)]
    answers: Option<PathBuf>,
    /// How answers are read and compared [default: as the task files say]
    #[arg(long, value_enum, visible_alias = "grader")]
    preset: Option<Preset>,
    /// Every answer whose verdict changed, as JSON lines
    #[arg(long, value_name = "FILE", conflicts_with = "answers")]
    #[serde(skip)]
    changes: Option<PathBuf>,
    /// The samples table, or the JSON lines, to write
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    output: PathBuf,
}

const EXAMPLE: &str = "\
Example:
  evaluate grade rl.samples.parquet --tasks 'tasks/*.test.jsonl' -o regraded.parquet
  evaluate grade base.samples.parquet --preset math -o regraded.parquet
  evaluate grade --preset math --answers pairs.jsonl -o verdicts.jsonl";

/// Ways of reading and comparing answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The letters and digits right after the last #, compared exactly
    Lab,
    /// The whole answer but the space around it, compared exactly
    Exact,
    /// The last \boxed{}, else what is announced as the answer, else the last formula or number; compared by meaning
    Math,
    /// What follows ####, else as math
    Gsm8k,
    /// The letter the answer settles on
    Mcq,
    /// Instructions whose keeping a program can check; the target is the document as JSON
    Ifeval,
}

impl Preset {
    /// The grader of that name.
    pub fn grader(self) -> Grader {
        match self {
            Self::Lab => Grader::Lab,
            Self::Exact => Grader::Exact,
            Self::Math => Grader::Math,
            Self::Gsm8k => Grader::Gsm8k,
            Self::Mcq => Grader::Mcq,
            Self::Ifeval => Grader::Ifeval,
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
    let items = if args.tasks.is_empty() {
        Vec::new()
    } else {
        questions::read(&args.tasks, None)?
    };
    let items = questions::by_name(&items);
    let grader = args.preset.map(Preset::grader);
    let graded: Vec<Sample> = samples
        .iter()
        .map(|sample| again(sample, &items, grader))
        .collect::<Result<_>>()?;
    let provenance = Provenance::new("evaluate grade", args)?
        .inputs(&args.samples)?
        .inputs(&args.tasks)?;
    store::write_table(&args.output, &graded, &provenance)?;
    if let Some(path) = &args.changes {
        verdicts::write_changes(path, &samples, &graded)?;
    }
    let changed = samples
        .iter()
        .zip(&graded)
        .filter(|(before, after)| before.correct != after.correct)
        .count();
    cli::say(&format!(
        "{} answers graded, {changed} verdicts changed",
        graded.len()
    ));
    // Stdout is one stream: the Parquet bytes, when it was asked for them.
    if args.output == Path::new("-") {
        Ok(())
    } else {
        cli::data(&verdicts::render(&samples, &graded))
    }
}

/// The answer with a new verdict. One that did not come to an end is never right.
fn again(
    sample: &Sample,
    items: &BTreeMap<(&str, &str), &Item>,
    grader: Option<Grader>,
) -> Result<Sample> {
    let name = (sample.task.as_str(), sample.doc_id.as_str());
    let item = items.get(&name);
    let missing = || format!("cannot grade {}/{}: no task file holds it", name.0, name.1);
    let (target, grader) = match (item, grader) {
        (Some(item), grader) => (&item.target, grader.unwrap_or(item.grader)),
        (None, Some(grader)) if items.is_empty() => (&sample.target, grader),
        _ => return Err(anyhow::anyhow!(missing())),
    };
    check_target(grader, target)
        .map_err(anyhow::Error::msg)
        .with_context(|| {
            format!(
                "cannot grade {}/{}: its target cannot be used",
                name.0, name.1
            )
        })?;
    let verdict = grade(grader, &sample.completion, target);
    let reasoning = thinking::split(&sample.completion).0.map(str::to_owned);
    Ok(Sample {
        target: target.clone(),
        correct: verdict.correct && sample.finish_reason != "length",
        reasoning: reasoning.or_else(|| sample.reasoning.clone()),
        readings: Some(beside(sample, &verdict)?),
        extracted: verdict.extracted,
        ..sample.clone()
    })
}

/// The readings of a verdict, with the verdict before.
fn beside(sample: &Sample, verdict: &Verdict) -> Result<String> {
    let mut readings = object(verdict.readings_json().as_deref())?;
    let before = json!({"extracted": sample.extracted, "correct": sample.correct});
    readings.insert("before".to_owned(), before);
    Ok(Value::Object(readings).to_string())
}

/// The readings a sample has, with those of a verdict added.
pub(crate) fn merged(existing: Option<&str>, verdict: &Verdict) -> Result<Option<String>> {
    let mut readings = object(existing)?;
    readings.extend(object(verdict.readings_json().as_deref())?);
    Ok((!readings.is_empty()).then(|| Value::Object(readings).to_string()))
}

fn object(text: Option<&str>) -> Result<Map<String, Value>> {
    match text {
        Some(text) => serde_json::from_str(text).context("the readings are no JSON object"),
        None => Ok(Map::new()),
    }
}
