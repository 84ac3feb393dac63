//! What the circuit metrics say, in words.

use super::circuit::{METRICS, Metric, name, shown_alpha};
use super::side;
use crate::text;

/// The direction of a difference whose interval leaves zero out.
fn direction(metric: &Metric) -> String {
    match side(&metric.difference()) {
        0 => "no clear change".to_owned(),
        side => format!(
            "{} {} %",
            if side > 0 { "up" } else { "down" },
            text::percent(metric.relative().abs())
        ),
    }
}

/// The rows of the figure that are no null, by pair.
fn by_pair<'a, 'b>(metrics: &'b [Metric<'a>], entries: &str) -> Vec<(String, Vec<&'b Metric<'a>>)> {
    let alpha = shown_alpha(metrics);
    let mut pairs: Vec<(String, Vec<&Metric>)> = Vec::new();
    for metric in metrics
        .iter()
        .filter(|m| !m.is_null && m.row.entries == entries && m.row.alpha == alpha)
    {
        match pairs.iter_mut().find(|(pair, _)| *pair == metric.pair()) {
            Some((_, rows)) => rows.push(metric),
            None => pairs.push((metric.pair(), vec![metric])),
        }
    }
    pairs
}

/// The main metrics of each pair.
pub(super) fn headline(metrics: &[Metric]) -> String {
    let parts = by_pair(metrics, "all").into_iter().map(|(pair, rows)| {
        let main = rows
            .iter()
            .filter(|m| METRICS[..3].iter().any(|known| known.0 == m.row.metric));
        let main: Vec<String> = main
            .map(|m| format!("{} {}", short(&m.row.metric), direction(m)))
            .collect();
        format!("{pair}: {}", main.join(", "))
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn short(metric: &str) -> &str {
    match metric {
        "activation_intensity" => "intensity",
        "information_complexity_nats" => "complexity",
        "distribution_kurtosis" => "kurtosis",
        other => name(other).split(',').next().unwrap_or(other),
    }
}

/// Direction of every metric, agreement with the published directions, and the null.
pub(super) fn reading(metrics: &[Metric]) -> Vec<String> {
    let mut sentences = Vec::new();
    for (entries, words) in [("all", "all entries"), ("real", "real edges only")] {
        for (pair, rows) in by_pair(metrics, entries) {
            let parts: Vec<String> = rows
                .iter()
                .map(|m| format!("{} {}", short(&m.row.metric), direction(m)))
                .collect();
            sentences.push(format!("{pair}, {words}: {}.", parts.join(", ")));
        }
    }
    sentences.extend(
        by_pair(metrics, "all")
            .iter()
            .map(|(pair, rows)| agreement(pair, rows)),
    );
    sentences.extend(null(metrics));
    sentences
}

/// How far a pair goes with the published direction, whatever its own is.
fn agreement(pair: &str, rows: &[&Metric]) -> String {
    let expected = |m: &Metric| {
        METRICS
            .iter()
            .find(|known| known.0 == m.row.metric)
            .map_or(0, |known| known.2)
    };
    let stated: Vec<&&Metric> = rows.iter().filter(|m| expected(m) != 0).collect();
    let same = stated
        .iter()
        .filter(|m| side(&m.difference()) == expected(m))
        .count();
    let opposite = stated
        .iter()
        .filter(|m| side(&m.difference()) == -expected(m))
        .count();
    format!(
        "For online RL arXiv 2509.21044 reports intensity, complexity and diversity up and kurtosis down (for DPO intensity and complexity \
         flat or down). {pair} goes the way of online RL in {same} of {}, the opposite way in {opposite}.",
        stated.len()
    )
}

fn null(metrics: &[Metric]) -> Option<String> {
    let differences = metrics
        .iter()
        .filter(|m| m.is_null)
        .map(|m| m.row.difference.abs());
    let largest = differences.fold(None, |largest: Option<f64>, d| {
        Some(largest.map_or(d, |known| known.max(d)))
    })?;
    Some(format!(
        "Identical pair: the largest absolute difference of any metric is {}.",
        text::number(largest)
    ))
}
