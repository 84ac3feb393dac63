//! The edge of the program: help, wrong arguments, missing files.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::process::{Command, Output};

fn select(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_select"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_opens_with_an_example() {
    let output = select(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("Example:\n  target/release/select "));
}

#[test]
fn a_wrong_flag_and_a_single_model_are_usage_errors() {
    assert_eq!(select(&["--nonsense"]).status.code(), Some(2));
    let output = select(&[
        "--dict",
        "d",
        "--features",
        "f",
        "--samples",
        "base=b",
        "-o",
        "o",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("two models"));
}

#[test]
fn a_missing_file_is_named() {
    let output = select(&[
        "--dict",
        "absent.safetensors",
        "--features",
        "absent.parquet",
        "--samples",
        "base=absent.samples.parquet",
        "--samples",
        "rl=absent.samples.parquet",
        "-o",
        "selection.parquet",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("select: "), "{stderr}");
    assert!(stderr.contains("absent.samples.parquet"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
