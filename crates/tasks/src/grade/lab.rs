//! Answers of the built-in suite.

use super::Verdict;

/// Compares the letters and digits right after the last `#` with the target.
pub(super) fn grade(completion: &str, target: &str) -> Verdict {
    let extracted = after_last_mark(completion);
    Verdict::new(extracted.map(str::to_owned), extracted == Some(target))
}

/// The run of ASCII letters and digits right after the last `#`; none when it is empty.
fn after_last_mark(completion: &str) -> Option<&str> {
    let (_, rest) = completion.rsplit_once('#')?;
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(completion: &str, extracted: Option<&str>) {
        let verdict = grade(completion, "122");
        assert_eq!(verdict.extracted.as_deref(), extracted, "{completion:?}");
        assert_eq!(verdict.correct, extracted == Some("122"), "{completion:?}");
    }

    #[test]
    fn the_answer_is_the_run_after_the_last_mark() {
        check("so 9+3=12,5+6+1=12#122.", Some("122"));
        check("eh #112~", Some("112"));
        check("#1#122\n", Some("122"));
        check("[out]#122 and more", Some("122"));
    }

    #[test]
    fn no_mark_or_nothing_behind_it_is_no_answer() {
        check("122", None);
        check("", None);
        check("so #", None);
        check("#122#.", None);
        check("# 122", None);
    }

    #[test]
    fn an_answer_is_compared_exactly() {
        check("#0122", Some("0122"));
        check("#12", Some("12"));
        check("#é", None);
    }
}
