//! What instructions are given with, and what most of them are decided by.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// The arguments of an instruction.
pub(super) type Arguments = Map<String, Value>;
/// Whether an instruction is kept, or what is wrong with its arguments.
pub(super) type Kept = Result<bool, String>;

pub(super) fn number(arguments: &Arguments, name: &str) -> Result<usize, String> {
    let value = arguments.get(name).and_then(Value::as_f64);
    let value = value.filter(|value| *value >= 0.0 && *value < 1e9);
    value
        .map(|value| value as usize)
        .ok_or_else(|| format!("the argument {name} is missing or no number"))
}

pub(super) fn word<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a str, String> {
    let value = arguments.get(name).and_then(Value::as_str);
    value.ok_or_else(|| format!("the argument {name} is missing or no text"))
}

pub(super) fn list<'a>(arguments: &'a Arguments, name: &str) -> Result<BTreeSet<&'a str>, String> {
    let value = arguments.get(name).and_then(Value::as_array);
    let value = value.ok_or_else(|| format!("the argument {name} is missing or no list"))?;
    Ok(value.iter().filter_map(Value::as_str).collect())
}

/// `less than` or `at least` a number.
pub(super) fn related(arguments: &Arguments, count: usize, limit: &str, relation: &str) -> Kept {
    let limit = number(arguments, limit)?;
    match word(arguments, relation)? {
        "less than" => Ok(count < limit),
        "at least" => Ok(count >= limit),
        other => Err(format!("the relation {other} is not known")),
    }
}

pub(super) fn at_least(arguments: &Arguments, name: &str, count: usize) -> Kept {
    Ok(count >= number(arguments, name)?)
}

/// How often one of the patterns written here is found.
pub(super) fn matches(pattern: &str, text: &str) -> usize {
    Regex::new(pattern)
        .expect("the pattern is fixed")
        .find_iter(text)
        .count()
}

/// A keyword is a pattern, as in the reference; one that is none stands for itself.
pub(super) fn keyword(word: &str, whole: bool) -> Regex {
    let pattern = |word: &str| {
        if whole {
            format!(r"\b(?:{word})\b")
        } else {
            word.to_owned()
        }
    };
    let build = |pattern: &str| RegexBuilder::new(pattern).case_insensitive(true).build();
    build(&pattern(word)).unwrap_or_else(|_| {
        build(&pattern(&regex::escape(word))).expect("an escaped word is a pattern")
    })
}
