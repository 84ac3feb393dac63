//! Tokenizer files as model directories have them: special tokens, end tokens, templates.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]

use model::{Date, Message, Tokenizer};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

/// A tokenizer of seven words; `adds_bos` gives it a post-processor that puts BOS in front.
fn description(adds_bos: bool) -> Value {
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        })
    };
    let bos = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    });
    json!({
        "version": "1.0",
        "added_tokens": [special(0, "<s>"), special(1, "</s>"), special(2, "<pad>"), special(3, "<turn>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": if adds_bos { bos } else { Value::Null },
        "decoder": null,
        "model": {
            "type": "WordLevel", "unk_token": "b",
            "vocab": {"<s>": 0, "</s>": 1, "<pad>": 2, "<turn>": 3, "a": 4, "b": 5, "c": 6},
        },
    })
}

/// A model directory with these files.
fn folder(files: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in files {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn settings(more: &Value) -> Value {
    let mut settings =
        json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<pad>"});
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    settings
}

fn load(files: &[(&str, Value)]) -> Tokenizer {
    Tokenizer::load(folder(files).path()).unwrap()
}

fn plain(adds_bos: bool, more: &Value) -> Tokenizer {
    load(&[
        ("tokenizer.json", description(adds_bos)),
        ("tokenizer_config.json", settings(more)),
    ])
}

#[test]
fn a_plain_text_starts_with_bos_where_the_reference_puts_it() {
    let nothing = json!({});
    assert_eq!(plain(true, &nothing).text_ids("a b").unwrap(), [0, 4, 5]);
    assert_eq!(plain(false, &nothing).text_ids("a b").unwrap(), [0, 4, 5]);
    for without in [
        json!({"add_bos_token": false}),
        json!({"tokenizer_class": "GPT2Tokenizer"}),
        json!({"tokenizer_class": "Qwen2Tokenizer"}),
        json!({"bos_token": null}),
    ] {
        assert_eq!(
            plain(false, &without).text_ids("a b").unwrap(),
            [4, 5],
            "{without}"
        );
    }
    let asked = json!({"tokenizer_class": "GPT2TokenizerFast", "add_bos_token": true});
    assert_eq!(plain(false, &asked).text_ids("a").unwrap(), [0, 4]);
}

#[test]
fn a_length_saved_with_the_tokenizer_neither_cuts_nor_fills_a_text() {
    let mut saved = description(false);
    saved["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    saved["padding"] = json!({
        "strategy": {"Fixed": 6}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 2, "pad_type_id": 0,
        "pad_token": "<pad>",
    });
    assert_eq!(
        load(&[("tokenizer.json", saved)])
            .encode("a b c a", true)
            .unwrap(),
        [4, 5, 6, 4]
    );
}

#[test]
fn end_tokens_are_those_generation_stops_at() {
    let tokenizer = ("tokenizer.json", description(true));
    let own = ("tokenizer_config.json", settings(&json!({})));
    let generation = (
        "generation_config.json",
        json!({"eos_token_id": [1, 3], "pad_token_id": 6}),
    );
    let config = ("config.json", json!({"eos_token_id": 3}));
    let nested = (
        "config.json",
        json!({"text_config": {"eos_token_id": [3, 1]}}),
    );
    let ends = |files: &[(&str, Value)]| load(files).eos_ids().to_vec();
    assert_eq!(
        ends(&[
            tokenizer.clone(),
            own.clone(),
            generation.clone(),
            config.clone()
        ]),
        [1, 3]
    );
    assert_eq!(ends(&[tokenizer.clone(), own.clone(), config]), [3]);
    assert_eq!(ends(&[tokenizer.clone(), own.clone(), nested]), [3, 1]);
    assert_eq!(ends(&[tokenizer.clone(), own.clone()]), [1]);
    assert_eq!(load(&[tokenizer.clone(), own]).pad_id(), 2);
    let bare = load(&[tokenizer.clone(), generation]);
    assert_eq!((bare.pad_id(), bare.bos_id()), (6, None));
    assert!(bare.is_special(3) && !bare.is_special(4));
    let map = (
        "special_tokens_map.json",
        json!({"bos_token": "<s>", "eos_token": "<turn>"}),
    );
    let older = load(&[tokenizer, map]);
    assert_eq!((older.bos_id(), older.eos_ids()), (Some(0), &[3][..]));
}

#[test]
fn a_template_is_found_wherever_it_is_kept() {
    let written = |files: &[(&str, Value)]| {
        let tokenizer = ("tokenizer.json", description(true));
        let all: Vec<_> = files.iter().cloned().chain([tokenizer]).collect();
        let message = Message {
            role: "user".into(),
            content: "c".into(),
        };
        load(&all)
            .chat(&[message], true)
            .map_err(|error| error.to_string())
    };
    let source = |mark: &str| format!("{mark}{{{{ bos_token }}}}{{{{ messages[0].content }}}}");
    let file = ("chat_template.jinja", json!(source("file:")));
    let beside = (
        "chat_template.json",
        json!({"chat_template": source("json:")}),
    );
    let kept = settings(&json!({"chat_template": source("kept:")}));
    let kept = ("tokenizer_config.json", kept);
    let listed = json!({"chat_template": [
        {"name": "tool_use", "template": "tools"}, {"name": "default", "template": source("listed:")},
    ]});
    let listed = ("tokenizer_config.json", settings(&listed));
    assert_eq!(
        written(&[file, beside.clone(), kept.clone()]).unwrap(),
        "file:<s>c"
    );
    assert_eq!(written(&[beside, kept.clone()]).unwrap(), "json:<s>c");
    assert_eq!(written(&[kept]).unwrap(), "kept:<s>c");
    assert_eq!(written(&[listed]).unwrap(), "listed:<s>c");
    assert!(
        written(&[])
            .unwrap_err()
            .contains("the model has no chat template")
    );
}

#[test]
fn what_a_template_writes_is_not_given_a_second_bos() {
    let template = json!({"chat_template": "{{ bos_token }}<turn>{% for m in messages %}{{ m.content }}{% endfor %}"});
    let tokenizer = plain(true, &template);
    assert!(tokenizer.has_chat_template());
    assert_eq!(tokenizer.prompt_ids("a c").unwrap(), [0, 3, 4, 6]);
    assert_eq!(
        plain(true, &json!({})).prompt_ids("a c").unwrap(),
        [0, 4, 6]
    );
}

#[test]
fn todays_date_is_a_fixed_one_unless_another_is_given() {
    let template = json!({"chat_template": "{{ strftime_now('%Y-%m-%d') }}"});
    assert_eq!(
        plain(true, &template).chat(&[], false).unwrap(),
        "2024-07-26"
    );
    let date = Date {
        year: 2026,
        month: 11,
        day: 1,
    };
    assert_eq!(
        plain(true, &template)
            .at_date(date)
            .chat(&[], false)
            .unwrap(),
        "2026-11-01"
    );
}

#[test]
fn a_damaged_file_is_named_in_one_line() {
    for (name, text) in [
        ("tokenizer.json", "{"),
        ("tokenizer_config.json", "["),
        ("generation_config.json", "nothing"),
    ] {
        let mut files = vec![("tokenizer.json", description(true))];
        files.push((name, json!(text)));
        let error = Tokenizer::load(folder(&files).path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(name) && !error.contains('\n'), "{error}");
    }
    let error = Tokenizer::load(folder(&[]).path()).unwrap_err().to_string();
    assert!(
        error.contains("tokenizer.json") && !error.contains('\n'),
        "{error}"
    );
}
