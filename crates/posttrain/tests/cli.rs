//! The edge of the program: help, wrong flags, files that are not there.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

use std::process::{Command, Output};

fn posttrain(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_posttrain"))
        .args(line.split_whitespace())
        .output()
        .unwrap()
}

#[test]
fn help_opens_with_an_example() {
    for line in [
        "--help",
        "tasks --help",
        "pretrain --help",
        "sft --help",
        "grpo --help",
    ] {
        let output = posttrain(line);
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(
            String::from_utf8_lossy(&output.stdout).starts_with("Example:\n  posttrain"),
            "{line}"
        );
    }
}

#[test]
fn a_wrong_flag_is_code_2() {
    assert_eq!(posttrain("sft --no-such-flag").status.code(), Some(2));
    assert_eq!(
        posttrain("grpo --model x --tasks y -o z --rollouts 1")
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_missing_file_is_named_in_one_line() {
    for (line, name) in [
        (
            "pretrain --corpus no/corpus.jsonl -o OUT",
            "no/corpus.jsonl",
        ),
        (
            "sft --model no/model --tasks no/tasks.jsonl -o OUT",
            "no/model",
        ),
        (
            "grpo --model no/model --tasks no/tasks.jsonl -o OUT",
            "no/model",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = posttrain(&line.replace("OUT", folder.path().join("out").to_str().unwrap()));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(
            message.contains(name) && message.trim_end().lines().count() == 1,
            "{message}"
        );
    }
}
