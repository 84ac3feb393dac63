//! `capture`: the same tokens through several models, at any hook.
//!
//! Reads: Hugging Face model directories that share a tokenizer; texts (JSON lines), answers (`samples` tables) or token ids.
//! Writes: an activation store, a directory of parts with a manifest. The models are run one after another, so that
//! only one is in memory, and of that the blocks up to the last hook. Parts are fixed by the documents and the
//! settings alone: any layout of jobs gives the same bytes, and a run that was stopped or killed goes on from its
//! last whole part.
//!
//! ```text
//! capture --model base=models/base --model sft=models/sft --model rl=models/grpo \
//!         --hook resid_post.0.5 --texts corpus.jsonl -o acts/
//! capture check acts/
//! ```
//!
//! # Layout
//! - [`acts`] — the capture
//! - [`models`] — what must agree between the models
//! - [`documents`], [`filter`] — what is read
//! - [`plan`] — which tokens become rows of which part
//! - [`forward`] — a part of a model
//! - [`estimate`] — `--dry-run`
//! - [`check`], [`info`] — the other commands

pub mod acts;
pub mod check;
pub mod documents;
pub mod estimate;
pub mod filter;
pub mod forward;
pub mod info;
pub mod models;
pub mod plan;

/// Example shown first by `--help`.
const EXAMPLE: &str = "\
Example:
  capture --model base=models/base --model sft=models/sft --model rl=models/grpo \\
          --hook resid_post.0.5 --texts corpus.jsonl -o acts/

  Key samples alone, wrong in base and right in rl:
  capture --model base=models/base --model rl=models/grpo --samples rl.samples.parquet \\
          --where-wrong base=base.samples.parquet --where-correct rl=rl.samples.parquet -o keys/
";

/// Run the same tokens through several models and keep their activations.
#[derive(Debug, clap::Parser)]
#[command(
    name = "capture",
    before_help = EXAMPLE,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    acts: Option<acts::Args>,
    #[command(flatten)]
    common: cli::Common,
}

/// What else can be done with a store.
#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(check::Args),
    Info(info::Args),
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    match (&args.command, &args.acts) {
        (Some(Command::Check(args)), _) => check::run(args),
        (Some(Command::Info(args)), _) => info::run(args),
        (None, Some(args)) => acts::run(args),
        (None, None) => Err(cli::Usage("nothing to do: see --help".into()).into()),
    }
}

/// A byte count as people read it: `12.3 MB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_written_as_people_read_them() {
        let written = [0, 999, 1000, 12_345_678, 3_000_000_000_000].map(super::bytes);
        assert_eq!(written, ["0 B", "999 B", "1.0 kB", "12.3 MB", "3.0 TB"]);
    }
}
