//! The program at its edge: help, exit codes, one line per error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output};

fn eap(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eap"))
        .args(arguments)
        .output()
        .unwrap()
}

/// Exit code, and what was said on stderr.
fn outcome(arguments: &[&str]) -> (i32, String) {
    let output = eap(arguments);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn help_opens_with_an_example() {
    for arguments in [
        &["--help"][..],
        &["score", "--help"],
        &["metrics", "--help"],
    ] {
        let output = eap(arguments);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("Example"), "{text}");
        assert!(text.contains("eap "), "{text}");
    }
}

#[test]
fn wrong_arguments_exit_with_2() {
    let lines: [&[&str]; 8] = [
        &["--nonsense"],
        &["score", "--nonsense"],
        &["score", "--model", "m=dir", "-o", "edges.parquet"],
        &[
            "score",
            "--model",
            "m=dir",
            "--samples",
            "a",
            "--pairs",
            "b",
            "-o",
            "edges.parquet",
        ],
        &[
            "score",
            "--model",
            "m=dir",
            "--samples",
            "a",
            "--alpha",
            "0",
            "-o",
            "edges.parquet",
        ],
        &[
            "score",
            "--model",
            "m=dir",
            "--samples",
            "a",
            "--method",
            "eap",
            "-o",
            "edges.parquet",
        ],
        &["metrics", "before.parquet", "-o", "metrics.parquet"],
        &[
            "metrics",
            "before.parquet",
            "after.parquet",
            "--bins",
            "0",
            "-o",
            "metrics.parquet",
        ],
    ];
    for line in lines {
        let (code, error) = outcome(line);
        assert_eq!(code, 2, "{line:?}: {error}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_in_one_line() {
    let pairs = |more: &[&'static str]| {
        let mut line = vec![
            "score",
            "--model",
            "m=dir",
            "--pairs",
            "p",
            "-o",
            "x.parquet",
        ];
        line.extend(more);
        line
    };
    for (line, said) in [
        (pairs(&["--device", "tpu"]), "`tpu` is not a device"),
        (
            pairs(&["--dtype", "f64", "--weights", "int8"]),
            "--dtype f64",
        ),
        (
            pairs(&["--dtype", "f64", "--precision", "bf16"]),
            "--dtype f64",
        ),
        (pairs(&["--device", "cuda", "--weights", "int8"]), "int8"),
        (pairs(&["--constant-attention"]), "--method relp"),
        (pairs(&["--endpoints", "mid"]), "--method eap-ig-inputs"),
        (pairs(&["--steps", "3"]), "--method eap-ig-inputs"),
        (pairs(&["--gqa", "grouped"]), "--level head"),
        (pairs(&["--model", "n=dir"]), "{model}"),
    ] {
        let (code, error) = outcome(&line);
        assert_eq!((code, error.lines().count()), (2, 1), "{line:?}: {error}");
        assert!(error.contains(said), "{error}");
    }
    let named = ["--model", "m=other", "-o", "{model}.parquet"];
    let mut twice = vec!["score", "--model", "m=dir", "--pairs", "p"];
    twice.extend(named);
    assert!(outcome(&twice).1.contains("two models are called m"));
    twice[6] = "n=other";
    twice.extend(["--per-position", "p.parquet"]);
    assert!(outcome(&twice).1.contains("p.parquet"));
}

#[test]
fn a_missing_file_is_named_in_one_line() {
    let lines: [(&[&str], &str); 2] = [
        (
            &[
                "score",
                "--model",
                "m=absent/model",
                "--samples",
                "absent.parquet",
                "-o",
                "x.parquet",
            ],
            "absent/model",
        ),
        (
            &[
                "metrics",
                "absent.parquet",
                "absent.parquet",
                "-o",
                "x.parquet",
            ],
            "absent.parquet",
        ),
    ];
    for (line, name) in lines {
        let (code, error) = outcome(line);
        assert_eq!(code, 1, "{error}");
        assert!(
            error.starts_with("eap: cannot ") && error.contains(name),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
