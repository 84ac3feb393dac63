//! From a completion to a verdict.

use serde::{Deserialize, Serialize};

/// How the answers of an item are read and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grader {
    /// The letters and digits right after the last `#`, compared exactly.
    Lab,
}

/// What a grader found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer found; none when the completion holds none.
    pub extracted: Option<String>,
    /// Whether it is the expected one.
    pub correct: bool,
}

/// Grades one completion. Whether the model came to an end is for the caller to say: an unfinished answer is no answer.
pub fn grade(grader: Grader, completion: &str, target: &str) -> Verdict {
    let extracted = match grader {
        Grader::Lab => after_last_mark(completion),
    };
    let correct = extracted == Some(target);
    Verdict {
        extracted: extracted.map(str::to_owned),
        correct,
    }
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
        let verdict = grade(Grader::Lab, completion, "122");
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
