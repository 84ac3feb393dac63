//! Answers that a phrase announces: `the answer is …`, `Answer: …`.

use std::sync::LazyLock;

use regex::Regex;

use super::{formula, is_sentence, number};
use crate::grade::latex;

static PHRASE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)
        (?: \b (?:final\s+|correct\s+)? (?:answers?|solutions?) \b
            (?: \s+ (?:to|for|of) \b [^.\n:]{0,80}? )?
            \s* (?: \*\* | __ | \) )? \s*
            (?: \b(?:is|are|was|would\ be|will\ be|must\ be|equals)\b \s* :? | [:=：] )
        | (?:答案|答え|ответ|respuesta|réponse|antwort) \s* (?: 是|为|為|は|[:：] )
        )
        \s* (?: \*\* | __ )? \s* (?: therefore | thus | indeed | simply | just | equal\ to | :)? \s*",
    )
    .expect("the pattern is fixed")
});

/// What follows the last such phrase, to the end of its sentence.
pub(in crate::grade) fn after_phrase(text: &str) -> Option<&str> {
    let ends: Vec<usize> = PHRASE.find_iter(text).map(|found| found.end()).collect();
    ends.into_iter()
        .rev()
        .map(|end| sentence(&text[end..]))
        .find(|sentence| !sentence.is_empty())
}

/// The first line or paragraph of a text, up to the end of its sentence.
fn sentence(rest: &str) -> &str {
    let rest = rest.trim_start();
    let lines = if rest.starts_with("\\[") || rest.starts_with("$$") {
        rest.split("\n\n").next()
    } else {
        rest.lines().next()
    };
    let line = lines.unwrap_or("").trim();
    let mut end = line.len();
    for (at, c) in line.char_indices() {
        let ends = matches!(c, '.' | '!' | '?' | '。');
        if ends && line[at + c.len_utf8()..].starts_with([' ', '\n']) && !line[..at].ends_with("eq")
        {
            end = at;
            break;
        }
    }
    line[..end].trim()
}

/// What a sentence that was announced as the answer says: its formulas, what it is as a whole, or its first number.
pub(in crate::grade) fn sentence_answer(sentence: &str) -> &str {
    if let Some(said) = after_verb(sentence) {
        return sentence_answer(said);
    }
    let sentence = without_aside(sentence);
    let formulas = formula::all(sentence);
    match formulas.as_slice() {
        [] => {}
        // Several formulas are one answer only if nothing but `and` stands between them.
        [_, _, ..] if latex::reads(sentence) => return sentence,
        [first, ..] => return first,
    }
    if !is_sentence(sentence) && latex::reads(sentence) {
        return sentence;
    }
    let cut = clause(sentence);
    if latex::reads(cut) {
        return cut;
    }
    number::last(cut)
        .or_else(|| number::last(sentence))
        .unwrap_or(sentence)
}

/// A sentence up to an aside in brackets: `18 (see eq. 3)`.
pub(super) fn without_aside(sentence: &str) -> &str {
    const BEGINS: [&str; 12] = [
        "see ", "which ", "since ", "because ", "as ", "from ", "using ", "by ", "not ",
        "rounded ", "the ", "i.e",
    ];
    let asides = sentence.match_indices(" (").filter(|(at, open)| {
        let inner = &sentence[at + open.len()..];
        *at > 0 && BEGINS.iter().any(|begin| inner.starts_with(begin))
    });
    let end = asides.map(|(at, _)| at).next();
    &sentence[..end.unwrap_or(sentence.len())]
}

/// A sentence up to its first reason or aside.
fn clause(sentence: &str) -> &str {
    const ENDS: [&str; 10] = [
        " because", " since", " which", " where", " as ", " when", " so ", " (", ";", ", ",
    ];
    let ends = ENDS
        .iter()
        .filter_map(|end| sentence.find(end))
        .filter(|at| *at > 0);
    &sentence[..ends.min().unwrap_or(sentence.len())]
}

/// What follows the verb: `the largest $n$ is 34`.
fn after_verb(sentence: &str) -> Option<&str> {
    let clause = clause(sentence);
    let verbs = [" is ", " are ", " equals "];
    let end = verbs
        .iter()
        .filter_map(|verb| Some(clause.rfind(verb)? + verb.len()))
        .max()?;
    let said = sentence[end..].trim();
    let something = said.contains(|c: char| c.is_ascii_digit() || "$\\".contains(c));
    something.then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_announce_an_answer() {
        for (text, answer) in [
            ("So the answer is 42.", "42"),
            ("The answer is: $\\frac{1}{2}$. Done.", "\\frac{1}{2}"),
            ("**Answer:** 12 apples", "12 apples"),
            (
                "Final Answer: The final answer is $(-6, 10)$. I hope it is correct.",
                "(-6, 10)",
            ),
            ("The answer to the question is 7 because 3 + 4 is.", "7"),
            ("Answer:\n\n5", "5"),
            ("The answers are $1$ and $2$.", "$1$ and $2$"),
            ("答案是 5。", "5"),
            ("The answer is 18 (see eq. 3).", "18"),
            ("The answer is 2 (x + 1).", "2 (x + 1)"),
        ] {
            let found = after_phrase(text).map(sentence_answer);
            assert_eq!(
                found.map(|found| found.trim_end_matches(['.', '。'])),
                Some(answer),
                "{text}"
            );
        }
        assert_eq!(after_phrase("no such thing"), None);
        assert_eq!(after_phrase("The answer is "), None);
    }
}
