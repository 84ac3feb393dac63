//! What a run that is stopped or killed leaves behind: its finished batches, in a folder beside the output.
//!
//! `OUT.parts/` holds one small file per batch, each with the provenance of the whole run: a part of other settings or inputs
//! is not taken for one of this run. The folder goes once the output stands.

use crate::error::{Error, Result};
use crate::{Provenance, Table, read_table, table_provenance, write_table};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The finished batches of one run.
#[derive(Debug)]
pub struct Parts {
    /// None when the output is a pipe: then nothing is kept.
    folder: Option<PathBuf>,
    provenance: Provenance,
}

impl Parts {
    /// The folder beside `output`; what other settings left in it is overwritten in time, or goes with it.
    pub fn beside(output: &Path, provenance: &Provenance) -> Self {
        Self {
            folder: folder(output),
            provenance: provenance.clone(),
        }
    }

    /// Whether parts are kept at all.
    pub fn are_kept(&self) -> bool {
        self.folder.is_some()
    }

    /// Where the parts come from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Path of a part by its file name; none when the output is a pipe.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(name))
    }

    /// Path of a part that is about to be written: the folder is made where there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new_path(&self, name: &str) -> Result<Option<PathBuf>> {
        if let Some(folder) = &self.folder {
            fs::create_dir_all(folder).map_err(Error::write(folder))?;
        }
        Ok(self.path(name))
    }

    /// The `n` rows of a part that an earlier sitting finished; none when it did not, or was another run. A part that cannot
    /// be read is one to make again.
    pub fn read<T: Table>(&self, name: &str, n: usize) -> Option<Vec<T>> {
        let path = self.path(name)?;
        let made_from = table_provenance(&path).ok()?;
        let rows: Vec<T> = read_table(&[path]).ok()?;
        (made_from == self.provenance && rows.len() == n).then_some(rows)
    }

    /// Keeps the rows of a part.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write<T: Table>(&self, name: &str, rows: &[T]) -> Result<()> {
        match self.new_path(name)? {
            Some(path) => write_table(&path, rows, &self.provenance),
            None => Ok(()),
        }
    }

    /// Removes the folder: the output stands.
    ///
    /// # Errors
    /// When there is one that cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        match fs::remove_dir_all(folder) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => Err(Error::write(folder)(cause)),
            _ => Ok(()),
        }
    }
}

/// `-` and what is there already but no plain file are written as they come.
fn folder(output: &Path) -> Option<PathBuf> {
    let special = fs::metadata(output).is_ok_and(|found| !found.is_file());
    if output == Path::new("-") || special {
        return None;
    }
    let mut name = output.as_os_str().to_owned();
    name.push(".parts");
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Sample;

    fn sample(completion: &str) -> Sample {
        Sample {
            completion: completion.into(),
            ..Sample::default()
        }
    }

    fn provenance(seed: u64) -> Provenance {
        Provenance::new("test", &()).unwrap().seed(seed)
    }

    #[test]
    fn a_part_comes_back_to_the_same_run_only() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("x.parquet");
        let parts = Parts::beside(&output, &provenance(0));
        parts.write("3", &[sample("a")]).unwrap();
        assert_eq!(parts.read("3", 1), Some(vec![sample("a")]));
        assert_eq!(parts.read::<Sample>("3", 2), None);
        assert_eq!(parts.read::<Sample>("4", 1), None);
        let others = Parts::beside(&output, &provenance(1));
        assert_eq!(others.read::<Sample>("3", 1), None);
        parts.remove().unwrap();
        assert!(!directory.path().join("x.parquet.parts").exists());
        parts.remove().unwrap();
    }

    #[test]
    fn a_damaged_part_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let parts = Parts::beside(&directory.path().join("x.parquet"), &provenance(0));
        parts.write("0", &[sample("a")]).unwrap();
        let path = parts.path("0").unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(parts.read::<Sample>("0", 1), None);
    }

    #[test]
    fn a_pipe_keeps_nothing() {
        let parts = Parts::beside(Path::new("-"), &provenance(0));
        parts.write("0", &[sample("a")]).unwrap();
        assert!(!parts.are_kept());
        assert_eq!(parts.read::<Sample>("0", 1), None);
        parts.remove().unwrap();
    }
}
