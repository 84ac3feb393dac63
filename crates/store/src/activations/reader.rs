//! Reading a store: any rows of any model at any hook, straight from the mapped files.

use super::TENSOR;
use super::manifest::{Manifest, token_digest};
use super::part::Identity;
use crate::dtype::{Dtype, first_not_finite};
use crate::error::{Error, Result};
use crate::provenance::Provenance;
use crate::table::read_table;
use crate::tables::Token;
use crate::tensor_file::TensorFile;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A complete activation store, or a bare safetensors file that serves as one.
#[derive(Debug)]
pub struct ActivationStore {
    path: PathBuf,
    labels: Vec<String>,
    hooks: Vec<String>,
    widths: Vec<usize>,
    n_rows: usize,
    /// Blocks of one length after another, by label and hook.
    streams: Vec<Vec<Block>>,
    rows_per_block: usize,
    token_digest: String,
    tokenizer_digest: String,
    provenance: Option<Provenance>,
    manifest: Option<Manifest>,
}

/// Rows of one model in one file.
#[derive(Debug)]
struct Block {
    file: Arc<TensorFile>,
    tensor: String,
    dtype: Dtype,
    /// Values per row of this model.
    width: usize,
    /// Values from one row to the next: more than `width` when a row holds several models.
    stride: usize,
    /// Values before this model's first.
    offset: usize,
}

impl ActivationStore {
    /// Opens a store directory, every part of it, or a safetensors file with one tensor `[rows, n_models, d_model]`
    /// (or `[rows, d_model]`), whose metadata may name `labels` (comma list) and `hook`. `-` is such a file on stdin.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            Self::open_directory(path)
        } else {
            Self::open_bare(path)
        }
    }

    fn open_directory(path: &Path) -> Result<Self> {
        let manifest = Manifest::read(path)?;
        let mut streams = Vec::new();
        for label in 0..manifest.models.len() {
            for hook in 0..manifest.hooks.len() {
                streams.push(open_stream(path, &manifest, label, hook)?);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            labels: manifest
                .models
                .iter()
                .map(|model| model.label.clone())
                .collect(),
            hooks: manifest.hooks.clone(),
            widths: manifest.models.iter().map(|model| model.width).collect(),
            n_rows: manifest.n_rows,
            streams,
            rows_per_block: manifest.rows_per_part,
            token_digest: manifest.token_digest.clone(),
            tokenizer_digest: manifest.tokenizer_digest.clone(),
            provenance: Some(manifest.provenance.clone()),
            manifest: Some(manifest),
        })
    }

    fn open_bare(path: &Path) -> Result<Self> {
        let file = Arc::new(TensorFile::open(path)?);
        let (tensor, n_rows, n_models, width) = bare_shape(&file)?;
        let (dtype, _, _) = file.raw(&tensor)?;
        let block = |model: usize| Block {
            file: Arc::clone(&file),
            tensor: tensor.clone(),
            dtype,
            width,
            stride: n_models * width,
            offset: model * width,
        };
        let about = |key: &str| file.metadata().get(key).cloned();
        Ok(Self {
            path: path.to_owned(),
            labels: bare_labels(path, about("labels"), n_models)?,
            hooks: vec![about("hook").unwrap_or_else(|| "unknown".into())],
            widths: vec![width; n_models],
            n_rows,
            streams: (0..n_models).map(|model| vec![block(model)]).collect(),
            rows_per_block: n_rows,
            token_digest: about("token_digest").unwrap_or_default(),
            tokenizer_digest: about("tokenizer_digest").unwrap_or_default(),
            provenance: file.provenance().cloned(),
            manifest: None,
        })
    }

    /// The store, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Models, in the order they were captured; `model-0`, `model-1`, … in a bare file that does not name them.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Hooks, as `resid_post.12`; `unknown` in a bare file that does not name it.
    pub fn hooks(&self) -> &[String] {
        &self.hooks
    }

    /// Tokens: rows of every model and hook.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Length of a row of a model, `d_model`.
    pub fn width(&self, label_index: usize) -> usize {
        self.widths[label_index]
    }

    /// What each row is. A bare file does not know.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        if self.manifest.is_none() {
            return Err(Error::invalid(
                &self.path,
                "a bare safetensors file has no tokens",
            ));
        }
        let path = self.path.join("tokens.parquet");
        let tokens: Vec<Token> = read_table(std::slice::from_ref(&path))?;
        if token_digest(&tokens) != self.token_digest {
            return Err(Error::invalid(
                &path,
                "these are not the tokens of its manifest.json",
            ));
        }
        Ok(tokens)
    }

    /// Name of exactly these tokens ([`token_digest`]); empty when unknown.
    pub fn token_digest(&self) -> &str {
        &self.token_digest
    }

    /// Digest of the tokenizer all models share; empty when unknown.
    pub fn tokenizer_digest(&self) -> &str {
        &self.tokenizer_digest
    }

    /// Where the store came from; none when it is foreign.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.provenance.as_ref()
    }

    /// Everything the store says about itself; none for a bare file.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Replaces `out` by consecutive rows of a model at a hook, row-major `[rows, d_model]`.
    ///
    /// A NaN or an infinity among them is an error that names the file and the row.
    pub fn read(
        &self,
        label_index: usize,
        hook: &str,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let blocks = self.stream(label_index, hook)?;
        self.check_range(rows.end)?;
        out.clear();
        out.reserve(rows.len() * self.widths[label_index]);
        let mut row = rows.start;
        while row < rows.end {
            let number = row / self.rows_per_block;
            let first = number * self.rows_per_block;
            let end = rows.end.min(first + self.rows_per_block);
            blocks[number].read(row - first..end - first, first, out)?;
            row = end;
        }
        Ok(())
    }

    /// Replaces `out` by chosen rows, in the order asked for.
    pub fn read_rows(
        &self,
        label_index: usize,
        hook: &str,
        rows: &[u32],
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let blocks = self.stream(label_index, hook)?;
        self.check_range(rows.iter().max().map_or(0, |&row| row as usize + 1))?;
        out.clear();
        out.reserve(rows.len() * self.widths[label_index]);
        for &row in rows {
            let (number, row) = (
                row as usize / self.rows_per_block,
                row as usize % self.rows_per_block,
            );
            blocks[number].read(row..row + 1, number * self.rows_per_block, out)?;
        }
        Ok(())
    }

    fn stream(&self, label_index: usize, hook: &str) -> Result<&[Block]> {
        let number = self
            .hooks
            .iter()
            .position(|known| known == hook)
            .ok_or_else(|| {
                let cause = format!(
                    "there is no hook {hook}: it holds {}",
                    self.hooks.join(", ")
                );
                Error::invalid(&self.path, cause)
            })?;
        Ok(&self.streams[label_index * self.hooks.len() + number])
    }

    fn check_range(&self, end: usize) -> Result<()> {
        if end > self.n_rows {
            return Err(Error::invalid(
                &self.path,
                format!("row {} of {} was asked for", end - 1, self.n_rows),
            ));
        }
        Ok(())
    }
}

impl Block {
    /// Appends rows of this block; `first` is the number its first row has in the store.
    fn read(&self, rows: Range<usize>, first: usize, out: &mut Vec<f32>) -> Result<()> {
        let (_, _, bytes) = self.file.raw(&self.tensor)?;
        let size = self.dtype.size();
        let start = out.len();
        if self.stride == self.width {
            let span = rows.start * self.width * size..rows.end * self.width * size;
            self.dtype.decode(&bytes[span], out);
        } else {
            for row in rows.clone() {
                let from = (row * self.stride + self.offset) * size;
                self.dtype
                    .decode(&bytes[from..from + self.width * size], out);
            }
        }
        first_not_finite(&out[start..]).map_or(Ok(()), |bad| {
            Err(Error::NotFinite {
                path: self.file.path().to_owned(),
                row: first + rows.start + bad / self.width,
            })
        })
    }
}

fn open_stream(path: &Path, manifest: &Manifest, label: usize, hook: usize) -> Result<Vec<Block>> {
    let (model, hook) = (&manifest.models[label], &manifest.hooks[hook]);
    let open = |part: usize| {
        let identity = Identity {
            parts: manifest.parts(),
            part,
            label: &model.label,
            hook,
            width: model.width,
            dtype: manifest.dtype,
            provenance: &manifest.provenance,
        };
        let file = identity.open(&manifest.parts().path(path, &model.label, hook, part))?;
        Ok(Block {
            file: Arc::new(file),
            tensor: TENSOR.into(),
            dtype: manifest.dtype,
            width: model.width,
            stride: model.width,
            offset: 0,
        })
    };
    (0..manifest.n_parts).map(open).collect()
}

/// Name, rows, models and width of the only tensor of a bare file.
fn bare_shape(file: &TensorFile) -> Result<(String, usize, usize, usize)> {
    let names = file.names();
    let [name] = names.as_slice() else {
        let cause = format!("it holds {} tensors where activations are one", names.len());
        return Err(Error::invalid(file.path(), cause));
    };
    let shape = file.shape(name)?;
    let found = match *shape {
        [n_rows, n_models, width] => (n_rows, n_models, width),
        [n_rows, width] => (n_rows, 1, width),
        _ => (0, 0, 0),
    };
    let (n_rows, n_models, width) = found;
    if n_rows == 0 || n_models == 0 || width == 0 {
        let cause = format!("tensor `{name}` of shape {shape:?} is not [rows, n_models, d_model]");
        return Err(Error::invalid(file.path(), cause));
    }
    Ok((name.clone(), n_rows, n_models, width))
}

fn bare_labels(path: &Path, named: Option<String>, n_models: usize) -> Result<Vec<String>> {
    let Some(named) = named else {
        return Ok((0..n_models)
            .map(|model| format!("model-{model}"))
            .collect());
    };
    let labels: Vec<String> = named.split(',').map(str::to_owned).collect();
    if labels.len() != n_models {
        let cause = format!(
            "its metadata names {} models, its tensor holds {n_models}",
            labels.len()
        );
        return Err(Error::invalid(path, cause));
    }
    Ok(labels)
}
