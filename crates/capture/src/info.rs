//! `capture info`: what a store holds.

use anyhow::Context;
use std::path::PathBuf;
use store::Manifest;

/// Show what an activation store holds, a line for each model and hook
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  capture info acts/\n")]
pub struct Args {
    /// Activation store
    #[arg(value_name = "DIR")]
    store: PathBuf,
    /// Print the whole manifest as JSON
    #[arg(long)]
    json: bool,
}

/// Prints tab-separated lines, or the manifest.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let manifest = Manifest::read(&args.store)?;
    if args.json {
        let text = serde_json::to_string_pretty(&manifest);
        return cli::data(&text.context("cannot print the manifest")?);
    }
    cli::data(&text(&manifest))
}

fn text(manifest: &Manifest) -> String {
    let head = "model\thook\trows\twidth\tdtype\tparts\tmean_norm\ttotal_variance\trounding_error";
    let mut lines = vec![head.to_owned()];
    for stream in &manifest.streams {
        let of = |model: &&store::activations::manifest::ManifestModel| model.label == stream.label;
        let width = manifest.models.iter().find(of).map_or(0, |m| m.width);
        lines.push(format!(
            "{}\t{}\t{}\t{width}\t{}\t{}\t{:.4}\t{:.4}\t{:.2e}",
            stream.label,
            stream.hook,
            manifest.n_rows,
            manifest.dtype,
            stream.parts.len(),
            stream.mean_norm,
            stream.total_variance,
            stream.rounding_error.unwrap_or(0.0)
        ));
    }
    lines.join("\n")
}
