//! Filters: from what a model answered to what is compared.

use serde_json::{Map, Value};

use super::config::{Pipeline, Step};
use super::documents::Document;
use super::regex::{self, Found};

/// The name of the pipeline of a task that has none.
pub const NONE: &str = "none";

/// The pipelines of a task: those of its file, or one that takes the first response.
pub fn pipelines(listed: Option<&Vec<Pipeline>>) -> Vec<Pipeline> {
    listed.cloned().unwrap_or_else(|| {
        vec![Pipeline {
            name: NONE.to_owned(),
            steps: vec![Step {
                function: "take_first".to_owned(),
                options: Map::new(),
            }],
        }]
    })
}

/// Refuses filters and options that are not known, before a model is asked anything.
pub fn check(pipeline: &Pipeline) -> Result<(), String> {
    let document = serde_json::json!({"choices": ["a"]});
    let document = document.as_object().expect("it was written as one");
    let mut responses = Value::Array(vec!["x".into(); 1]);
    for step in &pipeline.steps {
        let mut step = step.clone();
        if step.function == "take_first_k" {
            step.options.insert("k".to_owned(), 1.into());
        }
        responses = apply_step(&step, responses, document)
            .map_err(|cause| format!("filter {}: {cause}", pipeline.name))?;
    }
    Ok(())
}

/// Sends the responses to one request through a pipeline: a list of them, or one.
pub fn apply(
    pipeline: &Pipeline,
    responses: Vec<Value>,
    document: &Document,
) -> Result<Value, String> {
    let mut responses = Value::Array(responses);
    for step in &pipeline.steps {
        responses = apply_step(step, responses, document)?;
    }
    Ok(responses)
}

/// [`apply`] for one response alone, as if it were the only one given.
pub fn apply_one(
    pipeline: &Pipeline,
    response: Value,
    document: &Document,
) -> Result<Value, String> {
    let mut alone = pipeline.clone();
    alone.steps.retain(|step| step.function != "take_first_k");
    match apply(&alone, vec![response], document)? {
        Value::Array(mut one) if one.len() == 1 => Ok(one.remove(0)),
        other => Ok(other),
    }
}

fn apply_step(step: &Step, responses: Value, document: &Document) -> Result<Value, String> {
    let options = &step.options;
    let Value::Array(responses) = responses else {
        return Err(format!(
            "`{}` needs a list of responses, and an earlier step left one",
            step.function
        ));
    };
    let each = |f: &dyn Fn(&str) -> Value| {
        Ok(responses
            .iter()
            .map(|one| f(one.as_str().unwrap_or_default()))
            .collect())
    };
    match step.function.as_str() {
        "take_first" => responses
            .into_iter()
            .next()
            .ok_or_else(|| "no response".to_owned()),
        "take_first_k" => first_k(responses, options),
        "majority_vote" => Ok(Value::Array(vec![majority(&responses)])),
        "regex" => by_regex(&responses, options),
        "multi_choice_regex" => by_choice(&responses, options, document),
        "regex_pos" => by_tag(&responses),
        "remove_whitespace" | "strip" => each(&|text| text.trim().into()),
        "lowercase" => each(&|text| text.to_lowercase().into()),
        "uppercase" => each(&|text| text.to_uppercase().into()),
        "map" => mapped(&responses, options),
        "decontaminate" => Ok(Value::Array(responses)),
        other => Err(format!("`{other}` is not known")),
    }
}

fn first_k(mut responses: Vec<Value>, options: &Map<String, Value>) -> Result<Value, String> {
    let k = options
        .get("k")
        .and_then(Value::as_u64)
        .ok_or("`take_first_k` needs `k`")? as usize;
    if responses.len() < k {
        return Err(format!(
            "{} responses are fewer than the {k} to take: raise `repeats`",
            responses.len()
        ));
    }
    responses.truncate(k);
    Ok(Value::Array(responses))
}

/// The response that occurs most; the first of several.
fn majority(responses: &[Value]) -> Value {
    let count = |one: &Value| responses.iter().filter(|other| *other == one).count();
    let most = responses.iter().map(count).max().unwrap_or(0);
    responses
        .iter()
        .find(|one| count(one) == most)
        .cloned()
        .unwrap_or_default()
}

fn text_option<'a>(options: &'a Map<String, Value>, name: &str, default: &'a str) -> &'a str {
    options.get(name).and_then(Value::as_str).unwrap_or(default)
}

const DEFAULT_PATTERN: &str = r"#### (\-?[0-9\.\,]+)";
const DEFAULT_FALLBACK: &str = "[invalid]";

/// The match that `group_select` names, its first group that took part, without blanks around it.
fn selected(found: &[Found], select: i64) -> Option<String> {
    let place = if select < 0 {
        found.len() as i64 + select
    } else {
        select
    };
    let text = match found.get(usize::try_from(place).ok()?)? {
        Found::One(text) => text,
        Found::Groups(groups) => groups.iter().find(|group| !group.is_empty())?,
    };
    Some(text.trim().to_owned())
}

fn by_regex(responses: &[Value], options: &Map<String, Value>) -> Result<Value, String> {
    let regex = regex::compile(text_option(options, "regex_pattern", DEFAULT_PATTERN))?;
    let select = options
        .get("group_select")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let fallback = options
        .get("fallback")
        .cloned()
        .unwrap_or_else(|| DEFAULT_FALLBACK.into());
    let one = |response: &Value| -> Result<Value, String> {
        let found = regex::find_all(&regex, response.as_str().unwrap_or_default())?;
        Ok(selected(&found, select).map_or_else(|| fallback.clone(), Value::String))
    };
    responses.iter().map(one).collect()
}

/// A letter in brackets; else the text of a choice; else `: A`. Given back as `(A)`.
fn by_choice(
    responses: &[Value],
    options: &Map<String, Value>,
    document: &Document,
) -> Result<Value, String> {
    let regex = regex::compile(text_option(options, "regex_pattern", DEFAULT_PATTERN))?;
    let select = options
        .get("group_select")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let choices = document.get("choices").and_then(Value::as_array);
    let choices = choices.ok_or("`multi_choice_regex` needs a column `choices` that is a list")?;
    let letters = ('A'..='Z').map(String::from);
    let mut texts = Vec::new();
    for (choice, letter) in choices.iter().zip(letters) {
        texts.push((
            plain(choice.as_str().unwrap_or_default().trim(), options)?,
            letter,
        ));
    }
    // The longest first: a choice that begins another must not hide it.
    let mut patterns: Vec<String> = texts.iter().map(|(text, _)| regex::escape(text)).collect();
    patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.chars().count()));
    let by_text = regex::compile(&patterns.join("|"))?;
    let letters: Vec<&str> = texts.iter().map(|(_, letter)| letter.as_str()).collect();
    let by_letter = regex::compile(&format!(r":[\s]*({})", letters.join("|")))?;
    let fallback = text_option(options, "fallback", DEFAULT_FALLBACK);
    let one = |response: &Value| -> Result<Value, String> {
        let response = response.as_str().unwrap_or_default();
        let pick = |regex, text: &str| {
            Ok::<_, String>(
                selected(&regex::find_all(regex, text)?, select).filter(|text| !text.is_empty()),
            )
        };
        if let Some(found) = pick(&regex, response)? {
            return Ok(found.into());
        }
        if let Some(found) = pick(&by_text, &plain(response, options)?)? {
            let letter = texts.iter().rev().find(|(text, _)| *text == found);
            return Ok(letter
                .map_or(found, |(_, letter)| format!("({letter})"))
                .into());
        }
        let found = pick(&by_letter, response)?;
        Ok(found
            .map_or_else(|| fallback.to_owned(), |letter| format!("({letter})"))
            .into())
    };
    responses.iter().map(one).collect()
}

fn plain(text: &str, options: &Map<String, Value>) -> Result<String, String> {
    let is_set = |name: &str| options.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut text = text.to_owned();
    for pattern in options
        .get("regexes_to_ignore")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let regex = regex::compile(pattern.as_str().unwrap_or_default())?;
        text = regex::replace(&regex, &text, "", 0)?;
    }
    if is_set("ignore_case") {
        text = text.to_lowercase();
    }
    if is_set("ignore_punctuation") {
        text = regex::replace(&regex::compile(r"\p{P}")?, &text, "", 0)?;
    }
    Ok(text)
}

/// The tags of `('word', 'TAG')` pairs.
fn by_tag(responses: &[Value]) -> Result<Value, String> {
    let regex = regex::compile(r"\('([^']*)', '([^']*)'\)")?;
    let one = |response: &Value| -> Result<Value, String> {
        let mut tags = Vec::new();
        for found in regex::find_all(&regex, response.as_str().unwrap_or_default())? {
            if let Found::Groups(groups) = found {
                tags.extend(groups.into_iter().nth(1).map(Value::from));
            }
        }
        Ok(Value::Array(if tags.is_empty() {
            vec!["invalid".into()]
        } else {
            tags
        }))
    };
    responses.iter().map(one).collect()
}

fn mapped(responses: &[Value], options: &Map<String, Value>) -> Result<Value, String> {
    let mapping = match options.get("mapping_dict") {
        None => &Map::new(),
        Some(Value::Object(mapping)) => mapping,
        Some(other) => return Err(format!("`mapping_dict` is not a mapping but {other}")),
    };
    let default = options.get("default_value").cloned().unwrap_or_default();
    let one = |response: &Value| {
        mapping
            .get(&super::python::text(response))
            .unwrap_or(&default)
            .clone()
    };
    Ok(responses.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::yaml;
    use serde_json::json;

    fn run(steps: &str, responses: &[&str]) -> Result<Value, String> {
        let pipeline = json!({"name": "p", "filter": yaml::read(steps).unwrap()});
        let pipeline: Pipeline = serde_json::from_value(pipeline).unwrap();
        let document = json!({"choices": ["Guilty", "Guilty of Romance", "No."]});
        let responses = responses.iter().map(|text| Value::from(*text)).collect();
        apply(&pipeline, responses, document.as_object().unwrap())
    }

    #[test]
    fn expressions_select_a_match_and_a_group() {
        let strict =
            "[{function: regex, regex_pattern: '#### (\\-?[0-9\\.\\,]+)'}, {function: take_first}]";
        assert_eq!(run(strict, &["so #### 1,234 x"]), Ok(json!("1,234")));
        assert_eq!(run(strict, &["none"]), Ok(json!("[invalid]")));
        let flexible = "[{function: regex, group_select: -1, regex_pattern: '(-?[$0-9.,]{2,})|(-?[0-9]+)'}, {function: take_first}]";
        for (text, found) in [
            ("The answer is 18 dollars...", "..."),
            ("18 (see eq. 3).", "3"),
            ("5-3", "-3"),
            ("18.00", "18.00"),
        ] {
            assert_eq!(run(flexible, &[text]), Ok(json!(found)), "{text}");
        }
    }

    #[test]
    fn votes_maps_and_cases() {
        assert_eq!(
            run("[{function: majority_vote}]", &["a", "b", "b", "c"]),
            Ok(json!(["b"]))
        );
        assert_eq!(
            run(
                "[{function: majority_vote}, {function: take_first}]",
                &["a", "b"]
            ),
            Ok(json!("a"))
        );
        assert_eq!(
            run("[{function: take_first_k, k: 2}]", &["a", "b", "c"]),
            Ok(json!(["a", "b"]))
        );
        assert!(
            run("[{function: take_first_k, k: 2}]", &["a"])
                .unwrap_err()
                .contains("repeats")
        );
        assert_eq!(
            run(
                "[{function: remove_whitespace}, {function: lowercase}, {function: map, mapping_dict: {a: 1}, default_value: 0}]",
                &[" A", "b"]
            ),
            Ok(json!([1, 0]))
        );
        assert!(
            run("[{function: nothing}]", &["a"])
                .unwrap_err()
                .contains("`nothing` is not known")
        );
        assert!(run("[{function: take_first}, {function: lowercase}]", &["a"]).is_err());
    }

    #[test]
    fn choices_are_found_by_letter_by_text_and_after_a_colon() {
        let steps = "[{function: multi_choice_regex, group_select: -1, ignore_case: true, ignore_punctuation: true, regex_pattern: '(\\([A-Z]\\))'}, {function: take_first}]";
        for (text, found) in [
            ("(A) or (B)", "(B)"),
            ("guilty of romance!", "(B)"),
            ("I say: C", "(C)"),
            ("eh", "[invalid]"),
        ] {
            assert_eq!(run(steps, &[text]), Ok(json!(found)), "{text}");
        }
    }
}
