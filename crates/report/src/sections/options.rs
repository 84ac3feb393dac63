//! The options a table was made with, in one line.

use super::Report;
use crate::html::Page;
use crate::text;
use serde_json::Value;
use std::collections::BTreeMap;

/// Prints the options of the files named: one line per program and setting, with the files it made.
pub(crate) fn print<'a>(
    report: &Report,
    page: &mut Page,
    files: impl IntoIterator<Item = &'a str>,
) {
    let mut lines: BTreeMap<(String, String), usize> = BTreeMap::new();
    let files: Vec<&str> = files.into_iter().collect();
    for provenance in report.tables.provenance_of(&files) {
        let seed = provenance.seed.map(|seed| format!("seed {seed}"));
        let settings: Vec<String> = settings(&provenance.settings)
            .into_iter()
            .chain(seed)
            .collect();
        let what = format!("{} {}", provenance.program, provenance.version);
        *lines.entry((what, settings.join(" · "))).or_default() += 1;
    }
    let many = |n: usize| {
        if n > 1 {
            format!(" (×{n})")
        } else {
            String::new()
        }
    };
    let lines: Vec<_> = lines
        .into_iter()
        .map(|((what, settings), n)| (format!("{what}{}", many(n)), settings))
        .collect();
    page.options(&lines);
}

/// Settings as `name value`, nested names joined by a dot; what is null, false or empty is left out.
pub(crate) fn settings(value: &Value) -> Vec<String> {
    let mut all = Vec::new();
    flatten("", value, &mut all);
    all
}

fn flatten(name: &str, value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(false) => {}
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name}.{key}")
                };
                flatten(&name, value, all);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        Value::Array(items) => all.push(format!(
            "{name} {}",
            items.iter().map(plain).collect::<Vec<_>>().join(",")
        )),
        Value::Bool(true) => all.push(name.to_owned()),
        value => all.push(format!("{name} {}", plain(value)).trim().to_owned()),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            text::number(number.as_f64().unwrap_or(f64::NAN))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_read_as_names_and_values() {
        let value = json!({"k": 32, "rule": "batch-topk", "resume": false, "none": null, "at": {"layer": 2}, "alpha": [1.5, 2.0], "strict": true});
        assert_eq!(
            settings(&value),
            [
                "k 32",
                "rule batch-topk",
                "at.layer 2",
                "alpha 1.5,2",
                "strict"
            ]
        );
    }
}
