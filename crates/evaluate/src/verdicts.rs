//! Old and new verdicts on the same answers, as people read them.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use store::tables::Sample;

use crate::results::ALL;

/// Changed answers shown on stdout; `--changes` writes all.
const SHOWN: usize = 20;
/// Longest answer shown, in characters.
const WIDTH: usize = 40;

/// What became of the verdicts of a task.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Counts {
    answers: usize,
    unfinished: usize,
    without: usize,
    before: usize,
    after: usize,
    to_right: usize,
    to_wrong: usize,
}

const HEADINGS: [&str; 8] = [
    "task",
    "answers",
    "unfinished",
    "no answer",
    "right before",
    "right after",
    "wrong>right",
    "right>wrong",
];

impl Counts {
    fn add(&mut self, before: &Sample, after: &Sample) {
        self.answers += 1;
        self.unfinished += usize::from(after.finish_reason == "length");
        self.without += usize::from(after.extracted.is_none() && after.finish_reason != "length");
        self.before += usize::from(before.correct);
        self.after += usize::from(after.correct);
        self.to_right += usize::from(!before.correct && after.correct);
        self.to_wrong += usize::from(before.correct && !after.correct);
    }

    fn cells(&self, task: &str) -> [String; 8] {
        let count = |count: usize| count.to_string();
        [
            task.to_owned(),
            count(self.answers),
            count(self.unfinished),
            count(self.without),
            count(self.before),
            count(self.after),
            count(self.to_right),
            count(self.to_wrong),
        ]
    }
}

/// A row per task and one for all, then the first answers whose verdict changed.
pub fn render(before: &[Sample], after: &[Sample]) -> String {
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut all = Counts::default();
    for (before, after) in before.iter().zip(after) {
        counts.entry(&after.task).or_default().add(before, after);
        all.add(before, after);
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(counts.iter().map(|(task, counts)| counts.cells(task)));
    rows.push(all.cells(ALL));
    let changed: Vec<String> = changed(before, after)
        .map(|(before, after)| line(before, after))
        .collect();
    let mut blocks = vec![aligned(&rows)];
    if !changed.is_empty() {
        blocks.push("\n".to_owned());
        blocks.extend_from_slice(&changed[..changed.len().min(SHOWN)]);
    }
    if changed.len() > SHOWN {
        let more = changed.len() - SHOWN;
        blocks.push(format!("and {more} more (--changes writes all)\n"));
    }
    blocks.concat()
}

fn changed<'a>(
    before: &'a [Sample],
    after: &'a [Sample],
) -> impl Iterator<Item = (&'a Sample, &'a Sample)> {
    before
        .iter()
        .zip(after)
        .filter(|(before, after)| before.correct != after.correct)
}

/// `math/12/0 wrong>right: found 1/2 (before: 0.5), expected \frac{1}{2}`
fn line(before: &Sample, after: &Sample) -> String {
    let found = |sample: &Sample| {
        sample
            .extracted
            .as_deref()
            .map_or("nothing".to_owned(), short)
    };
    format!(
        "{}/{}/{} {}: found {} (before: {}), expected {}\n",
        after.task,
        after.doc_id,
        after.sample,
        if after.correct {
            "wrong>right"
        } else {
            "right>wrong"
        },
        found(after),
        found(before),
        short(&after.target)
    )
}

/// One line of a text, cut where it is long.
fn short(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Columns as wide as their widest cell, two blanks apart: the first to the left, the others to the right.
fn aligned(rows: &[[String; 8]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 8] = std::array::from_fn(width);
    let row = |row: &[String; 8]| {
        let cells = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    rows.iter().map(row).collect()
}

/// Writes a line for every answer whose verdict changed.
pub fn write_changes(path: &Path, before: &[Sample], after: &[Sample]) -> Result<()> {
    store::write_atomic(path, |file| {
        let mut writer = BufWriter::new(file);
        for (before, after) in changed(before, after) {
            let verdict =
                |sample: &Sample| json!({"extracted": sample.extracted, "correct": sample.correct});
            let line = json!({
                "model": after.model, "arm": after.arm, "task": after.task, "doc_id": after.doc_id, "sample": after.sample,
                "target": after.target, "before": verdict(before), "after": verdict(after), "completion": after.completion,
            });
            serde_json::to_writer(&mut writer, &line)?;
            writer.write_all(b"\n")?;
        }
        writer.flush()
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(doc_id: &str, correct: bool) -> Sample {
        Sample {
            task: "t".into(),
            doc_id: doc_id.into(),
            extracted: Some(if correct { "1" } else { "2" }.into()),
            target: "1".into(),
            correct,
            finish_reason: "stop".into(),
            ..Sample::default()
        }
    }

    #[test]
    fn changes_are_counted_and_shown() {
        let before = [sample("0", true), sample("1", false), sample("2", true)];
        let after = [sample("0", true), sample("1", true), sample("2", false)];
        let expected = "\
task  answers  unfinished  no answer  right before  right after  wrong>right  right>wrong
t           3           0          0             2            2            1            1
all         3           0          0             2            2            1            1

t/1/0 wrong>right: found 1 (before: 2), expected 1
t/2/0 right>wrong: found 2 (before: 1), expected 1
";
        assert_eq!(render(&before, &after), expected);
    }

    #[test]
    fn long_answers_are_cut_between_characters() {
        assert_eq!(short("a\n b"), "a b");
        assert_eq!(short(&"é".repeat(50)).chars().count(), WIDTH + 1);
    }
}
