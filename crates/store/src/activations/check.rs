//! `capture check`: whether a store is still what its manifest says.

use super::Manifest;
use super::part::Identity;
use super::reader::ActivationStore;
use crate::error::{Error, Result};
use crate::provenance::digest;
use std::path::Path;

/// What a whole store was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Files read.
    pub parts: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Rows of each model and hook.
    pub n_rows: usize,
}

impl ActivationStore {
    /// Reads every part: all whole, all finite, digests as in the manifest, tokens too. The first fault is the error.
    pub fn check(&self) -> Result<Report> {
        let Some(manifest) = self.manifest() else {
            return self.check_bare();
        };
        let (_, sha256) = digest(&self.path().join("tokens.parquet"))?;
        if sha256 != manifest.tokens_sha256 {
            let path = self.path().join("tokens.parquet");
            return Err(Error::invalid(
                &path,
                "its digest is not the one in manifest.json",
            ));
        }
        self.tokens()?;
        let mut report = Report {
            parts: 0,
            bytes: 0,
            n_rows: self.n_rows(),
        };
        for label in 0..manifest.models.len() {
            for hook in 0..manifest.hooks.len() {
                report.bytes += check_stream(self.path(), manifest, label, hook)?;
                report.parts += manifest.n_parts;
            }
        }
        Ok(report)
    }

    fn check_bare(&self) -> Result<Report> {
        let mut values = Vec::new();
        for label in 0..self.labels().len() {
            for start in (0..self.n_rows()).step_by(4096) {
                self.read(
                    label,
                    &self.hooks()[0],
                    start..self.n_rows().min(start + 4096),
                    &mut values,
                )?;
            }
        }
        Ok(Report {
            parts: 1,
            bytes: digest(self.path())?.0,
            n_rows: self.n_rows(),
        })
    }
}

fn check_stream(directory: &Path, manifest: &Manifest, label: usize, hook: usize) -> Result<u64> {
    let mut bytes = 0;
    let (model, stream) = (&manifest.models[label], manifest.stream(label, hook));
    for (part, expected) in stream.parts.iter().enumerate() {
        let identity = Identity {
            parts: manifest.parts(),
            part,
            label: &model.label,
            hook: &stream.hook,
            width: model.width,
            dtype: manifest.dtype,
            provenance: &manifest.provenance,
        };
        let path = manifest
            .parts()
            .path(directory, &model.label, &stream.hook, part);
        let found = identity.summarise(&path)?;
        if found.sha256 != expected.sha256 {
            return Err(Error::invalid(
                &path,
                "its digest is not the one in manifest.json",
            ));
        }
        bytes += found.bytes;
    }
    Ok(bytes)
}
