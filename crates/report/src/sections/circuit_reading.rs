//! What the circuit metrics say, in words.

use super::circuit::{METRICS, Metric, name, shown_alpha};
use super::side;
use crate::text;

/// The direction of a difference whose interval leaves zero out.
fn direction(metric: &Metric) -> String {
    let relative = metric.relative();
    match side(&metric.difference()) {
        0 => "no clear change".to_owned(),
        1 if relative >= 1.0 => format!("up to {} times", text::number(relative + 1.0)),
        1 => format!("up {} %", text::percent(relative.abs())),
        _ => format!("down {} %", text::percent(relative.abs())),
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
    let all = by_pair(metrics, "all");
    let mut sentences: Vec<String> = all
        .iter()
        .map(|(pair, rows)| format!("{pair}: {}.", directions(rows)))
        .collect();
    sentences.extend(real_edges(&all, &by_pair(metrics, "real")));
    sentences.push(agreement(&all));
    sentences.extend(null(metrics));
    sentences
}

/// What moved, and then what did not.
fn directions(rows: &[&Metric]) -> String {
    let (still, moved): (Vec<&&Metric>, Vec<&&Metric>) =
        rows.iter().partition(|m| side(&m.difference()) == 0);
    let moved = moved
        .iter()
        .map(|m| format!("{} {}", short(&m.row.metric), direction(m)));
    let names: Vec<String> = still
        .iter()
        .map(|m| short(&m.row.metric).to_owned())
        .collect();
    let still = (!names.is_empty()).then(|| format!("no clear change of {}", text::list(&names)));
    moved.chain(still).collect::<Vec<_>>().join(", ")
}

/// Whether the structural zeros matter for any direction.
fn real_edges(all: &[(String, Vec<&Metric>)], real: &[(String, Vec<&Metric>)]) -> Option<String> {
    if real.is_empty() {
        return None;
    }
    let mut differing = Vec::new();
    for (pair, rows) in real {
        let of_all = all
            .iter()
            .find(|(other, _)| other == pair)
            .map_or(&[][..], |(_, rows)| rows);
        let same = |m: &&&Metric| {
            of_all.iter().any(|other| {
                other.row.metric == m.row.metric
                    && side(&other.difference()) == side(&m.difference())
            })
        };
        let other = rows
            .iter()
            .filter(|m| !same(m))
            .map(|m| format!("{pair} {} {}", short(&m.row.metric), direction(m)));
        differing.extend(other);
    }
    Some(if differing.is_empty() {
        "With real edges only, every direction is the same.".to_owned()
    } else {
        format!(
            "With real edges only it is different for: {}.",
            differing.join(", ")
        )
    })
}

/// How far each pair goes with the published direction, whatever its own is.
fn agreement(pairs: &[(String, Vec<&Metric>)]) -> String {
    let expected = |m: &Metric| {
        METRICS
            .iter()
            .find(|known| known.0 == m.row.metric)
            .map_or(0, |known| known.2)
    };
    let count = |(pair, rows): &(String, Vec<&Metric>)| {
        let stated: Vec<&&Metric> = rows.iter().filter(|m| expected(m) != 0).collect();
        let with = |sign: i32| {
            stated
                .iter()
                .filter(|m| side(&m.difference()) == sign * expected(m))
                .count()
        };
        format!(
            "{pair} goes that way in {} of {} and the opposite way in {}",
            with(1),
            stated.len(),
            with(-1)
        )
    };
    let counts: Vec<String> = pairs.iter().map(count).collect();
    format!(
        "arXiv 2509.21044 reports intensity, complexity and diversity up and kurtosis down for online RL (for DPO intensity and complexity \
         flat or down). Here {}.",
        text::list(&counts)
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
