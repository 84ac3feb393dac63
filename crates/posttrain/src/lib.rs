//! Makes small models whose history is known: a task suite, a base model, and what post-training made of it.
//!
//! Reads a suite's settings, or a base model and the suite's files; writes task files, or Hugging Face directories.
//!
//! ```text
//! posttrain tasks --suite lab --seed 0 -o tasks/
//! ```
//!
//! # Layout
//! - [`tasks`](mod@tasks) — the suite: items, corpus, tokenizer
//! - [`pretrain`], [`sft`], [`grpo`] — one training method each: what a step computes
//! - [`training`] — what they share: steps, checkpoints, resuming, the metrics table
//! - [`optimizer`] — `AdamW` with schedules
//! - [`directory`] — Hugging Face directories
//! - [`packing`] — documents into rows, prompts into batches

#![cfg_attr(test, expect(clippy::float_cmp, reason = "these values are exact"))]

pub mod directory;
pub mod grpo;
pub mod optimizer;
pub mod packing;
pub mod pretrain;
pub mod sft;
pub mod tasks;
pub mod training;

use clap::{Parser, Subcommand};

/// Makes small models whose history is known: a task suite, a base model, and what post-training makes of it.
#[derive(Debug, Parser)]
#[command(name = "posttrain", before_help = EXAMPLE)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: cli::Common,
}

const EXAMPLE: &str = "Example:
  posttrain tasks --suite lab --seed 0 -o tasks/
  posttrain pretrain --corpus tasks/corpus.jsonl --size small -o models/base
  posttrain grpo --model models/base --tasks 'tasks/arith.train.jsonl' -o models/grpo";

#[derive(Debug, Subcommand)]
enum Command {
    Tasks(tasks::Args),
    Pretrain(pretrain::Args),
    Sft(sft::Args),
    Grpo(grpo::Args),
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    match &args.command {
        Command::Tasks(args) => tasks::run(args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Sft(args) => sft::run(args),
        Command::Grpo(args) => grpo::run(args),
    }
}
