//! Answers that are words, and what is left to compare of formulas that cannot be read.

use super::node::Node;
use std::borrow::Cow;

/// Words that say the same as a formula.
pub(super) fn meaning(text: &str) -> Option<Node> {
    let words = normal(text);
    let words = ["there is ", "there are ", "it ", "diverges to "]
        .iter()
        .fold(words.as_str(), |words, begin| {
            words.strip_prefix(begin).unwrap_or(words)
        });
    let words = [" exists", " exist"]
        .iter()
        .fold(words, |words, end| words.strip_suffix(end).unwrap_or(words));
    let infinity = || Node::Infinity;
    let negative = |node: Node| Node::Negative(Box::new(node));
    Some(match words {
        "no solution" | "no solutions" | "no real solution" | "no real solutions" | "none"
        | "empty set" | "no real roots" | "null set" => Node::Set(Vec::new()),
        "all real numbers"
        | "all reals"
        | "real numbers"
        | "all real"
        | "reals"
        | "any real number"
        | "all x"
        | "all real values"
        | "set of all real numbers"
        | "all real x" => Node::Named('R'),
        "infinity"
        | "infinite"
        | "positive infinity"
        | "infinitely many"
        | "infinitely many solutions" => infinity(),
        "negative infinity" | "minus infinity" => negative(infinity()),
        other => Node::whole(counting_word(other)?),
    })
}

/// The number that words count, from `zero` to `nine hundred and ninety-nine`.
pub(super) fn counting_word(words: &str) -> Option<i64> {
    const TENS: [&str; 8] = [
        "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
    ];
    if let Some((hundreds, rest)) = words.split_once(" hundred") {
        let rest = rest.trim_start_matches(" and").trim();
        let rest = if rest.is_empty() {
            Some(0)
        } else {
            below_hundred(rest, &TENS)
        };
        return Some(100 * below_hundred(hundreds, &TENS).filter(|n| (1..10).contains(n))? + rest?);
    }
    below_hundred(words, &TENS)
}

fn below_hundred(words: &str, tens: &[&str]) -> Option<i64> {
    let (first, unit) = words.split_once([' ', '-']).unwrap_or((words, ""));
    let Some(ten) = tens.iter().position(|ten| *ten == first) else {
        return small_word(words);
    };
    let unit = match unit {
        "" => 0,
        unit => small_word(unit).filter(|unit| (1..10).contains(unit))?,
    };
    Some(10 * (ten as i64 + 2) + unit)
}

/// The number a word counts, from `zero` to `nineteen`.
fn small_word(word: &str) -> Option<i64> {
    const WORDS: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    let number = WORDS.iter().position(|known| *known == word)?;
    i64::try_from(number).ok()
}

/// Lower-case words without articles, formatting and punctuation, one blank between them.
pub(in crate::grade) fn normal(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name: usize = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let kept = matches!(
            &rest[..name],
            "text"
                | "textbf"
                | "textit"
                | "mathrm"
                | "textrm"
                | "mbox"
                | "left"
                | "right"
                | "quad"
                | "mathbf"
                | "emph"
                | "displaystyle"
        );
        if !kept {
            plain.push_str(&rest[..name]);
        }
        plain.push(' ');
        rest = &rest[name..];
        // `\,`, `\ ` and the like are spaces.
        if name == 0 {
            let width = rest.chars().next().map_or(0, char::len_utf8);
            rest = &rest[width..];
        }
    }
    plain.push_str(rest);
    let lower = plain.to_lowercase();
    let cleaned: String = lower
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { ' ' })
        .collect();
    let words: Vec<&str> = cleaned
        .split_whitespace()
        .filter(|word| !matches!(*word, "the" | "a" | "an"))
        .collect();
    words.join(" ")
}

/// What stands between commas, `and` and `or`, in order of the alphabet.
pub(super) fn parts(text: &str) -> Vec<String> {
    let joined = text.replace([',', ';'], " and ");
    let normal = normal(&joined);
    let mut parts: Vec<String> = vec![String::new()];
    for word in normal.split(' ') {
        if matches!(word, "and" | "or") {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(' ');
            part.push_str(word);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.sort();
    parts
}

/// A text whose every command has two backslashes, as in the source of a program, with one.
pub(super) fn unescaped(text: &str) -> Cow<'_, str> {
    let (mut doubled, mut run) = (false, 0);
    for c in text.chars() {
        match c {
            '\\' => run += 1,
            c if c.is_ascii_alphabetic() && run > 0 && run != 2 => return Cow::Borrowed(text),
            c => {
                doubled |= run == 2 && c.is_ascii_alphabetic();
                run = 0;
            }
        }
    }
    if doubled {
        Cow::Owned(text.replace("\\\\", "\\"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A text with the braces closed that a completion left open where it ended.
pub(super) fn closed(text: &str) -> Cow<'_, str> {
    let (mut depth, mut escaped) = (0_usize, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if depth == 0 {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{text}{}", "}".repeat(depth)))
    }
}

/// Whether a text is words, one of them of two letters at least, rather than a formula.
pub(in crate::grade) fn is_words(text: &str) -> bool {
    let plain = text
        .replace("\\text", " ")
        .replace("\\mathrm", " ")
        .replace("\\textbf", " ")
        .replace("\\ ", " ");
    let formula = |c: char| c.is_ascii_digit() || "\\=<>+*^_/|[]".contains(c);
    !plain.contains(formula)
        && plain
            .split(|c: char| !c.is_alphabetic())
            .any(|word| word.chars().count() > 1)
}

/// Whether a text is words and perhaps numbers, without any sign of a formula: `July 4`.
pub(super) fn is_phrase(text: &str) -> bool {
    let plain = text.replace("\\text", " ").replace("\\ ", " ");
    !plain.contains(|c: char| "\\=<>+*^_/|[]$".contains(c))
        && plain
            .split(|c: char| !c.is_alphabetic())
            .any(|word| word.chars().count() > if text.contains("\\text") { 1 } else { 2 })
}

/// A formula as it is written, without what does not change it: the last thing to compare.
pub(super) fn bare(text: &str) -> String {
    let mut bare = text.to_owned();
    for (from, to) in [
        ("\\left", ""),
        ("\\right", ""),
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\displaystyle", ""),
        ("\\quad", ""),
        ("\\,", ""),
        ("\\!", ""),
        ("\\;", ""),
        ("\\:", ""),
        ("\\ ", ""),
        ("\\leq", "\\le"),
        ("\\geq", "\\ge"),
        ("\\neq", "\\ne"),
        ("\\cdot", "*"),
        ("\\times", "*"),
        ("\\ldots", "…"),
        ("\\cdots", "…"),
        ("\\dots", "…"),
        ("...", "…"),
        ("$", ""),
        ("−", "-"),
    ] {
        bare = bare.replace(from, to);
    }
    let bare: Vec<char> = bare.replace('~', " ").chars().collect();
    let digit = |at: Option<&char>| at.is_some_and(char::is_ascii_digit);
    // Between digits a space says something: `1 1/2` is not `11/2`.
    let kept = |at: usize| {
        !bare[at].is_whitespace() || (at > 0 && digit(bare.get(at - 1)) && digit(bare.get(at + 1)))
    };
    (0..bare.len())
        .filter(|at| kept(*at))
        .map(|at| bare[at])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_without_articles_and_formatting() {
        assert_eq!(normal("\\text{The midpoints}."), "midpoints");
        assert_eq!(normal("Friday\\ night"), "friday night");
        assert!(
            is_words("\\text{Friday}") && is_words("Friday") && !is_words("x+1") && !is_words("A")
        );
        assert_eq!(meaning("no solutions"), Some(Node::Set(Vec::new())));
        assert_eq!(unescaped("\\\\frac{1}{2}"), "\\frac{1}{2}");
        assert_eq!(unescaped("\\frac{1}{2}\\\\x"), "\\frac{1}{2}\\\\x");
        assert_eq!(meaning("Seven"), Some(Node::whole(7)));
        assert_eq!(meaning("twenty-one"), Some(Node::whole(21)));
        assert_eq!(meaning("three hundred and five"), Some(Node::whole(305)));
        assert_eq!(
            meaning("There are no real solutions."),
            Some(Node::Set(Vec::new()))
        );
        assert_eq!(closed("\\frac{1}{2"), "\\frac{1}{2}");
        assert_eq!(closed("\\{1, 2\\}"), "\\{1, 2\\}");
    }
}
