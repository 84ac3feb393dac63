//! What a run that is stopped or killed leaves behind: the batches it finished, in a folder beside the output.
//!
//! `OUT.parts/arm-00-batch-00003.parquet` holds the answers of one batch in one arm, with the provenance of the whole run: a
//! part of other settings or inputs is not taken for one of this run. The folder goes when the output is written.

use anyhow::Context;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use store::Provenance;
use store::tables::Sample;

/// The finished batches of one run.
#[derive(Debug)]
pub struct Parts<'a> {
    /// None when the output is a pipe: then nothing is kept.
    folder: Option<PathBuf>,
    provenance: &'a Provenance,
}

impl<'a> Parts<'a> {
    /// Opens the folder beside an output, and makes it where there is none.
    pub fn open(output: &Path, provenance: &'a Provenance) -> anyhow::Result<Self> {
        let folder = folder(output);
        if let Some(folder) = &folder {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot write {}", folder.display()))?;
        }
        Ok(Self { folder, provenance })
    }

    /// The answers of a batch that an earlier sitting finished. A part that cannot be read is one to make again.
    pub fn read(&self, arm: usize, batch: usize) -> Option<Vec<Sample>> {
        let path = self.path(arm, batch)?;
        let recorded = store::table_provenance(&path).ok()?;
        (&recorded == self.provenance).then(|| store::read_table(&[path]).ok())?
    }

    /// Keeps the answers of a batch.
    pub fn write(&self, arm: usize, batch: usize, rows: &[Sample]) -> anyhow::Result<()> {
        if let Some(path) = self.path(arm, batch) {
            store::write_table(&path, rows, self.provenance)?;
        }
        Ok(())
    }

    /// Removes the folder: the output stands.
    pub fn remove(self) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        match fs::remove_dir_all(folder) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(cause).with_context(|| format!("cannot remove {}", folder.display()))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, arm: usize, batch: usize) -> Option<PathBuf> {
        let name = format!("arm-{arm:02}-batch-{batch:05}.parquet");
        Some(self.folder.as_ref()?.join(name))
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

    #[test]
    fn a_part_belongs_to_its_settings() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out.parquet");
        let ours = Provenance::new("test", &1).unwrap();
        let parts = Parts::open(&output, &ours).unwrap();
        assert_eq!(parts.read(0, 3), None);
        parts.write(0, 3, &[]).unwrap();
        assert_eq!(parts.read(0, 3), Some(Vec::new()));
        assert_eq!(parts.read(1, 3), None);

        let theirs = Provenance::new("test", &2).unwrap();
        assert_eq!(Parts::open(&output, &theirs).unwrap().read(0, 3), None);
        parts.remove().unwrap();
        assert!(!directory.path().join("out.parquet.parts").exists());
    }

    #[test]
    fn a_pipe_keeps_nothing() {
        let provenance = Provenance::new("test", &1).unwrap();
        let parts = Parts::open(Path::new("-"), &provenance).unwrap();
        parts.write(0, 0, &[]).unwrap();
        assert_eq!(parts.read(0, 0), None);
        parts.remove().unwrap();
    }
}
