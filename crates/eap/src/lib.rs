//! Edge attribution patching: how information flows along the edges of a model, and how training changed that.
//!
//! Reads a model directory with its `samples` table (or a file of pairs); writes the `edges` table (`eap score`), and from
//! two of those the circuit metrics (`eap metrics`).
//!
//! ```text
//! eap score --model base=models/base --samples base.samples.parquet --against rl.samples.parquet -o base.edges.parquet
//! eap score --model rl=models/grpo --samples rl.samples.parquet --against base.samples.parquet -o rl.edges.parquet
//! eap metrics base.edges.parquet rl.edges.parquet -o metrics.parquet
//! ```
//!
//! # Layout
//! - [`node`], [`graph`]: names of the nodes, and which of them an edge joins
//! - [`score`]: the subcommand; [`sets`]: its examples; [`rows`]: its table
//! - [`answers`], [`documents`], [`truncation`]: which answers are scored, and how much of them; [`pairs`]: what else can be
//! - [`example`]: a sequence with its loss; [`attribute`]: its scores; [`check`]: the scores against finite differences;
//!   [`values`]: the inner product
//! - [`metrics`]: the subcommand; [`edges`]: its examples; [`measures`], [`pooled`]: the formulas; [`show`]: its table

pub mod answers;
pub mod attribute;
pub mod check;
pub mod documents;
pub mod edges;
pub mod example;
pub mod graph;
pub mod measures;
pub mod metrics;
pub mod node;
pub mod pairs;
pub mod pooled;
pub mod rows;
pub mod score;
pub mod sets;
pub mod show;
pub mod truncation;
pub mod values;

/// Scores the edges between a model's attention blocks, MLPs, input and output, and compares two models by them.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "eap",
    before_help = "Example:\n  \
        eap score --model base=models/base --samples base.samples.parquet \\\n            \
        --against rl.samples.parquet -o base.edges.parquet\n  \
        eap score --model rl=models/grpo --samples rl.samples.parquet \\\n            \
        --against base.samples.parquet -o rl.edges.parquet\n  \
        eap metrics base.edges.parquet rl.edges.parquet -o metrics.parquet"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: cli::Common,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    Score(score::Args),
    Metrics(metrics::Args),
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    match &args.command {
        Command::Score(args) => score::run(args),
        Command::Metrics(args) => metrics::run(args),
    }
}
