//! JSON as Python spells it.

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use std::fmt::Write as _;

/// JSON as Python's `json.dumps(ensure_ascii=False)` spells it, which templates are written for.
#[expect(clippy::needless_pass_by_value, reason = "filters take values")]
pub(super) fn python_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let json = serde_json::to_value(&value)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    let style = Json {
        indent: options.get("indent")?,
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ascii: options
            .get::<Option<bool>>("ensure_ascii")?
            .unwrap_or(false),
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
                self.enclosed(('[', ']'), &items.collect::<Vec<_>>(), depth)
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
                self.enclosed(('{', '}'), &pairs.collect::<Vec<_>>(), depth)
            }
            serde_json::Value::String(text) => self.string(text),
            other => other.to_string(),
        }
    }

    fn enclosed(&self, (open, close): (char, char), items: &[String], depth: usize) -> String {
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
                    write!(out, "\\u{unit:04x}").expect("a string takes what is written");
                }
            }
        }
        out
    }
}
