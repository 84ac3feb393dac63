//! The edge of every program: arguments, signals, progress, exit codes. The only code of the workspace that prints.
//!
//! A program is `cli::main(program::run)`. Its `Args` carry the manual (doc comments become `--help`), flatten [`Common`],
//! and open their help with an example:
//!
//! ```
//! /// Counts the words of a file.
//! #[derive(clap::Parser)]
//! #[command(name = "words", before_help = "Example:\n  words text.txt")]
//! struct Args {
//!     /// Text to read.
//!     path: std::path::PathBuf,
//!     #[command(flatten)]
//!     common: cli::Common,
//! }
//!
//! fn run(args: &Args) -> anyhow::Result<()> {
//!     args.common.start()?;
//!     cli::say(&format!("reading {}", args.path.display()));
//!     cli::data("3")
//! }
//! ```
//!
//! # Layout
//! - [`args`] — [`Common`], [`Labelled`], [`Shard`], [`parse_list`], [`parse_count`]
//! - [`compute`] — [`Compute`], where and how models are computed
//! - [`signals`] — [`stop_requested`], [`Stopped`]
//! - [`output`] — [`say`], [`data`]
//! - [`progress`] — [`Progress`]
//! - [`settings`] — the environment and the file behind the flags; `--print-config`
//! - [`memory`] — the allocator
//! - [`help`] — [`manual`](manual()), man page, completions; what `tool --generate KIND` prints
//!
//! Exit codes: 0 complete, 1 could not finish, 2 wrong arguments ([`Usage`]), 3 stopped early and resumable ([`Stopped`]).
//! A broken pipe is success: whoever reads has read enough.

pub mod args;
pub mod compute;
pub mod help;
pub mod memory;
pub mod output;
pub mod progress;
pub mod settings;
pub mod signals;

pub use args::{Common, Labelled, Shard, parse_count, parse_list};
pub use compute::Compute;
pub use help::manual;
pub use output::{data, say};
pub use progress::Progress;
pub use signals::{Stopped, stop_requested};

use clap::{Command, Parser};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// Arguments that parse but contradict each other: return it from `run` for exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Parses the arguments, installs the signal handlers, runs the program, and turns what it returns into an exit code.
pub fn main<A: Parser>(run: fn(&A) -> anyhow::Result<()>) -> ExitCode {
    memory::keep_pages();
    args::this_is_the_program();
    if let Some(kind) = help::requested(std::env::args_os()) {
        return outcome::<A>(help::generate::<A>(&kind));
    }
    let line: Vec<OsString> = std::env::args_os().collect();
    let command = match settings::apply(help::command::<A>(), &line) {
        Ok(command) => command,
        Err(cause) => return outcome::<A>(Err(Usage(cause).into())),
    };
    let (args, settings) = match parse::<A>(command, line) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    outcome::<A>(match settings {
        Some(settings) => data(settings.trim_end()),
        None => signals::install().and_then(|()| run(&args)),
    })
}

/// Parses a command line; beside the arguments, the text of `--print-config` when it is asked for.
fn parse<A: Parser>(
    mut command: Command,
    line: Vec<OsString>,
) -> Result<(A, Option<String>), clap::Error> {
    let mut matches = command.try_get_matches_from_mut(line)?;
    let settings = settings::printed(&command, &matches);
    let args = A::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok((args, settings))
}

/// Prints what clap has to say: help and version on stdout with code 0, a mistake on stderr with code 2.
fn usage(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}

/// Exit code of a run, and the one line that goes with it.
fn outcome<A: Parser>(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    let program = A::command().get_name().to_owned();
    let line = format!("{program}: {}", one_line(&format!("{error:#}")));
    if error.is::<Stopped>() {
        say(&line);
    } else {
        output::complain(&line);
    }
    ExitCode::from(code(&error))
}

/// 3 for [`Stopped`], 2 for [`Usage`], 1 otherwise; a context around them changes nothing.
fn code(error: &anyhow::Error) -> u8 {
    if error.is::<Stopped>() {
        3
    } else if error.is::<Usage>() {
        2
    } else {
        1
    }
}

/// Whether the reader of our output went away.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Joins the lines of a message: an error is one line, also when a library below wrote three.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn failing(error: impl Into<anyhow::Error>) -> anyhow::Error {
        Err::<(), _>(error.into())
            .context("cannot write out.parquet")
            .unwrap_err()
    }

    #[test]
    fn exit_codes_survive_a_context() {
        assert_eq!(code(&failing(io::Error::other("disk"))), 1);
        assert_eq!(code(&failing(Usage("no".into()))), 2);
        let stopped = Stopped {
            done: "3 of 5 parts".into(),
        };
        assert_eq!(code(&failing(stopped)), 3);
    }

    #[test]
    fn a_broken_pipe_is_found_below_any_context() {
        assert!(is_broken_pipe(&failing(io::Error::from(
            io::ErrorKind::BrokenPipe
        ))));
        assert!(!is_broken_pipe(&failing(io::Error::other("disk"))));
    }

    #[test]
    fn a_message_of_many_lines_becomes_one() {
        assert_eq!(
            one_line("shape mismatch\n   0: candle\n\n   1: main\n"),
            "shape mismatch 0: candle 1: main"
        );
    }
}
