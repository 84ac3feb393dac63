//! What a user may write where files are read: a file, a directory, a glob, `-`, and several of them.

use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Expands the arguments of a program into files: in the order given, sorted by name within a directory or a glob.
///
/// A directory stands for its files that end in `extension` (`"parquet"`, `"jsonl"`), hidden ones apart; a glob for what
/// it matches, `-` for stdin. Something that stands for no file is an error, and so is nothing at all.
pub fn expand(inputs: &[PathBuf], extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        files.extend(one(input, extension)?);
    }
    if files.is_empty() {
        return Err(none(Path::new("-"), "no file was given"));
    }
    Ok(files)
}

fn one(input: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    if input == Path::new("-") {
        return Ok(vec![input.to_owned()]);
    }
    // A name that exists is meant as it is, also when it looks like a pattern.
    match fs::metadata(input) {
        Ok(found) if found.is_dir() => directory(input, extension),
        Ok(_) => Ok(vec![input.to_owned()]),
        Err(cause) if !is_pattern(input) => Err(Error::read(input)(cause)),
        Err(_) => {
            let paths = matches(input)?.into_iter();
            let files: Result<Vec<_>> = paths.map(|path| one(&path, extension)).collect();
            Ok(files?.concat())
        }
    }
}

fn directory(input: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(input).map_err(Error::read(input))? {
        let path = entry.map_err(Error::read(input))?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.is_file() && path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    if files.is_empty() {
        let cause = format!("there is no .{extension} file in this directory");
        return Err(none(input, &cause));
    }
    files.sort();
    Ok(files)
}

/// What a glob matches, sorted: at least one file or directory.
pub(crate) fn matches(pattern: &Path) -> Result<Vec<PathBuf>> {
    let text = pattern
        .to_str()
        .ok_or_else(|| none(pattern, "a pattern must be UTF-8"))?;
    let found = glob::glob(text).map_err(|error| none(pattern, error.msg))?;
    let mut paths = Vec::new();
    for path in found {
        paths.push(path.map_err(|error| Error::read(pattern)(error.into()))?);
    }
    if paths.is_empty() {
        return Err(none(pattern, "no file matches"));
    }
    paths.sort();
    Ok(paths)
}

fn is_pattern(path: &Path) -> bool {
    let special = |byte: &u8| b"*?[".contains(byte);
    path.as_os_str().as_encoded_bytes().iter().any(special)
}

fn none(path: &Path, cause: &str) -> Error {
    Error::NoFiles {
        path: path.to_owned(),
        cause: cause.to_owned(),
    }
}
