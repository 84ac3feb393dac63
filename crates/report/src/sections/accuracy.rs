//! Accuracies per task with intervals, and what changed from the base.

use super::accuracy_reading::{headline, reading};
use super::{Report, options};
use crate::answers::{self, AnswerSet, Docs, Split};
use crate::find::Rows;
use crate::html::{Page, Table};
use crate::paired;
use crate::svg::dots::{Dot, DotPlot, Row, WIDE};
use crate::text;
use stats::Estimate;
use store::tables::{Comparison, Sample};

/// Accuracy of every model on every task, and the paired comparison of each tuned model with the base.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let models = models(report);
    let comparisons = comparisons(report);
    if models.is_empty() && comparisons.is_empty() {
        return;
    }
    page.section("accuracy", "Accuracy");
    page.warning(&conflicts(report));
    page.headline(&headline(report, &models));
    page.reading(&reading(report, &comparisons));
    figure(report, page, &models, &comparisons);
    comparison_table(report, page, &comparisons);
    page.text(&truncation(&models));
    let plain = |rows: &&Rows<Sample>| rows.rows.iter().any(|row| row.arm == "none");
    let files = report
        .tables
        .samples
        .iter()
        .filter(plain)
        .map(|rows| rows.file.as_str());
    options::print(
        report,
        page,
        files.chain(
            report
                .tables
                .comparisons
                .iter()
                .map(|rows| rows.file.as_str()),
        ),
    );
}

/// Untouched models on the reported split, in the order of the page.
fn models(report: &Report) -> Vec<&AnswerSet> {
    let labels = report.cast.labels().iter();
    labels
        .filter_map(|label| report.answers.plain(label, Split::Test))
        .collect()
}

/// Paired comparisons per task: computed from the samples; from comparison tables where the samples are not there.
fn comparisons(report: &Report) -> Vec<Comparison> {
    let base = report.answers.plain(&report.cast.base, Split::Test);
    let tuned = report
        .cast
        .tuned()
        .filter_map(|label| report.answers.plain(label, Split::Test));
    let mut rows: Vec<Comparison> = base
        .map(|base| {
            tuned
                .flat_map(|other| paired::compare(base, other))
                .collect()
        })
        .unwrap_or_default();
    let tabled = report
        .tables
        .comparisons
        .iter()
        .flat_map(|table| &table.rows);
    for row in tabled.filter(|row| row.task != "all") {
        if !rows
            .iter()
            .any(|known| (&known.a, &known.b) == (&row.a, &row.b) && known.task == row.task)
        {
            rows.push(row.clone());
        }
    }
    rows
}

fn conflicts(report: &Report) -> Vec<String> {
    let sentence = |conflict: &answers::Conflict| {
        format!(
            "{} gives other answers than {} to {} for {} ({}); it was left out of this section.",
            conflict.file,
            conflict.earlier,
            text::plural(conflict.n_documents, "document"),
            conflict.model,
            conflict.arm
        )
    };
    report.answers.conflicts.iter().map(sentence).collect()
}

fn figure(report: &Report, page: &mut Page, models: &[&AnswerSet], comparisons: &[Comparison]) {
    let tasks = unique(
        report
            .answers
            .tasks()
            .into_iter()
            .chain(comparisons.iter().map(|row| row.task.clone())),
    );
    let accuracy = plot(
        report,
        &tasks,
        "Accuracy, %",
        Some((0.0, 100.0)),
        None,
        |task| {
            models
                .iter()
                .filter_map(|set| {
                    Some(dot(
                        report,
                        &set.model,
                        &paired::accuracy(set.tasks.get(task)?),
                    ))
                })
                .collect()
        },
    );
    let base = &report.cast.base;
    let title = format!("Change from {base}, percentage points");
    let change = plot(report, &tasks, &title, None, Some(0.0), |task| {
        let rows = comparisons
            .iter()
            .filter(|row| row.task == task && row.a == *base);
        rows.map(|row| dot(report, &row.b, &difference(row)))
            .collect()
    });
    let panels = [
        (!models.is_empty()).then_some(accuracy),
        (!comparisons.is_empty()).then_some(change),
    ];
    let panels: Vec<String> = panels.into_iter().flatten().collect();
    let caption = format!(
        "Accuracy: share of documents answered right, with 95 % Wilson intervals. Change: paired difference on the same documents, \
         with 95 % bootstrap intervals ({} draws). n = {}.",
        text::count(stats::DRAWS),
        sizes(models)
    );
    page.figure(
        &panels,
        &report.cast.legend(models.iter().map(|set| &set.model)),
        &caption,
    );
}

fn plot(
    report: &Report,
    tasks: &[String],
    title: &str,
    domain: Option<(f64, f64)>,
    reference: Option<f64>,
    dots: impl Fn(&str) -> Vec<Dot>,
) -> String {
    let mut rows = Vec::new();
    for (group, tasks) in report.roles.groups(tasks) {
        if !group.is_empty() {
            rows.push(Row::Group(group));
        }
        rows.extend(tasks.into_iter().map(|task| Row::Item {
            dots: dots(&task),
            label: task,
        }));
    }
    DotPlot {
        title: title.to_owned(),
        slots: report.cast.labels().len().min(4),
        domain,
        reference,
        arrows: false,
        width: WIDE,
        rows,
    }
    .draw()
}

fn dot(report: &Report, model: &str, share: &Estimate) -> Dot {
    let estimate = Estimate {
        value: share.value * 100.0,
        low: share.low * 100.0,
        high: share.high * 100.0,
    };
    let title = format!("{model}: {}", text::with_interval(share, text::percent));
    Dot {
        estimate,
        style: report.cast.style(model),
        title,
        members: Vec::new(),
    }
}

/// Documents per task.
fn sizes(models: &[&AnswerSet]) -> String {
    let tasks = models.iter().flat_map(|set| &set.tasks);
    text::sizes(
        tasks.map(|(task, docs)| (task.clone(), docs.len())),
        "document",
    )
}

/// The paired difference of a comparison.
pub(super) fn difference(row: &Comparison) -> Estimate {
    Estimate {
        value: row.difference,
        low: row.difference_low,
        high: row.difference_high,
    }
}

fn comparison_table(report: &Report, page: &mut Page, comparisons: &[Comparison]) {
    let columns = [
        "task",
        "a → b",
        "n>",
        "a, %>",
        "b, %>",
        "b − a, points>",
        "wrong → right>",
        "right → wrong>",
        "p>",
        "p (Holm)>",
    ];
    let mut table = Table::new(&columns);
    let tasks: Vec<String> = unique(comparisons.iter().map(|row| row.task.clone()));
    for (group, tasks) in report.roles.groups(&tasks) {
        if !group.is_empty() {
            table.group(&group);
        }
        for row in tasks
            .iter()
            .flat_map(|task| comparisons.iter().filter(move |row| row.task == *task))
        {
            let accuracies = [
                (row.accuracy_a, row.accuracy_a_low, row.accuracy_a_high),
                (row.accuracy_b, row.accuracy_b_low, row.accuracy_b_high),
            ]
            .map(|(value, low, high)| {
                text::with_interval(&Estimate { value, low, high }, text::percent)
            });
            let [a, b] = accuracies;
            let cells = [
                row.task.clone(),
                format!("{} → {}", row.a, row.b),
                row.n.to_string(),
                a,
                b,
                text::with_interval(&difference(row), text::points),
                row.wrong_to_right.to_string(),
                row.right_to_wrong.to_string(),
                text::probability(row.p),
                text::probability(row.p_holm),
            ];
            table.row(&cells);
        }
    }
    if !table.is_empty() {
        page.table(
            &table,
            "Paired comparisons on the same documents: accuracies with Wilson intervals, difference with bootstrap interval, documents \
             that changed, exact two-sided McNemar test, corrected over the tasks of a pair by Holm's method.",
        );
    }
}

fn unique(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = items.collect();
    all.sort();
    all.dedup();
    all
}

fn truncation(models: &[&AnswerSet]) -> String {
    let share = |set: &&AnswerSet| {
        let docs: Docs = set
            .tasks
            .iter()
            .flat_map(|(task, docs)| {
                docs.iter()
                    .map(move |(id, doc)| (format!("{task}/{id}"), doc.clone()))
            })
            .collect();
        format!(
            "{} {} %",
            set.model,
            text::percent(paired::truncated(&docs))
        )
    };
    let shares: Vec<String> = models.iter().map(share).collect();
    if shares.is_empty() {
        String::new()
    } else {
        format!(
            "Answers that ran out of tokens (counted as wrong): {}.",
            text::list(&shares)
        )
    }
}
