//! Activations computed when they are asked for: no store, nothing on disk.
//!
//! A document runs through the models whole and by itself, whatever is asked for beside it, so a row has the same
//! activations in any order of reading.

use anyhow::{Context, bail, ensure};
use cli::Labelled;
use model::{Batch, Config, DType, Device, Hook, Model, Recorder, Tokenizer};
use serde::Deserialize;
use std::path::PathBuf;
use store::tables::Token;

/// Hook when none is named: the middle of the residual stream.
const HOOK: &str = "resid_post.0.5";

/// What the models read, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// JSON lines with `text`.
    pub texts: &'a [PathBuf],
    /// JSON lines with `input_ids`.
    pub token_ids: &'a [PathBuf],
    /// Tokens of each document at most; `None`: what the models can.
    pub max_tokens: Option<usize>,
}

/// Models with the documents they read.
pub struct Live {
    /// Label of each model.
    pub labels: Vec<String>,
    /// Width of each at the hook.
    pub widths: Vec<usize>,
    /// The hook.
    pub hook: String,
    /// Digest of the tokenizer they share.
    pub tokenizer_digest: String,
    at: Hook,
    models: Vec<Model>,
    tokenizer: Tokenizer,
    documents: Vec<Document>,
    /// First row of each document, then the number of rows.
    starts: Vec<usize>,
}

/// One sequence of tokens.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its `id`, or its number.
    pub id: String,
    /// Tokens, BOS included where there is one.
    pub token_ids: Vec<u32>,
}

/// A line of `--texts` or `--token-ids`.
#[derive(Deserialize)]
struct Line {
    id: Option<serde_json::Value>,
    text: Option<String>,
    input_ids: Option<Vec<u32>>,
}

impl Live {
    /// Loads the models; all must read text as the same tokens and have the hook in the same block.
    pub fn open(
        models: &[Labelled],
        hook: Option<&str>,
        reading: Reading<'_>,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let first = models.first().context("there is no model")?;
        let tokenizer = Tokenizer::load(&first.path)?;
        let mut live = Self {
            labels: models.iter().map(|model| model.label.clone()).collect(),
            widths: Vec::new(),
            hook: String::new(),
            tokenizer_digest: tokenizer.digest().to_owned(),
            at: Hook::parse(hook.unwrap_or(HOOK), Config::load(&first.path)?.n_layers)?,
            models: Vec::new(),
            documents: Vec::new(),
            starts: Vec::new(),
            tokenizer,
        };
        live.hook = live.at.to_string();
        for model in models {
            live.add(model, &first.path, hook, device)?;
        }
        let longest = live
            .models
            .iter()
            .map(|model| model.config.max_positions)
            .min()
            .unwrap_or(usize::MAX);
        let most = reading.max_tokens.unwrap_or(longest).min(longest);
        live.documents = documents(&live.tokenizer, reading, most)?;
        live.starts = vec![0];
        for document in &live.documents {
            live.starts.push(live.n_rows() + document.token_ids.len());
        }
        live.measure()?;
        Ok(live)
    }

    fn add(
        &mut self,
        model: &Labelled,
        first: &std::path::Path,
        hook: Option<&str>,
        device: &Device,
    ) -> anyhow::Result<()> {
        let config = Config::load(&model.path)?;
        let at = Hook::parse(hook.unwrap_or(HOOK), config.n_layers)?;
        ensure!(
            at == self.at,
            "cannot read {} with {}: the hook is {} in one and {at} in the other",
            first.display(),
            model.path.display(),
            self.at
        );
        ensure!(
            Tokenizer::load(&model.path)?.digest() == self.tokenizer_digest,
            "cannot read {} with {}: their tokenizers differ",
            first.display(),
            model.path.display()
        );
        self.models
            .push(Model::load(&model.path, device, DType::F32)?);
        Ok(())
    }

    /// Takes the widths from what the first document gives.
    fn measure(&mut self) -> anyhow::Result<()> {
        let Some(document) = self.documents.first() else {
            bail!("there is no document to read");
        };
        let one = Document {
            token_ids: document.token_ids[..1].to_vec(),
            ..document.clone()
        };
        for model in 0..self.models.len() {
            let width = self.activations(model, &one)?.len();
            self.widths.push(width);
        }
        Ok(())
    }

    /// Tokens of all documents.
    pub fn n_rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// What each row is.
    pub fn tokens(&self) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(self.n_rows());
        for (number, document) in self.documents.iter().enumerate() {
            for (position, &token_id) in document.token_ids.iter().enumerate() {
                tokens.push(Token {
                    row: tokens.len() as u32,
                    doc_id: document.id.clone(),
                    doc_index: number as u32,
                    pos: position as u32,
                    token_id,
                    role: "text".into(),
                    phase: "text".into(),
                    special: self.tokenizer.is_special(token_id),
                });
            }
        }
        tokens
    }

    /// Where blocks of whole documents begin among ascending `rows`, each of at least `size` rows but the last.
    pub fn block_starts(&self, rows: &[u32], size: usize) -> Vec<usize> {
        let mut starts = Vec::new();
        let mut last = None;
        for (place, &row) in rows.iter().enumerate() {
            let document = self.document_of(row);
            let far = starts.last().is_none_or(|&start| place - start >= size);
            if far && last != Some(document) {
                starts.push(place);
            }
            last = Some(document);
        }
        starts
    }

    fn document_of(&self, row: u32) -> usize {
        self.starts.partition_point(|&start| start <= row as usize) - 1
    }

    /// Appends ascending rows of every model.
    pub fn append(&self, rows: &[u32], x: &mut [Vec<f32>]) -> anyhow::Result<()> {
        let mut place = 0;
        while place < rows.len() {
            let number = self.document_of(rows[place]);
            let range = self.starts[number]..self.starts[number + 1];
            let end = place + rows[place..].partition_point(|&row| (row as usize) < range.end);
            for (model, x) in x.iter_mut().enumerate() {
                let values = self.activations(model, &self.documents[number])?;
                let width = values.len() / range.len();
                for &row in &rows[place..end] {
                    x.extend_from_slice(&values[(row as usize - range.start) * width..][..width]);
                }
            }
            place = end;
        }
        Ok(())
    }

    /// A document's activations under one model `[seq, d_model]`.
    fn activations(&self, model: usize, document: &Document) -> anyhow::Result<Vec<f32>> {
        let batch = Batch::right_padded(
            std::slice::from_ref(&document.token_ids),
            self.tokenizer.pad_id(),
        );
        let mut recorder = Recorder::new([self.at]);
        self.models[model].forward_until(&batch, self.at, &mut recorder)?;
        let found = recorder
            .activations
            .get(&self.at)
            .context("the hook was not met")?;
        Ok(found
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?)
    }
}

/// Documents of JSON lines, cut to `most` tokens; empty ones are left out.
pub fn documents(
    tokenizer: &Tokenizer,
    reading: Reading<'_>,
    most: usize,
) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    for path in store::expand(&[reading.texts, reading.token_ids].concat(), "jsonl")? {
        let text = store::read_text(&path)?;
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let place = || format!("cannot read {}: line {}", path.display(), number + 1);
            let line: Line = serde_json::from_str(line).with_context(place)?;
            let mut token_ids = match (line.text, line.input_ids) {
                (Some(text), _) => tokenizer.text_ids(&text)?,
                (None, Some(token_ids)) => token_ids,
                (None, None) => bail!("{}: there is neither `text` nor `input_ids`", place()),
            };
            token_ids.truncate(most);
            let id = match line.id {
                Some(serde_json::Value::String(id)) => id,
                Some(id) => id.to_string(),
                None => documents.len().to_string(),
            };
            if !token_ids.is_empty() {
                documents.push(Document { id, token_ids });
            }
        }
    }
    Ok(documents)
}
