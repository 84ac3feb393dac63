//! Text to tokens and back, with the chat template of a model directory.

use crate::{Error, Result};
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, …
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A tokenizer as `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` describe it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    digest: String,
    bos: Option<(String, u32)>,
    eos: Vec<u32>,
    eos_text: Option<String>,
    pad: u32,
    special: Vec<u32>,
    template: Option<String>,
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
    /// Reads the tokenizer files of a model directory.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| Error::invalid(&path, e))?;
        let settings = json(&directory.join("tokenizer_config.json"))?;
        let id = |text: &Option<String>| text.as_ref().and_then(|text| inner.token_to_id(text));
        let (bos_text, eos_text, pad_text) = (
            named(&settings["bos_token"]),
            named(&settings["eos_token"]),
            named(&settings["pad_token"]),
        );
        let eos = end_ids(directory, id(&eos_text))?;
        let pad = id(&pad_text).or(eos.first().copied()).unwrap_or(0);
        let mut special: Vec<u32> = inner
            .get_added_tokens_decoder()
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| *id)
            .collect();
        special.extend(&eos);
        special.sort_unstable();
        special.dedup();
        let bos = id(&bos_text).and_then(|id| bos_text.map(|text| (text, id)));
        let digest = hex(&Sha256::digest(&bytes));
        let template = template(directory, &settings)?;
        Ok(Self {
            inner,
            path,
            digest,
            bos,
            eos,
            eos_text,
            pad,
            special,
            template,
        })
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
    pub fn chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self
            .template
            .as_deref()
            .ok_or_else(|| Error::invalid(&self.path, "the model has no chat template"))?;
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_keep_trailing_newline(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<(), minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_filter("tojson", python_json);
        let fail =
            |e: minijinja::Error| Error::invalid(&self.path, format!("chat template: {e:#}"));
        environment.add_template("chat", template).map_err(fail)?;
        let bos_token = self
            .bos
            .as_ref()
            .map(|bos| bos.0.as_str())
            .unwrap_or_default();
        let values = context! { messages, add_generation_prompt, bos_token, eos_token => self.eos_text.as_deref().unwrap_or_default() };
        environment
            .get_template("chat")
            .and_then(|chat| chat.render(values))
            .map_err(fail)
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

    /// A plain text with BOS in front where the model has one.
    pub fn text_ids(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode(text, true)?;
        if let Some((_, bos)) = self.bos.as_ref().filter(|bos| ids.first() != Some(&bos.1)) {
            ids.insert(0, *bos);
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
        self.bos.as_ref().map(|bos| bos.1)
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

/// End tokens: of `generation_config.json`, else of `config.json`, else the tokenizer's own.
fn end_ids(directory: &Path, own: Option<u32>) -> Result<Vec<u32>> {
    for file in ["generation_config.json", "config.json"] {
        let value = &json(&directory.join(file))?["eos_token_id"];
        let ids: Vec<u32> = match value {
            serde_json::Value::Array(ids) => ids
                .iter()
                .filter_map(serde_json::Value::as_u64)
                .map(|id| id as u32)
                .collect(),
            other => other.as_u64().map(|id| id as u32).into_iter().collect(),
        };
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    Ok(own.into_iter().collect())
}

/// `chat_template.jinja`, or `chat_template` of the settings: a string, or a list of which `default` is taken.
fn template(directory: &Path, settings: &serde_json::Value) -> Result<Option<String>> {
    let path = directory.join("chat_template.jinja");
    if path.exists() {
        return std::fs::read_to_string(&path)
            .map(Some)
            .map_err(Error::io(&path));
    }
    let value = &settings["chat_template"];
    let listed = value
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "default"));
    let text = value
        .as_str()
        .or_else(|| listed.and_then(|one| one["template"].as_str()));
    // The tag that marks the assistant's words in newer templates changes nothing in the text.
    Ok(text.map(|text| {
        text.replace("{% generation %}", "")
            .replace("{% endgeneration %}", "")
    }))
}

/// JSON as Python's `json.dumps(ensure_ascii=False)` spells it, which templates are written for.
#[expect(clippy::needless_pass_by_value, reason = "filters take values")]
fn python_json(value: minijinja::Value) -> std::result::Result<minijinja::Value, minijinja::Error> {
    let value = serde_json::to_value(&value)
        .map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    Ok(minijinja::Value::from_safe_string(python_text(&value)))
}

fn python_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(items) => format!(
            "[{}]",
            items.iter().map(python_text).collect::<Vec<_>>().join(", ")
        ),
        serde_json::Value::Object(map) => {
            let pair = |(key, value): (&String, &serde_json::Value)| {
                format!("{}: {}", serde_json::json!(key), python_text(value))
            };
            format!(
                "{{{}}}",
                map.iter().map(pair).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.to_string(),
    }
}
