//! File, directory, glob, `-`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{directory, line};
use std::fs;
use std::path::PathBuf;
use store::expand;

fn tree() -> tempfile::TempDir {
    let dir = directory();
    fs::create_dir(dir.path().join("sub")).unwrap();
    for name in [
        "b.jsonl",
        "a.jsonl",
        ".hidden.jsonl",
        "c.txt",
        "[x].jsonl",
        "sub/d.jsonl",
    ] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    dir
}

fn names(dir: &tempfile::TempDir, inputs: &[&str]) -> Vec<String> {
    let inputs: Vec<PathBuf> = inputs.iter().map(|input| dir.path().join(input)).collect();
    let files = expand(&inputs, "jsonl").unwrap();
    let relative = files
        .iter()
        .map(|file| file.strip_prefix(dir.path()).unwrap());
    relative.map(|path| path.display().to_string()).collect()
}

#[test]
fn files_keep_the_order_given_and_directories_are_sorted() {
    let dir = tree();
    assert_eq!(names(&dir, &["c.txt", "a.jsonl"]), ["c.txt", "a.jsonl"]);
    assert_eq!(names(&dir, &[""]), ["[x].jsonl", "a.jsonl", "b.jsonl"]);
    assert_eq!(names(&dir, &["?.jsonl"]), ["a.jsonl", "b.jsonl"]);
    assert_eq!(names(&dir, &["s*"]), ["sub/d.jsonl"]);
}

#[test]
fn a_name_that_exists_is_not_a_pattern() {
    assert_eq!(names(&tree(), &["[x].jsonl"]), ["[x].jsonl"]);
}

#[test]
fn stdin_stays_itself() {
    assert_eq!(
        expand(&["-".into()], "jsonl").unwrap(),
        [PathBuf::from("-")]
    );
}

#[test]
fn what_stands_for_no_file_is_an_error() {
    let dir = tree();
    let refuse = |input: &str, extension: &str| {
        let path = dir.path().join(input);
        line(expand(std::slice::from_ref(&path), extension), &path)
    };
    assert!(refuse("none.jsonl", "jsonl").contains("No such file"));
    assert!(refuse("*.csv", "jsonl").ends_with("no file matches"));
    assert!(refuse("", "csv").ends_with("there is no .csv file in this directory"));
    assert!(refuse("[", "jsonl").starts_with("cannot read"));
    assert!(expand(&[], "jsonl").is_err());
}

#[test]
fn a_pipe_can_be_read_more_than_once() {
    let dir = directory();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, "once").unwrap()
    });
    assert_eq!(store::read_text(&path).unwrap(), "once");
    assert_eq!(store::read_text(&path).unwrap(), "once");
    assert_eq!(store::Input::of(&path).unwrap().bytes, 4);
    writer.join().unwrap();
}
