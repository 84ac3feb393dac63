//! A tiny model, and lines of JSON.

mod written;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// A model that reads and writes single characters: the printable ones and the line end.
pub(crate) fn model(to: &Path) {
    let mut tokens: Vec<String> = ["<end>".to_owned(), "\n".to_owned()].into();
    tokens.extend((b' '..=b'~').map(|byte| char::from(byte).to_string()));
    let template = "{% for m in messages %}[{{m.role}}]{{m.content}}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    let settings = json!({"eos_token": "<end>", "chat_template": template});
    written::written(to, &tokens, "<end>", 7, &settings);
}

/// The lines of a file, each a JSON value.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
