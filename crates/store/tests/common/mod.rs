//! The few words all tests of this crate are written in.
#![expect(
    dead_code,
    unreachable_pub,
    reason = "a module of every test file, each of which uses some of it"
)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use store::Provenance;

/// An empty directory that goes away with its owner.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A provenance with something in every field.
pub fn provenance() -> Provenance {
    let settings =
        serde_json::json!({ "hook": "resid_post.0.5", "alpha": [1.5, 0.1], "label": "β" });
    Provenance::new("test", &settings).unwrap().seed(7)
}

/// What a program would print for an error: one line, which must name `path`.
pub fn line<T: std::fmt::Debug>(result: store::Result<T>, path: &Path) -> String {
    let error = result.unwrap_err();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    text
}

/// Names of everything in a directory, hidden files too.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Writes a new file; writing over an old one would wait for the disk each time.
pub fn put(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).ok();
    fs::write(path, bytes).unwrap();
}

/// The first `n` bytes of a file, as another file.
pub fn cut(path: &Path, n: usize) -> PathBuf {
    let cut = path.with_file_name(format!(
        "cut.{}",
        path.extension().unwrap().to_str().unwrap()
    ));
    put(&cut, &fs::read(path).unwrap()[..n]);
    cut
}
