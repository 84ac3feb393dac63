//! Reasoning apart from answers: what stands between `<think>` and `</think>`.
//!
//! Chat templates often write the opening tag into the prompt, so the completion may hold the closing one alone. A trace
//! that is never closed has no answer after it.

/// Tags that open and close a trace, as models write them.
const TAGS: [(&str, &str); 4] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
];

/// The trace, if there is one, and the text to be graded: what follows the last closing tag.
pub fn split(text: &str) -> (Option<&str>, &str) {
    let last = |close: &str| text.rfind(close).map(|at| (at, at + close.len()));
    let closed = TAGS
        .iter()
        .filter_map(|(open, close)| Some((last(close)?, *open)))
        .max();
    if let Some(((end, after), open)) = closed {
        let trace = text[..end].trim_start();
        let trace = trace.strip_prefix(open).unwrap_or(trace);
        return (Some(trace.trim()), text[after..].trim_start());
    }
    let opened = TAGS
        .iter()
        .find_map(|(open, _)| text.trim_start().strip_prefix(open));
    match opened {
        Some(trace) => (Some(trace.trim()), ""),
        None => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn the_trace_is_kept_apart_from_the_answer() {
        assert_eq!(split("<think>7?</think>\n\n12"), (Some("7?"), "12"));
        assert_eq!(split("so 7</think> 12"), (Some("so 7"), "12"));
        assert_eq!(split("no trace <b>12</b>"), (None, "no trace <b>12</b>"));
        assert_eq!(
            split("<think>a</think>b</think> c"),
            (Some("a</think>b"), "c")
        );
    }

    #[test]
    fn a_trace_without_end_has_no_answer() {
        assert_eq!(split("<think>perhaps 12"), (Some("perhaps 12"), ""));
        assert_eq!(split(""), (None, ""));
    }
}
