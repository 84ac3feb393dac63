//! `crosscode import`: dictionaries and activations of other programs.

use crate::activations;
use crate::done;
use crate::formats::FormatName;
use anyhow::Context;
use dict::foreign::{Told, files, import};
use serde::Serialize;
use std::path::{Path, PathBuf};
use store::{Input, Provenance};

/// Turns another program's dictionary into ours, or makes its stored activations readable
///
/// A dictionary is a folder or a file of tensors (.safetensors, .pt, .pth, .bin). Its format is recognised by what is in
/// it. Pickled code is never run: a file that holds more than tensors and plain values is refused. What a format does not
/// say is asked for; docs/formats.md lists what each format keeps.
///
/// With --activations, the folders of a `crosscoder_learning` activation cache (`layer_13_out`, with its shards), one per
/// model, become an activation store. The activations stay where they are: only tokens and links are written.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[command(
    before_help = "Example:\n  crosscode import DIR --labels base,sft,rl --hook resid_post.12 -o dict.safetensors\n  \
        crosscode import --activations base=cache/base/layer_12_out --activations rl=cache/rl/layer_12_out --hook resid_post.12 -o acts/"
)]
pub struct Args {
    /// Folder or file of the dictionary
    #[arg(required_unless_present = "activations")]
    #[serde(skip)]
    pub dir: Option<PathBuf>,
    /// Program that wrote it [default: recognised by its tensors and settings]
    #[arg(long, value_enum)]
    pub from: Option<FormatName>,
    /// Dictionary to write, or with --activations the directory of the store
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Labels of its models, in order, where the format does not know them [default: m0, m1, …]
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    pub labels: Vec<String>,
    /// Hook its activations come from, where the format does not know it
    #[arg(long, value_name = "HOOK")]
    pub hook: Option<String>,
    /// Tokenizer behind its activations: a tokenizer.json, or a model directory with one
    #[arg(long, value_name = "PATH")]
    #[serde(skip)]
    pub tokenizer: Option<PathBuf>,
    /// Factors the activations were multiplied by, for all models or one each, where the format leaves them out
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "FACTORS",
        conflicts_with = "activations"
    )]
    pub scale: Vec<f32>,
    /// Features kept per row, where the format leaves it out
    #[arg(long, value_name = "N", conflicts_with = "activations")]
    pub k: Option<usize>,
    /// Folder of a model in an activation cache; once per model
    #[arg(long, value_name = "LABEL=DIR", conflicts_with_all = ["dir", "from", "labels"])]
    #[serde(skip)]
    pub activations: Vec<cli::Labelled>,
    /// Token ids of special tokens in the cache, which training leaves out
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "IDS",
        requires = "activations"
    )]
    pub special: Vec<u32>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let Some(dir) = &args.dir else {
        return activations::run(args);
    };
    let provenance = Provenance::new("crosscode import", args)?.inputs(&files(dir)?)?;
    let provenance = with_tokenizer(provenance, args)?;
    if done::already(&args.output, &provenance) {
        return Ok(());
    }
    let told = Told {
        labels: args.labels.clone(),
        hook: args.hook.clone(),
        tokenizer_digest: tokenizer_digest(args)?,
        scales: args.scale.clone(),
        k: args.k,
    };
    let imported = import(dir, args.from.map(Into::into), &told)?;
    cli::say(&format!(
        "{} is a dictionary of {}",
        dir.display(),
        imported.format.name()
    ));
    for note in &imported.notes {
        cli::say(note);
    }
    Ok(imported.dictionary.save(&args.output, &provenance)?)
}

/// `tokenizer.json`, whichever way it was given.
fn tokenizer_path(given: &Path) -> PathBuf {
    if given.is_dir() {
        given.join("tokenizer.json")
    } else {
        given.to_owned()
    }
}

/// Digest of the tokenizer, as `capture` takes it.
pub(crate) fn tokenizer_digest(args: &Args) -> anyhow::Result<Option<String>> {
    let digest = |given: &PathBuf| {
        let input = Input::of(&tokenizer_path(given)).context("cannot use the tokenizer")?;
        anyhow::Ok(input.sha256)
    };
    args.tokenizer.as_ref().map(digest).transpose()
}

/// Adds the tokenizer to what was read.
pub(crate) fn with_tokenizer(provenance: Provenance, args: &Args) -> anyhow::Result<Provenance> {
    Ok(match &args.tokenizer {
        Some(given) => provenance.input(&tokenizer_path(given))?,
        None => provenance,
    })
}
