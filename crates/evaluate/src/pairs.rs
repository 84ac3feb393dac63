//! Answers that are no table: JSON lines with a target and a completion each.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use tasks::{Grader, check_target, grade};

/// Grades every line of `answers` and writes it to `output` with `extracted` and `correct` added.
pub fn run(answers: &Path, grader: Grader, output: &Path) -> Result<()> {
    let text = store::read_text(answers)?;
    let lines =
        graded(&text, grader).with_context(|| format!("cannot grade {}", answers.display()))?;
    store::write_atomic(output, |file| {
        let mut writer = BufWriter::new(file);
        for line in &lines {
            serde_json::to_writer(&mut writer, line)?;
            writer.write_all(b"\n")?;
        }
        writer.flush()
    })?;
    let right = lines.iter().filter(|line| line["correct"] == true).count();
    cli::say(&format!("{right} of {} answers right", lines.len()));
    Ok(())
}

/// The lines with their verdicts, in order; other keys are kept as they are.
fn graded(text: &str, grader: Grader) -> Result<Vec<Map<String, Value>>> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if !line.trim().is_empty() {
            lines.push(verdict(line, grader).with_context(|| format!("line {number}"))?);
        }
    }
    ensure!(!lines.is_empty(), "it holds no answer");
    Ok(lines)
}

fn verdict(line: &str, grader: Grader) -> Result<Map<String, Value>> {
    let mut line: Map<String, Value> = serde_json::from_str(line)?;
    let (completion, target) = (text_of(&line, "completion")?, text_of(&line, "target")?);
    check_target(grader, &target)
        .map_err(anyhow::Error::msg)
        .context("`target` cannot be used")?;
    let verdict = grade(grader, &completion, &target);
    let before = json!({"extracted": line.get("extracted"), "correct": line.get("correct")});
    if line.contains_key("correct") {
        line.insert("before".to_owned(), before);
    }
    let readings = verdict.readings_json();
    line.insert("extracted".to_owned(), verdict.extracted.into());
    line.insert("correct".to_owned(), verdict.correct.into());
    if let Some(readings) = readings {
        line.insert("readings".to_owned(), serde_json::from_str(&readings)?);
    }
    Ok(line)
}

/// A text, or a number as it is written.
fn text_of(line: &Map<String, Value>, key: &str) -> Result<String> {
    match line.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => bail!("`{key}` is not a text but {other}"),
        None => bail!("`{key}` is missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_what_they_hold_and_gain_a_verdict() {
        let text = "{\"id\":7,\"target\":\"12\",\"completion\":\"so 6+6#12.\"}\n\n{\"completion\":\"eh\",\"target\":\"3\"}\n";
        let lines: Vec<String> = graded(text, Grader::Lab)
            .unwrap()
            .into_iter()
            .map(|line| Value::Object(line).to_string())
            .collect();
        assert_eq!(
            lines,
            [
                r#"{"id":7,"target":"12","completion":"so 6+6#12.","extracted":"12","correct":true}"#,
                r#"{"completion":"eh","target":"3","extracted":null,"correct":false}"#,
            ]
        );
    }

    #[test]
    fn every_way_of_reading_and_the_verdict_before_are_kept() {
        let text = r#"{"target":12,"completion":"so \\boxed{12}","correct":false}"#;
        let line = &graded(text, Grader::Math).unwrap()[0];
        assert_eq!(line["before"], json!({"extracted": null, "correct": false}));
        assert_eq!(line["correct"], true);
        assert_eq!(
            line["readings"]["boxed"],
            json!({"extracted": "12", "correct": true})
        );
    }

    #[test]
    fn a_line_that_is_no_answer_is_named() {
        for (text, cause) in [
            ("\n{\"target\":\"1\"}", "line 2: `completion` is missing"),
            (
                "{\"target\":[1],\"completion\":\"\"}",
                "line 1: `target` is not a text but [1]",
            ),
            ("[]", "line 1"),
            ("", "no answer"),
        ] {
            let error = format!("{:#}", graded(text, Grader::Lab).unwrap_err());
            assert!(error.contains(cause), "{error}");
        }
    }
}
