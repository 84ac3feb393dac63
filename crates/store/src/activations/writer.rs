//! Writing a store part by part, in any order, in several sittings, by several processes.

use super::Parts;
use super::manifest::{Manifest, ManifestModel, PartFile, Stream, VERSION, token_digest};
use super::part::{Identity, Summary, Sums};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::provenance::{Provenance, digest};
use crate::tables::Token;
use crate::{write_atomic, write_table};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What a store will hold: fixed before its first part is written.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Models, in the order of the user.
    pub labels: Vec<String>,
    /// Their directories as given, one per label.
    pub paths: Vec<PathBuf>,
    /// Hooks, as `resid_post.12`: each becomes a directory.
    pub hooks: Vec<String>,
    /// Length of a row, `d_model`, one per label.
    pub widths: Vec<usize>,
    /// Format of the values.
    pub dtype: Dtype,
    /// Tokens kept, at least one.
    pub n_rows: usize,
    /// Rows of every part but the last, at least one.
    pub rows_per_part: usize,
    /// Digest of the tokenizer all models share.
    pub tokenizer_digest: String,
    /// Where the store comes from. Parts of another provenance are not kept when a capture is taken up again.
    pub provenance: Provenance,
}

/// A store being written. Parts that exist whole are kept; the manifest comes last.
#[derive(Debug)]
pub struct ActivationWriter {
    directory: PathBuf,
    spec: Spec,
    parts: Parts,
    /// Parts this process wrote, by part, label and hook.
    written: BTreeMap<(usize, usize, usize), Summary>,
}

impl ActivationWriter {
    /// Begins a store or takes one up again. The manifest of another run is removed at once, its parts are replaced.
    pub fn create(directory: &Path, spec: Spec) -> Result<Self> {
        let parts = spec.validate(directory)?;
        for label in &spec.labels {
            for hook in &spec.hooks {
                let path = directory.join(label).join(hook);
                fs::create_dir_all(&path).map_err(Error::write(&path))?;
            }
        }
        let writer = Self {
            directory: directory.to_owned(),
            spec,
            parts,
            written: BTreeMap::new(),
        };
        if !writer.is_complete() {
            remove(&directory.join("manifest.json"))?;
        }
        Ok(writer)
    }

    /// Whether this very store was finished before: there is nothing to do.
    pub fn is_complete(&self) -> bool {
        Manifest::read(&self.directory).is_ok_and(|manifest| self.spec.describes(&manifest))
    }

    /// Number of parts per model and hook.
    pub fn n_parts(&self) -> usize {
        self.parts.count()
    }

    /// Rows of a part.
    pub fn part_rows(&self, part: usize) -> Range<usize> {
        self.parts.rows(part)
    }

    /// Parts of a model that lack at least one hook, ascending.
    pub fn missing_parts(&self, label: &str) -> Result<Vec<usize>> {
        let mut missing = Vec::new();
        for part in 0..self.n_parts() {
            for hook in &self.spec.hooks {
                if !self.has_part(part, label, hook)? {
                    missing.push(part);
                    break;
                }
            }
        }
        Ok(missing)
    }

    /// Whether a part exists, whole and of this run.
    pub fn has_part(&self, part: usize, label: &str, hook: &str) -> Result<bool> {
        let (label, hook) = self.position(label, hook)?;
        let path = self.path(part, label, hook);
        Ok(self.written.contains_key(&(part, label, hook))
            || self.identity(part, label, hook).is_done(&path))
    }

    /// Writes one part, `values` row-major `[rows, d_model]`. A NaN or an infinity is an error that names the row.
    pub fn write_part(
        &mut self,
        part: usize,
        label: &str,
        hook: &str,
        values: &[f32],
    ) -> Result<()> {
        let (label, hook) = self.position(label, hook)?;
        let path = self.path(part, label, hook);
        if part >= self.n_parts() {
            return Err(Error::unwritable(
                &path,
                format!("there are only {} parts", self.n_parts()),
            ));
        }
        let summary = self.identity(part, label, hook).write(&path, values)?;
        self.written.insert((part, label, hook), summary);
        Ok(())
    }

    /// Writes `tokens.parquet`, then `manifest.json`. All parts must exist by now.
    pub fn finish(self, tokens: &[Token]) -> Result<()> {
        let path = self.directory.join("tokens.parquet");
        check_rows(&path, tokens, self.spec.n_rows)?;
        let streams = self.streams()?;
        write_table(&path, tokens, &self.spec.provenance)?;
        self.remove_strangers()?;
        let manifest = self.manifest(streams, token_digest(tokens), digest(&path)?.1);
        let path = self.directory.join("manifest.json");
        write_atomic(&path, |file| file.write_all(manifest.to_json().as_bytes()))
    }

    fn manifest(
        &self,
        streams: Vec<Stream>,
        token_digest: String,
        tokens_sha256: String,
    ) -> Manifest {
        let spec = &self.spec;
        Manifest {
            version: VERSION,
            hooks: spec.hooks.clone(),
            models: spec.models(),
            n_rows: spec.n_rows,
            rows_per_part: spec.rows_per_part,
            n_parts: self.n_parts(),
            dtype: spec.dtype,
            token_digest,
            tokenizer_digest: spec.tokenizer_digest.clone(),
            tokens_sha256,
            streams,
            provenance: spec.provenance.clone(),
        }
    }

    fn streams(&self) -> Result<Vec<Stream>> {
        let mut streams = Vec::new();
        for label in 0..self.spec.labels.len() {
            for hook in 0..self.spec.hooks.len() {
                streams.push(self.stream(label, hook)?);
            }
        }
        Ok(streams)
    }

    /// Digests and statistics of a model at a hook, summed in the order of the parts whoever wrote them.
    fn stream(&self, label: usize, hook: usize) -> Result<Stream> {
        let mut sums = Sums::default();
        let mut parts = Vec::new();
        for part in 0..self.n_parts() {
            let summary = match self.written.get(&(part, label, hook)) {
                Some(summary) => summary.clone(),
                None => self.kept(part, label, hook)?,
            };
            sums.add(&summary.sums);
            parts.push(PartFile {
                bytes: summary.bytes,
                sha256: summary.sha256,
            });
        }
        Ok(Stream {
            label: self.spec.labels[label].clone(),
            hook: self.spec.hooks[hook].clone(),
            mean_norm: sums.mean_norm(),
            total_variance: sums.total_variance(),
            rounding_error: (self.spec.dtype == Dtype::Int8).then(|| sums.rounding_error()),
            parts,
        })
    }

    /// Summary of a part another sitting or another process wrote.
    fn kept(&self, part: usize, label: usize, hook: usize) -> Result<Summary> {
        let path = self.path(part, label, hook);
        let identity = self.identity(part, label, hook);
        if !identity.is_done(&path) {
            return Err(Error::invalid(
                &path,
                "this part is missing or of another run",
            ));
        }
        identity.summarise(&path)
    }

    /// Removes parts an earlier run cut differently: nobody would read them.
    fn remove_strangers(&self) -> Result<()> {
        for label in 0..self.spec.labels.len() {
            for hook in 0..self.spec.hooks.len() {
                let ours: Vec<PathBuf> = (0..self.n_parts())
                    .map(|part| self.path(part, label, hook))
                    .collect();
                let directory = self
                    .directory
                    .join(&self.spec.labels[label])
                    .join(&self.spec.hooks[hook]);
                for entry in fs::read_dir(&directory).map_err(Error::read(&directory))? {
                    let path = entry.map_err(Error::read(&directory))?.path();
                    if is_part(&path) && !ours.contains(&path) {
                        remove(&path)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn identity(&self, part: usize, label: usize, hook: usize) -> Identity<'_> {
        Identity {
            parts: self.parts,
            part,
            label: &self.spec.labels[label],
            hook: &self.spec.hooks[hook],
            width: self.spec.widths[label],
            dtype: self.spec.dtype,
            provenance: &self.spec.provenance,
        }
    }

    fn path(&self, part: usize, label: usize, hook: usize) -> PathBuf {
        let (label, hook) = (&self.spec.labels[label], &self.spec.hooks[hook]);
        self.parts.path(&self.directory, label, hook, part)
    }

    fn position(&self, label: &str, hook: &str) -> Result<(usize, usize)> {
        let find = |names: &[String], name: &str| names.iter().position(|known| known == name);
        let found = find(&self.spec.labels, label).zip(find(&self.spec.hooks, hook));
        found.ok_or_else(|| {
            Error::unwritable(
                &self.directory,
                format!("it was not begun with model {label} and hook {hook}"),
            )
        })
    }
}

impl Spec {
    fn validate(&self, directory: &Path) -> Result<Parts> {
        let fault = |cause: &str| Err(Error::unwritable(directory, cause));
        if self.labels.is_empty() || self.hooks.is_empty() {
            return fault("an activation store needs a model and a hook");
        }
        if self.widths.len() != self.labels.len() || self.paths.len() != self.labels.len() {
            return fault("every model needs its path and its width");
        }
        if !self
            .labels
            .iter()
            .chain(&self.hooks)
            .all(|name| is_name(name))
        {
            return fault("a label or a hook cannot be the name of a directory");
        }
        if has_twins(&self.labels) || has_twins(&self.hooks) {
            return fault("a label or a hook is given twice");
        }
        if self.n_rows == 0 || self.rows_per_part == 0 || self.widths.contains(&0) {
            return fault("there is no row to store");
        }
        Ok(Parts {
            n_rows: self.n_rows,
            rows_per_part: self.rows_per_part,
        })
    }

    fn models(&self) -> Vec<ManifestModel> {
        let each = self.labels.iter().zip(&self.paths).zip(&self.widths);
        each.map(|((label, path), &width)| ManifestModel {
            label: label.clone(),
            path: path.display().to_string(),
            width,
        })
        .collect()
    }

    fn describes(&self, manifest: &Manifest) -> bool {
        let ours = (
            self.n_rows,
            self.rows_per_part,
            self.dtype,
            &self.hooks,
            &self.tokenizer_digest,
        );
        let theirs = (
            manifest.n_rows,
            manifest.rows_per_part,
            manifest.dtype,
            &manifest.hooks,
            &manifest.tokenizer_digest,
        );
        ours == theirs && self.models() == manifest.models && self.provenance == manifest.provenance
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn has_twins(names: &[String]) -> bool {
    names
        .iter()
        .enumerate()
        .any(|(i, name)| names[..i].contains(name))
}

fn is_part(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("part-") && name.contains("-of-") && name.ends_with(".safetensors")
}

fn check_rows(path: &Path, tokens: &[Token], n_rows: usize) -> Result<()> {
    let in_order = tokens
        .iter()
        .enumerate()
        .all(|(row, token)| token.row as usize == row);
    if tokens.len() != n_rows || !in_order {
        let cause = format!(
            "{} tokens for {n_rows} rows, or not in their order",
            tokens.len()
        );
        return Err(Error::unwritable(path, cause));
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::write(path)(error))
        }
        _ => Ok(()),
    }
}
