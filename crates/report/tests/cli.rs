//! The program as a user meets it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::process::{Command, Output};

fn report(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_report"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn help_opens_with_an_example() {
    let output = report(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(
        help.starts_with("Example:\n  report --dir out/ -o report.html"),
        "{help}"
    );
}

#[test]
fn a_wrong_flag_is_code_2() {
    assert_eq!(report(&["--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn a_missing_folder_is_code_1_and_named() {
    let output = report(&["--dir", "no/such/folder"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.starts_with("report: ") && message.contains("no/such/folder"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1);
}
