//! The suite's tokenizer: one token per character, in the form `transformers` reads.
//!
//! Ids are fixed: `<pad>` 0, `<bos>` 1, then [`CHARACTERS`] in their order. A character outside of them is an error, never
//! an unknown token, so that decoding gives back exactly what was encoded.

use std::path::Path;
use std::str::FromStr;

use ::tasks::lab::{CHARACTERS, Document};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

/// The tokenizer's file.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The file that names its special tokens and holds the chat template.
pub(super) const CONFIG: &str = "tokenizer_config.json";

const PAD: &str = "<pad>";
const BOS: &str = "<bos>";
/// A prompt is its own beginning of a document: the messages one after the other behind BOS.
const CHAT_TEMPLATE: &str =
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}";

/// Writes both files, once every document has come back unchanged from the tokenizer.
pub(super) fn write(output: &Path, corpus: &[Document]) -> Result<()> {
    let text = pretty(&description())?;
    check(&text, corpus)?;
    super::write_text(&output.join(TOKENIZER), &text)?;
    super::write_text(&output.join(CONFIG), &pretty(&config())?)
}

fn pretty(value: &Value) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}

/// Every token in the order of its id.
fn tokens() -> impl Iterator<Item = String> {
    let characters = CHARACTERS.chars().map(String::from);
    [PAD, BOS].map(str::to_owned).into_iter().chain(characters)
}

/// `tokenizer.json`: every character by itself, BOS in front where special tokens are asked for.
fn description() -> Value {
    let vocabulary: Map<String, Value> = tokens()
        .zip(0..)
        .map(|(token, id): (_, u32)| (token, json!(id)))
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(0, PAD), special(1, BOS)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": false},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos(), sequence("A")],
            "pair": [bos(), sequence("A"), sequence("B")],
            "special_tokens": {BOS: {"id": BOS, "ids": [1], "tokens": [BOS]}},
        },
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    })
}

fn special(id: u32, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    })
}

fn bos() -> Value {
    json!({"SpecialToken": {"id": BOS, "type_id": 0}})
}

fn sequence(name: &str) -> Value {
    json!({"Sequence": {"id": name, "type_id": 0}})
}

/// `tokenizer_config.json`: the newline ends a reply.
fn config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": "\n",
        "pad_token": PAD,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    })
}

/// Reads the tokenizer as any user will, and asks it for every document back.
fn check(text: &str, corpus: &[Document]) -> Result<()> {
    let tokenizer =
        Tokenizer::from_str(text).map_err(|cause| anyhow!("cannot use the tokenizer: {cause}"))?;
    for document in corpus {
        let back = round_trip(&tokenizer, &document.text);
        let back = back.with_context(|| format!("cannot encode {}", document.id))?;
        ensure!(
            back == document.text,
            "cannot encode {}: it comes back as {back:?}",
            document.id
        );
    }
    Ok(())
}

fn round_trip(tokenizer: &Tokenizer, text: &str) -> Result<String> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(anyhow::Error::from_boxed)?;
    ensure!(
        encoding.get_ids().len() == text.chars().count(),
        "a token is not a character"
    );
    tokenizer
        .decode(encoding.get_ids(), false)
        .map_err(anyhow::Error::from_boxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_str(&pretty(&description()).unwrap()).unwrap()
    }

    #[test]
    fn every_character_is_one_token_with_a_fixed_id() {
        let encoding = tokenizer().encode_fast("\n a.", true).unwrap();
        let id = |c: char| 2 + CHARACTERS.find(c).unwrap() as u32;
        assert_eq!(encoding.get_ids(), [1, 2, 3, 4, id('.')]);
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        let text =
            "add 59+63?so 9+3=12,5+6+1=12#122.\nrel fd dc gf g?so g<f<d<c#c.\n  [out]#1|2~:-\n";
        assert_eq!(round_trip(&tokenizer(), text).unwrap(), text);
        assert_eq!(round_trip(&tokenizer(), CHARACTERS).unwrap(), CHARACTERS);
    }

    #[test]
    fn an_unknown_character_is_an_error() {
        assert!(round_trip(&tokenizer(), "é").is_err());
    }

    #[test]
    fn the_end_of_a_reply_is_a_token_and_padding_is_not_in_the_text() {
        assert_eq!(tokenizer().token_to_id("\n"), Some(2));
        assert_eq!(tokenizer().token_to_id(PAD), Some(0));
        assert_eq!(
            tokenizer().get_vocab_size(true),
            CHARACTERS.chars().count() + 2
        );
    }
}
