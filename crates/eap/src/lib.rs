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
//! - [`score`]: the subcommand; [`sets`]: its examples; [`table`], [`rows`]: its table; [`parts`]: what a stopped run leaves;
//!   [`estimate`]: what it takes
//! - [`answers`], [`documents`], [`truncation`]: which answers are scored, and how much of them; [`pairs`]: what else can be
//! - [`example`]: a sequence with its loss; [`loss`]: its value and gradient
//! - [`method`]: the runs of each method; [`runs`]: them; [`attribute`], `pass`: the scores
//! - [`blocks`], [`expand`]: what sources write; [`reads`]: gradients by what targets read; [`contract`]: both together,
//!   `fast` in single precision
//! - [`routes`]: information flow; [`exact`]: one edge patched; [`check`], [`tested`], [`agreement`], [`slope`]: the run
//!   against itself; [`precision`]: what it is computed in, and where
//! - [`metrics`]: the subcommand; [`edges`]: its examples; [`measures`], [`pooled`]: the formulas; [`show`]: its table
//! - [`compare`]: the subcommand, edge by edge; [`student`]: its test; [`pairing`]: two tables side by side
//! - [`curve`]: the subcommand `circuit`; [`circuit`]: which edges are kept; [`masked`]: the model on those alone;
//!   [`overlap`]: circuits of two models
//! - [`export`], [`import`]: the subcommands; [`torch`], [`zip`]: EAP-IG's `.pt`; [`draw`]: pictures

pub mod agreement;
pub mod answers;
pub mod attribute;
pub mod blocks;
pub mod check;
pub mod circuit;
pub mod compare;
pub mod contract;
pub mod curve;
pub mod documents;
pub mod draw;
pub mod edges;
pub mod estimate;
pub mod exact;
pub mod example;
pub mod expand;
pub mod export;
mod fast;
pub mod graph;
pub mod import;
pub mod loss;
pub mod masked;
pub mod measures;
pub mod method;
pub mod metrics;
pub mod node;
pub mod overlap;
pub mod pairing;
pub mod pairs;
pub mod parts;
mod pass;
pub mod pooled;
pub mod precision;
pub mod reads;
pub mod routes;
pub mod rows;
pub mod runs;
pub mod score;
pub mod sets;
pub mod show;
pub mod slope;
pub mod student;
pub mod table;
pub mod tested;
pub mod torch;
pub mod truncation;
pub mod zip;

/// Scores the edges between a model's attention blocks, MLPs, input and output, and compares models by them.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "eap",
    before_help = "Example:\n  \
        eap score --model base=models/base --samples base.samples.parquet \\\n            \
        --against rl.samples.parquet -o base.edges.parquet\n  \
        eap score --model rl=models/grpo --samples rl.samples.parquet \\\n            \
        --against base.samples.parquet -o rl.edges.parquet\n  \
        eap metrics base.edges.parquet rl.edges.parquet -o metrics.parquet\n  \
        eap compare base.edges.parquet rl.edges.parquet -o changes.parquet"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: cli::Common,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    Score(Box<score::Args>),
    Metrics(metrics::Args),
    Compare(compare::Args),
    Circuit(Box<curve::Args>),
    Overlap(overlap::Args),
    Export(export::Args),
    Import(import::Args),
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    match &args.command {
        Command::Score(args) => score::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Circuit(args) => curve::run(args),
        Command::Overlap(args) => overlap::run(args),
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(args),
    }
}
