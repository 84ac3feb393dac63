//! The manual of a program, made from its argument declarations: for `docs/tools.md`, `man`, and shells.
//!
//! `tool --generate markdown|man|bash|elvish|fish|powershell|zsh` prints each of them.

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;

/// Columns of a help text: the same on every terminal, so that the generated documents do not depend on one.
const WIDTH: usize = 100;

/// The declared command with what all programs share: the version, and a width at which lines are still read.
pub(crate) fn command<A: CommandFactory>() -> Command {
    A::command()
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(WIDTH)
}

/// Markdown of a program's `--help` and that of every subcommand, in the order of their declaration.
pub fn manual<A: CommandFactory>() -> String {
    let mut command = command::<A>()
        .term_width(WIDTH)
        .disable_help_subcommand(true);
    command.build();
    let mut text = String::new();
    section(&mut text, &mut command, 2);
    text
}

fn section(text: &mut String, command: &mut Command, level: usize) {
    let name = command
        .get_bin_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let help = command.render_long_help().to_string();
    // Trailing blanks of clap's columns would be stripped by every editor.
    let lines: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    write!(
        text,
        "{} {name}\n\n```text\n{}\n```\n\n",
        "#".repeat(level),
        lines.join("\n")
    )
    .expect("a String takes any text");
    for subcommand in command.get_subcommands_mut() {
        section(text, subcommand, level + 1);
    }
}

/// What follows `--generate`, when the command line is nothing else.
pub(crate) fn requested(mut line: impl Iterator<Item = OsString>) -> Option<String> {
    let flag = line.nth(1)?;
    let kind = line.next()?.into_string().ok()?;
    (flag == "--generate" && line.next().is_none()).then_some(kind)
}

/// Prints the manual as `kind`.
pub(crate) fn generate<A: CommandFactory>(kind: &str) -> anyhow::Result<()> {
    let bytes = match kind {
        "markdown" => manual::<A>().into_bytes(),
        "man" => man_page::<A>()?,
        shell => completions::<A>(shell)?,
    };
    std::io::stdout().write_all(&bytes)?;
    Ok(())
}

/// The man page of a program: all its subcommands in one page.
fn man_page<A: CommandFactory>() -> anyhow::Result<Vec<u8>> {
    let mut command = command::<A>().disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for subcommand in command.get_subcommands() {
        let name = subcommand.get_bin_name().unwrap_or(subcommand.get_name());
        writeln!(page, ".SH \"{}\"", name.to_uppercase())?;
        let man = clap_mangen::Man::new(subcommand.clone());
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    Ok(page)
}

/// The completion script of a shell.
fn completions<A: CommandFactory>(shell: &str) -> anyhow::Result<Vec<u8>> {
    let kinds = "markdown, man, bash, elvish, fish, powershell, zsh";
    let shell = Shell::from_str(shell, true)
        .map_err(|_| crate::Usage(format!("cannot generate `{shell}`: choose one of {kinds}")))?;
    let mut command = command::<A>();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    Ok(script)
}
