//! Edge attribution: the circuit metrics before and after, and over α.

use super::circuit_reading::{headline, reading};
use super::{Report, edges, is_null, options};
use crate::html::{Page, Table};
use crate::svg::dots::{Dot, DotPlot, NARROW, Row};
use crate::svg::lines::{self, Lines, Series};
use crate::text;
use stats::Estimate;
use store::tables::EdgeMetric;

/// Metrics in the order shown: column value, words, and the direction arXiv 2509.21044 reports for online RL.
pub(super) const METRICS: [(&str, &str, i32); 7] = [
    ("activation_intensity", "activation intensity", 1),
    (
        "information_complexity_nats",
        "information complexity, nats",
        1,
    ),
    ("distribution_kurtosis", "distribution kurtosis", -1),
    ("diversity", "diversity", 1),
    ("output_entropy_nats", "output entropy, nats", 0),
    ("gini", "Gini coefficient", 0),
    ("top_share", "share of the top edges", 0),
];

/// A row with whether it comes from an identical pair.
pub(super) struct Metric<'a> {
    pub row: &'a EdgeMetric,
    pub is_null: bool,
}

/// Metrics, then the maps and lists of single edges.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let metrics = metrics(report);
    if metrics.is_empty() && report.tables.edges.is_empty() {
        return;
    }
    page.section("edges", "Edges: flow of information");
    if !metrics.is_empty() {
        page.headline(&headline(&metrics));
        page.reading(&reading(&metrics));
        figure(report, page, &metrics);
        sweep(report, page, &metrics);
        let alpha = shown_alpha(&metrics);
        let (shown, mut others): (Vec<&Metric>, Vec<&Metric>) =
            metrics.iter().partition(|metric| metric.row.alpha == alpha);
        let caption = "Circuit metrics with bootstrap intervals over examples; the difference is paired. All: structural zeros of the matrix \
                       included, as in arXiv 2509.21044; real: existing edges only";
        page.table(
            &table(&shown, false),
            &format!("{caption}; {}.", alpha_text(alpha)),
        );
        if !others.is_empty() {
            others.sort_by(|a, b| {
                place(a).cmp(&place(b)).then(
                    a.row
                        .alpha
                        .unwrap_or(1.0)
                        .total_cmp(&b.row.alpha.unwrap_or(1.0)),
                )
            });
            page.folded(
                &table(&others, true),
                "The same at the other lengths of answers.",
            );
        }
    }
    edges::write(report, page);
    let files = report
        .tables
        .edge_metrics
        .iter()
        .map(|table| table.file.as_str());
    options::print(
        report,
        page,
        files.chain(report.tables.edges.iter().map(|table| table.file.as_str())),
    );
}

fn metrics(report: &Report) -> Vec<Metric<'_>> {
    let tables = report.tables.edge_metrics.iter();
    let mut all: Vec<Metric> = tables
        .flat_map(|table| {
            table.rows.iter().map(|row| Metric {
                row,
                is_null: is_null(&table.file),
            })
        })
        .collect();
    all.sort_by(|a, b| {
        let key = |m: &Metric| {
            (
                place(m),
                m.row.metric.clone(),
                m.is_null,
                report.cast.rank(&m.row.after_model),
                m.row.entries.clone(),
            )
        };
        key(a).cmp(&key(b)).then(
            a.row
                .alpha
                .unwrap_or(1.0)
                .total_cmp(&b.row.alpha.unwrap_or(1.0)),
        )
    });
    all
}

/// Where a metric stands among the others.
fn place(metric: &Metric) -> usize {
    let known = METRICS
        .iter()
        .position(|known| known.0 == metric.row.metric);
    known.unwrap_or(METRICS.len())
}

impl Metric<'_> {
    /// `before → after`, marked when it is the null.
    pub(super) fn pair(&self) -> String {
        let null = if self.is_null { "null: " } else { "" };
        format!("{null}{} → {}", self.row.before_model, self.row.after_model)
    }

    fn before(&self) -> Estimate {
        Estimate {
            value: self.row.before,
            low: self.row.before_low,
            high: self.row.before_high,
        }
    }

    fn after(&self) -> Estimate {
        Estimate {
            value: self.row.after,
            low: self.row.after_low,
            high: self.row.after_high,
        }
    }

    /// After − before, paired.
    pub(super) fn difference(&self) -> Estimate {
        Estimate {
            value: self.row.difference,
            low: self.row.difference_low,
            high: self.row.difference_high,
        }
    }

    /// The change as a share of the value before, signed.
    pub(super) fn relative(&self) -> f64 {
        self.row.difference / self.row.before.abs()
    }
}

/// A metric's name in words.
pub(super) fn name(metric: &str) -> &str {
    METRICS
        .iter()
        .find(|known| known.0 == metric)
        .map_or(metric, |known| known.1)
}

/// The truncation shown in the figure: none, or the longest answers.
pub(super) fn shown_alpha(metrics: &[Metric]) -> Option<f64> {
    let all = metrics.iter().map(|metric| metric.row.alpha);
    all.max_by(|a, b| {
        a.unwrap_or(f64::INFINITY)
            .total_cmp(&b.unwrap_or(f64::INFINITY))
    })
    .flatten()
}

fn alpha_text(alpha: Option<f64>) -> String {
    alpha.map_or_else(
        || "whole answers".to_owned(),
        |alpha| format!("α = {}", text::number(alpha)),
    )
}

fn names(metrics: &[Metric]) -> Vec<String> {
    let mut names: Vec<String> = metrics
        .iter()
        .map(|metric| metric.row.metric.clone())
        .collect();
    names.dedup();
    names
}

fn figure(report: &Report, page: &mut Page, metrics: &[Metric]) {
    let alpha = shown_alpha(metrics);
    let shown: Vec<&Metric> = metrics
        .iter()
        .filter(|metric| metric.row.alpha == alpha)
        .collect();
    let panels: Vec<String> = names(metrics)
        .iter()
        .map(|name| panel(report, &shown, name))
        .collect();
    let n = shown
        .iter()
        .map(|metric| (metric.pair(), metric.row.n as usize));
    let caption = format!(
        "Circuit metrics before (open) and after (filled), {}, with 95 % bootstrap intervals over examples. n = {}.",
        alpha_text(alpha),
        text::sizes(n, "example")
    );
    let after = shown
        .iter()
        .filter(|metric| !metric.is_null)
        .map(|metric| &metric.row.after_model);
    page.figure(&panels, &report.cast.legend(after), &caption);
}

fn panel(report: &Report, shown: &[&Metric], metric: &str) -> String {
    let mut rows = Vec::new();
    for entries in ["all", "real"] {
        let items: Vec<_> = shown
            .iter()
            .filter(|m| m.row.metric == metric && m.row.entries == entries)
            .collect();
        if items.is_empty() {
            continue;
        }
        rows.push(Row::Group(
            if entries == "all" {
                "all entries"
            } else {
                "real edges"
            }
            .to_owned(),
        ));
        rows.extend(items.into_iter().map(|m| item(report, m)));
    }
    DotPlot {
        title: name(metric).to_owned(),
        slots: 2,
        domain: None,
        reference: None,
        arrows: true,
        width: NARROW,
        rows,
    }
    .draw()
}

fn item(report: &Report, metric: &Metric) -> Row {
    let style = report.cast.style(&metric.row.after_model);
    let dot = |estimate: Estimate, label: &str, style| Dot {
        estimate,
        style,
        title: format!("{label}: {}", text::with_interval(&estimate, text::number)),
        members: Vec::new(),
    };
    let dots = vec![
        dot(metric.before(), "before", style.hollow()),
        dot(metric.after(), "after", style),
    ];
    Row::Item {
        label: metric.pair(),
        dots,
    }
}

/// The difference over α, where more than one was run.
fn sweep(report: &Report, page: &mut Page, metrics: &[Metric]) {
    let mut alphas: Vec<f64> = metrics
        .iter()
        .filter_map(|metric| metric.row.alpha)
        .collect();
    alphas.sort_by(f64::total_cmp);
    alphas.dedup();
    if alphas.len() < 2 {
        return;
    }
    let panels: Vec<String> = names(metrics)
        .iter()
        .map(|name| sweep_panel(report, metrics, name))
        .collect();
    let after = metrics
        .iter()
        .filter(|metric| !metric.is_null)
        .map(|metric| &metric.row.after_model);
    let caption = format!(
        "Difference after − before over the share α of the answer that is scored, all entries, with 95 % paired bootstrap intervals. n = {} lengths.",
        alphas.len()
    );
    page.figure(&panels, &report.cast.legend(after), &caption);
}

fn sweep_panel(report: &Report, metrics: &[Metric], metric: &str) -> String {
    let rows: Vec<&Metric> = metrics
        .iter()
        .filter(|m| m.row.metric == metric && m.row.entries == "all" && !m.is_null)
        .collect();
    let mut pairs: Vec<String> = rows.iter().map(|m| m.pair()).collect();
    pairs.dedup();
    let mut series = Vec::new();
    for (pair, aside) in pairs.iter().zip(lines::asides(pairs.len())) {
        let of: Vec<&&Metric> = rows.iter().filter(|m| m.pair() == *pair).collect();
        let points = of
            .iter()
            .filter_map(|m| Some((m.row.alpha?, m.difference())))
            .collect();
        series.push(Series {
            points,
            style: report.cast.style(&of[0].row.after_model),
            aside,
            marks: true,
        });
    }
    let plot = Lines {
        title: format!("change of {}", name(metric)),
        axis: "α".to_owned(),
        domain: None,
        reference: Some(0.0),
        chosen: None,
        at_points: true,
        series,
    };
    plot.draw()
}

fn table(metrics: &[&Metric], names_alpha: bool) -> Table {
    let columns = [
        "pair",
        "entries",
        "n>",
        "before>",
        "after>",
        "after − before>",
        "relative, %>",
    ];
    let mut table = Table::new(&columns);
    let mut group = String::new();
    for metric in metrics {
        let alpha = if names_alpha {
            format!(", {}", alpha_text(metric.row.alpha))
        } else {
            String::new()
        };
        let title = format!("{}{alpha}", name(&metric.row.metric));
        if title != group {
            table.group(&title);
            group = title;
        }
        table.row(&[
            metric.pair(),
            metric.row.entries.clone(),
            metric.row.n.to_string(),
            text::estimate(&metric.before()),
            text::estimate(&metric.after()),
            text::signed_estimate(&metric.difference()),
            text::points(metric.relative()),
        ]);
    }
    table
}
