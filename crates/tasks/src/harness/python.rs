//! Python's spelling of values: what its templates print, and what its hashes are taken of.

use serde_json::{Number, Value};

/// `str(value)`.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => spelled(number),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let pair =
                |(key, value): (&String, &Value)| format!("{}: {}", quoted(key), repr(value));
            let pairs: Vec<String> = map.iter().map(pair).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

fn spelled(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => float(value),
        _ => number.to_string(),
    }
}

/// `repr` of a float: the shortest digits, an exponent below 1e-4 and from 1e16 on.
pub fn float(value: f64) -> String {
    if !value.is_finite() {
        let name = if value.is_nan() { "nan" } else { "inf" };
        return if value < 0.0 {
            format!("-{name}")
        } else {
            name.to_owned()
        };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific
        .split_once('e')
        .expect("this format always has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a whole number");
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A string literal: single quotes unless only double ones need no escape.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut literal = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            c if c == quote => literal.extend(['\\', c]),
            c if is_printable(c) => literal.push(c),
            c => literal.push_str(&escaped(c as u32)),
        }
    }
    literal.push(quote);
    literal
}

fn escaped(code: u32) -> String {
    match code {
        0..=0xff => format!("\\x{code:02x}"),
        0x100..=0xffff => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    }
}

/// What Python prints as it is: no control, no space but the plain one, no invisible format character.
fn is_printable(c: char) -> bool {
    let is_format =
        matches!(c as u32, 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x2064 | 0xfeff);
    c == ' ' || !(c.is_control() || c.is_whitespace() || is_format)
}

/// `json.dumps(value, indent=…, ensure_ascii=False)`: on one line with `, ` and `: `, or indented.
pub fn dumps(value: &Value, indent: Option<usize>) -> String {
    let mut json = String::new();
    write_json(value, indent, 0, &mut json);
    json
}

fn write_json(value: &Value, indent: Option<usize>, depth: usize, json: &mut String) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let name = float(number.as_f64().unwrap_or(f64::NAN));
            json.push_str(&name.replace("inf", "Infinity").replace("nan", "NaN"));
        }
        Value::Array(items) if !items.is_empty() => {
            json.push('[');
            for (place, item) in items.iter().enumerate() {
                separate(place, indent, depth + 1, json);
                write_json(item, indent, depth + 1, json);
            }
            close(indent, depth, json, ']');
        }
        Value::Object(map) if !map.is_empty() => {
            json.push('{');
            for (place, (key, item)) in map.iter().enumerate() {
                separate(place, indent, depth + 1, json);
                json.push_str(&Value::from(key.as_str()).to_string());
                json.push_str(": ");
                write_json(item, indent, depth + 1, json);
            }
            close(indent, depth, json, '}');
        }
        other => json.push_str(&other.to_string()),
    }
}

fn separate(place: usize, indent: Option<usize>, depth: usize, json: &mut String) {
    match (place, indent) {
        (0, None) => {}
        (_, None) => json.push_str(", "),
        (_, Some(width)) => {
            json.push_str(if place == 0 { "\n" } else { ",\n" });
            json.extend(std::iter::repeat_n(' ', width * depth));
        }
    }
}

fn close(indent: Option<usize>, depth: usize, json: &mut String, bracket: char) {
    if let Some(width) = indent {
        json.push('\n');
        json.extend(std::iter::repeat_n(' ', width * depth));
    }
    json.push(bracket);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_are_spelled_as_python_spells_them() {
        for (value, spelled) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e300, "-2.5e+300"),
            (1.0 / 3.0, "0.3333333333333333"),
        ] {
            assert_eq!(float(value), spelled);
        }
    }

    #[test]
    fn values_are_printed_as_python_prints_them() {
        let value = json!({"a": [1, 2.0, "it's", "\"", null, true], "b": "x\n\u{a0}é"});
        assert_eq!(
            text(&value),
            r#"{'a': [1, 2.0, "it's", '"', None, True], 'b': 'x\n\xa0é'}"#
        );
        assert_eq!(text(&json!("x")), "x");
    }

    #[test]
    fn json_has_the_blanks_and_the_floats_of_python() {
        let value = json!({"a": [1, 1e-5], "b": {}, "c": "é\n"});
        assert_eq!(
            dumps(&value, None),
            r#"{"a": [1, 1e-05], "b": {}, "c": "é\n"}"#
        );
        assert_eq!(
            dumps(&value, Some(2)),
            "{\n  \"a\": [\n    1,\n    1e-05\n  ],\n  \"b\": {},\n  \"c\": \"é\\n\"\n}"
        );
    }
}
