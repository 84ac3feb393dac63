//! Literals of Python's language, read as `ast.literal_eval` reads them.

use serde_json::{Map, Number, Value};

use super::python;

/// Nesting beyond this is not read: no task needs it, and a deep one must not exhaust the stack.
const DEPTH: usize = 64;

/// `ast.literal_eval(text)`: lists, tuples, dictionaries, strings, numbers, `True`, `False`, `None`. None if it is no literal.
pub fn read(text: &str) -> Option<Value> {
    let mut reader = Reader {
        chars: text.trim().chars().collect(),
        at: 0,
    };
    let value = reader.value(0)?;
    reader.skip_blanks();
    (reader.at == reader.chars.len()).then_some(value)
}

struct Reader {
    chars: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn accept(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH {
            return None;
        }
        self.skip_blanks();
        match self.peek()? {
            '[' => self.sequence(']', depth),
            '(' => self.sequence(')', depth),
            '{' => self.braces(depth),
            '\'' | '"' => self.strings(),
            c if c.is_ascii_digit() || "+-.".contains(c) => self.number(),
            _ => self.name(),
        }
    }

    fn sequence(&mut self, end: char, depth: usize) -> Option<Value> {
        self.at += 1;
        let mut items = Vec::new();
        let mut comma = true;
        while !self.accept(end) {
            if !comma {
                return None;
            }
            items.push(self.value(depth + 1)?);
            comma = self.accept(',');
        }
        // `(x)` is x in brackets, `(x,)` a tuple of one.
        if end == ')' && items.len() == 1 && !comma {
            return items.pop();
        }
        Some(Value::Array(items))
    }

    fn braces(&mut self, depth: usize) -> Option<Value> {
        self.at += 1;
        let mut map = Map::new();
        let mut comma = true;
        while !self.accept('}') {
            if !comma {
                return None;
            }
            let key = python::text(&self.value(depth + 1)?);
            if !self.accept(':') {
                return None;
            }
            map.insert(key, self.value(depth + 1)?);
            comma = self.accept(',');
        }
        Some(Value::Object(map))
    }

    /// One string literal, or several side by side, which Python joins.
    fn strings(&mut self) -> Option<Value> {
        let mut joined = String::new();
        while let Some(quote @ ('\'' | '"')) = self.peek() {
            self.at += 1;
            self.string(quote, &mut joined)?;
            self.skip_blanks();
        }
        Some(Value::String(joined))
    }

    fn string(&mut self, quote: char, joined: &mut String) -> Option<()> {
        loop {
            match self.take()? {
                c if c == quote => return Some(()),
                '\n' => return None,
                '\\' => self.escape(joined)?,
                c => joined.push(c),
            }
        }
    }

    fn escape(&mut self, joined: &mut String) -> Option<()> {
        let c = self.take()?;
        match c {
            'n' => joined.push('\n'),
            'r' => joined.push('\r'),
            't' => joined.push('\t'),
            'a' => joined.push('\u{7}'),
            'b' => joined.push('\u{8}'),
            'f' => joined.push('\u{c}'),
            'v' => joined.push('\u{b}'),
            'x' => joined.push(self.code(2)?),
            'u' => joined.push(self.code(4)?),
            'U' => joined.push(self.code(8)?),
            '0' => joined.push('\0'),
            '\n' => {}
            '\\' | '\'' | '"' => joined.push(c),
            // An unknown escape stays as it is written.
            _ => joined.extend(['\\', c]),
        }
        Some(())
    }

    fn code(&mut self, digits: usize) -> Option<char> {
        let end = self.at + digits;
        let text: String = self.chars.get(self.at..end)?.iter().collect();
        self.at = end;
        char::from_u32(u32::from_str_radix(&text, 16).ok()?)
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
        {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at]
            .iter()
            .filter(|c| **c != '_')
            .collect();
        if let Ok(whole) = text.trim_start_matches('+').parse::<i64>() {
            return Some(whole.into());
        }
        let value: f64 = text.parse().ok()?;
        Number::from_f64(value).map(Value::Number)
    }

    fn name(&mut self) -> Option<Value> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.at += 1;
        }
        let name: String = self.chars[start..self.at].iter().collect();
        match name.as_str() {
            "None" => Some(Value::Null),
            "True" => Some(true.into()),
            "False" => Some(false.into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn literals_are_read() {
        for (text, value) in [
            (
                "['a', \"it's\", 'b\\'\\u00e9']",
                json!(["a", "it's", "b'é"]),
            ),
            ("(1, -2.5, 1e3)", json!([1, -2.5, 1000.0])),
            ("(1)", json!(1)),
            ("(1,)", json!([1])),
            (
                "{'x': [None, True], 2: 'y'}",
                json!({"x": [null, true], "2": "y"}),
            ),
            ("'a' 'b'", json!("ab")),
            ("[]", json!([])),
        ] {
            assert_eq!(read(text), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_literal_is_none() {
        for text in [
            "", "[1", "foo", "[1 2]", "f(1)", "1+", "'a", "{1, 2}", "[,]",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&"[".repeat(100_000)), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(texts in prop::collection::vec(".*", 0..5), number in any::<i64>()) {
            let value = json!([texts, number]);
            prop_assert_eq!(read(&python::repr(&value)), Some(value));
        }
    }
}
