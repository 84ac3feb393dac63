//! The last number of a text, read as people write numbers.

use std::sync::LazyLock;

use regex::Regex;

/// A number with its separators, decimals, exponent, and what it is divided by; a time of day, a ratio, a root.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"\d+(?:,\d+)*(?:\.\d+)?|\.\d+";
    let clock = r"\d+(?::\d+)+(?:\s?[apAP]\.?[mM]\b\.?)?";
    let pattern = format!(
        r"{clock}|\d*√\d+|(?:{number})(?:[eE][+-]?\d+)?(?:\s?/\s?\d+(?:\.\d+)?)?(?:\s?\\?%)?"
    );
    Regex::new(&pattern).expect("the pattern is fixed")
});

/// The last number with its sign. A remark in brackets after it is passed over: `18 (see eq. 3)` is 18.
pub(in crate::grade) fn last(text: &str) -> Option<&str> {
    let mut outside = None;
    let mut inside = None;
    let mut depth = 0_usize;
    let mut seen = 0;
    for found in NUMBER.find_iter(text) {
        for byte in text[seen..found.start()].bytes() {
            match byte {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        seen = found.start();
        // The digits of a name are no number.
        if text[..found.start()].ends_with(|c: char| c.is_alphabetic() || c == '_' || c == '^') {
            continue;
        }
        let number = &text[signed(text, found.start())..found.end()];
        if depth == 0 {
            outside = Some(number);
        } else {
            inside = Some(number);
        }
    }
    outside.or(inside)
}

/// Where a number begins when a sign belongs to it: `-5`, `-$5`, but not the minus of `5-3`.
fn signed(text: &str, start: usize) -> usize {
    let before = text[..start].trim_end_matches(['$', '£', '€', '\\']);
    let Some(without) = before.strip_suffix(['-', '−', '–']) else {
        return start;
    };
    let term = without
        .trim_end()
        .ends_with(|c: char| c.is_alphanumeric() || ")]}%".contains(c));
    // `so -5` has a sign, `8 -5` and `a-5` do not.
    let after_word =
        without.ends_with(char::is_whitespace) && without.trim_end().ends_with(char::is_alphabetic);
    if term && !after_word {
        start
    } else {
        without.len()
    }
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn the_traps_of_other_extractors_are_avoided() {
        for (text, number) in [
            ("The answer is 18 dollars...", Some("18")),
            ("18 (see eq. 3).", Some("18")),
            ("5-3", Some("3")),
            ("so 18.00", Some("18.00")),
            ("it costs $1,234.50 in all.", Some("1,234.50")),
            ("that makes -$5", Some("-$5")),
            ("which is -5.", Some("-5")),
            ("in all (12)", Some("12")),
            ("a chance of 3/4.", Some("3/4")),
            ("a chance of 75%!", Some("75%")),
            ("AZYUK2A", None),
            ("1.5e3 metres", Some("1.5e3")),
            ("They meet at 11:30 a.m.", Some("11:30 a.m.")),
            ("The ratio is 3:4.", Some("3:4")),
            ("It is 2√3 cm long.", Some("2√3")),
            ("none", None),
        ] {
            assert_eq!(last(text), number, "{text}");
        }
    }
}
