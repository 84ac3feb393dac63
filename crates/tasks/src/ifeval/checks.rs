//! The kinds of instructions, one function each.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::{language, sentences, words};

type Arguments = Map<String, Value>;
type Kept = Result<bool, String>;

/// The names of all kinds, as data sets write them.
pub const KINDS: [&str; 25] = [
    "keywords:existence",
    "keywords:frequency",
    "keywords:forbidden_words",
    "keywords:letter_frequency",
    "language:response_language",
    "length_constraints:number_sentences",
    "length_constraints:number_paragraphs",
    "length_constraints:number_words",
    "length_constraints:nth_paragraph_first_word",
    "detectable_content:number_placeholders",
    "detectable_content:postscript",
    "detectable_format:number_bullet_lists",
    "detectable_format:constrained_response",
    "detectable_format:number_highlighted_sections",
    "detectable_format:multiple_sections",
    "detectable_format:json_format",
    "detectable_format:title",
    "combination:two_responses",
    "combination:repeat_prompt",
    "startend:end_checker",
    "startend:quotation",
    "change_case:capital_word_frequency",
    "change_case:english_capital",
    "change_case:english_lowercase",
    "punctuation:no_comma",
];

/// Whether a text keeps an instruction.
pub(super) fn check(id: &str, arguments: &Arguments, text: &str) -> Kept {
    match id {
        "keywords:existence" => existence(arguments, text),
        "keywords:frequency" => frequency(arguments, text),
        "keywords:forbidden_words" => forbidden(arguments, text),
        "keywords:letter_frequency" => letter_frequency(arguments, text),
        "language:response_language" => response_language(arguments, text),
        "length_constraints:number_sentences" => related(
            arguments,
            sentences::count(text),
            "num_sentences",
            "relation",
        ),
        "length_constraints:number_paragraphs" => number_paragraphs(arguments, text),
        "length_constraints:number_words" => {
            related(arguments, words::count(text), "num_words", "relation")
        }
        "length_constraints:nth_paragraph_first_word" => first_word(arguments, text),
        "detectable_content:number_placeholders" => {
            at_least(arguments, "num_placeholders", matches(r"\[.*?\]", text))
        }
        "detectable_content:postscript" => postscript(arguments, text),
        "detectable_format:number_bullet_lists" => bullets(arguments, text),
        "detectable_format:constrained_response" => Ok(constrained(text)),
        "detectable_format:number_highlighted_sections" => highlights(arguments, text),
        "detectable_format:multiple_sections" => sections(arguments, text),
        "detectable_format:json_format" => Ok(is_json(text)),
        "detectable_format:title" => Ok(has_title(text)),
        "combination:two_responses" => Ok(two_responses(text)),
        "combination:repeat_prompt" => repeats(arguments, text),
        "startend:end_checker" => ends(arguments, text),
        "startend:quotation" => Ok(quoted(text)),
        "change_case:capital_word_frequency" => related(
            arguments,
            words::capitals(text),
            "capital_frequency",
            "capital_relation",
        ),
        "change_case:english_capital" => Ok(words::is_upper(text) && is_english(text)),
        "change_case:english_lowercase" => Ok(words::is_lower(text) && is_english(text)),
        "punctuation:no_comma" => Ok(!text.contains(',')),
        _ => Err(format!("the instruction {id} is not known")),
    }
}

fn number(arguments: &Arguments, name: &str) -> Result<usize, String> {
    let value = arguments.get(name).and_then(Value::as_f64);
    let value = value.filter(|value| *value >= 0.0 && *value < 1e9);
    value
        .map(|value| value as usize)
        .ok_or_else(|| format!("the argument {name} is missing or no number"))
}

fn word<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a str, String> {
    let value = arguments.get(name).and_then(Value::as_str);
    value.ok_or_else(|| format!("the argument {name} is missing or no text"))
}

fn list<'a>(arguments: &'a Arguments, name: &str) -> Result<BTreeSet<&'a str>, String> {
    let value = arguments.get(name).and_then(Value::as_array);
    let value = value.ok_or_else(|| format!("the argument {name} is missing or no list"))?;
    Ok(value.iter().filter_map(Value::as_str).collect())
}

/// `less than` or `at least` a number.
fn related(arguments: &Arguments, count: usize, limit: &str, relation: &str) -> Kept {
    let limit = number(arguments, limit)?;
    match word(arguments, relation)? {
        "less than" => Ok(count < limit),
        "at least" => Ok(count >= limit),
        other => Err(format!("the relation {other} is not known")),
    }
}

fn at_least(arguments: &Arguments, name: &str, count: usize) -> Kept {
    Ok(count >= number(arguments, name)?)
}

/// How often one of the patterns written here is found.
fn matches(pattern: &str, text: &str) -> usize {
    Regex::new(pattern)
        .expect("the pattern is fixed")
        .find_iter(text)
        .count()
}

/// A keyword is a pattern, as in the reference; one that is none stands for itself.
fn keyword(word: &str, whole: bool) -> Regex {
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

fn existence(arguments: &Arguments, text: &str) -> Kept {
    Ok(list(arguments, "keywords")?
        .iter()
        .all(|word| keyword(word, false).is_match(text)))
}

fn frequency(arguments: &Arguments, text: &str) -> Kept {
    let count = keyword(word(arguments, "keyword")?.trim(), false)
        .find_iter(text)
        .count();
    related(arguments, count, "frequency", "relation")
}

fn forbidden(arguments: &Arguments, text: &str) -> Kept {
    Ok(!list(arguments, "forbidden_words")?
        .iter()
        .any(|word| keyword(word, true).is_match(text)))
}

fn letter_frequency(arguments: &Arguments, text: &str) -> Kept {
    let letter = word(arguments, "letter")?.trim().to_lowercase();
    let mut letters = letter.chars();
    let (Some(letter), None) = (letters.next(), letters.next()) else {
        return Err("the argument letter is no single letter".to_owned());
    };
    let count = text.to_lowercase().chars().filter(|c| *c == letter).count();
    related(arguments, count, "let_frequency", "let_relation")
}

fn response_language(arguments: &Arguments, text: &str) -> Kept {
    let wanted = word(arguments, "language")?;
    Ok(language::detect(text).is_none_or(|found| found == wanted))
}

/// A text without letters says nothing against English.
fn is_english(text: &str) -> bool {
    language::detect(&text.to_lowercase()).is_none_or(|found| found == "en")
}

fn number_paragraphs(arguments: &Arguments, text: &str) -> Kept {
    let divider = Regex::new(r"\s?\*\*\*\s?").expect("the pattern is fixed");
    let paragraphs: Vec<&str> = divider.split(text).collect();
    let last = paragraphs.len() - 1;
    let empty = |at: usize| paragraphs[at].trim().is_empty();
    if (1..last).any(empty) {
        return Ok(false);
    }
    let outside = usize::from(empty(0)) + usize::from(last > 0 && empty(last));
    Ok(paragraphs.len() - outside == number(arguments, "num_paragraphs")?)
}

fn first_word(arguments: &Arguments, text: &str) -> Kept {
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    let count = paragraphs
        .iter()
        .filter(|paragraph| !paragraph.trim().is_empty())
        .count();
    let nth = number(arguments, "nth_paragraph")?;
    if nth == 0 || nth > count {
        return Ok(false);
    }
    let Some(first) = paragraphs[nth - 1].split_whitespace().next() else {
        return Ok(false);
    };
    let first = first.trim_start_matches('\'').trim_start_matches('"');
    let first: String = first
        .chars()
        .take_while(|c| !".,?!'\"".contains(*c))
        .collect();
    let wanted = word(arguments, "first_word")?.to_lowercase();
    Ok(count == number(arguments, "num_paragraphs")? && first.to_lowercase() == wanted)
}

fn postscript(arguments: &Arguments, text: &str) -> Kept {
    let marker = word(arguments, "postscript_marker")?.trim();
    let pattern = match marker {
        "P.P.S" => r"p\.\s?p\.\s?s".to_owned(),
        "P.S." => r"p\.\s?s\.".to_owned(),
        other => other.to_lowercase(),
    };
    Ok(keyword(&pattern, false).is_match(&text.to_lowercase()))
}

fn bullets(arguments: &Arguments, text: &str) -> Kept {
    let count = matches(r"(?m)^\s*\*[^\*].*$", text) + matches(r"(?m)^\s*-.*$", text);
    Ok(count == number(arguments, "num_bullets")?)
}

fn constrained(text: &str) -> bool {
    [
        "My answer is yes.",
        "My answer is no.",
        "My answer is maybe.",
    ]
    .iter()
    .any(|answer| text.contains(answer))
}

fn highlights(arguments: &Arguments, text: &str) -> Kept {
    let marked = |pattern: &str| {
        let pattern = Regex::new(pattern).expect("the pattern is fixed");
        let some = |found: &regex::Match| !found.as_str().trim_matches('*').trim().is_empty();
        pattern.find_iter(text).filter(some).count()
    };
    at_least(
        arguments,
        "num_highlights",
        marked(r"\*[^\n\*]*\*") + marked(r"\*\*[^\n\*]*\*\*"),
    )
}

fn sections(arguments: &Arguments, text: &str) -> Kept {
    let splitter = word(arguments, "section_spliter")?.trim();
    let build = |splitter: &str| Regex::new(&format!(r"\s?(?:{splitter})\s?\d+\s?"));
    let pattern = build(splitter).or_else(|_| build(&regex::escape(splitter)));
    let pattern = pattern.map_err(|error| error.to_string())?;
    at_least(arguments, "num_sections", pattern.find_iter(text).count())
}

fn is_json(text: &str) -> bool {
    let mut text = text.trim();
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    let text = text.strip_suffix("```").unwrap_or(text).trim();
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn has_title(text: &str) -> bool {
    let pattern = Regex::new(r"<<[^\n]+>>").expect("the pattern is fixed");
    pattern.find_iter(text).any(|title| {
        !title
            .as_str()
            .trim_start_matches('<')
            .trim_end_matches('>')
            .trim()
            .is_empty()
    })
}

fn two_responses(text: &str) -> bool {
    let parts: Vec<&str> = text.split("******").map(str::trim).collect();
    let last = parts.len() - 1;
    let hole = parts
        .iter()
        .enumerate()
        .any(|(at, part)| part.is_empty() && at != 0 && at != last);
    let responses: Vec<&&str> = parts.iter().filter(|part| !part.is_empty()).collect();
    !hole && responses.len() == 2 && responses[0] != responses[1]
}

fn repeats(arguments: &Arguments, text: &str) -> Kept {
    let prompt = word(arguments, "prompt_to_repeat")?.trim().to_lowercase();
    Ok(text.trim().to_lowercase().starts_with(&prompt))
}

fn ends(arguments: &Arguments, text: &str) -> Kept {
    let phrase = word(arguments, "end_phrase")?.trim().to_lowercase();
    Ok(text
        .trim()
        .trim_matches('"')
        .to_lowercase()
        .ends_with(&phrase))
}

fn quoted(text: &str) -> bool {
    let text = text.trim();
    text.len() > 1 && text.starts_with('"') && text.ends_with('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Instruction, arguments, a text that keeps it, one that does not.
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn cases() -> Vec<(&'static str, Value, &'static str, &'static str)> {
        vec![
            (
                "keywords:existence",
                json!({"keywords": ["Alpha", "beta"]}),
                "alphabet and BETA",
                "alpha only",
            ),
            (
                "keywords:frequency",
                json!({"keyword": "cat", "frequency": 2, "relation": "at least"}),
                "Cat, cats",
                "one cat",
            ),
            (
                "keywords:forbidden_words",
                json!({"forbidden_words": ["cat"]}),
                "concatenate",
                "a Cat.",
            ),
            (
                "keywords:letter_frequency",
                json!({"letter": "e", "let_frequency": 3, "let_relation": "less than"}),
                "Eel",
                "Eel eel",
            ),
            (
                "language:response_language",
                json!({"language": "de"}),
                "Das ist nicht so einfach, wie es aussieht.",
                "This is not as easy as it looks.",
            ),
            (
                "length_constraints:number_sentences",
                json!({"num_sentences": 3, "relation": "less than"}),
                "One. Two!",
                "One. Two! Three?",
            ),
            (
                "length_constraints:number_paragraphs",
                json!({"num_paragraphs": 2}),
                "One\n***\nTwo\n***",
                "One\n***\n***\nTwo",
            ),
            (
                "length_constraints:number_words",
                json!({"num_words": 3, "relation": "at least"}),
                "it's so",
                "just two",
            ),
            (
                "length_constraints:nth_paragraph_first_word",
                json!({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "hello"}),
                "Hi.\n\nHello, you.",
                "Hello.\n\nHi.",
            ),
            (
                "detectable_content:number_placeholders",
                json!({"num_placeholders": 2}),
                "[name] lives in [town]",
                "[name] only",
            ),
            (
                "detectable_content:postscript",
                json!({"postscript_marker": "P.S."}),
                "Bye.\nP. S. more",
                "Bye. PS more",
            ),
            (
                "detectable_format:number_bullet_lists",
                json!({"num_bullets": 2}),
                "* one\n- two",
                "* one\n* two\n* three",
            ),
            (
                "detectable_format:constrained_response",
                json!({}),
                "My answer is maybe.",
                "Perhaps.",
            ),
            (
                "detectable_format:number_highlighted_sections",
                json!({"num_highlights": 2}),
                "*one* and *two*",
                "*one* and **",
            ),
            (
                "detectable_format:multiple_sections",
                json!({"section_spliter": "Section", "num_sections": 2}),
                "Section 1\na\nSection 2\nb",
                "Section 1\na",
            ),
            (
                "detectable_format:json_format",
                json!({}),
                "```json\n{\"a\": [1]}\n```",
                "{a: 1}",
            ),
            (
                "detectable_format:title",
                json!({}),
                "<<A title>>\ntext",
                "<<>> text",
            ),
            (
                "combination:two_responses",
                json!({}),
                "one\n******\ntwo",
                "one\n******\none",
            ),
            (
                "combination:repeat_prompt",
                json!({"prompt_to_repeat": "Say hi."}),
                "say hi. Hi!",
                "Hi! Say hi.",
            ),
            (
                "startend:end_checker",
                json!({"end_phrase": "The end."}),
                "So it was. the end.\"",
                "The end. Or not",
            ),
            ("startend:quotation", json!({}), " \"quoted\" ", "\"half"),
            (
                "change_case:capital_word_frequency",
                json!({"capital_frequency": 2, "capital_relation": "at least"}),
                "NASA and ESA.",
                "NASA and Esa",
            ),
            (
                "change_case:english_capital",
                json!({}),
                "THIS IS THE ANSWER TO IT.",
                "This is the answer.",
            ),
            (
                "change_case:english_lowercase",
                json!({}),
                "this is the answer to it.",
                "this is the Answer.",
            ),
            (
                "punctuation:no_comma",
                json!({}),
                "no such thing",
                "well, yes",
            ),
        ]
    }

    #[test]
    fn every_kind_tells_what_keeps_it_from_what_does_not() {
        let cases = cases();
        assert_eq!(cases.iter().map(|case| case.0).collect::<Vec<_>>(), KINDS);
        for (id, arguments, kept, broken) in cases {
            let check = |text| check(id, arguments.as_object().unwrap(), text);
            assert_eq!(check(kept), Ok(true), "{id}: {kept}");
            assert_eq!(check(broken), Ok(false), "{id}: {broken}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_an_error() {
        let none = Map::new();
        for id in [
            "keywords:existence",
            "keywords:frequency",
            "length_constraints:number_words",
            "startend:end_checker",
        ] {
            assert!(
                check(id, &none, "x").unwrap_err().contains("missing"),
                "{id}"
            );
        }
        let arguments = json!({"num_words": 3, "relation": "about"});
        assert!(
            check(
                "length_constraints:number_words",
                arguments.as_object().unwrap(),
                "x"
            )
            .is_err()
        );
    }

    #[test]
    fn a_keyword_that_is_no_pattern_stands_for_itself() {
        assert!(keyword("c++ (", false).is_match("I like C++ (a lot"));
        assert!(keyword("a.c", false).is_match("ABC"));
    }
}
