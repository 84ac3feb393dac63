//! What the accuracies say, in words.

use super::accuracy::difference;
use super::{Report, group_name};
use crate::answers::{AnswerSet, Docs};
use crate::paired;
use crate::text;
use stats::Estimate;
use store::tables::Comparison;

/// Accuracy of every model on every group of tasks.
pub(super) fn headline(report: &Report, models: &[&AnswerSet]) -> String {
    let groups = report.roles.groups(&report.answers.tasks());
    let describe = |(title, tasks): &(String, Vec<String>)| {
        let parts: Vec<String> = models
            .iter()
            .filter_map(|set| {
                Some(format!(
                    "{} {} %",
                    set.model,
                    text::percent(pooled(set, tasks)?.value)
                ))
            })
            .collect();
        let title = if title.is_empty() { "all tasks" } else { title };
        format!(
            "{title} ({}): {}",
            text::plural(tasks.len(), "task"),
            parts.join(", ")
        )
    };
    groups.iter().map(describe).collect::<Vec<_>>().join("; ")
}

/// Accuracy over the documents of several tasks together.
fn pooled(set: &AnswerSet, tasks: &[String]) -> Option<Estimate> {
    let chosen = tasks
        .iter()
        .filter_map(|task| Some((task, set.tasks.get(task)?)));
    let docs: Docs = chosen
        .flat_map(|(task, docs)| {
            docs.iter()
                .map(move |(id, doc)| (format!("{task}/{id}"), doc.clone()))
        })
        .collect();
    (!docs.is_empty()).then(|| paired::accuracy(&docs))
}

/// Every pair of models on every group of tasks.
pub(super) fn reading(report: &Report, comparisons: &[Comparison]) -> Vec<String> {
    let mut sentences = Vec::new();
    for pair in pairs(comparisons) {
        let rows: Vec<&Comparison> = comparisons
            .iter()
            .filter(|row| (&row.a, &row.b) == (&pair.0, &pair.1))
            .collect();
        let tasks: Vec<String> = rows.iter().map(|row| row.task.clone()).collect();
        for (title, tasks) in report.roles.groups(&tasks) {
            let group: Vec<&&Comparison> = rows
                .iter()
                .filter(|row| tasks.contains(&row.task))
                .collect();
            sentences.push(sentence(&pair, &title, &group));
        }
    }
    sentences
}

fn sentence(pair: &(String, String), title: &str, rows: &[&&Comparison]) -> String {
    let who = format!("{} → {}", pair.0, pair.1);
    if let [row] = rows {
        return format!(
            "{who}, {}: {} points on {} ({} answers turned right and {} wrong, Holm {}).",
            group_name(title),
            text::with_interval(&difference(row), text::points),
            row.task,
            row.wrong_to_right,
            row.right_to_wrong,
            text::p_words(row.p_holm)
        );
    }
    let moved = |up: bool| {
        rows.iter()
            .filter(|row| row.p_holm < 0.05 && (row.difference > 0.0) == up)
            .count()
    };
    let unclear = rows.len() - moved(true) - moved(false);
    let parts = [
        (moved(true), "rose"),
        (moved(false), "fell"),
        (unclear, "did not move clearly"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|part| part.0 > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    let sum = |of: fn(&Comparison) -> u32| rows.iter().map(|row| of(row)).sum::<u32>();
    let (gained, lost, n) = (
        sum(|row| row.wrong_to_right),
        sum(|row| row.right_to_wrong),
        sum(|row| row.n),
    );
    let net = (f64::from(gained) - f64::from(lost)) / f64::from(n.max(1));
    format!(
        "{who}, {}: of {} {} (Holm p < 0.05); {} answers turned right and {} wrong among {} documents, {} points net.",
        group_name(title),
        text::plural(rows.len(), "task"),
        text::list(&parts),
        text::count(gained as usize),
        text::count(lost as usize),
        text::count(n as usize),
        text::points(net)
    )
}

/// Every compared pair once, in order of appearance.
fn pairs(comparisons: &[Comparison]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for row in comparisons {
        let pair = (row.a.clone(), row.b.clone());
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    pairs
}
