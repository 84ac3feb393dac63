//! Files to read, and stdin as one of them.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Stdin and pipes that were read, kept: they give their bytes once, but a reader, a footer and a digest want them more
/// often.
static SPOOLED: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());

/// Opens a file at its beginning; `-` is stdin.
///
/// Stdin and named pipes (`<(zcat …)`) are copied to an unnamed temporary file first, so that they can be read anywhere
/// and again. Two readers of the same one share a position: they must not read at the same time.
pub fn open_input(path: &Path) -> Result<File> {
    let is_stdin = path == Path::new("-");
    if is_stdin || is_pipe(path) {
        return spooled(path, is_stdin).map_err(Error::read(path));
    }
    let file = File::open(path).map_err(Error::read(path))?;
    if file.metadata().map_err(Error::read(path))?.is_dir() {
        return Err(Error::invalid(path, "it is a directory"));
    }
    Ok(file)
}

/// Reads a whole text (JSON, JSONL, YAML); `-` is stdin.
pub fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let mut file = open_input(path)?;
    file.read_to_string(&mut text).map_err(Error::read(path))?;
    Ok(text)
}

fn is_pipe(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| !found.is_file() && !found.is_dir())
}

fn spooled(path: &Path, is_stdin: bool) -> io::Result<File> {
    let lost = |_| io::Error::other("another thread failed while reading it");
    let mut kept = SPOOLED.lock().map_err(lost)?;
    if !kept.contains_key(path) {
        let copy = if is_stdin {
            copy(io::stdin().lock())?
        } else {
            copy(File::open(path)?)?
        };
        kept.insert(path.to_owned(), copy);
    }
    let mut file = kept[path].try_clone()?;
    file.rewind()?;
    Ok(file)
}

fn copy(mut source: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut source, &mut file)?;
    Ok(file)
}
