//! `crosscode eval`: the quality of a dictionary on activations.

use crate::done;
use crate::encode::{SelectionName, SelectionOrRule};
use crate::filter::FilterArgs;
use crate::measure::{Data, measure};
use dict::{Acts, Crosscoder};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use store::tables::CrosscoderEval;
use store::{Provenance, read_table, write_table};

/// Measures how well a dictionary reconstructs each model: explained variance, error, cosine, L0, dead features
///
/// Explained variance comes in the three definitions in use, named in the table; the interval resamples documents (blocks
/// of 128 rows where a bare file does not know them). A short form is printed.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[command(before_help = "Example:\n  crosscode eval dict.safetensors acts/ -o eval.parquet")]
pub struct Args {
    /// Dictionary
    #[serde(skip)]
    pub dict: PathBuf,
    /// Activation stores, or safetensors files `[rows, n_models, d_model]`
    #[arg(required = true, value_name = "ACTS")]
    #[serde(skip)]
    pub acts: Vec<PathBuf>,
    /// Table to write
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Which features count as active [default: what the dictionary's rule prescribes]
    #[arg(long, value_enum)]
    pub select: Option<SelectionName>,
    /// What the store calls the dictionary's models, in the dictionary's order [default: the same labels]
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    pub models: Vec<String>,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Which rows to leave out
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let dictionary = Crosscoder::load(&args.dict)?;
    let acts = Acts::of_dictionary(&dictionary, &args.dict, &args.acts, &args.models)?;
    let provenance = Provenance::new("crosscode eval", args)?.seed(args.seed);
    let provenance = provenance.input(&args.dict)?.inputs(&args.acts)?;
    if done::already(&args.output, &provenance) {
        return cli::data(&shown(&read_table(std::slice::from_ref(&args.output))?));
    }
    let kept = args.filter.filter().apply(&acts)?;
    cli::say(&kept.report());
    let data = Data {
        dictionary: &dictionary,
        acts: &acts,
        kept: &kept,
        selection: SelectionOrRule::from(args.select).0,
    };
    let rows = measure(&data, args.seed)?;
    write_table(&args.output, &rows, &provenance)?;
    if args.output == Path::new("-") {
        Ok(())
    } else {
        cli::data(&shown(&rows))
    }
}

/// The table as text.
fn shown(rows: &[CrosscoderEval]) -> String {
    let mut text = format!(
        "{:12} {:>26} {:>10} {:>8} {:>7} {:>8}\n",
        "model", "explained variance", "mse", "cosine", "L0", "dead"
    );
    for row in rows {
        let variance = format!(
            "{:.4} [{:.4}, {:.4}]",
            row.explained_variance, row.explained_variance_low, row.explained_variance_high
        );
        let dead = format!("{:.1} %", 100.0 * row.dead);
        writeln!(
            text,
            "{:12} {variance:>26} {:>10.4} {:>8.4} {:>7.1} {dead:>8}",
            row.model, row.mse, row.cosine, row.l0
        )
        .expect("a String takes any text");
    }
    text.pop();
    text
}
