//! Instructions on how a response is laid out: paragraphs, lists, sections, titles, how it begins and ends.

use regex::Regex;

use super::arguments::{Arguments, Kept, at_least, keyword, matches, number, word};

pub(super) fn number_paragraphs(arguments: &Arguments, text: &str) -> Kept {
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

pub(super) fn first_word(arguments: &Arguments, text: &str) -> Kept {
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

pub(super) fn postscript(arguments: &Arguments, text: &str) -> Kept {
    let marker = word(arguments, "postscript_marker")?.trim();
    let pattern = match marker {
        "P.P.S" => r"p\.\s?p\.\s?s".to_owned(),
        "P.S." => r"p\.\s?s\.".to_owned(),
        other => other.to_lowercase(),
    };
    Ok(keyword(&pattern, false).is_match(&text.to_lowercase()))
}

pub(super) fn bullets(arguments: &Arguments, text: &str) -> Kept {
    let count = matches(r"(?m)^\s*\*[^\*].*$", text) + matches(r"(?m)^\s*-.*$", text);
    Ok(count == number(arguments, "num_bullets")?)
}

pub(super) fn constrained(text: &str) -> bool {
    [
        "My answer is yes.",
        "My answer is no.",
        "My answer is maybe.",
    ]
    .iter()
    .any(|answer| text.contains(answer))
}

pub(super) fn highlights(arguments: &Arguments, text: &str) -> Kept {
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

pub(super) fn sections(arguments: &Arguments, text: &str) -> Kept {
    let splitter = word(arguments, "section_spliter")?.trim();
    let build = |splitter: &str| Regex::new(&format!(r"\s?(?:{splitter})\s?\d+\s?"));
    let pattern = build(splitter).or_else(|_| build(&regex::escape(splitter)));
    let pattern = pattern.map_err(|error| error.to_string())?;
    at_least(arguments, "num_sections", pattern.find_iter(text).count())
}

pub(super) fn is_json(text: &str) -> bool {
    let mut text = text.trim();
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    let text = text.strip_suffix("```").unwrap_or(text).trim();
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

pub(super) fn has_title(text: &str) -> bool {
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

pub(super) fn two_responses(text: &str) -> bool {
    let parts: Vec<&str> = text.split("******").map(str::trim).collect();
    let last = parts.len() - 1;
    let hole = parts
        .iter()
        .enumerate()
        .any(|(at, part)| part.is_empty() && at != 0 && at != last);
    let responses: Vec<&&str> = parts.iter().filter(|part| !part.is_empty()).collect();
    !hole && responses.len() == 2 && responses[0] != responses[1]
}

pub(super) fn repeats(arguments: &Arguments, text: &str) -> Kept {
    let prompt = word(arguments, "prompt_to_repeat")?.trim().to_lowercase();
    Ok(text.trim().to_lowercase().starts_with(&prompt))
}

pub(super) fn ends(arguments: &Arguments, text: &str) -> Kept {
    let phrase = word(arguments, "end_phrase")?.trim().to_lowercase();
    Ok(text
        .trim()
        .trim_matches('"')
        .to_lowercase()
        .ends_with(&phrase))
}

pub(super) fn quoted(text: &str) -> bool {
    let text = text.trim();
    text.len() > 1 && text.starts_with('"') && text.ends_with('"')
}
