//! The selected features, their scores per task, and how well the random sets match them.

use super::{Report, options};
use crate::find::Rows;
use crate::html::{Page, Table};
use crate::svg::heat::{Heat, two_decimals};
use crate::text;
use stats::Estimate;
use std::collections::{BTreeMap, BTreeSet};
use store::tables::{Score, Selection};

/// Features listed and drawn one by one; the rest is counted.
const LISTED: usize = 40;

/// Features whose scores are given with intervals.
const WITH_INTERVALS: usize = 12;

/// Per task, the score of every feature.
type Scores<'a> = BTreeMap<&'a str, BTreeMap<u32, &'a Score>>;

/// The set, its scores and its matched random sets.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let tables = &report.tables;
    if tables.selections.is_empty() && tables.scores.is_empty() {
        return;
    }
    page.section("selection", "The selected set");
    let scores = scores(report);
    page.headline(&headline(report, &scores));
    for table in &tables.selections {
        page.reading(&reading(table, &scores));
        write_set(page, table, &scores);
    }
    agreement(page, &scores);
    let files = tables.selections.iter().map(|table| table.file.as_str());
    options::print(
        report,
        page,
        files.chain(tables.scores.iter().map(|table| table.file.as_str())),
    );
}

fn scores(report: &Report) -> Scores<'_> {
    let mut all: Scores = BTreeMap::new();
    for row in report.tables.scores.iter().flat_map(|table| &table.rows) {
        all.entry(&row.task).or_default().insert(row.feature, row);
    }
    all
}

/// The selected features by rank.
pub(super) fn selected(table: &Rows<Selection>) -> Vec<&Selection> {
    let mut rows: Vec<&Selection> = table
        .rows
        .iter()
        .filter(|row| row.set == "selected")
        .collect();
    rows.sort_by_key(|row| row.rank);
    rows
}

fn random_sets(table: &Rows<Selection>) -> BTreeSet<&str> {
    table
        .rows
        .iter()
        .map(|row| row.set.as_str())
        .filter(|set| set.starts_with("random"))
        .collect()
}

fn write_set(page: &mut Page, table: &Rows<Selection>, scores: &Scores) {
    let rows = selected(table);
    if rows.is_empty() {
        return;
    }
    if !scores.is_empty() {
        let n = scores.iter().filter_map(|(task, features)| {
            Some(((*task).to_owned(), features.values().next()?.n as usize))
        });
        let caption = format!(
            "Score of each selected feature relative to the largest of the task: mean activation in the model after minus the base on key \
             samples, negative where training turned it down.{} n = {}.",
            more(rows.len()),
            text::sizes(n, "key sample")
        );
        page.figure(&[heat(&rows, scores)], &[], &caption);
    }
    page.table(
        &features(&rows),
        &format!("Selected features ({}).{}", table.file, more(rows.len())),
    );
    if !scores.is_empty() {
        page.table(
            &score_table(&rows, scores),
            "Relative scores with 95 % bootstrap intervals over key samples.",
        );
    }
    if !random_sets(table).is_empty() {
        page.table(
            &matching(table, &rows),
            "Traits on which the random sets were matched: median and quartiles over features.",
        );
    }
}

fn more(n: usize) -> String {
    if n > LISTED {
        format!(" The {LISTED} highest of {} are shown.", text::count(n))
    } else {
        String::new()
    }
}

fn heat(rows: &[&Selection], scores: &Scores) -> String {
    let rows: Vec<&&Selection> = rows.iter().take(LISTED).collect();
    let relative =
        |task: &str, feature: u32| scores[task].get(&feature).map(|score| score.relative);
    let cells = rows.iter().map(|row| {
        scores
            .keys()
            .map(|task| relative(task, row.feature))
            .collect()
    });
    Heat {
        title: "Relative score per task".to_owned(),
        rows: rows
            .iter()
            .map(|row| format!("feature {}", row.feature))
            .collect(),
        columns: scores.keys().map(|task| (*task).to_owned()).collect(),
        cells: cells.collect(),
        diverging: true,
        full: Some(1.0),
        format: two_decimals,
        width: 520.0,
    }
    .draw()
}

fn features(rows: &[&Selection]) -> Table {
    let columns = [
        "rank>",
        "feature>",
        "turned",
        "relative score>",
        "smallest>",
        "q>",
        "fires on, %>",
        "mean activation>",
        "decoder norm>",
        "of the shift, %>",
    ];
    let mut table = Table::new(&columns);
    for row in rows.iter().take(LISTED) {
        table.row(&[
            (row.rank + 1).to_string(),
            row.feature.to_string(),
            if row.lowered { "down" } else { "up" }.to_owned(),
            two_decimals(row.relative_score),
            two_decimals(row.relative_score_min),
            row.q
                .map_or_else(|| text::NONE.to_owned(), text::probability),
            text::percent(row.firing_rate),
            text::number(row.mean_activation),
            text::number(row.decoder_norm),
            row.removal_share
                .map_or_else(|| text::NONE.to_owned(), text::percent),
        ]);
    }
    table
}

/// Relative scores of the first features with their intervals, a column per task.
fn score_table(rows: &[&Selection], scores: &Scores) -> Table {
    let columns: Vec<String> = ["feature>".to_owned()]
        .into_iter()
        .chain(scores.keys().map(|task| format!("{task}>")))
        .collect();
    let mut table = Table::new(&columns.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows.iter().take(WITH_INTERVALS) {
        let cells = scores
            .values()
            .map(|features| relative_score(features, row.feature));
        table.row(
            &[row.feature.to_string()]
                .into_iter()
                .chain(cells)
                .collect::<Vec<_>>(),
        );
    }
    table
}

/// A score and its interval as shares of the task's largest score.
fn relative_score(features: &BTreeMap<u32, &Score>, feature: u32) -> String {
    // The task's largest score is what any feature's share of it was taken of.
    let largest = features
        .values()
        .find(|score| score.relative != 0.0)
        .map_or(1.0, |score| score.score / score.relative);
    let relative = |score: &&Score| {
        let [value, low, high] =
            [score.score, score.score_low, score.score_high].map(|part| part / largest);
        text::with_interval(&Estimate { value, low, high }, two_decimals)
    };
    features
        .get(&feature)
        .map_or_else(|| text::NONE.to_owned(), relative)
}

/// A name and the quantity it stands for.
type Trait = (&'static str, fn(&Selection) -> f64);

fn matching(table: &Rows<Selection>, selected: &[&Selection]) -> Table {
    let sets = random_sets(table);
    let random: Vec<&Selection> = table
        .rows
        .iter()
        .filter(|row| sets.contains(row.set.as_str()))
        .collect();
    let mut out = Table::new(&["trait", "selected>", "random sets>"]);
    let traits: [Trait; 4] = [
        ("firing rate, %", |row| row.firing_rate * 100.0),
        ("mean activation", |row| row.mean_activation),
        ("decoder norm", |row| row.decoder_norm),
        ("relative score (not matched)", |row| row.relative_score),
    ];
    for (name, value) in traits {
        out.row(&[
            name.to_owned(),
            quartiles(selected, value),
            quartiles(&random, value),
        ]);
    }
    out
}

fn quartiles(rows: &[&Selection], value: fn(&Selection) -> f64) -> String {
    let values: Vec<f64> = rows.iter().map(|row| value(row)).collect();
    let at = |share| text::number(stats::quantile(&values, share));
    format!("{} ({} to {})", at(0.5), at(0.25), at(0.75))
}

/// How far the tasks agree on which features pass.
fn agreement(page: &mut Page, scores: &Scores) {
    let passing: Vec<(&str, BTreeSet<u32>)> = scores
        .iter()
        .map(|(task, features)| (*task, passing(features)))
        .collect();
    if passing.len() < 2 {
        return;
    }
    let names: Vec<String> = passing.iter().map(|(task, _)| (*task).to_owned()).collect();
    let cell = |a: &BTreeSet<u32>, b: &BTreeSet<u32>| {
        let either = a.union(b).count();
        (either > 0).then(|| a.intersection(b).count() as f64 / either as f64)
    };
    let cells = passing
        .iter()
        .map(|(_, a)| passing.iter().map(|(_, b)| cell(a, b)).collect());
    let heat = Heat {
        title: "Agreement of the tasks (Jaccard)".to_owned(),
        rows: names.clone(),
        columns: names,
        cells: cells.collect(),
        diverging: false,
        full: Some(1.0),
        format: two_decimals,
        width: 344.0,
    };
    let n = passing
        .iter()
        .map(|(task, set)| ((*task).to_owned(), set.len()));
    page.figure(
        &[heat.draw()],
        &[],
        &format!("Features that pass the threshold in two tasks, as a share of those that pass in either. n = {}.", text::sizes(n, "feature")),
    );
}

fn passing(features: &BTreeMap<u32, &Score>) -> BTreeSet<u32> {
    features
        .values()
        .filter(|score| score.passes)
        .map(|score| score.feature)
        .collect()
}

fn headline(report: &Report, scores: &Scores) -> String {
    let sets = report
        .tables
        .selections
        .iter()
        .map(|table| text::plural(selected(table).len(), "feature"));
    let tasks: Vec<String> = scores.keys().map(|task| (*task).to_owned()).collect();
    let over = if tasks.is_empty() {
        String::new()
    } else {
        format!(", selected on {}", text::list(&tasks))
    };
    format!("{}{over}", text::list(&sets.collect::<Vec<_>>()))
}

fn reading(table: &Rows<Selection>, scores: &Scores) -> Vec<String> {
    let rows = selected(table);
    if rows.is_empty() {
        return vec![format!(
            "{}: no feature passes the threshold in every task.",
            table.file
        )];
    }
    let significant = rows
        .iter()
        .filter(|row| row.q.is_some_and(|q| q < 0.05))
        .count();
    let tested = rows.iter().filter(|row| row.q.is_some()).count();
    let mut sentences = vec![format!(
        "{} above the threshold in every task{}; {significant} of {tested} tested have q < 0.05 in all of them (label permutation, \
         Benjamini–Hochberg). {} of the same size stand beside them.",
        text::plural(rows.len(), "feature"),
        if scores.is_empty() {
            String::new()
        } else {
            format!(" ({} tasks)", scores.len())
        },
        text::plural(random_sets(table).len(), "matched random set")
    )];
    sentences.extend(lowered(&rows));
    sentences.extend(removed(&rows).map(|share| {
        format!(
            "On the tokens they were selected on, undoing them (α = 0) takes {} % out of what distinguishes the model after from the one before.",
            text::percent(share)
        )
    }));
    sentences.extend(known(table, &rows));
    sentences
}

/// What it means that some features fire less after training.
fn lowered(rows: &[&Selection]) -> Option<String> {
    let n = rows.iter().filter(|row| row.lowered).count();
    (n > 0).then(|| {
        format!(
            "Features that fire less after training: {n} of {}. An axis may be held by a feature for either of its ends; such a feature is moved the other \
             way: α = 0 doubles it, α = 2 takes it out.",
            rows.len()
        )
    })
}

/// Share of the shift between the models that disabling the selected features takes out, where it is known.
pub(super) fn removed(rows: &[&Selection]) -> Option<f64> {
    let shares = rows.iter().map(|row| row.removal_share);
    shares.sum::<Option<f64>>().filter(|_| !rows.is_empty())
}

/// Sets that are neither selected nor random: a known answer, another seed.
fn known(table: &Rows<Selection>, rows: &[&Selection]) -> Vec<String> {
    let chosen: BTreeSet<u32> = rows.iter().map(|row| row.feature).collect();
    let mut others: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for row in table
        .rows
        .iter()
        .filter(|row| row.set != "selected" && !row.set.starts_with("random"))
    {
        others.entry(&row.set).or_default().insert(row.feature);
    }
    let sentence = |(name, set): (&str, BTreeSet<u32>)| {
        let common = chosen.intersection(&set).count();
        format!(
            "Set `{name}`: {}, {common} of them selected.",
            text::plural(set.len(), "feature")
        )
    };
    others.into_iter().map(sentence).collect()
}
