//! The kinds of instructions, one function each.

use super::arguments::{Arguments, Kept, at_least, keyword, list, matches, related, word};
use super::layout::{
    bullets, constrained, ends, first_word, has_title, highlights, is_json, number_paragraphs,
    postscript, quoted, repeats, sections, two_responses,
};
use super::{language, sentences, words};

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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    /// Instruction, arguments, a text that keeps it, one that does not.
    fn cases() -> Vec<(String, Value, String, String)> {
        let table = include_str!("../../tests/golden/ifeval_cases.jsonl");
        let lines = table.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn every_kind_tells_what_keeps_it_from_what_does_not() {
        let cases = cases();
        let kinds: Vec<&str> = cases.iter().map(|case| case.0.as_str()).collect();
        assert_eq!(kinds, KINDS);
        for (id, arguments, kept, broken) in cases {
            let check = |text: &str| check(&id, arguments.as_object().unwrap(), text);
            assert_eq!(check(&kept), Ok(true), "{id}: {kept}");
            assert_eq!(check(&broken), Ok(false), "{id}: {broken}");
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
