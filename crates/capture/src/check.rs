//! `capture check`: whether every part of a store is whole.

use crate::bytes;
use std::path::PathBuf;
use store::ActivationStore;

/// Check that every part of an activation store is whole and its digest right
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  capture check acts/\n")]
pub struct Args {
    /// Activation stores
    #[arg(value_name = "DIR", required = true)]
    stores: Vec<PathBuf>,
}

/// Reads every byte; the first fault is the error.
pub fn run(args: &Args) -> anyhow::Result<()> {
    for path in &args.stores {
        let report = ActivationStore::open(path)?.check()?;
        cli::data(&format!(
            "{}: {} parts, {}, {} rows, all whole",
            path.display(),
            report.parts,
            bytes(report.bytes),
            report.n_rows
        ))?;
    }
    Ok(())
}
