//! Chat templates, rendered as `transformers` renders them.
//!
//! Templates are written for Python's Jinja with a few additions; what differs from it is here: the tag that marks the
//! assistant's words, Python's string methods, its JSON, its spelling of true, false and none, and the date.

use minijinja::value::{Kwargs, from_args};
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

/// A day, for templates that write today's date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// Year.
    pub year: u32,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, from 1.
    pub day: u32,
}

impl Default for Date {
    /// The day that Llama 3's template falls back to: the same inputs must give the same text whenever they are read.
    fn default() -> Self {
        Self {
            year: 2024,
            month: 7,
            day: 26,
        }
    }
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
    environment.add_filter("tojson", python_json);
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

/// JSON as Python's `json.dumps(ensure_ascii=False)` spells it, which templates are written for.
#[expect(clippy::needless_pass_by_value, reason = "filters take values")]
fn python_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let json = serde_json::to_value(&value)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    let style = Json {
        indent: options.get("indent")?,
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        separators: options.get("separators")?,
    };
    options.assert_all_used()?;
    Ok(Value::from_safe_string(style.text(&json, 0)))
}

/// The options of `json.dumps`.
struct Json {
    indent: Option<usize>,
    sorted: bool,
    ascii: bool,
    separators: Option<Vec<String>>,
}

impl Json {
    fn text(&self, value: &serde_json::Value, depth: usize) -> String {
        match value {
            serde_json::Value::Array(items) => {
                let items = items.iter().map(|item| self.text(item, depth + 1));
                self.enclosed(('[', ']'), items.collect(), depth)
            }
            serde_json::Value::Object(map) => {
                let mut pairs: Vec<_> = map.iter().collect();
                if self.sorted {
                    pairs.sort_by_key(|pair| pair.0);
                }
                let pairs = pairs.into_iter().map(|(key, value)| {
                    let colon = self.separators.as_ref().and_then(|pair| pair.get(1));
                    let colon = colon.map_or(": ", String::as_str);
                    format!("{}{colon}{}", self.string(key), self.text(value, depth + 1))
                });
                self.enclosed(('{', '}'), pairs.collect(), depth)
            }
            serde_json::Value::String(text) => self.string(text),
            other => other.to_string(),
        }
    }

    fn enclosed(&self, (open, close): (char, char), items: Vec<String>, depth: usize) -> String {
        let comma = self.separators.as_ref().and_then(|pair| pair.first());
        match self.indent.filter(|_| !items.is_empty()) {
            None => {
                let comma = comma.map_or(", ", String::as_str);
                format!("{open}{}{close}", items.join(comma))
            }
            Some(indent) => {
                let line = |depth: usize| format!("\n{}", " ".repeat(indent * depth));
                let comma = comma.map_or(",", String::as_str);
                let items = items.join(&format!("{comma}{}", line(depth + 1)));
                format!("{open}{}{items}{}{close}", line(depth + 1), line(depth))
            }
        }
    }

    fn string(&self, text: &str) -> String {
        let quoted = serde_json::json!(text).to_string();
        if !self.ascii {
            return quoted;
        }
        let mut out = String::with_capacity(quoted.len());
        for c in quoted.chars() {
            if c.is_ascii() {
                out.push(c);
            } else {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        out
    }
}

const MONTHS: [&str; 12] = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
];

impl Date {
    /// The day at noon as Python's `strftime` writes it; codes it does not know stay.
    fn format(self, format: &str) -> String {
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut code = rest.next();
            // %-d is %d without its leading zero.
            let bare = code == Some('-');
            if bare {
                code = rest.next();
            }
            let written = code.map_or_else(|| "%".into(), |code| self.code(code));
            out.push_str(if bare { written.trim_start_matches('0') } else { &written });
        }
        out
    }

    fn code(self, code: char) -> String {
        let month = MONTHS[(self.month.clamp(1, 12) - 1) as usize];
        let weekday = WEEKDAYS[self.weekday()];
        match code {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year % 100),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'B' => month.into(),
            'b' => month[..3].into(),
            'A' => weekday.into(),
            'a' => weekday[..3].into(),
            'F' => self.format("%Y-%m-%d"),
            'H' | 'I' => "12".into(),
            'M' | 'S' => "00".into(),
            'p' => "PM".into(),
            '%' => "%".into(),
            other => format!("%{other}"),
        }
    }

    /// Days since Sunday (Sakamoto's table).
    fn weekday(self) -> usize {
        const SHIFT: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 { self.year - 1 } else { self.year };
        let shift = SHIFT[(self.month.clamp(1, 12) - 1) as usize];
        ((year + year / 4 - year / 100 + year / 400 + shift + self.day) % 7) as usize
    }
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
        let tokens = [("bos_token", "<s>"), ("eos_token", "</s>"), ("pad_token", "<pad>")];
        let owned = tokens.map(|(name, text)| (name.to_owned(), text.to_owned()));
        Template::new(source, BTreeMap::from(owned))
    }

    #[test]
    fn every_trap_is_written_as_transformers_writes_it() {
        let cases = include_str!("../tests/golden/chat.json");
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
        template.date = Date { year: 2000, month: 2, day: 29 };
        let leap = template.render(&[], false).unwrap();
        assert_eq!(leap, "29 Feb 2000|Tuesday 2/29/00 February 12:00 PM %");
    }

    #[test]
    fn a_template_that_cannot_be_read_says_where_in_one_line() {
        let cause = template("a\n{% if %}").render(&[], false).unwrap_err();
        assert!(cause.starts_with("line 2 of the chat template: "), "{cause}");
        let cause = template("{{ nothing.at.all }}").render(&[], false).unwrap_err();
        assert!(cause.starts_with("line 1 of the chat template: ") && !cause.contains('\n'), "{cause}");
    }
}
