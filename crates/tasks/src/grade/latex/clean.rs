//! What stands around an answer without belonging to it.

/// Most layers taken off.
const LAYERS: usize = 16;

/// Takes delimiters of formulas, boxes, emphasis and the end of a sentence off a text.
pub(in crate::grade) fn clean(text: &str) -> &str {
    let mut text = text.trim();
    for _ in 0..LAYERS {
        let before = text.len();
        text = ends(text);
        for (open, close) in [
            ("$$", "$$"),
            ("$", "$"),
            ("\\(", "\\)"),
            ("\\[", "\\]"),
            ("**", "**"),
            ("__", "__"),
            ("`", "`"),
            ("\"", "\""),
            ("“", "”"),
        ] {
            text = inside(text, open, close);
        }
        text = boxed(text).trim();
        if text.len() == before {
            break;
        }
    }
    text
}

/// Without punctuation at the end that no answer ends with.
fn ends(text: &str) -> &str {
    let text = text
        .trim()
        .trim_end_matches(['.', ',', ';', ':', '。', '?'])
        .trim_end();
    let text = text.strip_suffix("\\\\").unwrap_or(text).trim_end();
    // `\ ` and `\,` at an end lose their space to `trim`.
    text.strip_suffix('\\').unwrap_or(text).trim()
}

/// What stands between delimiters around the whole text.
fn inside<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    let inner = text
        .strip_prefix(open)
        .and_then(|text| text.strip_suffix(close));
    match inner {
        Some(inner) if !inner.is_empty() && !inner.contains(close) && !inner.ends_with('\\') => {
            inner.trim()
        }
        _ => text,
    }
}

/// What stands in a box around the whole text.
fn boxed(text: &str) -> &str {
    for name in ["\\boxed{", "\\fbox{"] {
        if let Some(rest) = text.strip_prefix(name)
            && closing(rest) == Some(rest.len() - 1)
        {
            return &rest[..rest.len() - 1];
        }
    }
    text
}

/// Where the brace that is open at the beginning closes.
pub(in crate::grade) fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_an_answer_is_taken_off() {
        for text in [
            "$12$.",
            "\\(12\\)",
            "**12**",
            "\\boxed{12}",
            "$\\boxed{12}$.",
            " 12 ;",
            "\\[\n12\n\\]",
            "`12`",
        ] {
            assert_eq!(clean(text), "12", "{text}");
        }
        assert_eq!(clean("\\$5"), "\\$5");
        assert_eq!(clean("$1$ and $2$"), "$1$ and $2$");
        assert_eq!(clean("\\boxed{1}+\\boxed{2}"), "\\boxed{1}+\\boxed{2}");
    }

    #[test]
    fn braces_are_matched_but_for_escaped_ones() {
        assert_eq!(closing("a{b}c} d"), Some(5));
        assert_eq!(closing("\\{a\\}} d"), Some(5));
        assert_eq!(closing("a{b}"), None);
    }
}
