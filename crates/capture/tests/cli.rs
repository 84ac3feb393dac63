//! The edge of the program: help, wrong arguments, missing files.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod common;
mod store;

use common::{Folder, stderr, stdout};

#[test]
fn help_opens_with_an_example() {
    let folder = Folder::new();
    for arguments in [&["--help"][..], &["check", "--help"], &["info", "--help"]] {
        let output = folder.capture(arguments);
        assert_eq!(output.status.code(), Some(0));
        let help = stdout(&output);
        assert!(help.starts_with("Example:\n  capture "), "{help}");
    }
}

#[test]
fn a_wrong_flag_and_nothing_at_all_are_usage_errors() {
    let folder = Folder::new();
    for arguments in [
        &["--nonsense"][..],
        &[],
        &["--model", "base=models/base", "-o", "acts"],
        &["--model", "base", "--texts", "t", "-o", "acts"],
        &["check"],
    ] {
        let output = folder.capture(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = Folder::new();
    let run = ["--model", "base=absent", "--texts", "t.jsonl", "-o", "acts"];
    folder.refuses(&run, &["absent/config.json"]);
    folder.model("base", 0);
    let run = [
        "--model",
        "base=base",
        "--texts",
        "absent.jsonl",
        "-o",
        "acts",
    ];
    folder.refuses(&run, &["absent.jsonl"]);
    folder.refuses(&["check", "absent"], &["absent"]);
    folder.refuses(&["info", "base"], &["base", "manifest.json"]);
    assert!(!folder.path("acts").exists(), "nothing is begun in vain");
}
