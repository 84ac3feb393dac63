//! Reading a store: any rows of any model at any hook, straight from the mapped files.

use super::TENSOR;
use super::cache::{Cache, Links};
use super::manifest::{Manifest, token_digest};
use super::part::Identity;
use crate::dtype::{Dtype, first_not_finite};
use crate::error::{Error, Result};
use crate::provenance::Provenance;
use crate::table::read_table;
use crate::tables::Token;
use crate::tensor_file::TensorFile;
use memmap2::Mmap;
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
    /// Blocks one after another, by label and hook.
    streams: Vec<Vec<Block>>,
    token_digest: String,
    tokenizer_digest: String,
    provenance: Option<Provenance>,
    manifest: Option<Manifest>,
}

/// Rows of one model in one file.
#[derive(Debug)]
struct Block {
    source: Source,
    /// Number its first row has in the store.
    first: usize,
    dtype: Dtype,
    /// Values per row of this model.
    width: usize,
    /// Values from one row to the next: more than `width` when a row holds several models.
    stride: usize,
    /// Values before this model's first.
    offset: usize,
}

/// Where the numbers of a block are.
#[derive(Debug)]
enum Source {
    /// A tensor of a file.
    Tensor(Arc<TensorFile>, String),
    /// A whole file, and its path.
    Raw(Mmap, PathBuf),
}

impl ActivationStore {
    /// Opens a store directory, every part of it, or a safetensors file with one tensor `[rows, n_models, d_model]`
    /// (or `[rows, d_model]`), whose metadata may name `labels` (comma list) and `hook`. `-` is such a file on stdin.
    ///
    /// An activation cache of `crosscoder_learning` serves too: a directory of [`Links`] to the folders of several models,
    /// or one such folder.
    pub fn open(path: &Path) -> Result<Self> {
        if Links::are(path) {
            Self::open_links(path)
        } else if Cache::is(path) {
            Self::open_cache(path)
        } else if path.is_dir() {
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
            source: Source::Tensor(Arc::clone(&file), tensor.clone()),
            first: 0,
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
            token_digest: about("token_digest").unwrap_or_default(),
            tokenizer_digest: about("tokenizer_digest").unwrap_or_default(),
            provenance: file.provenance().cloned(),
            manifest: None,
        })
    }

    fn open_links(path: &Path) -> Result<Self> {
        let links = Links::read(path)?;
        let mut streams = Vec::new();
        for link in &links.models {
            let folder = Path::new(&link.cache);
            let cache = Cache::open(folder)?;
            if cache.width != link.width || cache.n_rows < links.n_rows {
                let cause = format!(
                    "it has {} rows of {}, {} was made of {} rows of {}",
                    cache.n_rows,
                    cache.width,
                    path.display(),
                    links.n_rows,
                    link.width
                );
                return Err(Error::invalid(folder, cause));
            }
            streams.push(blocks(cache));
        }
        Ok(Self {
            path: path.to_owned(),
            labels: links.models.iter().map(|link| link.label.clone()).collect(),
            hooks: vec![links.hook],
            widths: links.models.iter().map(|link| link.width).collect(),
            n_rows: links.n_rows,
            streams,
            token_digest: links.token_digest,
            tokenizer_digest: links.tokenizer_digest,
            provenance: Some(links.provenance),
            manifest: None,
        })
    }

    fn open_cache(path: &Path) -> Result<Self> {
        let cache = Cache::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            labels: bare_labels(path, None, 1)?,
            hooks: vec!["unknown".into()],
            widths: vec![cache.width],
            n_rows: cache.n_rows,
            streams: vec![blocks(cache)],
            token_digest: String::new(),
            tokenizer_digest: String::new(),
            provenance: None,
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

    /// Whether the store says what each row is. A bare file does not, nor a cache that kept no tokens.
    pub fn has_tokens(&self) -> bool {
        self.manifest.is_some() || (Links::are(&self.path) && !self.token_digest.is_empty())
    }

    /// What each row is.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        if !self.has_tokens() {
            return Err(Error::invalid(&self.path, "it has no tokens"));
        }
        let path = self.path.join("tokens.parquet");
        let tokens: Vec<Token> = read_table(std::slice::from_ref(&path))?;
        if token_digest(&tokens) != self.token_digest {
            return Err(Error::invalid(
                &path,
                "these are not the tokens its activations were made of",
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
        out.clear();
        self.append(label_index, hook, rows, out)
    }

    /// [`ActivationStore::read`] behind what `out` holds.
    pub fn append(
        &self,
        label_index: usize,
        hook: &str,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let blocks = self.stream(label_index, hook)?;
        self.check_range(rows.end)?;
        out.reserve(rows.len() * self.widths[label_index]);
        let mut row = rows.start;
        while row < rows.end {
            let number = block_of(blocks, row);
            let next = blocks
                .get(number + 1)
                .map_or(self.n_rows, |next| next.first);
            let end = rows.end.min(next);
            blocks[number].read(row..end, out)?;
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
            let row = row as usize;
            blocks[block_of(blocks, row)].read(row..row + 1, out)?;
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
    /// Appends rows of this block, numbered as in the store.
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let (bytes, path) = match &self.source {
            Source::Tensor(file, tensor) => (file.stored(tensor)?.2, file.path()),
            Source::Raw(map, path) => (&map[..], path.as_path()),
        };
        let (size, start) = (self.dtype.size(), out.len());
        let rows = rows.start - self.first..rows.end - self.first;
        if self.stride == self.width {
            let length = self.dtype.row_bytes(self.width);
            let span = rows.start * length..rows.end * length;
            self.dtype.decode_rows(&bytes[span], self.width, out);
        } else {
            for row in rows.clone() {
                let from = (row * self.stride + self.offset) * size;
                self.dtype
                    .decode(&bytes[from..from + self.width * size], out);
            }
        }
        first_not_finite(&out[start..]).map_or(Ok(()), |bad| {
            Err(Error::NotFinite {
                path: path.to_owned(),
                row: self.first + rows.start + bad / self.width,
            })
        })
    }
}

/// The block a row lies in.
fn block_of(blocks: &[Block], row: usize) -> usize {
    blocks.partition_point(|block| block.first <= row) - 1
}

/// The shards of a cache.
fn blocks(cache: Cache) -> Vec<Block> {
    let width = cache.width;
    let mut first = 0;
    let shards = cache.shards.into_iter().map(|shard| {
        let block = Block {
            source: Source::Raw(shard.map, shard.path),
            first,
            dtype: shard.dtype,
            width,
            stride: width,
            offset: 0,
        };
        first += shard.n_rows;
        block
    });
    shards.collect()
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
            source: Source::Tensor(Arc::new(file), TENSOR.into()),
            first: part * manifest.rows_per_part,
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
