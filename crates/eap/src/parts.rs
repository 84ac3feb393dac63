//! What a run leaves behind batch by batch, so that one that stops can go on and several can share the work.
//!
//! `OUT.parts/set-00-batch-000003.safetensors` holds the scores of one batch, f64 bit for bit, with the provenance of the
//! run without its self-check: a part of other settings or inputs is not taken for one of this run. Which examples a batch
//! holds does not depend on who scores it. The folder goes when the table stands.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use store::{Provenance, TensorData, TensorFile, tables::PositionEdge};

/// Name of the tensor in a part.
const SCORES: &str = "scores_bits";

/// The finished batches of one table.
#[derive(Debug)]
pub struct Parts(store::Parts);

/// Scores of a batch: a map per example, and the rows of its positions when they are kept apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// `[examples][n_sources * n_targets]`
    pub maps: Vec<Vec<f64>>,
    /// Rows by position.
    pub positions: Vec<PositionEdge>,
}

impl Parts {
    /// The folder beside an output.
    pub fn beside(output: &Path, provenance: &Provenance) -> Self {
        Self(store::Parts::beside(output, provenance))
    }

    /// Whether parts are kept at all.
    pub fn are_kept(&self) -> bool {
        self.0.are_kept()
    }

    /// Whether a batch of `n` examples is finished.
    pub fn has(&self, set: usize, batch: usize, with_positions: bool) -> bool {
        let Some(path) = self.path(set, batch, "safetensors") else {
            return false;
        };
        let made_from = TensorFile::open(&path)
            .ok()
            .and_then(|file| file.provenance().cloned());
        let rows = self
            .path(set, batch, "parquet")
            .is_some_and(|path| path.exists());
        made_from.as_ref() == Some(self.0.provenance()) && (rows || !with_positions)
    }

    /// The scores of a finished batch.
    pub fn read(&self, set: usize, batch: usize, n_entries: usize) -> anyhow::Result<Part> {
        let path = self
            .path(set, batch, "safetensors")
            .context("nothing is kept of a pipe")?;
        let bits = TensorFile::open(&path)?.i64(SCORES)?;
        ensure!(
            bits.len().is_multiple_of(n_entries),
            "cannot use {}: it holds another graph",
            path.display()
        );
        let score = |bits: &i64| f64::from_bits(bits.cast_unsigned());
        let maps = bits
            .chunks(n_entries)
            .map(|map| map.iter().map(score).collect());
        let rows = self
            .path(set, batch, "parquet")
            .filter(|path| path.exists());
        Ok(Part {
            maps: maps.collect(),
            positions: match rows {
                Some(path) => store::read_table(&[path])?,
                None => Vec::new(),
            },
        })
    }

    /// Keeps the scores of a batch.
    pub fn write(&self, set: usize, batch: usize, part: &Part) -> anyhow::Result<()> {
        let Some(path) = self.0.new_path(&name(set, batch, "safetensors"))? else {
            return Ok(());
        };
        if !part.positions.is_empty()
            && let Some(path) = self.path(set, batch, "parquet")
        {
            store::write_table(&path, &part.positions, self.0.provenance())?;
        }
        let bits = part
            .maps
            .iter()
            .flatten()
            .map(|score| score.to_bits().cast_signed());
        let tensor = TensorData::I64 {
            shape: vec![part.maps.len(), part.maps.first().map_or(0, Vec::len)],
            values: bits.collect(),
        };
        let tensors = [(SCORES.to_owned(), tensor)];
        store::write_tensors(&path, &tensors, &BTreeMap::new(), self.0.provenance())?;
        Ok(())
    }

    /// Removes the folder: the table stands.
    pub fn remove(&self) -> anyhow::Result<()> {
        Ok(self.0.remove()?)
    }

    fn path(&self, set: usize, batch: usize, extension: &str) -> Option<PathBuf> {
        self.0.path(&name(set, batch, extension))
    }
}

fn name(set: usize, batch: usize, extension: &str) -> String {
    format!("set-{set:02}-batch-{batch:06}.{extension}")
}

/// Whether a table of this very run, whatever its self-check said, is there.
pub fn stands(output: &Path, made_from: &Provenance) -> bool {
    if output == Path::new("-") || !output.is_file() {
        return false;
    }
    let Ok(mut found) = store::table_provenance(output) else {
        return false;
    };
    if let Some(settings) = found.settings.as_object_mut() {
        settings.shift_remove("self_check");
    }
    found == *made_from
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_part_comes_back_to_its_own_run_bit_for_bit() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("edges.parquet");
        let ours = Provenance::new("test", &1).unwrap();
        let parts = Parts::beside(&output, &ours);
        let part = Part {
            maps: vec![vec![0.1, -0.0, 3e-300], vec![f64::MAX, 1.0 / 3.0, 0.0]],
            positions: Vec::new(),
        };
        assert!(!parts.has(0, 3, false));
        parts.write(0, 3, &part).unwrap();
        assert!(parts.has(0, 3, false) && !parts.has(0, 3, true) && !parts.has(1, 3, false));
        assert_eq!(parts.read(0, 3, 3).unwrap(), part);
        let theirs = Provenance::new("test", &2).unwrap();
        assert!(!Parts::beside(&output, &theirs).has(0, 3, false));
        parts.remove().unwrap();
        assert!(!parts.has(0, 3, false));
    }

    #[test]
    fn a_damaged_part_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let parts = Parts::beside(
            &directory.path().join("x"),
            &Provenance::new("test", &1).unwrap(),
        );
        let part = Part {
            maps: vec![vec![1.0]],
            positions: Vec::new(),
        };
        parts.write(0, 0, &part).unwrap();
        let path = parts.path(0, 0, "safetensors").unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        assert!(!parts.has(0, 0, false));
    }
}
