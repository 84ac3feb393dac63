//! The activation cache of `crosscoder_learning` read where it lies, without a copy.
//!
//! One folder per model and submodule: `config.json`, and shards `shard_<i>.memmap` (numbers alone, row-major `[rows,
//! d_model]`) with `shard_<i>.meta` (`shape`, `dtype`) beside each. A store over the folders of several models is a
//! directory with [`Links`] and, where the cache kept its tokens, a `tokens.parquet`.

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::provenance::Provenance;
use crate::tables::Token;
use crate::tensor_file::map;
use crate::{open_input, read_text, token_digest, write_atomic, write_table};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the file that makes a directory a store over caches.
const LINKS: &str = "links.json";
/// Layout version; a reader refuses any other.
const VERSION: u32 = 1;

/// What `config.json` of a cache folder says.
#[derive(Debug, Deserialize)]
struct Config {
    d_model: usize,
    total_size: usize,
    shard_count: usize,
    #[serde(default)]
    shuffle_shards: bool,
}

/// What the `.meta` of a shard says; the oldest have no format and are f32.
#[derive(Debug, Deserialize)]
struct Meta {
    shape: [usize; 2],
    #[serde(default)]
    dtype: Option<String>,
}

/// Activations of one model at one submodule.
#[derive(Debug)]
pub struct Cache {
    /// Length of a row, `d_model`.
    pub width: usize,
    /// Rows of all shards.
    pub n_rows: usize,
    /// Whether the rows of each shard were shuffled when it was written, independently of every other cache.
    pub shuffled: bool,
    pub(crate) shards: Vec<Shard>,
}

/// One file of rows.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) path: PathBuf,
    pub(crate) map: Mmap,
    pub(crate) dtype: Dtype,
    pub(crate) n_rows: usize,
}

impl Cache {
    /// Whether a directory is a cache folder.
    pub(crate) fn is(directory: &Path) -> bool {
        directory.join("config.json").is_file() && directory.join("shard_0.memmap").is_file()
    }

    /// Opens a folder: every shard is as long as its `.meta` says, and together they are what `config.json` says.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let config: Config = json(&path)?;
        let shards = (0..config.shard_count)
            .map(|number| Shard::open(directory, number, config.d_model))
            .collect::<Result<Vec<_>>>()?;
        let n_rows: usize = shards.iter().map(|shard| shard.n_rows).sum();
        if n_rows != config.total_size || n_rows == 0 || config.d_model == 0 {
            let cause = format!(
                "it promises {} rows, the shards hold {n_rows}",
                config.total_size
            );
            return Err(Error::invalid(&path, cause));
        }
        Ok(Self {
            width: config.d_model,
            n_rows,
            shuffled: config.shuffle_shards,
            shards,
        })
    }
}

impl Shard {
    fn open(directory: &Path, number: usize, width: usize) -> Result<Self> {
        let path = directory.join(format!("shard_{number}.memmap"));
        let meta_path = path.with_extension("meta");
        let meta: Meta = json(&meta_path)?;
        let [n_rows, found] = meta.shape;
        if found != width || n_rows == 0 {
            let cause = format!("shape {:?} in a cache of width {width}", meta.shape);
            return Err(Error::invalid(&meta_path, cause));
        }
        let dtype = match meta.dtype.as_deref() {
            None | Some("torch.float32" | "<f4") => Dtype::F32,
            Some("torch.float16" | "<f2") => Dtype::F16,
            Some("torch.bfloat16") => Dtype::Bf16,
            Some(other) => {
                let cause =
                    format!("numbers of type {other}; float32, float16 and bfloat16 are known");
                return Err(Error::invalid(&meta_path, cause));
            }
        };
        let map = map(&path, &open_input(&path)?)?;
        let wanted = n_rows.checked_mul(width * dtype.size());
        if Some(map.len()) != wanted {
            let cause = format!(
                "truncated: {} bytes for {n_rows} rows of {width}",
                map.len()
            );
            return Err(Error::invalid(&path, cause));
        }
        Ok(Self {
            path,
            map,
            dtype,
            n_rows,
        })
    }
}

fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    serde_json::from_str(&read_text(path)?).map_err(|error| Error::invalid(path, error.to_string()))
}

/// Which folders make up a store, and what is known of their rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Links {
    /// Version of this layout: 1.
    pub version: u32,
    /// Hook all folders are of.
    pub hook: String,
    /// One per model, in the order of the user.
    pub models: Vec<Link>,
    /// Rows read of every folder: all those of the shortest.
    pub n_rows: usize,
    /// [`token_digest`] of the rows; empty when the caches keep no tokens.
    pub token_digest: String,
    /// Digest of the tokenizer; empty when unknown.
    pub tokenizer_digest: String,
    /// Where the store came from.
    pub provenance: Provenance,
}

/// The folder of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Role given by the user.
    pub label: String,
    /// Length of a row, `d_model`.
    pub width: usize,
    /// Folder as given: looked for from where a program runs.
    pub cache: String,
}

impl Links {
    /// Links without rows' tokens; [`Links::write`] adds their digest.
    pub fn new(hook: &str, models: Vec<Link>, n_rows: usize, provenance: Provenance) -> Self {
        Self {
            version: VERSION,
            hook: hook.into(),
            models,
            n_rows,
            token_digest: String::new(),
            tokenizer_digest: String::new(),
            provenance,
        }
    }

    /// Whether a directory is a store over caches.
    pub(crate) fn are(directory: &Path) -> bool {
        directory.join(LINKS).is_file()
    }

    /// Reads the links of a directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(LINKS);
        let links: Self = json(&path)?;
        if links.version != VERSION {
            let cause = format!("layout version {} where {VERSION} is known", links.version);
            return Err(Error::invalid(&path, cause));
        }
        if links.models.is_empty() || links.n_rows == 0 {
            return Err(Error::invalid(&path, "it names no models or no rows"));
        }
        Ok(links)
    }

    /// Writes `tokens.parquet`, if there are tokens, and then the links.
    pub fn write(mut self, directory: &Path, tokens: Option<&[Token]>) -> Result<()> {
        std::fs::create_dir_all(directory).map_err(Error::write(directory))?;
        if let Some(tokens) = tokens {
            self.token_digest = token_digest(tokens);
            write_table(&directory.join("tokens.parquet"), tokens, &self.provenance)?;
        }
        let mut text =
            serde_json::to_string_pretty(&self).expect("strings and numbers are always JSON");
        text.push('\n');
        write_atomic(&directory.join(LINKS), |file| {
            file.write_all(text.as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ActivationStore;
    use std::fs;

    /// Three rows of width two in shards of two rows and one, the second in bf16.
    fn folder(directory: &Path, name: &str) -> PathBuf {
        let folder = directory.join(name);
        fs::create_dir(&folder).unwrap();
        let first: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        fs::write(folder.join("shard_0.memmap"), first).unwrap();
        fs::write(folder.join("shard_0.meta"), r#"{"shape": [2, 2]}"#).unwrap();
        let second: Vec<u8> = [5f32, -6.0]
            .iter()
            .flat_map(|value| value.to_le_bytes()[2..].to_vec())
            .collect();
        fs::write(folder.join("shard_1.memmap"), second).unwrap();
        fs::write(
            folder.join("shard_1.meta"),
            r#"{"shape": [1, 2], "dtype": "torch.bfloat16"}"#,
        )
        .unwrap();
        let config =
            r#"{"d_model": 2, "total_size": 3, "shard_count": 2, "shuffle_shards": false}"#;
        fs::write(folder.join("config.json"), config).unwrap();
        folder
    }

    #[test]
    fn rows_are_read_across_shards() {
        let directory = tempfile::tempdir().unwrap();
        let store = ActivationStore::open(&folder(directory.path(), "layer")).unwrap();
        assert_eq!(
            (store.n_rows(), store.width(0), store.labels()),
            (3, 2, &["model-0".to_owned()][..])
        );
        let mut rows = Vec::new();
        store.read(0, "unknown", 1..3, &mut rows).unwrap();
        assert_eq!(rows, [3.0, 4.0, 5.0, -6.0]);
        store.read_rows(0, "unknown", &[2, 0], &mut rows).unwrap();
        assert_eq!(rows, [5.0, -6.0, 1.0, 2.0]);
    }

    #[test]
    fn several_folders_are_one_store() {
        let directory = tempfile::tempdir().unwrap();
        let link = |label: &str| Link {
            label: label.into(),
            width: 2,
            cache: folder(directory.path(), label).display().to_string(),
        };
        let provenance = Provenance::new("test", &()).unwrap();
        let links = Links::new(
            "resid_post.1",
            vec![link("base"), link("rl")],
            2,
            provenance,
        );
        let acts = directory.path().join("acts");
        links.write(&acts, None).unwrap();
        let store = ActivationStore::open(&acts).unwrap();
        assert_eq!(store.labels(), ["base", "rl"]);
        assert_eq!(store.hooks(), ["resid_post.1"]);
        assert_eq!(store.n_rows(), 2);
        assert!(!store.has_tokens() && store.tokens().is_err());
        let mut rows = Vec::new();
        store.read(1, "resid_post.1", 0..2, &mut rows).unwrap();
        assert_eq!(rows, [1.0, 2.0, 3.0, 4.0]);
        assert!(store.read(1, "resid_post.1", 0..3, &mut rows).is_err());
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let folder = folder(directory.path(), "layer");
        let refused = |wanted: &str| {
            let message = ActivationStore::open(&folder).unwrap_err().to_string();
            assert!(
                message.contains(wanted) && message.lines().count() == 1,
                "{message}"
            );
        };
        fs::write(folder.join("shard_1.memmap"), [0; 3]).unwrap();
        refused("shard_1.memmap: truncated: 3 bytes for 1 rows of 2");
        fs::write(
            folder.join("shard_1.meta"),
            r#"{"shape": [1, 2], "dtype": "torch.int8"}"#,
        )
        .unwrap();
        refused("shard_1.meta: numbers of type torch.int8");
        fs::write(folder.join("shard_1.meta"), r#"{"shape": [1, 3]}"#).unwrap();
        refused("shard_1.meta: shape [1, 3] in a cache of width 2");
        fs::write(
            folder.join("config.json"),
            r#"{"d_model": 2, "total_size": 9, "shard_count": 1}"#,
        )
        .unwrap();
        refused("config.json: it promises 9 rows, the shards hold 2");
    }
}
