//! Files to read, and stdin as one of them.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Mutex;

/// Stdin, kept: it is read once, but a reader, a footer and a digest want it more often.
static STDIN: Mutex<Option<File>> = Mutex::new(None);

/// Opens a file at its beginning; `-` is stdin, copied to an unnamed temporary file so that it can be read anywhere in it
/// and again.
pub fn open_input(path: &Path) -> Result<File> {
    let open = if path == Path::new("-") {
        stdin()
    } else {
        File::open(path)
    };
    let file = open.map_err(Error::read(path))?;
    let found = file.metadata().map_err(Error::read(path))?;
    if found.is_dir() {
        return Err(Error::invalid(path, "it is a directory"));
    }
    if found.is_file() {
        return Ok(file);
    }
    // A pipe under a name, `<(zcat …)`.
    spool(file).map_err(Error::read(path))
}

/// Reads a whole text (JSON, JSONL, YAML); `-` is stdin.
pub fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let mut file = open_input(path)?;
    file.read_to_string(&mut text).map_err(Error::read(path))?;
    Ok(text)
}

fn stdin() -> io::Result<File> {
    let mut kept = STDIN
        .lock()
        .map_err(|_| io::Error::other("stdin was lost by another thread"))?;
    if kept.is_none() {
        *kept = Some(spool(io::stdin().lock())?);
    }
    let mut file = kept.as_ref().expect("it was filled above").try_clone()?;
    file.rewind()?;
    Ok(file)
}

fn spool(mut source: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut source, &mut file)?;
    file.rewind()?;
    Ok(file)
}
