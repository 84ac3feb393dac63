//! `evaluate compare`: two sets of answers to the same documents.
//!
//! A document counts as a unit: its score is the share of right answers, 0 or 1 where it was answered once. Documents that
//! the second set answers better count as wrong→right, those it answers worse as right→wrong; the p-value is the exact
//! sign test on these two counts, which for one answer a document is the exact McNemar test.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use stats::Estimate;
use store::Provenance;
use store::tables::{Comparison, Sample};

use crate::pairing::{Pair, Set, pair, sets};
use crate::results::ALL;
use crate::table;

/// Compares two sets of answers to the same documents
///
/// A row per task, and one for all documents: accuracies with their intervals, the difference b − a with its paired
/// bootstrap interval, how many documents went from wrong to right and back, the exact McNemar test, and its p-value
/// corrected over the tasks (Holm). Answers are matched by task, document and number. Where the second table holds
/// several arms, each is compared.
#[derive(Debug, Serialize, clap::Args)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// The first samples table: a file, directory or glob
    #[serde(skip)]
    a: PathBuf,
    /// The second samples table
    #[serde(skip)]
    b: PathBuf,
    /// The comparison table to write [default: only the table on stdout]
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    output: Option<PathBuf>,
    /// Take this set of the first table: MODEL or MODEL/ARM
    #[arg(long, value_name = "SET")]
    from: Option<String>,
    /// Take only this set of the second table: MODEL or MODEL/ARM
    #[arg(long, value_name = "SET")]
    to: Option<String>,
    /// Compare what both tables hold, when one lacks answers of the other
    #[arg(long)]
    common: bool,
    /// Draws of the bootstrap
    #[arg(long, default_value_t = stats::DRAWS)]
    draws: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

const EXAMPLE: &str = "\
Example:
  evaluate compare base.samples.parquet rl.samples.parquet -o compare.parquet";

/// Compares, writes the table, and shows it.
pub fn run(args: &Args) -> Result<()> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let from = only_one(sets(&a)?, args.from.as_deref(), &args.a)?;
    let mut rows = Vec::new();
    for to in chosen(sets(&b)?, args.to.as_deref(), &args.b)? {
        rows.extend(compare(&from, &to, args)?);
    }
    write(args, &rows)?;
    // Stdout is one stream: the Parquet bytes, when it was asked for them.
    if args.output.as_deref() == Some(Path::new("-")) {
        Ok(())
    } else {
        cli::data(&table::render(&rows))
    }
}

fn read(path: &Path) -> Result<Vec<Sample>> {
    Ok(store::read_table(&[path.to_owned()])?)
}

fn write(args: &Args, rows: &[Comparison]) -> Result<()> {
    let Some(output) = &args.output else {
        return Ok(());
    };
    let provenance = Provenance::new("evaluate compare", args)?.seed(args.seed);
    let provenance = provenance.inputs(&[args.a.clone(), args.b.clone()])?;
    Ok(store::write_table(output, rows, &provenance)?)
}

/// The sets of that name, or all of them.
fn chosen<'a>(sets: Vec<Set<'a>>, name: Option<&str>, path: &Path) -> Result<Vec<Set<'a>>> {
    let names = sets
        .iter()
        .map(|set| set.name.clone())
        .collect::<Vec<_>>()
        .join(", ");
    let chosen: Vec<Set> = sets
        .into_iter()
        .filter(|set| name.is_none_or(|name| set.name == name))
        .collect();
    match name {
        Some(name) if chosen.is_empty() => {
            bail!("cannot find {name} in {}: it holds {names}", path.display())
        }
        None if chosen.is_empty() => bail!("cannot compare {}: it holds no answer", path.display()),
        _ => Ok(chosen),
    }
}

fn only_one<'a>(sets: Vec<Set<'a>>, name: Option<&str>, path: &Path) -> Result<Set<'a>> {
    let mut chosen = chosen(sets, name, path)?;
    if chosen.len() > 1 {
        let names = chosen
            .iter()
            .map(|set| set.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        bail!(
            "cannot choose what to compare in {}: it holds {names} (say which with --from)",
            path.display()
        );
    }
    Ok(chosen.remove(0))
}

/// A row per task with p-values corrected over the tasks, then one for all documents.
fn compare(a: &Set, b: &Set, args: &Args) -> Result<Vec<Comparison>> {
    let tasks = pair(a, b, args.common)?;
    let mut rows: Vec<Comparison> = tasks
        .iter()
        .map(|(task, pairs)| row(task, pairs, (a, b), args))
        .collect();
    let corrected = stats::holm(&rows.iter().map(|row| row.p).collect::<Vec<_>>());
    for (row, p) in rows.iter_mut().zip(corrected) {
        row.p_holm = p;
    }
    // One test more, but on the same documents once again: there is nothing to correct it for.
    rows.push(row(
        ALL,
        &tasks.into_values().flatten().collect::<Vec<_>>(),
        (a, b),
        args,
    ));
    Ok(rows)
}

fn row(task: &str, pairs: &[Pair], (a, b): (&Set, &Set), args: &Args) -> Comparison {
    let (before, after): (Vec<f64>, Vec<f64>) = pairs.iter().map(|pair| (pair.a, pair.b)).unzip();
    let (accuracy_a, accuracy_b) = (accuracy(&before, args), accuracy(&after, args));
    let difference = stats::bootstrap_difference(&before, &after, args.draws, args.seed);
    let wrong_to_right = pairs.iter().filter(|pair| pair.b > pair.a).count() as u32;
    let right_to_wrong = pairs.iter().filter(|pair| pair.b < pair.a).count() as u32;
    let p = stats::mcnemar_exact(u64::from(wrong_to_right), u64::from(right_to_wrong));
    Comparison {
        task: task.to_owned(),
        a: a.name.clone(),
        b: b.name.clone(),
        n: pairs.len() as u32,
        accuracy_a: accuracy_a.value,
        accuracy_a_low: accuracy_a.low,
        accuracy_a_high: accuracy_a.high,
        accuracy_b: accuracy_b.value,
        accuracy_b_low: accuracy_b.low,
        accuracy_b_high: accuracy_b.high,
        difference: difference.value,
        difference_low: difference.low,
        difference_high: difference.high,
        wrong_to_right,
        right_to_wrong,
        p,
        p_holm: p,
    }
}

/// Wilson's interval where every document is right or wrong, else a bootstrap over documents.
fn accuracy(scores: &[f64], args: &Args) -> Estimate {
    let is_whole = |score: &f64| *score <= 0.0 || *score >= 1.0;
    if scores.iter().all(is_whole) {
        let successes = scores.iter().filter(|score| **score >= 1.0).count();
        return stats::wilson(successes as u64, scores.len() as u64);
    }
    stats::bootstrap(scores.len(), args.draws, args.seed, |drawn| {
        drawn.iter().map(|document| scores[*document]).sum::<f64>() / drawn.len() as f64
    })
}
