//! Files that exist whole or not at all.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Writes a file so that `path` is either the old file or the whole new one, never a part of it. `-` is stdout.
///
/// The bytes go to a temporary file beside it (mode 666 less the umask, a name of its own, removed on failure), are
/// synced to disk, and get the final name last. Two processes that write the same path do not mix: the last one wins.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let mut out = AtomicFile::create(path)?;
    fill(out.file_mut()).map_err(Error::write(path))?;
    out.commit()
}

/// A file that gets its name only when it is [committed](AtomicFile::commit); dropped before, it leaves nothing.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// A file under a temporary name, and the name it will have.
    Renamed(NamedTempFile, PathBuf),
    /// Stdout, a pipe, `/dev/null`: written as it comes, never replaced.
    Direct(File),
}

impl AtomicFile {
    /// Begins a file. Fails at once when its directory does not exist or cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        let target = Target::choose(path).map_err(Error::write(path))?;
        Ok(Self {
            path: path.to_owned(),
            target,
        })
    }

    /// The file to write to.
    pub fn file_mut(&mut self) -> &mut File {
        match &mut self.target {
            Target::Renamed(file, _) => file.as_file_mut(),
            Target::Direct(file) => file,
        }
    }

    /// Syncs what was written and gives it its name.
    pub fn commit(self) -> Result<()> {
        match self.target {
            Target::Direct(_) => Ok(()),
            Target::Renamed(file, name) => finish(file, &name).map_err(Error::write(&self.path)),
        }
    }
}

impl Target {
    fn choose(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            return Ok(Self::Direct(File::from(stdout)));
        }
        // The link stays a link and what it points to is replaced, as a shell's `>` would do.
        let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&name) {
            Ok(found) if !found.is_file() => {
                File::options().write(true).open(name).map(Self::Direct)
            }
            _ => Ok(Self::Renamed(temporary(parent(&name))?, name)),
        }
    }
}

/// An empty file in `directory` under a name nobody else has.
fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    let create = |path: &Path| {
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o666).open(path)
    };
    // Not `tempfile_in`: its mode is 600, and its errors tell the random name instead of the reason.
    tempfile::Builder::new()
        .prefix(".postscope-")
        .suffix(".tmp")
        .make_in(directory, create)
}

fn finish(file: NamedTempFile, name: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(name).map_err(|error| error.error)?;
    // The name itself reaches the disk with its directory. Some file systems refuse; the file is there all the same.
    if let Ok(directory) = File::open(parent(name)) {
        directory.sync_all().ok();
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Refuses to write binary where a person would see it.
pub(crate) fn refuse_terminal(path: &Path) -> Result<()> {
    if path == Path::new("-") && io::stdout().is_terminal() {
        return Err(Error::unwritable(
            path,
            "this is binary and stdout is a terminal: send it to a file or a pipe",
        ));
    }
    Ok(())
}
