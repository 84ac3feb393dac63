//! Equality of answers as the MATH benchmark's first grader tests it: a fixed list of rewritings, then equal texts.
//!
//! It is here so that lm-evaluation-harness' own MATH and AIME files give the harness' own numbers; `Grader::Math` judges
//! better.

/// Whether two answers are the same after rewriting; where one cannot be rewritten, whether the texts are.
pub fn is_equal(a: &str, b: &str) -> bool {
    match (normal(a), normal(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// What stands between the first and the last `$`; the whole text where there are fewer than two.
pub fn between_dollars(text: &str) -> &str {
    match (text.find('$'), text.rfind('$')) {
        (Some(first), Some(last)) if first < last => &text[first + 1..last],
        _ => text,
    }
}

/// The last `\boxed…` or `\fbox…` with its braces.
pub fn last_boxed(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.rsplit_once("\\boxed ") {
        let content = rest.split('$').next().unwrap_or_default();
        return Some(format!("\\boxed {content}"));
    }
    let start = text.rfind("\\boxed").or_else(|| text.rfind("\\fbox"))?;
    let mut open = 0_i32;
    for (place, c) in text[start..].char_indices() {
        open += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if c == '}' && open == 0 {
            return Some(text[start..=start + place].to_owned());
        }
    }
    None
}

/// The content of `\boxed{…}` or `\boxed …`.
pub fn unboxed(text: &str) -> Option<&str> {
    match text.strip_prefix("\\boxed ") {
        Some(content) => Some(content),
        None if text.contains("\\boxed ") => None,
        None => text.strip_prefix("\\boxed{")?.strip_suffix('}'),
    }
}

/// The rewritten answer; none where the rewriting does not apply to it.
fn normal(text: &str) -> Option<String> {
    let text = replaced(text, &SPELLINGS);
    let mut text = replaced(
        without_units(&text)?,
        &[("\\%", ""), (" .", " 0."), ("{.", "{0.")],
    );
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    let text = braced_roots(without_name(&text))?.replace(' ', "");
    let text = braced_fractions(&text)?;
    if text == "0.5" {
        return Some("\\frac{1}{2}".to_owned());
    }
    slash_as_fraction(text)
}

/// Spellings that mean nothing, or the same.
const SPELLINGS: [(&str, &str); 10] = [
    ("\n", ""),
    ("\\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("\\$", ""),
];

fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in pairs {
        text = text.replace(from, to);
    }
    text
}

/// `x=5` is 5, where the name has one or two signs.
fn without_name(text: &str) -> &str {
    match text.split('=').collect::<Vec<_>>()[..] {
        [name, value] if name.chars().count() <= 2 => value,
        _ => text,
    }
}

fn without_units(text: &str) -> Option<&str> {
    match text.split("\\text{ ").collect::<Vec<_>>()[..] {
        [number] | [number, _] => Some(number),
        _ => None,
    }
}

/// `\sqrt3` becomes `\sqrt{3}`.
fn braced_roots(text: &str) -> Option<String> {
    let mut parts = text.split("\\sqrt");
    let mut braced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let first = part.chars().next()?;
        braced.push_str("\\sqrt");
        if first == '{' {
            braced.push_str(part);
        } else {
            let (sign, rest) = part.split_at(first.len_utf8());
            braced.extend(["{", sign, "}", rest]);
        }
    }
    Some(braced)
}

/// `\frac12` becomes `\frac{1}{2}`; a text with a `\frac` that has one sign behind it stays as it is.
fn braced_fractions(text: &str) -> Option<String> {
    let mut parts = text.split("\\frac");
    let mut braced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let above = part.chars().next()?;
        braced.push_str("\\frac");
        if above == '{' {
            braced.push_str(part);
            continue;
        }
        let (above, rest) = part.split_at(above.len_utf8());
        let Some(below) = rest.chars().next() else {
            return Some(text.to_owned());
        };
        braced.extend(["{", above, "}"]);
        if below == '{' {
            braced.push_str(rest);
        } else {
            let (below, rest) = rest.split_at(below.len_utf8());
            braced.extend(["{", below, "}", rest]);
        }
    }
    Some(braced)
}

/// `1/2` of two whole numbers becomes `\frac{1}{2}`; one slash between anything else is where the rewriting gives up.
fn slash_as_fraction(text: String) -> Option<String> {
    let [above, below] = text.split('/').collect::<Vec<_>>()[..] else {
        return Some(text);
    };
    let (a, b): (i128, i128) = (above.parse().ok()?, below.parse().ok()?);
    if text == format!("{a}/{b}") {
        return Some(format!("\\frac{{{a}}}{{{b}}}"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_answer_are_equal() {
        for (a, b) in [
            ("\\frac12", "\\dfrac{1}{2}"),
            ("0.5", "1/2"),
            ("x=5", "5"),
            ("\\sqrt3", "\\sqrt{3}"),
            ("12\\text{ cm}", "12"),
            ("90^\\circ", "90"),
            (".5 ", "0.5"),
            ("\\left( 1, 2 \\right)", "(1,2)"),
            ("50\\%", "50"),
        ] {
            assert!(is_equal(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("1", "2"),
            ("1,000", "1000"),
            ("0.50", "1/2"),
            ("a/b", "a /b"),
        ] {
            assert!(!is_equal(a, b), "{a} {b}");
        }
    }

    #[test]
    fn boxes_and_dollars_are_found() {
        assert_eq!(between_dollars("so $x$ is $3$."), "x$ is $3");
        assert_eq!(between_dollars("cost $3"), "cost $3");
        assert_eq!(
            last_boxed("\\boxed{1} \\boxed{\\frac{1}{2}} x").as_deref(),
            Some("\\boxed{\\frac{1}{2}}")
        );
        assert_eq!(last_boxed("\\boxed 7$ x").as_deref(), Some("\\boxed 7"));
        assert_eq!(last_boxed("\\boxed{7"), None);
        assert_eq!(unboxed("\\boxed{7}"), Some("7"));
        assert_eq!(unboxed("\\fbox{7}"), None);
    }
}
