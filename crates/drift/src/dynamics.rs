//! `drift dynamics`: do the most specific features of a training settle, or are they re-ranked to the end?

use crate::series::{self, Checkpoint, Reference};
use crate::specific::Measure;
use anyhow::Context;
use cli::Labelled;
use dict::Crosscoder;
use serde::Serialize;
use stats::bootstrap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use store::tables::Dynamics;
use store::{Provenance, write_table};

/// Compares the most specific features of every two checkpoints of a training
///
/// A series is an activation store with the dictionary's base model, its last model too if it has three or more (it keeps its
/// own slot in the swap readout), and the checkpoints: every other label, in the order of the store. For a dictionary of
/// base, sft and rl:
///
/// ```text
/// capture --model base=models/base --model rl=models/grpo
///   --model sft-1=models/sft/checkpoint-1 … --model sft-5=models/sft/checkpoint-5
///   --hook resid_post.0.5 --texts corpus.jsonl -o acts-sft/
/// ```
///
/// Each checkpoint is read by swap readout, `z = enc(h, h, h_rl)` or, with two models, `enc(h, h)`; its code is compared with the
/// base's on the same rows. The readout can be trusted where the explained variance of the swapped input, which is in the
/// table, holds up. Overlap is |A ∩ B| / top; its interval resamples documents (a resampled set is noisier than the set
/// itself, so the interval leans towards less overlap); the null is that of two random sets of features that fire.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[command(
    verbatim_doc_comment,
    before_help = "Example:\n  drift dynamics dict.safetensors --series sft=acts-sft/ --series rl=acts-rl/ -o dynamics.parquet"
)]
pub struct Args {
    /// Dictionary
    #[serde(skip)]
    pub dict: PathBuf,
    /// Activations of the checkpoints of one training; may repeat
    #[arg(long, required = true, value_name = "LABEL=DIR")]
    pub series: Vec<Labelled>,
    /// Table to write
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Label of the base model [default: the dictionary's first]
    #[arg(long, value_name = "LABEL")]
    pub base: Option<String>,
    /// Features in a set
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// What most specific means
    #[arg(long, value_enum, default_value_t = Measure::Difference)]
    pub specific: Measure,
    /// Read special tokens too
    #[arg(long)]
    pub keep_special: bool,
    /// Draws of the bootstrap
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub draws: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let dictionary = Crosscoder::load(&args.dict)?;
    let base = base(&dictionary, args)?;
    let reference = Reference {
        dictionary: &dictionary,
        path: &args.dict,
        base,
    };
    let mut rows = Vec::new();
    for series in &args.series {
        let checkpoints = series::read(&reference, &series.path, args.keep_special)?;
        rows.extend(compare(
            args,
            &series.label,
            &checkpoints,
            &dictionary.rank_weights(),
        ));
    }
    let stores: Vec<PathBuf> = args
        .series
        .iter()
        .map(|series| series.path.clone())
        .collect();
    let provenance = Provenance::new("drift dynamics", args)?
        .seed(args.seed)
        .input(&args.dict)?
        .inputs(&stores)?;
    write_table(&args.output, &rows, &provenance)?;
    if args.output == Path::new("-") {
        Ok(())
    } else {
        cli::data(&shown(&rows))
    }
}

/// Number of the base model, which cannot be the one that keeps its slot.
fn base(dictionary: &Crosscoder, args: &Args) -> anyhow::Result<usize> {
    let Some(label) = &args.base else {
        return Ok(0);
    };
    dictionary.model(label).with_context(|| {
        format!(
            "cannot use {}: there is no model {label}, it holds {}",
            args.dict.display(),
            dictionary.labels.join(", ")
        )
    })
}

/// One row per pair of checkpoints.
fn compare(
    args: &Args,
    series: &str,
    checkpoints: &[Checkpoint],
    weights: &[f32],
) -> Vec<Dynamics> {
    let null = overlap_null(checkpoints, args.top);
    let mut rows = Vec::new();
    for (place, from) in checkpoints.iter().enumerate() {
        for (after, to) in checkpoints[place + 1..].iter().enumerate() {
            let top = |checkpoint: &Checkpoint, drawn: &[usize]| {
                checkpoint
                    .documents
                    .top(drawn, args.specific, weights, args.top as usize)
            };
            let all: Vec<usize> = (0..from.documents.n_documents()).collect();
            let overlap = bootstrap(all.len(), args.draws, args.seed, |drawn| {
                stats::overlap(&top(from, drawn), &top(to, drawn)) as f64 / f64::from(args.top)
            });
            rows.push(Dynamics {
                series: series.to_owned(),
                from: place as u32 + 1,
                to: (place + after) as u32 + 2,
                top: args.top,
                overlap: overlap.value,
                overlap_low: overlap.low,
                overlap_high: overlap.high,
                jaccard: jaccard(&top(from, &all), &top(to, &all)),
                overlap_null: null,
                explained_variance_from: from.explained_variance,
                explained_variance_to: to.explained_variance,
                code_shift: to.code_shift,
            });
        }
    }
    rows
}

/// |A ∩ B| / |A ∪ B|; 0 of two empty sets.
fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    if a.is_empty() && b.is_empty() {
        0.0
    } else {
        stats::jaccard(a, b)
    }
}

/// Expected overlap of two random sets among the features that fire in this series: top / live, at most 1.
fn overlap_null(checkpoints: &[Checkpoint], top: u32) -> f64 {
    let mut live = checkpoints[0].documents.live();
    for checkpoint in &checkpoints[1..] {
        live.iter_mut()
            .zip(checkpoint.documents.live())
            .for_each(|(live, other)| *live |= other);
    }
    let live = live.iter().filter(|&&live| live).count();
    (f64::from(top) / live.max(1) as f64).min(1.0)
}

/// The table as text.
fn shown(rows: &[Dynamics]) -> String {
    let mut text = format!(
        "{:10} {:>7} {:>22} {:>8} {:>8} {:>12} {:>10}\n",
        "series", "pair", "overlap", "null", "jaccard", "EV swapped", "code shift"
    );
    for row in rows {
        let overlap = format!(
            "{:.2} [{:.2}, {:.2}]",
            row.overlap, row.overlap_low, row.overlap_high
        );
        let variance = format!(
            "{:.3} {:.3}",
            row.explained_variance_from, row.explained_variance_to
        );
        writeln!(
            text,
            "{:10} {:>7} {overlap:>22} {:>8.2} {:>8.2} {variance:>12} {:>10.3}",
            row.series,
            format!("{} > {}", row.from, row.to),
            row.overlap_null,
            row.jaccard,
            row.code_shift
        )
        .expect("a String takes any text");
    }
    text
}
