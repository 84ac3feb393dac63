//! `drift features`: one row per feature and tuned model.

use crate::class::Limits;
use crate::norms::Norms;
use crate::scaling::Scaling;
use anyhow::{Context, ensure};
use dict::{Acts, Crosscoder, Filter};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use store::tables::Drift;
use store::{Provenance, write_table};

/// How far from 0.5 the NRN of a live feature of an identical pair may be.
const NULL_WIDTH: f64 = 0.02;

/// Compares every feature's decoder rows in the base and in each tuned model: NRN, MAS, Δnorm, cosine, class
///
/// With activations also latent scaling (does the base have the feature after all?), firing rate and mean activation. Norms
/// are in the dictionary's normalised units. NRN and Δnorm: 0 base only, 0.5 shared, 1 tuned only. A count of the classes is
/// printed.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[command(before_help = "Example:\n  drift features dict.safetensors acts/ -o drift.parquet")]
pub struct Args {
    /// Dictionary
    #[serde(skip)]
    pub dict: PathBuf,
    /// Activations for latent scaling and firing rates
    #[serde(skip)]
    pub acts: Vec<PathBuf>,
    /// Table to write
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Label of the base model [default: the dictionary's first]
    #[arg(long, value_name = "LABEL")]
    pub base: Option<String>,
    /// What the store calls the dictionary's models, in the dictionary's order [default: the same labels]
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    pub models: Vec<String>,
    /// Count special tokens too
    #[arg(long)]
    pub keep_special: bool,
    /// The dictionary is of an identical pair: fail if the NRN of any live feature is not 0.5 ± 0.02
    #[arg(long)]
    #[serde(skip)]
    pub null: bool,
    /// Where the classes begin and end
    #[command(flatten)]
    pub limits: Limits,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let dictionary = Crosscoder::load(&args.dict)?;
    let base = base(&dictionary, args)?;
    let tuned: Vec<usize> = (0..dictionary.n_models())
        .filter(|&model| model != base)
        .collect();
    ensure!(
        !tuned.is_empty(),
        "cannot compare within {}: it holds one model",
        args.dict.display()
    );
    let scaling = scaling(args, &dictionary, base, &tuned)?;
    let rows = rows(args, &dictionary, base, &tuned, scaling.as_ref());
    let provenance = Provenance::new("drift features", args)?
        .input(&args.dict)?
        .inputs(&args.acts)?;
    write_table(&args.output, &rows, &provenance)?;
    if args.output != Path::new("-") {
        cli::data(&shown(&rows))?;
    }
    if args.null { check_null(&rows) } else { Ok(()) }
}

/// Number of the base model.
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

/// One pass over the activations, when there are any.
fn scaling(
    args: &Args,
    dictionary: &Crosscoder,
    base: usize,
    tuned: &[usize],
) -> anyhow::Result<Option<Scaling>> {
    if args.acts.is_empty() {
        return Ok(None);
    }
    let acts = Acts::of_dictionary(dictionary, &args.dict, &args.acts, &args.models)?;
    let kept = Filter {
        keep_special: args.keep_special,
        ..Filter::default()
    }
    .apply(&acts)?;
    cli::say(&kept.report());
    Scaling::measure(dictionary, &acts, &kept, base, tuned).map(Some)
}

fn rows(
    args: &Args,
    dictionary: &Crosscoder,
    base: usize,
    tuned: &[usize],
    scaling: Option<&Scaling>,
) -> Vec<Drift> {
    let mut rows = Vec::new();
    for (place, &model) in tuned.iter().enumerate() {
        for feature in 0..dictionary.n_features {
            let norms = Norms::of(dictionary, feature, base, model);
            let nu = scaling.map_or([None; 2], |scaling| scaling.nu(dictionary, feature, place));
            let firing_rate = scaling.map(|scaling| scaling.firing_rate(feature));
            let [mas_base, mas_tuned] = norms.mas();
            rows.push(Drift {
                feature: feature as u32,
                base: dictionary.labels[base].clone(),
                tuned: dictionary.labels[model].clone(),
                norm_l1_base: norms.l1_base,
                norm_l1_tuned: norms.l1_tuned,
                norm_l2_base: norms.l2_base,
                norm_l2_tuned: norms.l2_tuned,
                nrn: norms.nrn(),
                mas_base,
                mas_tuned,
                delta_norm: norms.delta_norm(),
                cosine: norms.cosine,
                nu_error: nu[0],
                nu_reconstruction: nu[1],
                firing_rate,
                mean_activation: scaling.and_then(|scaling| scaling.mean_activation(feature)),
                class: args
                    .limits
                    .class(&norms, firing_rate.map(|rate| rate > 0.0), nu)
                    .to_owned(),
            });
        }
    }
    rows
}

/// Classes counted, and the middle half of NRN over live features.
fn shown(rows: &[Drift]) -> String {
    const CLASSES: [&str; 6] = [
        "base-only",
        "tuned-only",
        "shared",
        "rotated",
        "other",
        "dead",
    ];
    let mut text = format!("{:16}", "base > tuned");
    for class in CLASSES {
        write!(text, "{class:>11}").expect("a String takes any text");
    }
    text += "   NRN of live features: quartiles\n";
    for rows in rows.chunk_by(|a, b| a.tuned == b.tuned) {
        write!(
            text,
            "{:16}",
            format!("{} > {}", rows[0].base, rows[0].tuned)
        )
        .expect("a String takes any text");
        for class in CLASSES {
            let n = rows.iter().filter(|row| row.class == class).count();
            write!(text, "{n:>11}").expect("a String takes any text");
        }
        let live: Vec<f64> = rows
            .iter()
            .filter(|row| row.class != "dead")
            .map(|row| row.nrn)
            .collect();
        let quartiles = [0.25, 0.5, 0.75].map(|share| {
            if live.is_empty() {
                f64::NAN
            } else {
                stats::quantile(&live, share)
            }
        });
        writeln!(
            text,
            "   {:.3} {:.3} {:.3}",
            quartiles[0], quartiles[1], quartiles[2]
        )
        .expect("a String takes any text");
    }
    text
}

/// Every live feature of an identical pair is shared.
fn check_null(rows: &[Drift]) -> anyhow::Result<()> {
    let live = rows.iter().filter(|row| row.class != "dead");
    let worst = live.max_by(|a, b| (a.nrn - 0.5).abs().total_cmp(&(b.nrn - 0.5).abs()));
    let Some(worst) = worst else {
        anyhow::bail!("the null cannot be checked: no feature is live")
    };
    ensure!(
        (worst.nrn - 0.5).abs() <= NULL_WIDTH,
        "the pair is not identical: feature {} of {} has NRN {:.4}",
        worst.feature,
        worst.tuned,
        worst.nrn
    );
    cli::say(&format!(
        "null holds: the NRN farthest from 0.5 is {:.4}",
        worst.nrn
    ));
    Ok(())
}
