//! `crosscode export`: our dictionaries for other programs.

use crate::formats::FormatName;
use dict::Crosscoder;
use dict::foreign::export;
use serde::Serialize;
use std::path::PathBuf;
use store::Provenance;

/// Writes a dictionary for another program, into a folder as that program keeps its own
///
/// A dictionary the format cannot express is refused with the reason. Formats of one model get a crosscoder as an
/// autoencoder over its models' activations side by side, normalisers folded into the weights; a learned threshold becomes
/// one of each feature, exactly. What the format does not keep is said on stderr.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[command(before_help = "Example:\n  crosscode export --to sae-lens dict.safetensors -o DIR")]
pub struct Args {
    /// Dictionary
    #[serde(skip)]
    pub dict: PathBuf,
    /// Program to write it for
    #[arg(long, value_enum)]
    pub to: FormatName,
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    #[serde(skip)]
    pub output: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let dictionary = Crosscoder::load(&args.dict)?;
    let provenance = Provenance::new("crosscode export", args)?.input(&args.dict)?;
    let notes = export(&dictionary, args.to.into(), &args.output, &provenance)?;
    for note in &notes {
        cli::say(note);
    }
    Ok(())
}
