//! Formulas between their delimiters.

/// Longest formula, in bytes: an end beyond that belongs to another one.
const LONGEST: usize = 4000;

/// Delimiters of formulas.
const DELIMITERS: [(&str, &str); 4] = [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")];

/// The last formula that holds more than one letter; none when there is none.
pub(in crate::grade) fn last(text: &str) -> Option<&str> {
    all(text)
        .into_iter()
        .rev()
        .find(|formula| says_something(formula))
}

/// The last formulas with nothing but `and`, `or` or a comma between them (`$x = 1$ or $x = 2$`), joined by commas; none
/// when the last one stands alone.
pub(in crate::grade) fn combined(text: &str) -> Option<String> {
    let found = all(text);
    let place = |formula: &str| formula.as_ptr() as usize - text.as_ptr() as usize;
    let connects = |pair: &&[&str]| {
        let between = &text[place(pair[0]) + pair[0].len()..place(pair[1])];
        let words = between.replace(['$', '\\', '(', ')', '[', ']'], " ");
        matches!(
            words.trim().trim_start_matches(',').trim(),
            "and" | "or" | ""
        )
    };
    let joined = found.windows(2).rev().take_while(connects).count();
    let together = &found[found.len().saturating_sub(joined + 1)..];
    (joined > 0).then(|| together.join(", "))
}

/// The formulas of a text, in order.
pub(in crate::grade) fn all(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut at = 0;
    // Kinds of delimiters that nothing closes any more: a text of a million open ones is read once.
    let mut open_for_good = [false; DELIMITERS.len()];
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("\\$") {
            at += 2;
            continue;
        }
        let opened = DELIMITERS
            .iter()
            .position(|(open, _)| rest.starts_with(open))
            .filter(|kind| !open_for_good[*kind]);
        let formula = opened.and_then(|kind| {
            let (open, close) = DELIMITERS[kind];
            let inside = &rest[open.len()..];
            let near = &inside[..inside.floor_char_boundary(LONGEST)];
            if !near.contains(close) {
                open_for_good[kind] = !inside.contains(close);
                return None;
            }
            let end = end_of(near, close)?;
            Some((&inside[..end], open.len() + end + close.len()))
        });
        match formula {
            Some((formula, width)) => {
                found.push(formula.trim());
                at += width;
            }
            None => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    found
}

/// Where a formula ends. One between single dollars does not reach over a blank line, and no price begins one: `$5 and $6`.
fn end_of(inside: &str, close: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let end = from + inside[from..].find(close)?;
        if close.starts_with('$') && inside[..end].ends_with('\\') {
            from = end + close.len();
            continue;
        }
        let content = &inside[..end];
        let price = close == "$"
            && content.starts_with(|c: char| c.is_ascii_digit())
            && content.contains(char::is_whitespace)
            && content
                .split_whitespace()
                .any(|word| word.len() > 2 && word.chars().all(char::is_alphabetic));
        return (!price && !content.contains("\n\n") && !content.trim().is_empty()).then_some(end);
    }
}

/// Not just the name of something.
fn says_something(formula: &str) -> bool {
    formula.contains(|c: char| c.is_ascii_digit()) || formula.trim().chars().count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_formula_is_found_between_any_delimiters() {
        assert_eq!(last("so $x=5$, on the $x$-axis"), Some("x=5"));
        assert_eq!(last("$$1$$ then \\[ 2 \\]"), Some("2"));
        assert_eq!(last("then \\( \\frac{1}{2} \\)."), Some("\\frac{1}{2}"));
        assert_eq!(last("it costs $5 and then some more, $6"), None);
        assert_eq!(last("it costs \\$5 or \\$6"), None);
        assert_eq!(last("é$12$é"), Some("12"));
        assert_eq!(last("$"), None);
        let both = combined("With $n$ we get $x = 1$ or $x = 2$.");
        assert_eq!(both.as_deref(), Some("x = 1, x = 2"));
        assert_eq!(combined("With $n$ we get $x = 2$."), None);
    }
}
