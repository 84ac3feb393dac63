//! Where in a completion its answer stands.

mod boxed;
mod formula;
mod number;
mod phrase;

pub(super) use boxed::{boxed, combined};
pub(super) use formula::{combined as formulas_together, last as last_formula};
pub(super) use number::last as last_number;
pub(super) use phrase::{after_phrase, sentence_answer};

use phrase::without_aside;

use super::latex;

/// Longest line that is taken for an answer as a whole, in bytes.
const LINE: usize = 120;

/// Whether `the final answer is` stands behind the last box, with something after it.
pub(super) fn announced_behind_box(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let (Some(at), Some(end)) = (lower.rfind("final answer"), lower.rfind("boxed")) else {
        return false;
    };
    at > end && after_phrase(&text[at..]).is_some()
}

/// What stands after the last `####` of a line.
pub(super) fn after_hashes(text: &str) -> Option<&str> {
    let mut rest = text;
    let mut found = None;
    while let Some(at) = rest.find("####") {
        rest = rest[at..].trim_start_matches('#');
        let line = rest.lines().next().unwrap_or("").trim();
        // A heading of a text is no answer.
        if !line.is_empty() && !line.ends_with(':') {
            found = Some(line);
        }
    }
    found
}

/// The answer of a text that does not mark it: the whole of a short one, else the last formula or number.
pub(super) fn anywhere(text: &str) -> Option<&str> {
    let whole = without_aside(text.trim());
    if !whole.is_empty()
        && whole.len() <= LINE
        && !whole.contains('\n')
        && !is_sentence(whole)
        && latex::reads(whole)
    {
        return Some(whole);
    }
    let end = |found: &str| found.as_ptr() as usize + found.len();
    match (last_formula(text), last_number(text)) {
        (Some(formula), Some(number)) if end(number) > end(formula) => Some(number),
        (Some(formula), _) => Some(formula),
        (None, number) => number.or_else(|| short_last_line(text)),
    }
}

/// Whether words stand around what may be an answer.
fn is_sentence(text: &str) -> bool {
    let clean = latex::clean(text);
    let word = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_alphabetic());
    let words = clean.split_whitespace().filter(word).count();
    clean.contains(['$'])
        || clean.contains("\\(")
        || (words > 1 && !latex::is_words(clean))
        || words > 4
}

/// The last line of a text, where it can be read as an answer.
fn short_last_line(text: &str) -> Option<&str> {
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())?
        .trim();
    (line.len() <= LINE && latex::reads(line)).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_mark_the_answer_unless_they_head_a_section() {
        assert_eq!(after_hashes("so\n#### 18\n"), Some("18"));
        assert_eq!(after_hashes("####18 #### 19"), Some("19"));
        assert_eq!(after_hashes("#### Step 1:\nso 18"), None);
        assert_eq!(after_hashes("#### "), None);
    }

    #[test]
    fn what_is_not_marked_is_the_last_formula_or_number() {
        assert_eq!(anywhere("$-2/3$"), Some("$-2/3$"));
        assert_eq!(anywhere("We get $x=5$ at last."), Some("x=5"));
        assert_eq!(anywhere("With $x=5$ there are 7 of them."), Some("7"));
        assert_eq!(anywhere("I do not know, sorry?\nNo idea at all!"), None);
    }
}
