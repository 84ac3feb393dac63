//! Ways to write an answer that are no formula: times of day, marks before the names of figures, `C(8,2)`, abbreviations,
//! letters as digits, `]1, 2[`, hours and minutes.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::{exact, text, units};

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is fixed")
}

static CLOCK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\d{1,2}):(\d\d)([ap]m)?$"));
static CHOOSE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:C\((\d+),(\d+)\)|(?:\{\})?[_^]\{?(\d+)\}?\\?C_\{?(\d+)\}?)$"));

/// `1A_{16}`, `\text{ABC}_{16}`, `1011_{\text{two}}`, without what is only markup.
static BASED: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([0-9A-Z]+)_(\d+|[a-z]+)$"));
/// Two quantities in a row: `3 hours and 20 minutes`, `5 ft 6 in`.
static COMPOUND: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\.?(?:\s*,\s*|\s+and\s+|\s+)(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\.?$",
    )
});
/// A decimal number that goes on.
static GOING_ON: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\.\d+)\.\.\."));
/// Two ends between any brackets.
static ENDS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"([\[\](])([^\[\](),;]+)([,;])([^\[\](),;]+)([\[\])])"));
/// Money by its letters before the number.
static MONEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^\s*(?:\\(?:text|mathrm)\{\s*)?(USD|US\\?\$|EUR|GBP)[\s~]*\}?[\s~]*(\d.*)$")
});

/// `0.333...` with dots that nobody takes for the end of a sentence.
pub(super) fn going_on(answer: &str) -> Cow<'_, str> {
    GOING_ON.replace_all(answer, r"$1\ldots ")
}

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
    match text::normal(&plain).as_str() {
        "noon" | "12 noon" => return Some((12, 0, Some("pm".to_owned()))),
        "midnight" | "12 midnight" => return Some((12, 0, Some("am".to_owned()))),
        _ => {}
    }
    let plain: String = plain
        .chars()
        .filter(|c| !(c.is_whitespace() || "{}.\\,~".contains(*c)))
        .collect();
    let found = CLOCK.captures(&plain)?;
    let half = found.get(3).map(|half| half.as_str().to_owned());
    let (hour, minute): (u32, u32) = (found[1].parse().ok()?, found[2].parse().ok()?);
    Some(match (hour, half) {
        // On a clock of 24 hours.
        (13..=23, None) => (hour - 12, minute, Some("pm".to_owned())),
        (hour, half) => (hour, minute, half),
    })
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

/// A text without markup: upright letters, braces, spaces that are commands.
pub(super) fn plain(answer: &str) -> String {
    let mut plain = answer.to_owned();
    for name in [
        "\\textbf", "\\textrm", "\\text", "\\mathrm", "\\mathbf", "\\mbox",
    ] {
        plain = plain.replace(name, "");
    }
    for space in ["\\ ", "\\,", "\\;", "~"] {
        plain = plain.replace(space, " ");
    }
    plain.retain(|c| !"{}$".contains(c));
    plain.trim().to_owned()
}

/// Digits and base of `204_5` or `\text{ABC}_{16}`; a name with a number, such as `A_{12}`, is none.
fn in_base(answer: &str) -> Option<(String, u32)> {
    let plain: String = plain(answer).split_whitespace().collect();
    let found = BASED.captures(&plain)?;
    let digits = found[1].to_owned();
    let base = text::counting_word(&found[2]).or_else(|| found[2].parse().ok())?;
    let base = u32::try_from(base)
        .ok()
        .filter(|base| (2..=36).contains(base))?;
    let is_number = digits.bytes().any(|byte| byte.is_ascii_digit()) || digits.len() > 2;
    let valid = digits.chars().all(|digit| digit.is_digit(base));
    (is_number && valid && digits.len() < 200).then_some((digits, base))
}

/// The digits of `204_5`: an answer may leave out the base it was asked in.
pub(super) fn digits_in_base(target: &str) -> Option<String> {
    in_base(target).map(|(digits, _)| digits)
}

/// An answer as a formula that means the same.
pub(super) fn rewritten(answer: &str) -> Cow<'_, str> {
    let changed = chosen(answer)
        .or_else(|| value_in_base(answer))
        .or_else(|| total(answer))
        .or_else(|| intervals(answer))
        .or_else(|| money(answer))
        .or_else(|| all_but(answer));
    changed.map_or(Cow::Borrowed(answer), Cow::Owned)
}

fn value_in_base(answer: &str) -> Option<String> {
    let (digits, base) = in_base(answer)?;
    Some(num_bigint::BigInt::parse_bytes(digits.as_bytes(), base)?.to_string())
}

/// `3 hours and 20 minutes` as minutes.
fn total(answer: &str) -> Option<String> {
    let plain = plain(answer);
    let found = COMPOUND.captures(&plain)?;
    let (large, small) = (units::size(&found[2])?, units::size(&found[4])?);
    if large.0 != small.0 || large.1 <= small.1 {
        return None;
    }
    let number = |text: &str| -> Option<exact::Exact> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let scale = exact::power(&exact::whole(10), &exact::whole(part.len() as i64))?;
        let digits = format!("{whole}{part}").parse().ok()?;
        exact::divide(&exact::Exact::from_integer(digits), &scale)
    };
    let factor = exact::divide(&large.1, &small.1)?;
    let total = exact::add(
        &exact::multiply(&number(&found[1])?, &factor)?,
        &number(&found[3])?,
    )?;
    Some(format!("{total} \\text{{ {}}}", &found[4]))
}

/// `]1, 2[` with the brackets that are used elsewhere.
fn intervals(answer: &str) -> Option<String> {
    let bare = answer.replace("\\left", "").replace("\\right", "");
    let open = |sign: &str| if sign == "]" { "(" } else { sign }.to_owned();
    let close = |sign: &str| if sign == "[" { ")" } else { sign }.to_owned();
    let turned = ENDS.replace_all(&bare, |found: &regex::Captures<'_>| {
        let ends = format!("{}{}{}", &found[2], &found[3], &found[4]);
        format!("{}{ends}{}", open(&found[1]), close(&found[5]))
    });
    (turned != bare).then(|| turned.into_owned())
}

fn money(answer: &str) -> Option<String> {
    let found = MONEY.captures(answer)?;
    let sign = match &found[1] {
        "EUR" => "€",
        "GBP" => "£",
        _ => "\\$",
    };
    Some(format!("{sign}{}", &found[2]))
}

/// `all real numbers except 3`
fn all_but(answer: &str) -> Option<String> {
    let plain = plain(answer);
    let lower = plain.to_lowercase();
    let begins = [
        "all real numbers ",
        "all reals ",
        "all real x ",
        "all x ",
        "any real number ",
    ];
    let rest = begins.iter().find_map(|begin| lower.strip_prefix(begin))?;
    let words = ["except for ", "except ", "other than ", "but "];
    let rest = words.iter().find_map(|word| rest.strip_prefix(word))?;
    let values = rest
        .replace(" and ", ",")
        .replace("x =", "")
        .replace("x=", "");
    Some(format!("\\mathbb{{R}} \\setminus \\{{{values}\\}}"))
}

/// Binomial coefficients as they are typed, in LaTeX: `C(8,2)`, `_8C_2`, `^8C_2`.
fn chosen(answer: &str) -> Option<String> {
    let plain: String = answer.chars().filter(|c| !c.is_whitespace()).collect();
    let found = CHOOSE.captures(&plain)?;
    let number = |first: usize, second: usize| found.get(first).or(found.get(second));
    let (n, k) = (number(1, 3)?, number(2, 4)?);
    Some(format!("\\binom{{{}}}{{{}}}", n.as_str(), k.as_str()))
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

    #[test]
    fn what_has_another_notation_is_rewritten() {
        for (text, formula) in [
            ("\\text{ABC}_{16}", "2748"),
            ("2A_{12}", "34"),
            ("1011_{\\text{two}}", "11"),
            ("3 hours and 20 minutes", "200 \\text{ minutes}"),
            ("5\\text{ ft }6\\text{ in}", "66 \\text{ in}"),
            ("1.5 hours, 3 min", "93 \\text{ min}"),
            ("]-\\infty, 2]", "(-\\infty, 2]"),
            ("\\left[1,2\\right[", "[1,2)"),
            ("\\text{USD }12.50", "\\$12.50"),
        ] {
            assert_eq!(rewritten(text), formula, "{text}");
        }
        for same in [
            "A_{12}",
            "x_{12}",
            "12_{1}",
            "[1,2]",
            "(1,2)",
            "5 minutes 3 hours",
            "2 apples and 3 pears",
        ] {
            assert_eq!(rewritten(same), same);
        }
    }
}
