//! YAML as `PyYAML`'s loaders read it (YAML 1.1): `yes` is true, `1e5` is a text, `!function a.b` names Python code.
//!
//! The parser splits the text into events; what a plain scalar means is decided here.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// The key of a value that names Python code: `!function utils.f` is read as `{"!function": "utils.f"}`.
pub const FUNCTION: &str = "!function";

/// Aliases may name aliases: a few lines could otherwise stand for gigabytes.
const LARGEST: usize = 1_000_000;

/// Reads the first document of a text. Errors say where.
pub fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: Vec::new(),
        nodes: 0,
    };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(..) | Event::Nothing => {}
            Event::StreamEnd | Event::DocumentEnd => return Ok(Value::Null),
            event => return reader.node(event, 0),
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// Values of the anchors met so far, by their number.
    anchors: Vec<(usize, Value)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.events.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("it ends too early".to_owned()),
        }
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<Value, String> {
        if depth > 100 {
            return Err("it is nested too deeply".to_owned());
        }
        match event {
            Event::Alias(anchor) => self.alias(anchor),
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| (tag.handle.clone(), tag.suffix.clone()));
                let value = scalar(&text, style, tag.as_ref())?;
                Ok(self.keep(anchor, value))
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                Ok(self.keep(anchor, Value::Array(items)))
            }
            Event::MappingStart(anchor, _) => {
                let map = self.mapping(depth)?;
                Ok(self.keep(anchor, Value::Object(map)))
            }
            other => Err(format!("unexpected {other:?}")),
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Map<String, Value>, String> {
        let (mut map, mut merged) = (Map::new(), Vec::new());
        loop {
            let event = match self.next()? {
                Event::MappingEnd => break,
                event => event,
            };
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = super::python::text(&self.node(event, depth + 1)?);
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if is_merge {
                merged.push(value);
            } else {
                map.insert(key, value);
            }
        }
        for value in merged {
            merge(&mut map, value)?;
        }
        Ok(map)
    }

    fn keep(&mut self, anchor: usize, value: Value) -> Value {
        if anchor > 0 {
            self.anchors.push((anchor, value.clone()));
        }
        value
    }

    fn alias(&mut self, anchor: usize) -> Result<Value, String> {
        let found = self
            .anchors
            .iter()
            .rev()
            .find(|(number, _)| *number == anchor);
        let value = found.map(|(_, value)| value.clone());
        let value = value.ok_or("an alias without its anchor")?;
        self.nodes += size(&value);
        if self.nodes > LARGEST {
            return Err("its aliases stand for too much".to_owned());
        }
        Ok(value)
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        _ => 0,
    }
}

/// `<<: *base`: keys that are not there yet.
fn merge(map: &mut Map<String, Value>, value: Value) -> Result<(), String> {
    match value {
        Value::Object(base) => {
            for (key, value) in base {
                map.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(bases) => bases.into_iter().try_for_each(|base| merge(map, base)),
        _ => Err("`<<` needs a mapping".to_owned()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&(String, String)>) -> Result<Value, String> {
    match tag.map(|(handle, suffix)| (handle.as_str(), suffix.as_str())) {
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None | Some((_, "str")) => Ok(text.into()),
        Some(("!", "function")) => {
            let mut map = Map::new();
            map.insert(FUNCTION.to_owned(), text.trim().into());
            Ok(Value::Object(map))
        }
        Some((_, "int" | "float" | "bool" | "null")) => Ok(plain(text)),
        Some((handle, suffix)) => Err(format!("an unknown tag {handle}{suffix}")),
    }
}

/// What a plain scalar means in YAML 1.1.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true.into(),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false.into(),
        _ => integer(text)
            .or_else(|| float(text))
            .unwrap_or_else(|| text.into()),
    }
}

fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = signed(text);
    let digits = digits.replace('_', "");
    let (radix, digits) = match digits.as_str() {
        "0" => (10, "0"),
        digits => match (
            digits.strip_prefix("0x"),
            digits.strip_prefix("0b"),
            digits.strip_prefix('0'),
        ) {
            (Some(digits), ..) => (16, digits),
            (_, Some(digits), _) => (2, digits),
            (.., Some(digits)) => (8, digits),
            _ => (10, digits),
        },
    };
    let is_digits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    let magnitude = i64::from_str_radix(digits, radix)
        .ok()
        .filter(|_| is_digits)?;
    Some((sign * magnitude).into())
}

/// A float needs its point, and a sign in its exponent: `1e5` and `1.0e5` are texts.
fn float(text: &str) -> Option<Value> {
    let (sign, digits) = signed(text);
    let digits = digits.replace('_', "");
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            exponent
                .strip_prefix(['+', '-'])
                .map(|digits| (exponent, digits)),
        ),
        None => (digits.as_str(), Some(("", "0"))),
    };
    let (_, digits_of_exponent) = exponent?;
    let (whole, share) = mantissa.split_once('.')?;
    let is_digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let well_formed = is_digits(whole) && is_digits(share) && is_digits(digits_of_exponent);
    if !well_formed || digits_of_exponent.is_empty() || (whole.is_empty() && share.is_empty()) {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    Number::from_f64(sign as f64 * value).map(Value::Number)
}

fn signed(text: &str) -> (i64, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, value: Value) {
        assert_eq!(read(text), Ok(value), "{text}");
    }

    #[test]
    fn plain_scalars_mean_what_pyyaml_takes_them_for() {
        check(
            "[yes, No, on, true, ~, null, 12, -3, 0x1f, 017, 1_000, 1.5, 1e5, 1.0e+3, .5, 1:2, A, '1', \"no\"]",
            json!([
                true, false, true, true, null, null, 12, -3, 31, 15, 1000, 1.5, "1e5", 1000.0, 0.5,
                "1:2", "A", "1", "no"
            ]),
        );
        check("a:\nb: 1.0", json!({"a": null, "b": 1.0}));
    }

    #[test]
    fn functions_are_kept_by_name() {
        check(
            "process_docs: !function utils.process_docs",
            json!({"process_docs": {"!function": "utils.process_docs"}}),
        );
        assert!(
            read("a: !python/object x")
                .unwrap_err()
                .contains("unknown tag")
        );
    }

    #[test]
    fn anchors_merges_and_blocks_are_read() {
        check(
            "base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\ntext: |\n  a\n  b\nfolded: >-\n  a\n  b\n",
            json!({"base": {"x": 1, "y": 2}, "mine": {"y": 3, "x": 1}, "text": "a\nb\n", "folded": "a b"}),
        );
        check("'a\\n': \"b\\n\\\n  c\"", json!({"a\\n": "b\nc"}));
        check("", Value::Null);
    }

    #[test]
    fn what_is_no_yaml_is_refused() {
        for text in ["a: [1", "a: *missing", "\"a"] {
            assert!(read(text).is_err(), "{text}");
        }
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let reference = format!("*a{},", i - 1).repeat(10);
            bomb = format!("{bomb}a{i}: &a{i} [{reference}]\n");
        }
        assert!(read(&bomb).unwrap_err().contains("too much"));
    }
}
