//! `-` is stdin and stdout: `examples/tokens.rs`, run in a pipe.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{directory, provenance};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use store::tables::Token;
use store::{Input, read_table, table_provenance, write_table};

/// The example, which `cargo test` builds beside the tests.
fn tokens(args: &[&str], stdin: &Path) -> Command {
    let tests = std::env::current_exe().unwrap();
    let mut command = Command::new(tests.ancestors().nth(2).unwrap().join("examples/tokens"));
    command.args(args).stdin(File::open(stdin).unwrap());
    command
}

fn table(path: &Path, n: u32) -> Vec<Token> {
    let token = |row: u32| Token {
        row,
        doc_id: "copy/1".into(),
        doc_index: 0,
        pos: row,
        token_id: row * 7,
        role: "text".into(),
        phase: "text".into(),
        special: false,
    };
    let rows: Vec<Token> = (0..n).map(token).collect();
    write_table(path, &rows, &provenance()).unwrap();
    rows
}

#[test]
fn a_table_comes_through_a_pipe_with_its_provenance() {
    let dir = directory();
    let [first, second, joined] = ["a", "b", "c"].map(|name| dir.path().join(name));
    let rows = [table(&first, 5), table(&second, 3)].concat();
    let output = tokens(&[first.to_str().unwrap(), "-"], &second)
        .output()
        .unwrap();
    assert!(output.status.success());
    fs::write(&joined, &output.stdout).unwrap();
    assert_eq!(
        read_table::<Token>(std::slice::from_ref(&joined)).unwrap(),
        rows
    );
    // Read twice: once for its rows, once for its digest.
    let inputs = table_provenance(&joined).unwrap().inputs;
    assert_eq!(inputs[0].path, first.to_str().unwrap());
    assert_eq!(inputs[1].path, "-");
    assert_eq!(inputs[1].sha256, Input::of(&second).unwrap().sha256);
    assert_eq!(inputs[1].provenance_id, Some(provenance().id()));
}

#[test]
fn a_reader_that_went_away_is_still_seen_as_such() {
    let dir = directory();
    let path = dir.path().join("a");
    table(&path, 5);
    let mut child = tokens(&["-"], &path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("BrokenPipe")
    );
}
