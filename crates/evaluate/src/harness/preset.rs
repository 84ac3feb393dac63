//! Tasks for bare JSON lines: the columns say what is what, the preset how it is asked and graded.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tasks::harness::{Config, Definition, Document, documents};

/// Kinds of bare JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Mathematics: the answer is the last \boxed{…}, compared as an expression
    Math,
    /// Sums in words: the answer is the last number
    Gsm8k,
    /// Choices: the model writes a letter
    Mcq,
    /// Choices: the likeliest letter is the answer
    McqLl,
    /// Instructions whose keeping can be checked
    Ifeval,
}

/// Columns that hold the question, the first that there is.
const QUESTIONS: [&str; 7] = [
    "question", "problem", "prompt", "Problem", "Question", "input", "query",
];
/// Columns that hold the answer.
const ANSWERS: [&str; 8] = [
    "answer",
    "target",
    "label",
    "answerKey",
    "gold",
    "Answer",
    "correct",
    "output",
];
/// Columns that hold the choices as a list, or as an object with a list `text`.
const CHOICES: [&str; 3] = ["choices", "options", "answers"];

/// The letters of choices, as a template writes a list.
const LETTERS: &str =
    "['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P']";

const STEPS: &str =
    "\\n\\nPlease reason step by step, and put your final answer within \\\\boxed{}.";
const LETTER: &str = "\\n\\nThink step by step, then finish with \\\"The answer is (X)\\\", where X is the letter of the right choice.";

impl Preset {
    /// The task a file of JSON lines is under this preset.
    pub fn definition(self, file: &Path) -> Result<Definition> {
        let context = || format!("cannot use {}", file.display());
        let rows = documents::read(file)?;
        let first = rows
            .first()
            .context("it holds no line")
            .with_context(context)?;
        let mut raw = self.keys(first).with_context(context)?;
        self.check(&rows).with_context(context)?;
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or("task");
        let name = stem.strip_suffix(".test").unwrap_or(stem);
        raw.insert("task".to_owned(), name.into());
        raw.insert("dataset_path".to_owned(), "json".into());
        raw.insert(
            "dataset_kwargs".to_owned(),
            json!({"data_files": {"test": file.display().to_string()}}),
        );
        raw.insert("test_split".to_owned(), "test".into());
        let config = Config::new(&raw)
            .map_err(anyhow::Error::msg)
            .with_context(context)?;
        Ok(Definition {
            config,
            raw,
            path: file.to_owned(),
        })
    }

    /// Refuses a line whose question or answer is null: a template would write `None`, and every answer were wrong.
    fn check(self, rows: &[Document]) -> Result<()> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let question = column(first, &QUESTIONS)?;
        let answer = match self {
            Self::Ifeval => question,
            _ => column(first, &ANSWERS).or_else(|_| column(first, &["solution"]))?,
        };
        for (number, row) in rows.iter().enumerate() {
            for name in [question, answer] {
                let is_null = row.get(name).is_none_or(Value::is_null);
                ensure!(!is_null, "line {} has no `{name}`", number + 1);
            }
        }
        Ok(())
    }

    fn keys(self, row: &Document) -> Result<Map<String, Value>> {
        let question = column(row, &QUESTIONS)?;
        let keys = match self {
            Self::Math => json!({
                "doc_to_text": template(&format!("{{{{{question}}}}}{STEPS}")),
                "doc_to_target": column(row, &ANSWERS).or_else(|_| column(row, &["solution"]))?,
                "process_results": {"!function": "grade.math"},
                "generation_kwargs": {"until": [], "max_gen_toks": 2048},
            }),
            Self::Gsm8k => json!({
                "doc_to_text": template(&format!("Question: {{{{{question}}}}}\\nAnswer:")),
                "doc_to_target": column(row, &ANSWERS)?,
                "process_results": {"!function": "grade.gsm8k"},
                "generation_kwargs": {"until": ["Question:"], "max_gen_toks": 512},
            }),
            Self::Mcq => json!({
                "doc_to_text": template(&format!("{}{LETTER}", lettered(row, question)?)),
                "doc_to_target": letter(row)?,
                "process_results": {"!function": "grade.mcq"},
                "generation_kwargs": {"until": [], "max_gen_toks": 1024},
            }),
            Self::McqLl => json!({
                "output_type": "multiple_choice",
                "doc_to_text": template(&format!("{}\\nAnswer:", lettered(row, question)?)),
                "doc_to_target": letter(row)?,
                "doc_to_choice": format!("{{{{{LETTERS}[:{}|length]}}}}", choices(row)?),
            }),
            Self::Ifeval => {
                ensure!(
                    row.contains_key("instruction_id_list"),
                    "a line has no `instruction_id_list`"
                );
                json!({
                    "doc_to_text": question,
                    "doc_to_target": 0,
                    "process_results": {"!function": "ifeval.process_results"},
                    "metric_list": (["strict", "loose"]).iter().flat_map(|how| [
                        json!({"metric": format!("prompt_level_{how}_acc")}),
                        json!({"metric": format!("inst_level_{how}_acc"), "aggregation": {"!function": "ifeval.agg_inst_level_acc"}}),
                    ]).collect::<Vec<Value>>(),
                    "generation_kwargs": {"until": [], "max_gen_toks": 1280},
                })
            }
        };
        let Value::Object(keys) = keys else {
            unreachable!("every preset is written as an object");
        };
        Ok(keys)
    }
}

/// The first of these columns that a row has.
fn column<'a>(row: &Document, names: &[&'a str]) -> Result<&'a str> {
    let found = names.iter().find(|name| row.contains_key(**name));
    found
        .copied()
        .with_context(|| format!("a line has none of the columns {}", names.join(", ")))
}

/// Escapes of a template's text, which is written with `\n`.
fn template(text: &str) -> String {
    text.replace("\\n", "\n")
        .replace("\\\\", "\\")
        .replace("\\\"", "\"")
}

/// An expression for the list of choices.
fn choices(row: &Document) -> Result<String> {
    if let Ok(name) = column(row, &CHOICES) {
        return Ok(match &row[name] {
            Value::Object(inner) if inner.contains_key("text") => format!("{name}.text"),
            _ => name.to_owned(),
        });
    }
    let letters: Vec<&str> = ["A", "B", "C", "D", "E", "F"]
        .into_iter()
        .take_while(|name| row.contains_key(*name))
        .collect();
    ensure!(
        letters.len() > 1,
        "a line has neither a list `choices` nor columns A, B, …"
    );
    Ok(format!("[{}]", letters.join(", ")))
}

/// The question with its choices under letters.
fn lettered(row: &Document, question: &str) -> Result<String> {
    let choices = choices(row)?;
    let lines = format!(
        "{{% for choice in {choices} %}}\\n{{{{{LETTERS}[loop.index0]}}}}. {{{{choice}}}}{{% endfor %}}"
    );
    Ok(format!("{{{{{question}}}}}{lines}"))
}

/// An expression for the letter of the right choice: a letter as it is, a number by its place, a text by where it stands.
fn letter(row: &Document) -> Result<String> {
    let answer = column(row, &ANSWERS)?;
    let by_place = |place: &str| format!("{{{{{LETTERS}[{place}]}}}}");
    let is_letter = |text: &str| {
        text.trim().len() == 1 && text.trim().starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let by_text = || choices(row).map(|choices| by_place(&format!("{choices}.index({answer})")));
    let digits =
        |text: &str| !text.trim().is_empty() && text.trim().bytes().all(|b| b.is_ascii_digit());
    match &row[answer] {
        Value::Number(_) => Ok(by_place(answer)),
        // A number that is one of the choices is meant as a choice, not as a place.
        Value::String(text) if texts(row).contains(&text.as_str()) => by_text(),
        Value::String(text) if is_letter(text) => Ok(format!("{{{{{answer}.strip().upper()}}}}")),
        Value::String(text) if digits(text) => Ok(by_place(&format!("{answer}|int"))),
        _ => by_text(),
    }
}

/// The choices of a row that are texts.
fn texts(row: &Document) -> Vec<&str> {
    let Ok(name) = column(row, &CHOICES) else {
        return Vec::new();
    };
    let list = row[name].get("text").unwrap_or(&row[name]);
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::harness::{Request, Style, Task};

    fn asked(preset: Preset, line: &Value) -> (Request, Task) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quiz.test.jsonl");
        std::fs::write(&file, format!("{line}\n")).unwrap();
        let task = Task::open(&preset.definition(&file).unwrap(), None, &[]).unwrap();
        (task.requests(Style::default(), 1).unwrap().remove(0), task)
    }

    #[test]
    fn columns_say_what_is_what() {
        let (request, task) = asked(Preset::Math, &json!({"problem": "1+1?", "answer": "2"}));
        let context =
            "1+1?\n\nPlease reason step by step, and put your final answer within \\boxed{}."
                .to_owned();
        assert_eq!(request, Request::Generate { context });
        assert_eq!(task.name(), "quiz");
        let (request, task) = asked(
            Preset::McqLl,
            &json!({"question": "?", "options": ["x", "y"], "answer": 1}),
        );
        let pair = |letter: &str| ("?\nA. x\nB. y\nAnswer:".to_owned(), format!(" {letter}"));
        assert_eq!(
            request,
            Request::Score {
                pairs: vec![pair("A"), pair("B")]
            }
        );
        assert_eq!(
            task.gold(&task.documents[0], &["A".into(), "B".into()]),
            Ok(vec![Some(1)])
        );
    }

    #[test]
    fn letters_come_from_letters_numbers_and_texts() {
        for (answer, letter) in [
            (json!("b"), "B"),
            (json!(1), "B"),
            (json!("1"), "B"),
            (json!("it's y"), "B"),
        ] {
            let line =
                json!({"question": "?", "choices": {"text": ["x", "it's y"]}, "answer": answer});
            let (_, task) = asked(Preset::McqLl, &line);
            assert_eq!(
                task.target_text(&task.documents[0]).unwrap(),
                letter,
                "{answer}"
            );
        }
    }

    #[test]
    fn a_line_without_what_is_needed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.jsonl");
        std::fs::write(&file, "{\"question\": \"?\"}\n").unwrap();
        let error = format!("{:#}", Preset::Mcq.definition(&file).unwrap_err());
        assert!(
            error.contains("x.jsonl") && error.contains("choices"),
            "{error}"
        );
        let lines =
            "{\"question\": \"?\", \"answer\": \"2\"}\n{\"question\": \"?\", \"answer\": null}\n";
        std::fs::write(&file, lines).unwrap();
        let error = format!("{:#}", Preset::Math.definition(&file).unwrap_err());
        assert!(error.ends_with("line 2 has no `answer`"), "{error}");
    }
}
