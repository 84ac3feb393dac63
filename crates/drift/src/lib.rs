//! What training did to the features of a crosscoder: which it created, kept, re-weighted, rotated, and when.
//!
//! Reads a dictionary (`crosscode train`) and activations (`capture`); writes one row per feature (`features`) or per pair of
//! checkpoints (`dynamics`).
//!
//! ```text
//! drift features dict.safetensors acts/ -o drift.parquet
//! drift dynamics dict.safetensors --series sft=acts-sft/ --series rl=acts-rl/ -o dynamics.parquet
//! ```
//!
//! # Layout
//! - [`features`]: the subcommand; [`norms`]: what the decoder's norms say; [`scaling`]: what the activations say;
//!   [`class`]: the two put together
//! - [`dynamics`]: the subcommand; [`series`]: the checkpoints of one training; [`specific`]: their most specific features
//!   and how much these overlap

pub mod class;
pub mod dynamics;
pub mod features;
pub mod norms;
pub mod scaling;
pub mod series;
pub mod specific;

/// Says for every feature of a crosscoder to which model it belongs, and how that came about over the checkpoints.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "drift",
    before_help = "Example:\n  \
        drift features dict.safetensors acts/ -o drift.parquet\n  \
        drift dynamics dict.safetensors --series sft=acts-sft/ --series rl=acts-rl/ -o dynamics.parquet"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: cli::Common,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    Features(features::Args),
    Dynamics(dynamics::Args),
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    match &args.command {
        Command::Features(args) => features::run(args),
        Command::Dynamics(args) => dynamics::run(args),
    }
}
