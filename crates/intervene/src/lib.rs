//! `intervene`: what a model answers while some of its features are switched off or turned up.
//!
//! Reads: a model directory (and the other models of the dictionary, where their activations are wanted), a dictionary, a
//! selection with its matched random sets, task files.
//! Writes: a `samples` table with one arm per intervention and per control.
//!
//! ```text
//! intervene run --model rl=models/grpo --dict dict.safetensors --selection selection.parquet \
//!               --op disable --tasks 'tasks/*.test.jsonl' -o disable.samples.parquet
//! ```
//!
//! # Layout
//! - [`run`](mod@run) — the command; [`settings`] — its flags; [`runner`] — batches through the edited model
//! - [`edit`] — the arithmetic; [`tap`] — the same on its way through the forward pass, and the companions
//! - [`arms`] — interventions and their controls; [`chosen`] — the strength that did best elsewhere
//! - [`target`] — what must fit together
//! - [`questions`] — prompts, batches and grading as in `evaluate run`
//! - [`summary`] — accuracies on stdout; [`estimate`] — `--dry-run`

pub mod arms;
pub mod chosen;
pub mod edit;
pub mod estimate;
pub mod questions;
pub mod run;
pub mod runner;
pub mod settings;
pub mod summary;
pub mod tap;
pub mod target;

use clap::{Parser, Subcommand};

const EXAMPLE: &str = "\
Example:
  intervene run --model rl=models/grpo --dict dict.safetensors --selection selection.parquet \\
                --op disable --tasks 'tasks/*.test.jsonl' -o disable.samples.parquet
";

/// Change selected features of a model while it answers, beside controls that should change nothing.
#[derive(Debug, Parser)]
#[command(name = "intervene", before_help = EXAMPLE)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: cli::Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<settings::Args>),
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    match &args.command {
        Command::Run(args) => run::run(args),
    }
}
