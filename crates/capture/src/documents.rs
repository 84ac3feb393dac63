//! What is read: texts, answers or token ids, all as documents of token ids.

use crate::filter::Filter;
use anyhow::{Context, ensure};
use model::{Message, Tokenizer};
use rayon::prelude::*;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use store::tables::Sample;

/// One sequence of tokens that every model reads from its first position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// `task/doc_id/sample` for an answer, the text's own id otherwise.
    pub id: String,
    /// Who wrote it: the model label of an answer, `text` otherwise.
    pub role: String,
    /// Token ids, BOS included where there is one.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt; none for a text.
    pub prompt: Option<usize>,
}

impl Document {
    /// `prompt`, `completion` or `text`.
    pub fn phase(&self, position: usize) -> &'static str {
        match self.prompt {
            None => "text",
            Some(prompt) if position < prompt => "prompt",
            Some(_) => "completion",
        }
    }
}

/// A tokenizer with what it takes to give a prompt back the tokens it had.
pub struct Reader<'a> {
    /// Shared by all models.
    pub tokenizer: &'a Tokenizer,
    /// Whether prompts were written by a chat template, and so carry their own special tokens.
    pub templated: bool,
}

impl<'a> Reader<'a> {
    /// Asks the tokenizer whether it has a chat template.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let probe = Message {
            role: "user".into(),
            content: "?".into(),
        };
        Self {
            tokenizer,
            templated: tokenizer.chat(&[probe], true).is_ok(),
        }
    }

    fn prompt_ids(&self, prompt: &str) -> model::Result<Vec<u32>> {
        if self.templated {
            self.tokenizer.encode(prompt, false)
        } else {
            self.tokenizer.text_ids(prompt)
        }
    }
}

/// A line of `--texts`.
#[derive(Deserialize)]
struct TextLine {
    id: Option<serde_json::Value>,
    text: String,
}

/// A line of `--token-ids`.
#[derive(Deserialize)]
struct IdsLine {
    id: Option<serde_json::Value>,
    input_ids: Vec<u32>,
}

/// Documents of JSON lines with `text` and, where they have one, `id`.
pub fn texts(paths: &[PathBuf], reader: &Reader) -> anyhow::Result<Vec<Document>> {
    let lines = json_lines::<TextLine>(paths)?;
    let document = |(number, line): (usize, TextLine)| {
        Ok(Document {
            id: name(line.id, number),
            role: "text".into(),
            token_ids: reader.tokenizer.text_ids(&line.text)?,
            prompt: None,
        })
    };
    lines.into_par_iter().enumerate().map(document).collect()
}

/// Documents of JSON lines with `input_ids`, taken as they are.
pub fn token_ids(paths: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let document = |(number, line): (usize, IdsLine)| Document {
        id: name(line.id, number),
        role: "text".into(),
        token_ids: line.input_ids,
        prompt: None,
    };
    let lines = json_lines::<IdsLine>(paths)?;
    Ok(lines.into_iter().enumerate().map(document).collect())
}

/// The id of a line, or its number among all lines read.
fn name(id: Option<serde_json::Value>, number: usize) -> String {
    match id {
        None | Some(serde_json::Value::Null) => number.to_string(),
        Some(serde_json::Value::String(id)) => id,
        Some(other) => other.to_string(),
    }
}

fn json_lines<T: for<'a> Deserialize<'a>>(paths: &[PathBuf]) -> anyhow::Result<Vec<T>> {
    let mut lines = Vec::new();
    for path in store::expand(paths, "jsonl")? {
        let text = store::read_text(&path)?;
        for (number, line) in text.lines().enumerate() {
            if !line.trim().is_empty() {
                lines.push(serde_json::from_str(line).with_context(|| {
                    format!("cannot read {}: line {}", path.display(), number + 1)
                })?);
            }
        }
    }
    Ok(lines)
}

/// Answers as documents, and how many came back from their text with another number of tokens than were generated.
#[derive(Debug, Default)]
pub struct Answers {
    /// Prompt and completion of every answer that passes the filter.
    pub documents: Vec<Document>,
    /// Answers read.
    pub n_read: usize,
    /// Answers whose text has other tokens than the model wrote.
    pub retokenised: usize,
}

/// Reads answers; `reader` gives the tokenizer of the model with a label.
pub fn answers<'a>(
    paths: &[PathBuf],
    filter: &Filter,
    reader: impl Fn(&str) -> &'a Reader<'a> + Sync,
) -> anyhow::Result<Answers> {
    let rows: Vec<Sample> = store::read_table(paths)?;
    let n_read = rows.len();
    let kept: Vec<Sample> = rows.into_iter().filter(|row| filter.keeps(row)).collect();
    ensure!(
        !kept.is_empty(),
        "cannot use {}: none of {n_read} answers passes the filters",
        names(paths)
    );
    let read: Vec<(Document, bool)> = kept
        .par_iter()
        .map(|sample| answer(sample, reader(&sample.model)))
        .collect::<model::Result<_>>()?;
    Ok(Answers {
        n_read,
        retokenised: read.iter().filter(|(_, exact)| !exact).count(),
        documents: read.into_iter().map(|(document, _)| document).collect(),
    })
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path: &PathBuf| Path::display(path).to_string())
        .collect();
    names.join(", ")
}

/// Prompt and completion, the end token added where one was generated. Also says whether the completion has as many tokens
/// as were generated.
fn answer(sample: &Sample, reader: &Reader) -> model::Result<(Document, bool)> {
    let mut token_ids = reader.prompt_ids(&sample.prompt)?;
    let prompt = token_ids.len();
    token_ids.extend(reader.tokenizer.encode(&sample.completion, false)?);
    let generated = sample.n_tokens as usize;
    // An end token that is text of its own, such as a newline, is in the completion already.
    let unended = token_ids.len() - prompt < generated.max(1);
    if let Some(&end) = reader.tokenizer.eos_ids().first()
        && sample.finish_reason == "stop"
        && unended
    {
        token_ids.push(end);
    }
    let exact = token_ids.len() - prompt == generated;
    let document = Document {
        id: format!("{}/{}/{}", sample.task, sample.doc_id, sample.sample),
        role: sample.model.clone(),
        token_ids,
        prompt: Some(prompt),
    };
    Ok((document, exact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_named_by_its_id_or_its_number() {
        assert_eq!(name(Some("a".into()), 3), "a");
        assert_eq!(name(Some(7.into()), 3), "7");
        assert_eq!(name(None, 3), "3");
    }

    #[test]
    fn phases_follow_the_prompt() {
        let mut document = Document {
            id: "d".into(),
            role: "rl".into(),
            token_ids: vec![0; 3],
            prompt: Some(1),
        };
        assert_eq!([0, 1].map(|i| document.phase(i)), ["prompt", "completion"]);
        document.prompt = None;
        assert_eq!(document.phase(0), "text");
    }
}
