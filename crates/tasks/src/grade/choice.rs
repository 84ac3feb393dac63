//! Multiple choice: which letter a completion settles on.

use std::sync::LazyLock;

use regex::Regex;

use super::extract::boxed;
use super::latex;
use super::{Reading, Verdict};

/// How far behind a phrase its answer stands, in bytes.
const NEAR: usize = 300;

/// Letters that choices have.
const LETTERS: std::ops::RangeInclusive<char> = 'A'..='J';

/// `the answer is (B)`, `Answer: B`, `correct option: B`, `I choose B`, `答案：B`; what is expected of lower-case letters is in
/// [`letters`].
static PHRASE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)
        (?: \b (?: answers? | choices? | options? | (?:correct|right|best)\s+one | solution ) \b
            (?: \s+ (?:to|for|of|from|among|that|which) \b [^.\n:]{0,80}? )?
            \s* (?: \*\* | __ | \) )? \s*
            (?: (?: \b(?:is|are|was|would\ be|will\ be|must\ be|should\ be|seems\ to\ be)\b | [:=：] )
                \s* (?: \*\* | __ )? \s* [:：]? \s* | \s+ )
            (?: (?:most\ likely|therefore|thus|indeed|clearly|definitely|probably|likely|simply|letter|the\ letter) \s+ )*
        | \b (?: (?:i|i'd|we|would|should|must|to) \s+ (?:choose|select|pick|go\ with|say) | choosing | selecting ) \s+
        | (?:答案|选择|选) \s* (?: 是|为|：|: )? \s*
        )
        (?: (?:the\s+)? (?:correct\s+)? (?:option|choice|answer|letter) \s* (?:is|:)? \s* )*
        ",
    )
    .expect("the pattern is fixed")
});

/// Grades a choice. The target is a letter (`B`, `(B)`), several (`A, C`), or a letter with its text (`B. Paris`), which then
/// counts as well.
pub(super) fn grade(text: &str, target: &str) -> Verdict {
    let (expected, words) = expected(target);
    let found = [
        (
            "boxed",
            boxed(text).and_then(|content| whole(content).or_else(|| said(content, words))),
        ),
        ("phrase", announced(text, words)),
        ("strict", alone(text)),
        ("flexible", anywhere(text).or_else(|| said(text, words))),
    ];
    let readings: Vec<Reading> = found
        .into_iter()
        .map(|(extractor, extracted)| Reading {
            extractor: extractor.to_owned(),
            correct: extracted
                .as_ref()
                .is_some_and(|found| is_right(found, expected.as_deref(), words)),
            extracted,
        })
        .collect();
    let first = readings.iter().find(|reading| reading.extracted.is_some());
    let (extracted, correct) = first.map_or((None, false), |first| {
        (first.extracted.clone(), first.correct)
    });
    Verdict {
        extracted,
        correct,
        readings,
    }
}

fn is_right(found: &str, letters: Option<&str>, words: Option<&str>) -> bool {
    letters == Some(found)
        || words.is_some_and(|words| latex::normal(words) == latex::normal(found))
}

/// The letters of a target in order, and its words.
fn expected(target: &str) -> (Option<String>, Option<&str>) {
    let target = latex::clean(target);
    let mut characters = target.trim_start_matches('(').chars();
    let letter = characters.next().filter(|letter| LETTERS.contains(letter));
    let rest = characters.as_str();
    let words = rest.trim_start_matches(['.', ')', ':']).trim();
    match (letter, whole(target)) {
        (Some(letter), _) if words.len() < rest.trim().len() && !words.is_empty() => {
            (Some(letter.to_string()), Some(words))
        }
        (_, Some(letters)) => (Some(letters), None),
        _ => (None, Some(target)),
    }
}

/// The letters a text is made of, with what may stand around them: `B`, `(B)`, `\text{B}`, `B.`, `A, C`, `B) Paris`.
fn whole(text: &str) -> Option<String> {
    let plain = plain(text);
    let plain = plain.trim();
    let mut found = letters(plain)?;
    found.1 = found.1.trim();
    let rest = found.1.trim_start_matches([')', '.', ':', ']', '*', '-']);
    // `B) Paris` is B, `A house` is not A.
    (rest.trim().is_empty() || rest.len() < found.1.len()).then_some(found.0)
}

/// A text without what only makes it look good.
fn plain(text: &str) -> String {
    let mut plain = latex::clean(text).to_owned();
    for name in [
        "\\textbf", "\\text", "\\mathrm", "\\mathbf", "\\textrm", "\\mathit", "\\boxed", "\\left",
        "\\right", "\\(", "\\)", "\\ ",
    ] {
        plain = plain.replace(name, " ");
    }
    plain.retain(|c| !"{}$*_`\"".contains(c));
    plain
}

/// The letters a text begins with (`B`, `(B)`, `A, C and D`), in order and once each, and the rest; none where it begins with
/// no letter, or with one or another.
fn letters(text: &str) -> Option<(String, &str)> {
    let mut found: Vec<char> = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let (letter, after) = one(rest)?;
        found.push(letter);
        let next = after.trim_start();
        let list = next
            .strip_prefix(',')
            .or_else(|| next.strip_prefix("and "))
            .or_else(|| next.strip_prefix('&'));
        if next.starts_with("or ") && one(next[3..].trim_start()).is_some() {
            return None;
        }
        let list = list.map(|list| {
            list.trim_start()
                .strip_prefix("and ")
                .unwrap_or(list)
                .trim_start()
        });
        match list {
            Some(list) if one(list).is_some() => rest = list,
            _ => {
                rest = after;
                break;
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Some((found.into_iter().collect(), rest))
}

/// A single letter, perhaps in brackets, and what follows it. Small ones need a bracket or an end: `a dog` begins with no
/// choice, and neither does `I think`.
fn one(text: &str) -> Option<(char, &str)> {
    let bracket = text.starts_with(['(', '[', '<']);
    let inner = text.trim_start_matches(['(', '[', '<']).trim_start();
    let letter = inner.chars().next()?;
    let rest = &inner[letter.len_utf8()..];
    let next = rest.chars().next();
    if next.is_some_and(|c| c.is_alphanumeric() || "'’-+=^_/".contains(c)) {
        return None;
    }
    let closed = next.is_some_and(|c| ")]>".contains(c));
    let ended = next.is_none_or(|c| ".,;:!?\n".contains(c)) || closed;
    let upper = letter.to_ascii_uppercase();
    let certain = letter.is_ascii_uppercase() && letter != 'I' || bracket || ended;
    let word = letter == 'A'
        && rest
            .trim_start()
            .starts_with(|c: char| c.is_ascii_lowercase())
        && !bracket
        && !closed;
    let connective = ["and ", "or ", "because", "since", "is ", "as ", "which"]
        .iter()
        .any(|word| rest.trim_start().starts_with(word));
    if !LETTERS.contains(&upper) || !certain || (word && !connective) {
        return None;
    }
    let rest = if closed { &rest[1..] } else { rest };
    Some((upper, rest))
}

/// The letters after the last phrase that announces some, or the words of the target after such a phrase.
fn announced(text: &str, words: Option<&str>) -> Option<String> {
    let plain = plain_lines(text);
    let ends: Vec<usize> = PHRASE.find_iter(&plain).map(|found| found.end()).collect();
    ends.into_iter().rev().find_map(|end| {
        let rest = &plain[end..plain.floor_char_boundary(end + NEAR)];
        let said = |words: &str| {
            latex::normal(rest).starts_with(&latex::normal(words))
                && !latex::normal(words).is_empty()
        };
        letters(rest)
            .map(|(letters, _)| letters)
            .or_else(|| words.filter(|words| said(words)).map(str::to_owned))
    })
}

/// The text without emphasis and formula signs, its lines kept.
fn plain_lines(text: &str) -> String {
    let mut plain = text.to_owned();
    for name in [
        "\\textbf", "\\text", "\\mathrm", "\\mathbf", "\\boxed", "\\(", "\\)", "\\[", "\\]",
    ] {
        plain = plain.replace(name, " ");
    }
    plain.retain(|c| !"{}$*_`\"".contains(c));
    plain
}

/// The letters of a text that is nothing but them, or whose first or last line is.
fn alone(text: &str) -> Option<String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next()?;
    let last = lines.next_back();
    last.and_then(only)
        .or_else(|| only(first))
        .or_else(|| whole(first))
}

/// The letters of a line that holds nothing else.
fn only(line: &str) -> Option<String> {
    let plain = plain(line);
    let (letters, rest) = letters(plain.trim())?;
    rest.trim()
        .trim_matches(['.', ')', ':'])
        .is_empty()
        .then_some(letters)
}

/// The last letter that stands by itself.
fn anywhere(text: &str) -> Option<String> {
    let plain = plain_lines(text);
    let starts = plain.char_indices().filter(|(at, c)| {
        let before = plain[..*at].chars().next_back();
        (c.is_ascii_uppercase() || *c == '(')
            && before.is_none_or(|c| !c.is_alphanumeric() && !"(['’-".contains(c))
    });
    let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
    let mut last = starts.into_iter().rev();
    last.find_map(|at| one(&plain[at..plain.floor_char_boundary(at + NEAR)]))
        .map(|(letter, _)| letter.to_string())
}

/// The words of the target, where a text ends with them or is them.
fn said(text: &str, words: Option<&str>) -> Option<String> {
    let words = words?;
    let (text, normal) = (latex::normal(text), latex::normal(words));
    let ends = text == normal || text.ends_with(&format!(" {normal}"));
    (!normal.is_empty() && ends).then(|| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_that_models_write_is_read() {
        for text in [
            "B",
            "B.",
            "(B)",
            "b",
            "**B**",
            "B) Paris",
            "B. Paris",
            "B: because it is the capital",
            "Answer: B",
            "Answer: **B**",
            "**Answer:** (B)",
            "**Answer: B. Paris**",
            "answer: b",
            "The answer is B.",
            "The answer is (B) because A is wrong.",
            "The correct answer is option B.",
            "The correct option is (B), not C.",
            "Therefore, the correct choice is: **B**",
            "I would choose B.",
            "I choose option B",
            "\\boxed{B}",
            "$\\boxed{\\text{B}}$",
            "$\\boxed{\\textbf{(B)}}$",
            "\\boxed{B. Paris}",
            "A is wrong, C is wrong.\n\nB",
            "A seems plausible but is wrong. So it must be B.",
            "Option B",
            "Option A is wrong. Final Answer: Option B",
            "Let me think. A: no. C: no.\nThe best answer would be B",
            "答案：B",
            "The answer to the question is B",
            "Answer:\nB",
            "ANSWER: B",
            "The answer is [B].",
            "The answer is **(B) Paris**.",
        ] {
            let verdict = grade(text, "B");
            assert_eq!(
                verdict.extracted.as_deref(),
                Some("B"),
                "{text}: {:?}",
                verdict.readings
            );
            assert!(verdict.correct, "{text}");
            assert!(!grade(text, "C").correct, "{text}");
        }
    }

    #[test]
    fn what_settles_on_nothing_has_no_answer() {
        for text in [
            "",
            "I think it is a dog.",
            "A dog is an animal.",
            "I cannot say.",
            "The answer is unclear.",
        ] {
            assert_eq!(grade(text, "A").extracted, None, "{text}");
        }
        assert!(!grade("The answer is A or B.", "A").correct);
    }

    #[test]
    fn several_letters_are_a_set() {
        assert!(grade("The answer is A, C and D.", "A, C, D").correct);
        assert!(grade("\\boxed{C, A}", "A,C").correct);
        assert!(!grade("The answer is A.", "A, C").correct);
    }

    #[test]
    fn the_words_of_a_choice_count_as_well() {
        assert!(grade("The answer is Paris.", "B. Paris").correct);
        assert!(grade("\\boxed{\\text{Paris}}", "(B) Paris").correct);
        assert!(!grade("The answer is London.", "B. Paris").correct);
        assert!(grade("It is Paris.", "Paris").correct);
    }
}
