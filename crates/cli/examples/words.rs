//! The smallest program of this kind: what the tests of this crate run, and a pattern to begin from.
//!
//! Reads a text. Writes its number of words to stdout.

use anyhow::Context;
use std::path::PathBuf;

/// Counts the words of a text.
#[derive(clap::Parser)]
#[command(name = "words", before_help = "Example:\n  words count text.txt")]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: cli::Common,
}

#[derive(clap::Subcommand)]
enum Command {
    Count(Count),
    Wait(Wait),
}

/// Counts words, once or many times.
#[derive(clap::Args)]
#[command(before_help = "Example:\n  words count text.txt --times 2")]
struct Count {
    /// Text to read
    path: PathBuf,
    /// How often to say it, for example 5k
    #[arg(long, default_value = "1", value_parser = cli::parse_count)]
    times: u64,
    /// Piece of the repetitions to do
    #[arg(long, default_value_t)]
    shard: cli::Shard,
}

/// Waits for a signal.
#[derive(clap::Args)]
#[command(before_help = "Example:\n  words wait")]
struct Wait {
    /// Waits for another model
    #[arg(long, value_name = "LABEL=PATH")]
    model: Vec<cli::Labelled>,
}

fn main() -> std::process::ExitCode {
    cli::main(run)
}

fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    match &args.command {
        Command::Count(args) => count(args),
        Command::Wait(args) => wait(args),
    }
}

fn count(args: &Count) -> anyhow::Result<()> {
    let path = args.path.display();
    let text =
        std::fs::read_to_string(&args.path).with_context(|| format!("cannot read {path}"))?;
    cli::say(&format!("read {path}"));
    let times = args.shard.range(args.times as usize);
    if times.is_empty() {
        return Err(cli::Usage("there is nothing to do in this shard".into()).into());
    }
    for _ in times {
        cli::data(&text.split_whitespace().count().to_string())?;
    }
    Ok(())
}

fn wait(args: &Wait) -> anyhow::Result<()> {
    let progress = cli::Progress::start("wait", 100, "moments");
    progress.note(format!("for {} models", args.model.len()));
    for moment in 0..100 {
        if cli::stop_requested() {
            let done = format!("{moment} of 100 moments");
            return Err(cli::Stopped { done }.into());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        progress.advance(1);
    }
    progress.finish();
    Ok(())
}
