//! From a completion to a verdict.

mod choice;
mod extract;
mod lab;
mod latex;
mod math;

use serde::{Deserialize, Serialize};

use crate::{ifeval, thinking};

/// How the answers of an item are read and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grader {
    /// The letters and digits right after the last `#`, compared exactly.
    Lab,
    /// The whole completion but the space around it, compared exactly.
    Exact,
    /// Mathematics: the last box, else what is announced as the answer, else the last formula or number; compared by what it
    /// means.
    Math,
    /// Word problems: what follows `####`, else as for `math`.
    Gsm8k,
    /// Multiple choice: the letter that the completion settles on.
    Mcq,
    /// Instructions whose keeping can be checked; the target is the document as JSON.
    Ifeval,
}

/// What a grader found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer found; none when the completion holds none.
    pub extracted: Option<String>,
    /// Whether it is the expected one.
    pub correct: bool,
    /// What each way of reading the completion found, where a grader has several; the verdict is that of the first that
    /// found an answer, unless the grader says otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<Reading>,
}

/// What one way of reading a completion found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The way of reading: `boxed`, `phrase`, `strict`, `flexible`, …, or a filter of a task file.
    pub extractor: String,
    /// The answer found; none when it found none.
    pub extracted: Option<String>,
    /// Whether it is the expected one.
    pub correct: bool,
}

impl Verdict {
    /// A verdict of a single way of reading.
    pub fn new(extracted: Option<String>, correct: bool) -> Self {
        Self {
            extracted,
            correct,
            readings: Vec::new(),
        }
    }

    /// The readings as one JSON object, `{"boxed":{"extracted":"12","correct":true},…}`; none when there is none.
    pub fn readings_json(&self) -> Option<String> {
        let object: serde_json::Map<String, serde_json::Value> = self
            .readings
            .iter()
            .map(|reading| {
                let value =
                    serde_json::json!({"extracted": reading.extracted, "correct": reading.correct});
                (reading.extractor.clone(), value)
            })
            .collect();
        (!object.is_empty()).then(|| serde_json::Value::Object(object).to_string())
    }
}

/// Grades one completion. Whether the model came to an end is for the caller to say: an unfinished answer is no answer.
///
/// All but the answers of the built-in suite are looked for after the model's reasoning ([`crate::thinking`]).
pub fn grade(grader: Grader, completion: &str, target: &str) -> Verdict {
    let (_, answer) = thinking::split(completion);
    match grader {
        Grader::Lab => lab::grade(completion, target),
        Grader::Exact => {
            let answer = answer.trim();
            let extracted = (!answer.is_empty()).then(|| answer.to_owned());
            Verdict::new(extracted, answer == target.trim() && !answer.is_empty())
        }
        Grader::Math => math::math(answer, target),
        Grader::Gsm8k => math::gsm8k(answer, target),
        Grader::Mcq => choice::grade(answer, target),
        Grader::Ifeval => ifeval::grade(answer, target),
    }
}

/// Refuses a target that a grader cannot use, such as one that lists instructions nobody knows.
pub fn check_target(grader: Grader, target: &str) -> Result<(), String> {
    if grader != Grader::Ifeval {
        return Ok(());
    }
    let document = serde_json::from_str(target).map_err(|error| error.to_string())?;
    ifeval::judge(&document, "any text").map(|_| ())
}

/// What the fuzz target runs: target and completion, a line each, graded in every way. Nothing may panic, hang, or take
/// without bound; `tests/grading_bounds.rs` gives it strings drawn at random, cargo-fuzz those that reach further.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (target, completion) = text.split_once('\n').unwrap_or(("12", &text));
    for grader in [Grader::Math, Grader::Gsm8k, Grader::Mcq, Grader::Ifeval] {
        grade(grader, completion, target);
    }
    grade(Grader::Math, &format!("\\boxed{{{completion}}}"), target);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_answers_are_compared_but_for_the_space_around_them() {
        assert!(grade(Grader::Exact, " Paris\n", "Paris").correct);
        assert!(!grade(Grader::Exact, "paris", "Paris").correct);
        assert_eq!(grade(Grader::Exact, " ", "").extracted, None);
    }

    #[test]
    fn targets_that_list_no_known_instructions_are_refused() {
        assert_eq!(check_target(Grader::Math, ""), Ok(()));
        let target = |id: &str| format!("{{\"instruction_id_list\":[\"{id}\"],\"kwargs\":[{{}}]}}");
        assert_eq!(
            check_target(Grader::Ifeval, &target("punctuation:no_comma")),
            Ok(())
        );
        assert!(check_target(Grader::Ifeval, &target("a:b")).is_err());
        assert!(check_target(Grader::Ifeval, "B").is_err());
    }

    #[test]
    fn readings_become_one_object() {
        let reading = Reading {
            extractor: "boxed".into(),
            extracted: Some("12".into()),
            correct: true,
        };
        let mut verdict = Verdict::new(None, false);
        assert_eq!(verdict.readings_json(), None);
        verdict.readings.push(reading);
        let expected = r#"{"boxed":{"extracted":"12","correct":true}}"#;
        assert_eq!(verdict.readings_json().as_deref(), Some(expected));
    }
}
