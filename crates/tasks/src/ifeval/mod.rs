//! Instructions whose keeping a program can check (`IFEval`, arXiv 2311.07911): the 25 kinds of the data set.
//!
//! Rules are those of the reference implementation. Two things it takes from Python libraries are rules of our own here:
//! where sentences end ([`sentences`]) and which language a text is in ([`language`]).

mod arguments;
mod checks;
pub mod language;
mod layout;
pub mod sentences;
mod words;

use serde_json::{Map, Value};

use crate::grade::{Reading, Verdict};

pub use checks::KINDS;

/// Which instructions of a document a response keeps, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// By the response as it is.
    pub strict: Vec<bool>,
    /// By the response as it is, without its first or last line, or without asterisks: whichever keeps the instruction.
    pub loose: Vec<bool>,
}

/// Checks every instruction of a document: `instruction_id_list`, `kwargs` (one object for each), and `prompt` for
/// instructions that speak of it. A kind that is not known is an error, and so are arguments of a wrong type.
pub fn judge(document: &Map<String, Value>, response: &str) -> Result<Judgement, String> {
    let ids = document
        .get("instruction_id_list")
        .and_then(Value::as_array)
        .ok_or("`instruction_id_list` is missing or no list")?;
    let empty = Vec::new();
    let arguments = match document.get("kwargs") {
        Some(Value::Array(arguments)) => arguments,
        None | Some(Value::Null) => &empty,
        Some(_) => return Err("`kwargs` is no list".to_owned()),
    };
    let loosened = loosened(response);
    let mut judgement = Judgement {
        strict: Vec::new(),
        loose: Vec::new(),
    };
    let none = Map::new();
    for (number, id) in ids.iter().enumerate() {
        let id = id.as_str().ok_or("an instruction's name is no text")?;
        let arguments = arguments
            .get(number)
            .and_then(Value::as_object)
            .unwrap_or(&none);
        let kept = |text: &str| {
            Ok::<_, String>(!text.trim().is_empty() && checks::check(id, arguments, text)?)
        };
        judgement.strict.push(kept(response)?);
        let mut loose = false;
        for text in &loosened {
            loose = loose || kept(text)?;
        }
        judgement.loose.push(loose);
    }
    Ok(judgement)
}

/// The response, without its first line, its last, or both; each also without asterisks.
fn loosened(response: &str) -> Vec<String> {
    let lines: Vec<&str> = response.split('\n').collect();
    let joined = |lines: &[&str]| lines.join("\n").trim().to_owned();
    let last = lines.len() - 1;
    let plain = [
        response.to_owned(),
        joined(&lines[1..]),
        joined(&lines[..last]),
        joined(lines.get(1..last).unwrap_or_default()),
    ];
    let bare = plain.each_ref().map(|text| text.replace('*', ""));
    plain.into_iter().chain(bare).collect()
}

/// Grades a response against a target that is a document as JSON. It is right when every instruction is kept, strictly;
/// `extracted` holds which are.
pub(crate) fn grade(response: &str, target: &str) -> Verdict {
    let judged = serde_json::from_str(target)
        .map_err(|error| error.to_string())
        .and_then(|document| judge(&document, response));
    let Ok(judgement) = judged else {
        // A target that is no list of instructions is kept by nothing.
        return Verdict::new(None, false);
    };
    let reading = |name: &str, kept: &[bool]| Reading {
        extractor: name.to_owned(),
        extracted: Some(format!("{kept:?}").replace(' ', "")),
        correct: kept.iter().all(|kept| *kept),
    };
    let readings = vec![
        reading("strict", &judgement.strict),
        reading("loose", &judgement.loose),
    ];
    Verdict {
        extracted: readings[0].extracted.clone(),
        correct: readings[0].correct,
        readings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn loose_forgives_an_opening_line_and_emphasis() {
        let document = document(&json!({
            "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
            "kwargs": [{}, {}],
        }));
        let judgement = judge(&document, "Sure, here:\n\"**Hello** world\"").unwrap();
        assert_eq!(
            judgement,
            Judgement {
                strict: vec![false, false],
                loose: vec![true, true]
            }
        );
    }

    #[test]
    fn an_empty_response_keeps_nothing_and_an_unknown_kind_is_an_error() {
        let no_comma =
            document(&json!({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}));
        assert_eq!(judge(&no_comma, " \n").unwrap().loose, [false]);
        let unknown = document(&json!({"instruction_id_list": ["a:b"], "kwargs": [{}]}));
        assert!(judge(&unknown, "x").unwrap_err().contains("a:b"));
        assert!(judge(&Map::new(), "x").is_err());
    }

    #[test]
    fn a_target_is_the_document() {
        let target = r#"{"instruction_id_list":["punctuation:no_comma","change_case:english_lowercase"],"kwargs":[{},{}]}"#;
        let verdict = grade("this is the answer to the question", target);
        assert!(verdict.correct);
        assert_eq!(verdict.extracted.as_deref(), Some("[true,true]"));
        assert!(!grade("This is the answer", target).correct);
        assert_eq!(grade("x", "no JSON").extracted, None);
    }
}
