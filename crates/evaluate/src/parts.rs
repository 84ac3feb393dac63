//! What a run that is stopped or killed leaves behind: the batches it finished, in a folder beside the output.
//!
//! `rl.samples.parquet.parts/` holds one small table per batch. They are used again only when they were made from exactly
//! the same settings and inputs, and the folder goes once the output stands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use store::Provenance;
use store::tables::Sample;

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

    /// The `n` answers of a batch that an earlier run finished; none when it did not, or was another run.
    pub fn read(&self, batch: usize, n: usize) -> Option<Vec<Sample>> {
        let path = self.path(batch)?;
        let made_from = store::table_provenance(&path).ok()?;
        // A part that cannot be read is one to make again.
        let samples: Vec<Sample> = store::read_table(&[path]).ok()?;
        (made_from == self.provenance && samples.len() == n).then_some(samples)
    }

    /// Keeps the answers of a batch.
    pub fn write(&self, batch: usize, samples: &[Sample]) -> Result<()> {
        let (Some(folder), Some(path)) = (&self.folder, self.path(batch)) else {
            return Ok(());
        };
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        store::write_table(&path, samples, &self.provenance)?;
        Ok(())
    }

    /// Removes the folder: the output stands.
    pub fn remove(&self) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", folder.display()))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, batch: usize) -> Option<PathBuf> {
        Some(
            self.folder
                .as_ref()?
                .join(format!("batch-{batch:06}.parquet")),
        )
    }
}

/// `-` and what is there already but no plain file are written as they come.
fn folder(output: &Path) -> Option<PathBuf> {
    if output == Path::new("-") || fs::metadata(output).is_ok_and(|found| !found.is_file()) {
        return None;
    }
    let mut name = output.as_os_str().to_owned();
    name.push(".parts");
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(completion: &str) -> Sample {
        Sample {
            model: "m".into(),
            arm: "none".into(),
            task: "t".into(),
            doc_id: "1".into(),
            sample: 0,
            prompt: "?".into(),
            completion: completion.into(),
            extracted: None,
            target: "1".into(),
            correct: false,
            n_tokens: 1,
            finish_reason: "stop".into(),
            ..Sample::default()
        }
    }

    fn provenance(seed: u64) -> Provenance {
        Provenance::new("evaluate run", &()).unwrap().seed(seed)
    }

    #[test]
    fn a_part_comes_back_to_the_same_settings_only() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("x.parquet");
        let parts = Parts::beside(&output, &provenance(0));
        parts.write(3, &[sample("a")]).unwrap();
        assert_eq!(parts.read(3, 1), Some(vec![sample("a")]));
        assert_eq!(parts.read(3, 2), None);
        assert_eq!(parts.read(4, 1), None);
        assert_eq!(Parts::beside(&output, &provenance(1)).read(3, 1), None);
        parts.remove().unwrap();
        assert!(!directory.path().join("x.parquet.parts").exists());
    }

    #[test]
    fn a_damaged_part_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let parts = Parts::beside(&directory.path().join("x.parquet"), &provenance(0));
        parts.write(0, &[sample("a")]).unwrap();
        let path = parts.path(0).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(parts.read(0, 1), None);
    }

    #[test]
    fn a_pipe_keeps_nothing() {
        let parts = Parts::beside(Path::new("-"), &provenance(0));
        parts.write(0, &[sample("a")]).unwrap();
        assert_eq!(parts.read(0, 1), None);
        parts.remove().unwrap();
    }
}
