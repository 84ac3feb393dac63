//! `manifest.json`: what a store holds. Written last, so that its existence says the store is complete.

use crate::activations::Parts;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::provenance::{Provenance, hex};
use crate::tables::Token;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Layout version; a reader refuses any other.
pub(crate) const VERSION: u32 = 1;

/// Content of an activation store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout: 1.
    pub version: u32,
    /// Hooks captured, as `resid_post.12`.
    pub hooks: Vec<String>,
    /// Models, in the order of the user.
    pub models: Vec<ManifestModel>,
    /// Tokens kept: rows of every model and hook.
    pub n_rows: usize,
    /// Rows of every part but the last.
    pub rows_per_part: usize,
    /// Parts per model and hook.
    pub n_parts: usize,
    /// Format of the values.
    pub dtype: Dtype,
    /// [`token_digest`] of the rows.
    pub token_digest: String,
    /// Digest of the tokenizer all models share.
    pub tokenizer_digest: String,
    /// Digest of `tokens.parquet`.
    pub tokens_sha256: String,
    /// One per model and hook, models outermost.
    pub streams: Vec<Stream>,
    /// Where the store came from.
    pub provenance: Provenance,
}

/// One model of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestModel {
    /// Role given by the user.
    pub label: String,
    /// Path as given.
    pub path: String,
    /// Length of a row, `d_model`.
    pub width: usize,
}

/// The activations of one model at one hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Model.
    pub label: String,
    /// Hook.
    pub hook: String,
    /// Mean over rows of ‖x‖₂, in the model's units.
    pub mean_norm: f64,
    /// Σ over coordinates of the variance over rows, in the model's units squared.
    pub total_variance: f64,
    /// Expected squared error of rounding as a share of that variance: `int8` only, absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding_error: Option<f64>,
    /// Files, in the order of the rows.
    pub parts: Vec<PartFile>,
}

/// One file of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFile {
    /// Length of the file.
    pub bytes: u64,
    /// Digest of the file.
    pub sha256: String,
}

impl Manifest {
    /// Reads the manifest of a store; a directory without one is a store that was never finished.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("manifest.json");
        if directory.is_dir() && !path.exists() {
            let cause = "there is no manifest.json: not an activation store, or its capture has not finished";
            return Err(Error::invalid(directory, cause));
        }
        let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
        let manifest: Self = serde_json::from_str(&text)
            .map_err(|error| Error::invalid(&path, error.to_string()))?;
        manifest.validate(&path)?;
        Ok(manifest)
    }

    pub(crate) fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("strings and finite numbers are always JSON");
        text.push('\n');
        text
    }

    pub(crate) fn parts(&self) -> Parts {
        Parts {
            n_rows: self.n_rows,
            rows_per_part: self.rows_per_part,
        }
    }

    /// The stream of a model and a hook, both by number.
    pub(crate) fn stream(&self, label: usize, hook: usize) -> &Stream {
        &self.streams[label * self.hooks.len() + hook]
    }

    fn validate(&self, path: &Path) -> Result<()> {
        let fault = |cause: String| Err(Error::invalid(path, cause));
        if self.version != VERSION {
            return fault(format!(
                "layout version {} where {VERSION} is known",
                self.version
            ));
        }
        if self.n_rows == 0 || self.rows_per_part == 0 || self.n_parts != self.parts().count() {
            return fault("rows and parts do not fit together".into());
        }
        let named = self
            .streams
            .iter()
            .map(|stream| (&stream.label, &stream.hook));
        let wanted = self
            .models
            .iter()
            .flat_map(|model| self.hooks.iter().map(|hook| (&model.label, hook)));
        let whole = self
            .streams
            .iter()
            .all(|stream| stream.parts.len() == self.n_parts);
        if !whole || !named.eq(wanted) {
            return fault("models, hooks and parts do not fit together".into());
        }
        Ok(())
    }
}

/// Name of exactly these tokens in exactly this order: SHA-256 over `doc_index, pos, token_id` of every row, each as four
/// little-endian bytes.
pub fn token_digest(tokens: &[Token]) -> String {
    let mut hash = Sha256::new();
    for token in tokens {
        for number in [token.doc_index, token.pos, token.token_id] {
            hash.update(number.to_le_bytes());
        }
    }
    hex(&hash.finalize())
}
