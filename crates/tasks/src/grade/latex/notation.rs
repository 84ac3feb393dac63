//! Ways to write an answer that are no formula: times of day, marks before the names of figures, `C(8,2)`, abbreviations.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::text;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is fixed")
}

static CLOCK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\d{1,2}):(\d\d)([ap]m)?$"));
static CHOOSE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:C\((\d+),(\d+)\)|(?:\{\})?[_^]\{?(\d+)\}?\\?C_\{?(\d+)\}?)$"));

/// Whether two answers say the same in one of these ways.
pub(super) fn same(target: &str, answer: &str) -> bool {
    same_time(target, answer) || same_figure(target, answer) || same_word(target, answer)
}

/// `11:30` is `11:30 a.m.` for whom it goes without saying, but never `11:30 p.m.` where the other half is asked for.
fn same_time(target: &str, answer: &str) -> bool {
    let (Some(ours), Some(theirs)) = (time(target), time(answer)) else {
        return false;
    };
    let half = ours.2.is_none() || theirs.2.is_none() || ours.2 == theirs.2;
    // Without a half of the day on either side it may as well be a ratio.
    let said = ours.2.is_some() || theirs.2.is_some();
    said && half && (ours.0, ours.1) == (theirs.0, theirs.1)
}

/// Hour, minute, and `am` or `pm` where it is said.
fn time(answer: &str) -> Option<(u32, u32, Option<String>)> {
    let plain = answer.replace("\\text", "").to_lowercase();
    let plain: String = plain
        .chars()
        .filter(|c| !(c.is_whitespace() || "{}.\\,~".contains(*c)))
        .collect();
    let found = CLOCK.captures(&plain)?;
    let half = found.get(3).map(|half| half.as_str().to_owned());
    Some((found[1].parse().ok()?, found[2].parse().ok()?, half))
}

/// `\angle ABC` is `ABC` where one of the two has no mark.
fn same_figure(target: &str, answer: &str) -> bool {
    match (figure(target), figure(answer)) {
        (Some(name), None) => name == text::bare(answer),
        (None, Some(name)) => name == text::bare(target),
        _ => false,
    }
}

/// The points of a figure that a mark stands before.
fn figure(answer: &str) -> Option<String> {
    let marks = ["\\angle", "\\triangle", "∠", "△"];
    let rest = marks.iter().find_map(|mark| answer.strip_prefix(mark))?;
    let name = text::bare(rest.trim().trim_matches(['{', '}']));
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase());
    is_name.then_some(name)
}

fn same_word(target: &str, answer: &str) -> bool {
    let exists = |answer: &str| matches!(text::normal(answer).as_str(), "dne" | "does not exist");
    exists(target) && exists(answer)
}

/// Binomial coefficients as they are typed, in LaTeX: `C(8,2)`, `_8C_2`, `^8C_2`.
pub(super) fn rewritten(answer: &str) -> Cow<'_, str> {
    let plain: String = answer.chars().filter(|c| !c.is_whitespace()).collect();
    let Some(found) = CHOOSE.captures(&plain) else {
        return Cow::Borrowed(answer);
    };
    let number = |first: usize, second: usize| found.get(first).or(found.get(second));
    match (number(1, 3), number(2, 4)) {
        (Some(n), Some(k)) => Cow::Owned(format!("\\binom{{{}}}{{{}}}", n.as_str(), k.as_str())),
        _ => Cow::Borrowed(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_half_of_a_day_may_go_without_saying() {
        for (a, b, is) in [
            ("11:30", "11:30 a.m.", true),
            ("\\text{11:30 a.m.}", "11:30\\text{ AM}", true),
            ("11:30 p.m.", "11:30 a.m.", false),
            ("11:30", "11:31 am", false),
            ("1:2", "1:2", false),
        ] {
            assert_eq!(same(a, b), is, "{a} {b}");
        }
    }

    #[test]
    fn figures_are_their_points_and_words_their_abbreviation() {
        assert!(same("\\angle ABC", "ABC") && same("ABC", "\\triangle{ABC}"));
        assert!(!same("\\angle ABC", "\\triangle ABC") && !same("\\angle ABC", "ACB"));
        assert!(same("DNE", "\\text{does not exist}") && !same("DNE", "0"));
    }

    #[test]
    fn binomial_coefficients_are_typed_in_several_ways() {
        for text in ["C(8, 2)", "_8C_2", "{}_{8}C_{2}", "^8C_2"] {
            assert_eq!(rewritten(text), "\\binom{8}{2}", "{text}");
        }
        assert_eq!(rewritten("C(x)"), "C(x)");
    }
}
