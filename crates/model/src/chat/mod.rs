//! Chat templates, rendered as `transformers` renders them.
//!
//! Templates are written for Python's Jinja with a few additions; what differs from it is here: the tag that marks the
//! assistant's words, Python's string methods, its JSON, its spelling of true, false and none, and the date.

mod date;
mod json;

pub use date::Date;

use minijinja::value::from_args;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, context};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, …
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A template with what it may name.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    source: String,
    /// `bos_token`, `eos_token`, … with their text.
    tokens: BTreeMap<String, String>,
    pub(crate) date: Date,
}

impl Template {
    pub(crate) fn new(source: &str, mut tokens: BTreeMap<String, String>) -> Self {
        for name in ["bos_token", "eos_token"] {
            tokens.entry(name.into()).or_default();
        }
        Self {
            source: without_generation(source),
            tokens,
            date: Date::default(),
        }
    }

    /// The conversation as text; the cause of a failure in one line.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, String> {
        let mut environment = environment(self.date);
        environment
            .add_template("chat", &self.source)
            .map_err(|e| one_line(&e))?;
        let given = context! { messages, add_generation_prompt, tools => (), documents => () };
        let values = context! { ..given, ..Value::from_serialize(&self.tokens) };
        environment
            .get_template("chat")
            .and_then(|chat| chat.render(values))
            .map_err(|e| one_line(&e))
    }
}

/// Jinja as `transformers` sets it up.
fn environment<'a>(date: Date) -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_formatter(python_spelling);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", json::python_json);
    environment.add_function("raise_exception", |message: String| -> Result<(), Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| date.format(&format));
    environment
}

/// Line and cause, without the template's text.
fn one_line(error: &Error) -> String {
    let cause = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    let words: Vec<&str> = cause.split_whitespace().collect();
    match error.line() {
        Some(line) => format!("line {line} of the chat template: {}", words.join(" ")),
        None => format!("the chat template: {}", words.join(" ")),
    }
}

/// Puts a condition that always holds for `{% generation %}`: it marks the assistant's words and changes none.
///
/// A condition keeps what the tag's own dashes do to the white space around it.
fn without_generation(source: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(source.len()), source);
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let (before, tag) = (&rest[..start], &rest[start..start + length]);
        out.push_str(before);
        match tag[2..].trim_matches(['-', '+', ' ', '\t', '\r', '\n']) {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    out + rest
}

/// `None`, `True` and `False`, where Jinja in Rust has `none`, `true` and `false`.
fn python_spelling(out: &mut Output, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_none() {
        return Ok(out.write_str("None")?);
    }
    match bool::try_from(value.clone()) {
        Ok(truth) if value.kind() == minijinja::value::ValueKind::Bool => {
            Ok(out.write_str(if truth { "True" } else { "False" })?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// Python's string methods: those of `pycompat`, and the rest that templates call.
fn method(
    state: &State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
    };
    match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "partition" => {
            let (at,): (&str,) = from_args(args)?;
            let (before, after) = text.split_once(at).unwrap_or((text, ""));
            let found = if text.contains(at) { at } else { "" };
            Ok(strings(&[before, found, after]))
        }
        "rpartition" => {
            let (at,): (&str,) = from_args(args)?;
            let (before, after) = text.rsplit_once(at).unwrap_or(("", text));
            let found = if text.contains(at) { at } else { "" };
            Ok(strings(&[before, found, after]))
        }
        "rsplit" => {
            let (at, most): (&str, Option<usize>) = from_args(args)?;
            let mut parts: Vec<&str> = match most {
                Some(most) => text.rsplitn(most + 1, at).collect(),
                None => text.rsplit(at).collect(),
            };
            parts.reverse();
            Ok(strings(&parts))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn strings(parts: &[&str]) -> Value {
    parts.iter().map(|part| Value::from(*part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        about: String,
        template: String,
        messages: Vec<Message>,
        add_generation_prompt: bool,
        text: Option<String>,
        refusal: Option<String>,
    }

    fn template(source: &str) -> Template {
        let tokens = [
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("pad_token", "<pad>"),
        ];
        let owned = tokens.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Template::new(source, BTreeMap::from(owned))
    }

    #[test]
    fn every_trap_is_written_as_transformers_writes_it() {
        let cases = include_str!("../../tests/golden/chat.json");
        let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
        assert!(cases.len() > 40);
        for case in cases {
            let template = template(&case.template);
            let ours = template.render(&case.messages, case.add_generation_prompt);
            match (case.text, case.refusal) {
                (Some(text), _) => assert_eq!(ours.as_deref(), Ok(text.as_str()), "{}", case.about),
                (None, refusal) => {
                    let cause = ours.unwrap_err();
                    let refusal = refusal.unwrap().replace('\n', " ");
                    assert!(cause.contains(&refusal) && !cause.contains('\n'), "{cause}");
                }
            }
        }
    }

    #[test]
    fn the_date_is_the_same_whenever_it_is_asked_for() {
        let source = "{{ strftime_now('%d %b %Y|%A %-m/%-d/%y %B %H:%M %p %%') }}";
        let mut template = template(source);
        let today = template.render(&[], false).unwrap();
        assert_eq!(today, "26 Jul 2024|Friday 7/26/24 July 12:00 PM %");
        template.date = Date {
            year: 2000,
            month: 2,
            day: 29,
        };
        let leap = template.render(&[], false).unwrap();
        assert_eq!(leap, "29 Feb 2000|Tuesday 2/29/00 February 12:00 PM %");
    }

    #[test]
    fn a_template_that_cannot_be_read_says_where_in_one_line() {
        let cause = template("a\n{% if %}").render(&[], false).unwrap_err();
        assert!(
            cause.starts_with("line 2 of the chat template: "),
            "{cause}"
        );
        let cause = template("{{ nothing.at.all }}")
            .render(&[], false)
            .unwrap_err();
        assert!(
            cause.starts_with("line 1 of the chat template: ") && !cause.contains('\n'),
            "{cause}"
        );
    }
}
