//! Where an argument's value comes from when the command line does not give it: the environment, then a file.
//!
//! `crosscode train --features 4096` may also be said as `POSTSCOPE_CROSSCODE_TRAIN_FEATURES=4096`, or in a file named by
//! `--config` or `POSTSCOPE_CONFIG`, one table for each program and subcommand:
//!
//! ```toml
//! [crosscode.train]
//! features = 4096
//! models = ["base", "rl"]
//! ```
//!
//! Flags beat the environment, which beats the file, which beats the defaults. `--print-config` prints all of them as such a
//! file and does nothing else.

use clap::builder::{OsStr, Str};
use clap::{Arg, ArgMatches, Command};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use toml::{Table, Value};

/// The variable that names the file.
const FILE_VARIABLE: &str = "POSTSCOPE_CONFIG";

/// Arguments that say where settings come from, or nothing about the work.
const APART: [&str; 4] = ["config", "print_config", "help", "version"];

/// The command with values from the environment and from the file that the command line names.
///
/// # Errors
/// One line when the file cannot be read, is no TOML, or names an argument the program does not have.
pub(crate) fn apply(command: Command, line: &[OsString]) -> Result<Command, String> {
    let program = command.get_name().to_owned();
    let Some(path) = named(line) else {
        return with_values(command, &program, &Table::new());
    };
    let cannot = |cause: String| format!("cannot use {}: {cause}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|cause| cannot(cause.to_string()))?;
    let file: Table = text
        .parse()
        .map_err(|cause: toml::de::Error| cannot(cause.message().to_owned()))?;
    let own = table(&file, &program).map_err(cannot)?;
    with_values(command, &program, &own).map_err(cannot)
}

/// The file that `--config` or the environment names.
fn named(line: &[OsString]) -> Option<PathBuf> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    let joined = |word: &OsString| text(word).strip_prefix("--config=").map(PathBuf::from);
    let at = line.iter().position(|word| word == "--config");
    at.and_then(|at| line.get(at + 1).map(PathBuf::from))
        .or_else(|| line.iter().find_map(joined))
        .or_else(|| std::env::var_os(FILE_VARIABLE).map(PathBuf::from))
}

/// The table of one program or subcommand; an empty one where there is none.
fn table(of: &Table, name: &str) -> Result<Table, String> {
    match of.get(name) {
        None => Ok(Table::new()),
        Some(Value::Table(table)) => Ok(table.clone()),
        Some(_) => Err(format!("`{name}` is not a table")),
    }
}

/// Gives every argument of a command, and of its subcommands, its variable and its value in the file.
fn with_values(mut command: Command, path: &str, file: &Table) -> Result<Command, String> {
    let names: Vec<String> = subcommands(&command);
    for key in file.keys().filter(|key| !names.contains(key)) {
        let known = |arg: &&Arg| is_setting(arg) && name(arg) == *key;
        if command.get_arguments().find(known).is_none() {
            return Err(format!("`{path}` has no argument `{key}`"));
        }
    }
    let mut failed: Option<String> = None;
    command = command.mut_args(|arg| {
        let value = file.get(&name(&arg));
        let (arg, cause) = value_of(arg, path, value);
        failed = failed.take().or(cause);
        arg
    });
    if let Some(cause) = failed {
        return Err(cause);
    }
    for subcommand in names {
        let (below, own) = (format!("{path}.{subcommand}"), table(file, &subcommand)?);
        let found = command.find_subcommand(&subcommand).cloned();
        let changed = with_values(found.expect("it was listed"), &below, &own)?;
        command = command.mut_subcommand(subcommand, |_| changed);
    }
    Ok(command)
}

fn subcommands(command: &Command) -> Vec<String> {
    command
        .get_subcommands()
        .map(|one| one.get_name().to_owned())
        .collect()
}

/// The argument with its variable, and the file's value as its default; or why it cannot be that.
fn value_of(arg: Arg, path: &str, value: Option<&Value>) -> (Arg, Option<String>) {
    if !is_setting(&arg) {
        return (arg, None);
    }
    let name = name(&arg);
    // An argument that already has a variable of its own keeps it.
    let arg = if arg.get_env().is_some() || arg.is_positional() {
        arg
    } else {
        arg.env(Str::from(variable(path, &name))).hide_env(true)
    };
    match value.map(words) {
        None => (arg, None),
        Some(Err(cause)) => (arg, Some(format!("`{path}.{name}`: {cause}"))),
        Some(Ok(words)) => {
            let words = words.into_iter().map(OsStr::from);
            (arg.required(false).default_values(words), None)
        }
    }
}

fn is_setting(arg: &Arg) -> bool {
    !APART.contains(&arg.get_id().as_str())
}

/// An argument's name in a file: its long flag, or a positional's own.
fn name(arg: &Arg) -> String {
    let id = || arg.get_id().as_str().replace('_', "-");
    arg.get_long().map_or_else(id, str::to_owned)
}

/// `crosscode.train`, `k-start` → `POSTSCOPE_CROSSCODE_TRAIN_K_START`.
fn variable(path: &str, name: &str) -> String {
    let words = format!("postscope {path} {name}");
    words.replace([' ', '.', '-'], "_").to_uppercase()
}

/// A value of the file as it would stand on the command line.
fn words(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(values) => Ok(values
            .iter()
            .map(words)
            .collect::<Result<Vec<_>, _>>()?
            .concat()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(vec![value.to_string()]),
        _ => Err("expected text, a number, true or false, or a list of them".to_owned()),
    }
}

/// Every effective value as a file, when the command line asks for it.
pub(crate) fn printed(command: &Command, matches: &ArgMatches) -> Option<String> {
    let (mut command, mut matches, mut path) = (command, matches, command.get_name().to_owned());
    while let Some((name, below)) = matches.subcommand() {
        command = command.find_subcommand(name)?;
        matches = below;
        write!(path, ".{name}").expect("a String takes any text");
    }
    let wanted = matches.try_get_one::<bool>("print_config").ok()??;
    wanted.then(|| {
        let mut text = format!("[{path}]\n");
        for arg in command.get_arguments().filter(|arg| is_setting(arg)) {
            line(&mut text, arg, matches);
        }
        text
    })
}

/// `features = 4096`, or nothing where there is no value.
fn line(text: &mut String, arg: &Arg, matches: &ArgMatches) {
    let Ok(Some(raw)) = matches.try_get_raw(arg.get_id().as_str()) else {
        return;
    };
    let split = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy().into_owned();
        match arg.get_value_delimiter() {
            Some(delimiter) => word.split(delimiter).map(str::to_owned).collect(),
            None => vec![word],
        }
    };
    let mut values: Vec<Value> = raw.flat_map(split).map(typed).collect();
    let many = arg
        .get_num_args()
        .is_some_and(|range| range.max_values() > 1)
        || arg.get_value_delimiter().is_some()
        || matches!(arg.get_action(), clap::ArgAction::Append);
    let value = match values.pop() {
        Some(only) if !many && values.is_empty() => only,
        Some(last) => Value::Array(values.into_iter().chain([last]).collect()),
        None => return,
    };
    writeln!(text, "{} = {value}", name(arg)).expect("a String takes any text");
}

/// A word as the type it looks like.
fn typed(word: String) -> Value {
    let as_number = || word.parse().map(Value::Integer).ok();
    match word.as_str() {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => as_number().unwrap_or(Value::String(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    #[command(name = "tool")]
    struct Tool {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Train(Train),
    }

    #[derive(Debug, PartialEq, clap::Args)]
    struct Train {
        #[arg(long)]
        features: u32,
        #[arg(long, default_value_t = 1e-3)]
        lr: f64,
        #[arg(long, value_delimiter = ',')]
        models: Vec<String>,
        #[arg(long)]
        plain: bool,
    }

    fn parse(file: &str, line: &[&str]) -> Result<Train, String> {
        let own: Table = file.parse().map_err(|error| format!("{error}"))?;
        let own = table(&own, "tool")?;
        let command = with_values(<Tool as clap::CommandFactory>::command(), "tool", &own)?;
        let line = ["tool", "train"].iter().chain(line);
        let matches = command
            .try_get_matches_from(line)
            .map_err(|error| error.to_string())?;
        let tool = <Tool as clap::FromArgMatches>::from_arg_matches(&matches);
        let Sub::Train(train) = tool.map_err(|error| error.to_string())?.command;
        Ok(train)
    }

    #[test]
    fn the_file_fills_what_the_line_leaves_out_and_required_arguments_too() {
        let file = "[tool.train]\nfeatures = 8\nlr = 0.5\nmodels = ['base', 'rl']\nplain = true\n[other]\nx = 1";
        let train = parse(file, &["--lr", "0.25"]).unwrap();
        let wanted = Train {
            features: 8,
            lr: 0.25,
            models: vec!["base".into(), "rl".into()],
            plain: true,
        };
        assert_eq!(train, wanted);
    }

    #[test]
    fn unknown_names_and_wrong_types_are_said() {
        let error = parse("[tool.train]\nfeature = 8", &[]).unwrap_err();
        assert_eq!(error, "`tool.train` has no argument `feature`");
        let error = parse("[tool.train]\nfeatures = {}", &[]).unwrap_err();
        assert!(
            error.starts_with("`tool.train.features`: expected"),
            "{error}"
        );
        assert!(
            parse("[tool.train]\nfeatures = 'x'", &[])
                .unwrap_err()
                .contains("invalid value")
        );
        assert!(parse("", &[]).unwrap_err().contains("--features"));
    }
}
