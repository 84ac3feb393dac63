//! Documents that went from wrong to right, or back: which, and what was answered.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use store::tables::Sample;

use crate::pairing::{Pair, Set, share};

/// One document whose share of right answers is not the same in both sets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// `wrong-to-right` or `right-to-wrong`.
    pub change: &'static str,
    /// The first set.
    pub a: String,
    /// The second set.
    pub b: String,
    /// Task.
    pub task: String,
    /// Document.
    pub doc_id: String,
    /// Answer expected.
    pub target: String,
    /// Share of right answers in the first set.
    pub share_a: f64,
    /// Share of right answers in the second set.
    pub share_b: f64,
    /// What was asked; as the first set was asked it.
    pub prompt: String,
    /// Answers of the first set.
    pub answers_a: Vec<Text>,
    /// Answers of the second set.
    pub answers_b: Vec<Text>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Text {
    /// Answer found; null when none was.
    pub extracted: Option<String>,
    /// Text written.
    pub completion: String,
}

/// The changed documents: those that got better first, then by task and document.
pub fn of(a: &Set, b: &Set, tasks: &BTreeMap<&str, Vec<Pair>>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (task, pairs) in tasks {
        for pair in pairs {
            let (share_a, share_b) = (share(&pair.a), share(&pair.b));
            let change = match share_a.total_cmp(&share_b) {
                std::cmp::Ordering::Less => "wrong-to-right",
                std::cmp::Ordering::Greater => "right-to-wrong",
                std::cmp::Ordering::Equal => continue,
            };
            changes.push(Change {
                change,
                a: a.name.clone(),
                b: b.name.clone(),
                task: (*task).to_owned(),
                doc_id: pair.doc_id.to_owned(),
                target: pair.a[0].target.clone(),
                share_a,
                share_b,
                prompt: pair.a[0].prompt.clone(),
                answers_a: texts(&pair.a),
                answers_b: texts(&pair.b),
            });
        }
    }
    changes.sort_by_key(|change| change.change == "right-to-wrong");
    changes
}

fn texts(answers: &[&Sample]) -> Vec<Text> {
    let text = |answer: &&Sample| Text {
        extracted: answer.extracted.clone(),
        completion: answer.completion.clone(),
    };
    answers.iter().map(text).collect()
}

/// Writes JSON lines.
pub fn write(path: &Path, changes: &[Change]) -> Result<()> {
    store::write_atomic(path, |file| {
        let mut writer = BufWriter::new(file);
        for change in changes {
            serde_json::to_writer(&mut writer, change)?;
            writer.write_all(b"\n")?;
        }
        writer.flush()
    })?;
    Ok(())
}
