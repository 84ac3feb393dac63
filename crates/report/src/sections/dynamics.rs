//! How the most specific features of a run change from checkpoint to checkpoint.

use super::{Report, options};
use crate::html::{Page, Table};
use crate::svg::heat::{Heat, two_decimals};
use crate::svg::lines::{self, Lines, Series};
use crate::text;
use stats::Estimate;
use std::collections::{BTreeMap, BTreeSet};
use store::tables::Dynamics;

/// Explained variance of the swapped input, relative to the first checkpoint, below which the readout is called in doubt.
const HOLDS: f64 = 0.9;

/// One series of checkpoints.
struct Run<'a> {
    series: String,
    rows: Vec<&'a Dynamics>,
}

/// Overlap heat maps, neighbouring overlaps, and the check that the readout is valid.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let runs = runs(report);
    if runs.is_empty() {
        return;
    }
    page.section("dynamics", "Features over the checkpoints");
    page.headline(&headline(&runs));
    page.reading(&reading(&runs));
    let top = runs[0].rows[0].top;
    page.figure(
        &runs.iter().map(Run::heat).collect::<Vec<_>>(),
        &[],
        &format!("Share of the {top} most specific features that two checkpoints of a run have in common, |A∩B|/{top}. n = {top} features a checkpoint."),
    );
    let legend = report.cast.legend(runs.iter().map(|run| &run.series));
    page.figure(
        &[neighbours(report, &runs), variance(report, &runs), shift(report, &runs)],
        &legend,
        &format!(
            "Left: overlap of each checkpoint with the one before, with 95 % bootstrap intervals over documents; dashed: expected of two \
             random sets of live features. Middle: explained variance of the swapped input, which must hold up for the readout to mean \
             anything. Right: L1 distance of the code from the base's, relative. n = {}.",
            text::sizes(runs.iter().map(|run| (run.series.clone(), run.checkpoints().len())), "checkpoint")
        ),
    );
    page.table(
        &table(&runs),
        "The same in numbers, neighbouring checkpoints.",
    );
    options::print(
        report,
        page,
        report
            .tables
            .dynamics
            .iter()
            .map(|table| table.file.as_str()),
    );
}

fn runs(report: &Report) -> Vec<Run<'_>> {
    let mut by_series: BTreeMap<&str, Vec<&Dynamics>> = BTreeMap::new();
    for row in report.tables.dynamics.iter().flat_map(|table| &table.rows) {
        by_series.entry(&row.series).or_default().push(row);
    }
    let mut runs: Vec<Run> = by_series
        .into_iter()
        .map(|(series, rows)| Run {
            series: series.to_owned(),
            rows,
        })
        .collect();
    runs.sort_by_key(|run| (report.cast.rank(&run.series), run.series.clone()));
    runs
}

impl<'a> Run<'a> {
    fn checkpoints(&self) -> Vec<u32> {
        let all: BTreeSet<u32> = self
            .rows
            .iter()
            .flat_map(|row| [row.from, row.to])
            .collect();
        all.into_iter().collect()
    }

    fn between(&self, a: u32, b: u32) -> Option<&'a Dynamics> {
        self.rows
            .iter()
            .copied()
            .find(|row| (row.from, row.to) == (a.min(b), a.max(b)))
    }

    /// Each checkpoint with its successor.
    fn steps(&self) -> Vec<&'a Dynamics> {
        let checkpoints = self.checkpoints();
        checkpoints
            .windows(2)
            .filter_map(|pair| self.between(pair[0], pair[1]))
            .collect()
    }

    fn heat(&self) -> String {
        let checkpoints = self.checkpoints();
        let names: Vec<String> = checkpoints.iter().map(u32::to_string).collect();
        let cell = |a: &u32, b: &u32| {
            if a == b {
                Some(1.0)
            } else {
                self.between(*a, *b).map(|row| row.overlap)
            }
        };
        let cells = checkpoints
            .iter()
            .map(|a| checkpoints.iter().map(|b| cell(a, b)).collect());
        Heat {
            title: format!("{}: overlap between checkpoints", self.series),
            rows: names.clone(),
            columns: names.clone(),
            cells: cells.collect(),
            diverging: false,
            full: Some(1.0),
            format: two_decimals,
            width: (46.0 + 46.0 * names.len() as f64).clamp(220.0, 344.0),
        }
        .draw()
    }

    /// Explained variance by checkpoint.
    fn variances(&self) -> Vec<(f64, f64)> {
        let mut all: BTreeMap<u32, f64> = BTreeMap::new();
        for row in &self.rows {
            all.insert(row.from, row.explained_variance_from);
            all.insert(row.to, row.explained_variance_to);
        }
        all.into_iter()
            .map(|(checkpoint, value)| (f64::from(checkpoint), value))
            .collect()
    }

    /// Distance from the base's code by checkpoint.
    fn shifts(&self) -> Vec<(f64, f64)> {
        let all: BTreeMap<u32, f64> = self
            .rows
            .iter()
            .map(|row| (row.to, row.code_shift))
            .collect();
        all.into_iter()
            .map(|(checkpoint, value)| (f64::from(checkpoint), value))
            .collect()
    }

    fn mean_overlap(&self) -> f64 {
        stats::mean(
            &self
                .steps()
                .iter()
                .map(|row| row.overlap)
                .collect::<Vec<_>>(),
        )
    }
}

fn overlap(row: &Dynamics) -> Estimate {
    Estimate {
        value: row.overlap,
        low: row.overlap_low,
        high: row.overlap_high,
    }
}

fn plot(title: &str, domain: Option<(f64, f64)>, series: Vec<Series>) -> String {
    let plot = Lines {
        title: title.to_owned(),
        axis: "checkpoint".to_owned(),
        domain,
        reference: None,
        chosen: None,
        at_points: true,
        series,
    };
    plot.draw()
}

fn neighbours(report: &Report, runs: &[Run]) -> String {
    let mut series = Vec::new();
    for (run, aside) in runs.iter().zip(lines::asides(runs.len())) {
        let points = run
            .steps()
            .iter()
            .map(|row| (f64::from(row.to), overlap(row)))
            .collect();
        let style = report.cast.style(&run.series);
        series.push(Series {
            points,
            style,
            aside,
            marks: true,
        });
        let null = run
            .steps()
            .iter()
            .map(|row| (f64::from(row.to), bare(row.overlap_null)))
            .collect();
        series.push(Series {
            points: null,
            style: style.dashed(),
            aside: 0.0,
            marks: false,
        });
    }
    plot(
        "Overlap with the checkpoint before",
        Some((0.0, 1.0)),
        series,
    )
}

fn variance(report: &Report, runs: &[Run]) -> String {
    let series = together(report, runs, runs.iter().map(Run::variances));
    plot("Explained variance of the swapped input", None, series)
}

fn shift(report: &Report, runs: &[Run]) -> String {
    let series = together(report, runs, runs.iter().map(Run::shifts));
    plot("Shift of the code from the base", None, series)
}

/// One quantity of every run, side by side.
fn together(
    report: &Report,
    runs: &[Run],
    values: impl Iterator<Item = Vec<(f64, f64)>>,
) -> Vec<Series> {
    let mut series = Vec::new();
    for ((run, values), aside) in runs.iter().zip(values).zip(lines::asides(runs.len())) {
        series.push(Series {
            points: values.into_iter().map(|(x, y)| (x, bare(y))).collect(),
            style: report.cast.style(&run.series),
            aside,
            marks: true,
        });
    }
    series
}

/// A value without an interval.
fn bare(value: f64) -> Estimate {
    Estimate {
        value,
        low: f64::NAN,
        high: f64::NAN,
    }
}

fn table(runs: &[Run]) -> Table {
    let columns = [
        "series",
        "checkpoints",
        "top>",
        "overlap>",
        "Jaccard>",
        "by chance>",
        "explained variance>",
        "code shift>",
    ];
    let mut table = Table::new(&columns);
    for row in runs.iter().flat_map(Run::steps) {
        table.row(&[
            row.series.clone(),
            format!("{} → {}", row.from, row.to),
            row.top.to_string(),
            text::with_interval(&overlap(row), two_decimals),
            text::fixed(row.jaccard, 2),
            text::fixed(row.overlap_null, 3),
            format!(
                "{} → {}",
                text::fixed(row.explained_variance_from, 3),
                text::fixed(row.explained_variance_to, 3)
            ),
            text::number(row.code_shift),
        ]);
    }
    table
}

fn headline(runs: &[Run]) -> String {
    let parts: Vec<String> = runs
        .iter()
        .map(|run| format!("{} {}", run.series, text::fixed(run.mean_overlap(), 2)))
        .collect();
    format!(
        "mean overlap of neighbouring checkpoints: {}",
        parts.join(", ")
    )
}

fn reading(runs: &[Run]) -> Vec<String> {
    let mut sentences: Vec<String> = runs
        .iter()
        .filter(|run| !run.steps().is_empty())
        .map(describe)
        .collect();
    if let [first, .., last] = runs {
        sentences.push(contrast(first, last));
    }
    sentences.extend(runs.iter().filter_map(validity));
    sentences
}

fn describe(run: &Run) -> String {
    let steps = run.steps();
    let (first, last) = (steps[0], steps[steps.len() - 1]);
    let trend = match (
        overlap(last).low > overlap(first).high,
        overlap(last).high < overlap(first).low,
    ) {
        (true, _) => "so it settles",
        (_, true) => "so it moves more at the end than at the beginning",
        _ => "which is no clear change",
    };
    format!(
        "{}: neighbouring checkpoints share {} of their top features on average; the first pair {}, the last {}, {trend}. By chance {}.",
        run.series,
        text::fixed(run.mean_overlap(), 2),
        text::with_interval(&overlap(first), two_decimals),
        text::with_interval(&overlap(last), two_decimals),
        text::fixed(first.overlap_null, 3)
    )
}

fn contrast(a: &Run, b: &Run) -> String {
    let clearly = |x: &Run, y: &Run| {
        let pairs = x.steps().into_iter().zip(y.steps());
        pairs
            .filter(|(p, q)| overlap(p).low > overlap(q).high)
            .count()
    };
    let n = a.steps().len().min(b.steps().len());
    format!(
        "{} against {}: of {} the overlap of {} is clearly higher in {} and that of {} in {}.",
        a.series,
        b.series,
        text::plural(n, "neighbouring pair"),
        a.series,
        clearly(a, b),
        b.series,
        clearly(b, a)
    )
}

/// Says where the readout cannot be trusted.
fn validity(run: &Run) -> Option<String> {
    let values = run.variances();
    let first = values.first()?.1;
    let (at, worst) = values.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let sentence = if worst >= HOLDS * first {
        format!(
            "{}: the swapped input keeps its explained variance (lowest {} at checkpoint {}), so the readout is usable there.",
            run.series,
            text::fixed(worst, 3),
            text::number(at)
        )
    } else {
        format!(
            "{}: the explained variance of the swapped input falls to {} at checkpoint {} (first: {}); from there on the overlaps say little.",
            run.series,
            text::fixed(worst, 3),
            text::number(at),
            text::fixed(first, 3)
        )
    };
    Some(sentence)
}
