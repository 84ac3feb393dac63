//! The program at its edge: help, exit codes, one line per error.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::path::Path;
use std::process::{Command, Output};

fn evaluate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evaluate"))
        .args(arguments)
        .output()
        .unwrap()
}

/// Exit code, and what was said on stderr.
fn outcome(arguments: &[&str]) -> (i32, String) {
    let output = evaluate(arguments);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn help_opens_with_an_example() {
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["grade", "--help"],
        &["import", "--help"],
        &["compare", "--help"],
    ] {
        let output = evaluate(arguments);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("Example:\n  evaluate "), "{text}");
    }
}

#[test]
fn wrong_arguments_exit_with_2() {
    let run = [
        "run",
        "--model",
        "m=dir",
        "--tasks",
        "t.jsonl",
        "-o",
        "x.parquet",
    ];
    let with = |more: &[&'static str]| [&run[..], more].concat();
    let lines: [Vec<&str>; 11] = [
        vec!["--nonsense"],
        vec![
            "run",
            "--model",
            "dir",
            "--tasks",
            "t.jsonl",
            "-o",
            "x.parquet",
        ],
        vec!["run", "--model", "m=dir", "-o", "x.parquet"],
        with(&["--temperature", "-1"]),
        with(&["--top-p", "0"]),
        with(&["--batch", "0"]),
        with(&["--shard", "2/2"]),
        with(&["--device", "abacus"]),
        vec!["grade", "-o", "x.parquet"],
        vec![
            "grade",
            "--preset",
            "nonsense",
            "--answers",
            "a.jsonl",
            "-o",
            "x.jsonl",
        ],
        vec!["compare", "a.parquet"],
    ];
    for line in lines {
        assert_eq!(outcome(&line).0, 2, "{line:?}");
    }
}

#[test]
fn a_missing_file_exits_with_1_and_is_named() {
    for line in [
        &[
            "run",
            "--model",
            "m=absent-dir",
            "--tasks",
            "absent.jsonl",
            "-o",
            "x.parquet",
        ][..],
        &[
            "grade",
            "absent.parquet",
            "--tasks",
            "absent.jsonl",
            "-o",
            "x.parquet",
        ],
        &[
            "grade",
            "--preset",
            "lab",
            "--answers",
            "absent.jsonl",
            "-o",
            "x.jsonl",
        ],
        &["compare", "absent.parquet", "absent.parquet"],
    ] {
        let (code, message) = outcome(line);
        assert_eq!(code, 1, "{line:?}: {message}");
        assert!(
            message.starts_with("evaluate: cannot ") && message.contains("absent"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert!(!Path::new("x.parquet").exists());
}
