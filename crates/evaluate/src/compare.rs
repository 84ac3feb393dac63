//! `evaluate compare`: two sets of answers to the same documents.
//!
//! A document counts as a unit: its score is the share of right answers, 0 or 1 where it was answered once. Documents that
//! the second set answers better count as wrong→right, those it answers worse as right→wrong; the p-value is the exact
//! sign test on these two counts, which for one answer a document is the exact McNemar test. Where documents come in clusters
//! (questions on one passage), clusters are drawn and their signs flipped instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use stats::Estimate;
use store::Provenance;
use store::tables::{Comparison, Sample};

use crate::changes;
use crate::clusters::{self, Clusters};
use crate::pairing::{Pair, Set, majority, pair, sets, share};
use crate::results::ALL;
use crate::table;

/// Compares two sets of answers to the same documents
///
/// A row per task, and one for all documents: accuracies with their intervals, the difference b − a with its paired
/// bootstrap interval, how many documents went from wrong to right and back, the exact McNemar test, and its p-value
/// corrected over the tasks (Holm, and Benjamini and Hochberg as q). Answers are matched by task, document and number. Where
/// the second table holds several arms, each is compared. With several answers a document, accuracy is their mean (avg@n),
/// and the share of documents that the most frequent answer (maj@n) or any (pass@n) gets right stands below the table; and
/// with every comparison, how small a difference it could have seen.
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
    /// JSON lines with "cluster" and the document's id, if need be also its "task": documents that belong together, such as
    /// questions on one passage
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    clusters: Option<PathBuf>,
    /// JSON lines to write: every document that went from wrong to right or back, with both answers
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    changes: Option<PathBuf>,
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
    let clusters = args.clusters.as_deref().map(clusters::read).transpose()?;
    let (mut rows, mut changed) = (Vec::new(), Vec::new());
    for to in chosen(sets(&b)?, args.to.as_deref(), &args.b)? {
        let tasks = pair(&from, &to, args.common)?;
        changed.extend(changes::of(&from, &to, &tasks));
        rows.extend(compare((&from, &to), tasks, clusters.as_ref(), args)?);
    }
    write(args, &rows)?;
    if let Some(path) = &args.changes {
        changes::write(path, &changed)?;
    }
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
    let mut inputs = vec![args.a.clone(), args.b.clone()];
    inputs.extend(args.clusters.clone());
    let provenance = provenance.inputs(&inputs)?;
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
fn compare(
    sets: (&Set, &Set),
    tasks: BTreeMap<&str, Vec<Pair>>,
    clusters: Option<&Clusters>,
    args: &Args,
) -> Result<Vec<Comparison>> {
    let mut rows = Vec::new();
    let (mut everything, mut together) = (Vec::new(), Vec::new());
    for (task, pairs) in tasks {
        let mut groups = clusters::groups(clusters, task, &pairs)?;
        rows.push(row(task, &pairs, (&groups, clusters.is_some()), sets, args));
        let before = everything.len();
        groups
            .iter_mut()
            .flatten()
            .for_each(|place| *place += before);
        together.extend(groups);
        everything.extend(pairs);
    }
    let p: Vec<f64> = rows.iter().map(|row| row.p).collect();
    let corrected = stats::holm(&p)
        .into_iter()
        .zip(stats::benjamini_hochberg(&p));
    for (row, (holm, q)) in rows.iter_mut().zip(corrected) {
        (row.p_holm, row.q) = (holm, Some(q));
    }
    // One test more, but on the same documents once again: there is nothing to correct it for.
    rows.push(row(
        ALL,
        &everything,
        (&together, clusters.is_some()),
        sets,
        args,
    ));
    Ok(rows)
}

/// Standard errors between no difference and the smallest that a two-sided test at 5 % finds four times in five:
/// Φ⁻¹(0.975) + Φ⁻¹(0.8).
const POWER: f64 = 1.959_963_984_540_054 + 0.841_621_233_572_914_2;

fn row(
    task: &str,
    pairs: &[Pair],
    (groups, clustered): (&[Vec<usize>], bool),
    (a, b): (&Set, &Set),
    args: &Args,
) -> Comparison {
    let shares = pairs.iter().map(|pair| (share(&pair.a), share(&pair.b)));
    let (before, after): (Vec<f64>, Vec<f64>) = shares.unzip();
    let changes: Vec<f64> = before.iter().zip(&after).map(|(a, b)| b - a).collect();
    let groups = clustered.then_some(groups);
    let (accuracy_a, accuracy_b) = (
        accuracy(&before, groups, args),
        accuracy(&after, groups, args),
    );
    let difference = match groups {
        None => stats::bootstrap_difference(&before, &after, args.draws, args.seed),
        Some(groups) => mean_of(&changes, groups, args),
    };
    let wrong_to_right = changes.iter().filter(|change| **change > 0.0).count() as u32;
    let right_to_wrong = changes.iter().filter(|change| **change < 0.0).count() as u32;
    let p = match groups {
        None => stats::mcnemar_exact(u64::from(wrong_to_right), u64::from(right_to_wrong)),
        Some(groups) => clusters::sign_test(&changes, groups, args.draws, args.seed),
    };
    let error = match groups {
        None => stats::standard_error(&changes),
        Some(groups) => stats::standard_error_clustered(&changes, groups),
    };
    let answers = answers(pairs);
    let several = answers.is_none_or(|n| n > 1);
    let of = |is: &dyn Fn(&Pair) -> bool| {
        several.then(|| pairs.iter().filter(|pair| is(pair)).count() as f64 / pairs.len() as f64)
    };
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
        q: None,
        difference_error: Some(error).filter(|error| error.is_finite()),
        // Where every document says the same, their spread says nothing.
        detectable: Some(POWER * error).filter(|error| error.is_finite() && *error > 0.0),
        answers,
        majority_a: of(&|pair| majority(&pair.a)),
        majority_b: of(&|pair| majority(&pair.b)),
        pass_a: of(&|pair| pair.a.iter().any(|answer| answer.correct)),
        pass_b: of(&|pair| pair.b.iter().any(|answer| answer.correct)),
    }
}

/// Answers to every document, where they are equally many.
fn answers(pairs: &[Pair]) -> Option<u32> {
    let n = pairs.first()?.a.len();
    pairs
        .iter()
        .all(|pair| pair.a.len() == n)
        .then_some(n as u32)
}

/// Wilson's interval where every document is right or wrong and stands for itself, else a bootstrap over documents or
/// clusters.
fn accuracy(scores: &[f64], groups: Option<&[Vec<usize>]>, args: &Args) -> Estimate {
    if let Some(groups) = groups {
        return mean_of(scores, groups, args);
    }
    let is_whole = |score: &f64| *score <= 0.0 || *score >= 1.0;
    if scores.iter().all(is_whole) {
        let successes = scores.iter().filter(|score| **score >= 1.0).count();
        return stats::wilson(successes as u64, scores.len() as u64);
    }
    stats::bootstrap(scores.len(), args.draws, args.seed, |drawn| {
        drawn.iter().map(|document| scores[*document]).sum::<f64>() / drawn.len() as f64
    })
}

/// The mean with the interval of a bootstrap that draws whole clusters.
fn mean_of(values: &[f64], groups: &[Vec<usize>], args: &Args) -> Estimate {
    stats::bootstrap_clusters(groups, args.draws, args.seed, |drawn| {
        drawn.iter().map(|document| values[*document]).sum::<f64>() / drawn.len() as f64
    })
}
