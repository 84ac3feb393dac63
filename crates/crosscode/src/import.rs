//! `crosscode import`: dictionaries of other programs.

use crate::done;
use dict::import_crosscoder_learning;
use serde::Serialize;
use std::path::PathBuf;
use store::Provenance;

/// Turns another program's dictionary into ours
#[derive(Debug, Clone, clap::Args, Serialize)]
#[command(
    before_help = "Example:\n  crosscode import --from crosscoder-learning DIR --labels base,sft,rl -o dict.safetensors"
)]
pub struct Args {
    /// Directory of the dictionary
    #[serde(skip)]
    pub dir: PathBuf,
    /// Program that wrote it
    #[arg(long, value_enum)]
    pub from: Format,
    /// Dictionary to write
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Labels of its models, in order, where the format does not know them [default: m0, m1, …]
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    pub labels: Vec<String>,
    /// Hook its activations come from, where the format does not know it
    #[arg(long, value_name = "HOOK", default_value = "")]
    pub hook: String,
}

/// Formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// science-of-finetuning/crosscoder_learning: model.safetensors and config.json
    CrosscoderLearning,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let provenance = Provenance::new("crosscode import", args)?.input(&args.dir)?;
    if done::already(&args.output, &provenance) {
        return Ok(());
    }
    let mut dictionary = match args.from {
        Format::CrosscoderLearning => import_crosscoder_learning(&args.dir, &args.labels)?,
    };
    dictionary.hook.clone_from(&args.hook);
    Ok(dictionary.save(&args.output, &provenance)?)
}
