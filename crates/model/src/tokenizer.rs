//! Text to tokens and back, with the chat template of a model directory.

use crate::chat::Template;
use crate::{Date, Error, Message, Result, hub};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A tokenizer as `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` describe it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    digest: String,
    bos: Option<u32>,
    /// Whether a plain text starts with BOS even where the tokenizer's own post-processor adds none.
    bos_first: bool,
    eos: Vec<u32>,
    pad: u32,
    special: Vec<u32>,
    template: Option<Template>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("path", &self.path)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads the tokenizer files of a model directory, or of a Hub name ([`hub::directory`]).
    pub fn load(directory: &Path) -> Result<Self> {
        let directory = &*hub::directory(directory)?;
        let path = directory.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| Error::invalid(&path, e))?;
        // What somebody cut or filled up to when the file was saved; `transformers` does not obey it either.
        inner
            .with_padding(None)
            .with_truncation(None)
            .map_err(|e| Error::invalid(&path, e))?;
        let settings = json(&directory.join("tokenizer_config.json"))?;
        let generation = json(&directory.join("generation_config.json"))?;
        let tokens = special_tokens(directory, &settings)?;
        let id = |name: &str| tokens.get(name).and_then(|text| inner.token_to_id(text));
        let eos = end_ids(directory, &generation, id("eos_token"))?;
        let pad = id("pad_token")
            .or_else(|| ids_of(&generation["pad_token_id"]).first().copied())
            .or(eos.first().copied())
            .unwrap_or(0);
        let template = template(directory, &settings)?;
        Ok(Self {
            digest: hex(&Sha256::digest(&bytes)),
            bos: id("bos_token"),
            bos_first: bos_first(&settings),
            special: special_ids(&inner, &eos),
            template: template.map(|source| Template::new(&source, tokens)),
            eos,
            pad,
            inner,
            path,
        })
    }

    /// The same tokenizer with another day for templates that write today's date; the day of [`Date::default`] otherwise.
    #[must_use]
    pub fn at_date(mut self, date: Date) -> Self {
        if let Some(template) = &mut self.template {
            template.date = date;
        }
        self
    }

    /// Token ids of a text; `add_special` adds what the tokenizer's own post-processor adds (BOS, as a rule).
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special)
            .map_err(|e| Error::invalid(&self.path, e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of token ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, true)
            .map_err(|e| Error::invalid(&self.path, e))
    }

    /// A conversation as the model expects it to be written.
    ///
    /// # Errors
    /// When the model has no chat template, or the template refuses the conversation.
    pub fn chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self
            .template
            .as_ref()
            .ok_or_else(|| Error::invalid(&self.path, "the model has no chat template"))?;
        template
            .render(messages, add_generation_prompt)
            .map_err(|cause| Error::invalid(&self.path, cause))
    }

    /// Whether the model has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// A user's text as the model is given it, written out, and in tokens ([`Self::prompt_ids`]).
    ///
    /// # Errors
    /// When the chat template fails, or there is no token at all.
    pub fn prompt(&self, text: &str) -> Result<(String, Vec<u32>)> {
        let ids = self.prompt_ids(text)?;
        if ids.is_empty() {
            return Err(Error::Argument("the prompt has no token".into()));
        }
        let message = Message {
            role: "user".into(),
            content: text.into(),
        };
        let written = match self.template {
            Some(_) => self.chat(&[message], true)?,
            None => text.to_owned(),
        };
        Ok((written, ids))
    }

    /// What the model is given for a user's text: the chat template around it where there is one, else BOS and the text.
    pub fn prompt_ids(&self, text: &str) -> Result<Vec<u32>> {
        if self.template.is_none() {
            return self.text_ids(text);
        }
        let message = Message {
            role: "user".into(),
            content: text.into(),
        };
        self.encode(&self.chat(&[message], true)?, false)
    }

    /// A plain text with BOS in front where the model reads one.
    pub fn text_ids(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode(text, true)?;
        let missing = |bos: &u32| self.bos_first && ids.first() != Some(bos);
        if let Some(bos) = self.bos.filter(missing) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Token ids in use: one more than the largest.
    pub fn vocab(&self) -> usize {
        self.inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |id| *id as usize + 1)
    }

    /// Tokens that end a text.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The token that starts a text.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// A token to fill rectangles with.
    pub fn pad_id(&self) -> u32 {
        self.pad
    }

    /// Whether a token is special: BOS, EOS, padding, chat markers.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }

    /// sha256 of `tokenizer.json`: two models with the same digest read the same tokens.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("half a byte is a digit");
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// A JSON file; null where there is none.
fn json(path: &Path) -> Result<serde_json::Value> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| Error::invalid(path, e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(serde_json::Value::Null),
        Err(e) => Err(Error::io(path)(e)),
    }
}

/// A token named as a string or as an object with `content`.
fn named(value: &serde_json::Value) -> Option<String> {
    value
        .as_str()
        .or_else(|| value["content"].as_str())
        .map(str::to_owned)
}

/// Every special token that has a name (`bos_token`, `eos_token`, …) with its text.
fn special_tokens(
    directory: &Path,
    settings: &serde_json::Value,
) -> Result<BTreeMap<String, String>> {
    let mut tokens = BTreeMap::new();
    // What the settings say counts more than the older file beside them.
    for file in [&json(&directory.join("special_tokens_map.json"))?, settings] {
        let named_keys = file.as_object().into_iter().flatten();
        for (key, value) in named_keys.filter(|(key, _)| key.ends_with("_token")) {
            match named(value) {
                Some(text) => tokens.insert(key.clone(), text),
                None => tokens.remove(key),
            };
        }
    }
    Ok(tokens)
}

/// Whether BOS goes in front of a plain text: as the settings say, else as the tokenizer's class does by itself.
fn bos_first(settings: &serde_json::Value) -> bool {
    let class = settings["tokenizer_class"].as_str().unwrap_or_default();
    let without = ["GPT2", "GPTNeoX", "Qwen2"];
    settings["add_bos_token"]
        .as_bool()
        .unwrap_or(!without.iter().any(|family| class.starts_with(family)))
}

/// Tokens marked special in `tokenizer.json`, and those that end a text; sorted.
fn special_ids(inner: &tokenizers::Tokenizer, eos: &[u32]) -> Vec<u32> {
    let added = inner.get_added_tokens_decoder();
    let marked = added.iter().filter(|(_, token)| token.special);
    let mut ids: Vec<u32> = marked
        .map(|(id, _)| *id)
        .chain(eos.iter().copied())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// One id or a list of them.
fn ids_of(value: &serde_json::Value) -> Vec<u32> {
    let one = |value: &serde_json::Value| value.as_u64().map(|id| id as u32);
    match value {
        serde_json::Value::Array(ids) => ids.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

/// End tokens: of `generation_config.json`, else of `config.json`, else the tokenizer's own.
fn end_ids(directory: &Path, generation: &serde_json::Value, own: Option<u32>) -> Result<Vec<u32>> {
    let config = json(&directory.join("config.json"))?;
    let sources = [generation, &config, &config["text_config"]];
    let found = sources.map(|source| ids_of(&source["eos_token_id"]));
    Ok(found
        .into_iter()
        .find(|ids| !ids.is_empty())
        .unwrap_or_else(|| own.into_iter().collect()))
}

/// `chat_template.jinja`, `chat_template` of `chat_template.json`, or of the settings: a string, or a list of which
/// `default` is taken.
fn template(directory: &Path, settings: &serde_json::Value) -> Result<Option<String>> {
    let path = directory.join("chat_template.jinja");
    if path.exists() {
        return std::fs::read_to_string(&path)
            .map(Some)
            .map_err(Error::io(&path));
    }
    let beside = json(&directory.join("chat_template.json"))?;
    let value = [&beside, settings]
        .into_iter()
        .map(|file| &file["chat_template"])
        .find(|value| !value.is_null());
    let listed = value
        .and_then(serde_json::Value::as_array)
        .and_then(|all| all.iter().find(|one| one["name"] == "default"));
    let text = value
        .and_then(serde_json::Value::as_str)
        .or_else(|| listed.and_then(|one| one["template"].as_str()));
    Ok(text.map(str::to_owned))
}
