//! The options a table was made with, in one line.

use super::Report;
use crate::html::Page;
use crate::text;
use serde_json::Value;
use std::collections::BTreeMap;

/// Prints the options of the files named: per program what all its files have in common, then what some do not.
pub(crate) fn print<'a>(
    report: &Report,
    page: &mut Page,
    files: impl IntoIterator<Item = &'a str>,
) {
    let files: Vec<&str> = files.into_iter().collect();
    let mut programs: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for provenance in report.tables.provenance_of(&files) {
        let seed = provenance.seed.map(|seed| format!("seed {seed}"));
        let mut all = settings(&provenance.settings);
        all.retain(|setting| Some(setting) != seed.as_ref());
        all.extend(seed);
        let program = format!("{} {}", provenance.program, provenance.version);
        programs.entry(program).or_default().push(all);
    }
    let lines: Vec<(String, String)> = programs
        .into_iter()
        .flat_map(|(program, runs)| lines(&program, runs))
        .collect();
    page.options(&lines);
}

fn lines(program: &str, mut runs: Vec<Vec<String>>) -> Vec<(String, String)> {
    let n = runs.len();
    runs.sort();
    runs.dedup();
    let shared: Vec<String> = runs[0]
        .iter()
        .filter(|setting| runs.iter().all(|run| run.contains(setting)))
        .cloned()
        .collect();
    let times = if n > 1 {
        format!(" (×{n})")
    } else {
        String::new()
    };
    let mut lines = vec![(format!("{program}{times}"), shared.join(" · "))];
    if runs.len() > 1 {
        let own = |run: &Vec<String>| {
            run.iter()
                .filter(|setting| !shared.contains(setting))
                .cloned()
                .collect::<Vec<_>>()
        };
        lines.extend(
            runs.iter()
                .map(own)
                .filter(|own| !own.is_empty())
                .map(|own| ("–".to_owned(), own.join(" · "))),
        );
    }
    lines
}

/// Settings as `name value`, a nested one by its last name unless another has the same; what is null, false or empty is
/// left out.
pub(crate) fn settings(value: &Value) -> Vec<String> {
    let mut all = Vec::new();
    flatten("", value, &mut all);
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let names: Vec<String> = all.iter().map(|(name, _)| last(name)).collect();
    let is_unique = |name: &String| names.iter().filter(|other| *other == name).count() == 1;
    let shown = all.iter().zip(&names).map(|((full, value), short)| {
        let name = if is_unique(short) { short } else { full };
        format!("{name} {value}").trim_end().to_owned()
    });
    let mut shown: Vec<String> = shown.collect();
    // The same seed, say, written down twice.
    let copies = shown.clone();
    shown.retain(|setting| {
        !copies
            .iter()
            .any(|other| other != setting && setting.ends_with(&format!(".{other}")))
    });
    shown
}

/// Every setting by its full name, joined by dots.
fn flatten(name: &str, value: &Value, all: &mut Vec<(String, String)>) {
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
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            all.push((name.to_owned(), items.join(",")));
        }
        Value::Bool(true) => all.push((name.to_owned(), String::new())),
        value => all.push((name.to_owned(), plain(value))),
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
        let value = json!({
            "k": 32, "resume": false, "none": null, "at": {"layer": 2, "k": 8}, "alpha": [1.5, 2.0], "strict": true,
        });
        assert_eq!(
            settings(&value),
            ["k 32", "layer 2", "at.k 8", "alpha 1.5,2", "strict"]
        );
    }

    #[test]
    fn what_runs_share_is_said_once() {
        let run = |model: &str| vec![format!("model {model}"), "seed 0".to_owned()];
        let found = lines("evaluate run", vec![run("rl"), run("base"), run("rl")]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            found,
            [
                pair("evaluate run (×3)", "seed 0"),
                pair("–", "model base"),
                pair("–", "model rl")
            ]
        );
    }
}
