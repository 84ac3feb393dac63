//! Answers in boxes: `\boxed{…}`.

use crate::grade::latex::closing;

/// How many boxes are looked at, from the end.
const LAST: usize = 64;
/// Longest content of a box, in bytes.
const LONGEST: usize = 4000;
/// Longest content of a box that never closes, in bytes: what is longer is a text cut off.
const OPEN: usize = 200;

/// One box: where it begins and ends in the text, and what is in it.
struct Box<'a> {
    start: usize,
    end: usize,
    content: &'a str,
}

/// The content of the last box that holds something. A box that is still open where the text ends counts.
pub(in crate::grade) fn boxed(text: &str) -> Option<&str> {
    let content = boxes(text).last()?.content;
    // Of a box within a box only the inner one is the answer, unless the inner one is all there is.
    if ["\\boxed", "\\fbox"]
        .iter()
        .any(|name| content.starts_with(name))
    {
        return Some(content);
    }
    Some(boxed(content).unwrap_or(content))
}

/// The contents of the last boxes that belong together (`\boxed{1} and \boxed{2}`), joined by commas; none when the last one
/// stands alone.
pub(in crate::grade) fn combined(text: &str) -> Option<String> {
    let found = boxes(text);
    let joined = found
        .windows(2)
        .rev()
        .take_while(|pair| connects(&text[pair[0].end..pair[1].start]))
        .count();
    let together: Vec<&str> = found[found.len().saturating_sub(joined + 1)..]
        .iter()
        .map(|found| found.content)
        .collect();
    (joined > 0).then(|| together.join(", "))
}

fn boxes(text: &str) -> Vec<Box<'_>> {
    let mut found = Vec::new();
    // Only the last ones matter, and a text may hold a million.
    let mut from = text
        .rmatch_indices("box")
        .nth(LAST - 1)
        .map_or(0, |(at, _)| at.saturating_sub(1));
    from = text.floor_char_boundary(from);
    while let Some((start, inside)) = next(text, from) {
        let rest = near(&text[inside..]);
        let (content, end) = match (
            rest.strip_prefix('{'),
            closing(rest.strip_prefix('{').unwrap_or("")),
        ) {
            (Some(rest), Some(at)) => (&rest[..at], inside + at + 2),
            // Another box may follow one that was left open.
            (Some(rest), None) => (open(rest), inside + 1),
            // `\boxed 5` holds the next word.
            (None, _) => {
                let word = rest
                    .trim_start()
                    .split(|c: char| c.is_whitespace() || c == '$')
                    .next()
                    .unwrap_or("");
                (
                    word,
                    inside + rest.len() - rest.trim_start().len() + word.len(),
                )
            }
        };
        if !content.trim().is_empty() {
            found.push(Box {
                start,
                end,
                content: content.trim(),
            });
        }
        // Boxes in a box that closes are part of its content.
        from = end.max(inside);
    }
    found
}

/// The part of a text that a box may reach over.
fn near(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// Where the next box begins, and where what follows its name begins.
fn next(text: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        at += text[at..].find('\\')?;
        for name in ["\\boxed", "\\fbox"] {
            if text[at..].starts_with(name) {
                return Some((at, at + name.len()));
            }
        }
        at += 1;
    }
}

/// The content of a box that the text leaves open: the rest of its line, without what closes the formula.
fn open(rest: &str) -> &str {
    let line = rest.lines().next().unwrap_or("");
    let line = line.split("\\boxed").next().unwrap_or("");
    let line = line
        .trim()
        .trim_end_matches(['$', '.'])
        .trim_end_matches("\\)")
        .trim_end_matches("\\]");
    if line.len() > OPEN { "" } else { line }
}

/// Whether what stands between two boxes says that both are answers: a comma, `and`, at most a few words, none that takes
/// the first one back.
fn connects(between: &str) -> bool {
    const BACK: [&str; 12] = [
        "but",
        "no",
        "not",
        "wait",
        "actually",
        "instead",
        "however",
        "correct",
        "wrong",
        "should",
        "so",
        "therefore",
    ];
    let lower = between.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && !matches!(*word, "quad" | "text" | "qquad" | "textbf"))
        .collect();
    let joins = between.contains(',')
        || words.contains(&"and")
        || words.contains(&"or")
        || words.is_empty();
    joins
        && words.len() <= 6
        && !between.contains(['.', '\n'])
        && !words.iter().any(|word| BACK.contains(word))
        || (words.is_empty() && between.len() <= 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_box_counts_and_braces_are_matched() {
        assert_eq!(
            boxed("First \\boxed{7}, but actually \\boxed{12}"),
            Some("12")
        );
        assert_eq!(boxed("\\boxed{\\frac{1}{2}} and {x}"), Some("\\frac{1}{2}"));
        assert_eq!(boxed("\\boxed{\\boxed{5}}"), Some("\\boxed{5}"));
        assert_eq!(boxed("\\boxed{\\text{So: }\\boxed{5}}"), Some("5"));
        assert_eq!(boxed("so \\boxed{12}, see \\boxed{}"), Some("12"));
        assert_eq!(boxed("$\\boxed 5$"), Some("5"));
        assert_eq!(boxed("\\boxed{ then \\boxed{3}"), Some("3"));
        assert_eq!(boxed("no box"), None);
    }

    #[test]
    fn an_open_box_holds_the_rest_of_its_line() {
        assert_eq!(boxed("\\boxed{12"), Some("12"));
        assert_eq!(boxed("so $\\boxed{12$.\nThat is it"), Some("12"));
        assert_eq!(boxed(&format!("\\boxed{{{}", "and ".repeat(100))), None);
    }

    #[test]
    fn boxes_side_by_side_belong_together() {
        let combine = |text| combined(text);
        assert_eq!(
            combine("\\boxed{1} and \\boxed{2}").as_deref(),
            Some("1, 2")
        );
        assert_eq!(
            combine("$\\boxed{1}$, $\\boxed{2}$, $\\boxed{3}$").as_deref(),
            Some("1, 2, 3")
        );
        assert_eq!(
            combine("\\boxed{1} papers and \\boxed{2} bins").as_deref(),
            Some("1, 2")
        );
        assert_eq!(combine("First \\boxed{7}, but actually \\boxed{12}"), None);
        assert_eq!(combine("\\boxed{1}. Let me check. \\boxed{1}"), None);
        assert_eq!(combine("\\boxed{1}"), None);
        assert_eq!(combine(""), None);
    }
}
