//! Asks models questions with known answers, grades what they write, and compares two sets of answers.
//!
//! Reads: a model directory and task files; or `samples` tables that exist already. Writes: a `samples` table, results as
//! JSON, a `comparison` table.
//!
//! ```text
//! evaluate run     --model rl=models/grpo --tasks 'tasks/*.test.jsonl' -o rl.samples.parquet --results rl.json
//! evaluate grade   rl.samples.parquet --tasks 'tasks/*.test.jsonl' -o regraded.parquet
//! evaluate import  results/my_model/ --model base -o base.samples.parquet
//! evaluate compare base.samples.parquet rl.samples.parquet -o compare.parquet
//! ```
//!
//! # Layout
//! - [`run`](mod@run) — the model answers; [`answers`] — batch by batch; [`questions`], [`batches`] — items; [`harness`] — tasks
//!   of lm-evaluation-harness
//! - [`results`] — the results JSON
//! - [`grade`](mod@grade) — answers that exist are graded again; [`pairs`] — answers that are no table; [`verdicts`] — old and
//!   new side by side
//! - [`import`](mod@import) — samples of other evaluations
//! - [`compare`] — two sets of answers; [`pairing`] — which belong together; [`clusters`] — which documents do; [`changes`] —
//!   which changed; [`table`] — as people read it

pub mod answers;
pub mod batches;
pub mod changes;
pub mod clusters;
pub mod compare;
pub mod grade;
pub mod harness;
pub mod import;
pub mod pairing;
pub mod pairs;
pub mod questions;
pub mod results;
pub mod run;
pub mod table;
pub mod verdicts;

use clap::{Parser, Subcommand};

const EXAMPLE: &str = "\
Example:
  evaluate run     --model rl=models/grpo --tasks 'tasks/*.test.jsonl' -o rl.samples.parquet
  evaluate grade   rl.samples.parquet --tasks 'tasks/*.test.jsonl' -o regraded.parquet
  evaluate compare base.samples.parquet rl.samples.parquet -o compare.parquet";

/// Asks models questions with known answers, grades what they write, and compares two sets of answers.
#[derive(Debug, Parser)]
#[command(name = "evaluate", before_help = EXAMPLE)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: cli::Common,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, made once")]
enum Command {
    Run(run::Args),
    Grade(grade::Args),
    Import(import::Args),
    Compare(compare::Args),
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    match &args.command {
        Command::Run(args) => run::run(args),
        Command::Grade(args) => grade::run(args),
        Command::Import(args) => import::run(args),
        Command::Compare(args) => compare::run(args),
    }
}
