//! `eap metrics`: how intense, complex, peaked and diverse the edges of two models are, on the same documents.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;
use stats::Estimate;
use store::{Provenance, tables::EdgeMetric};

use crate::{
    edges::{EdgeMaps, Entries, entries_of},
    measures::{Choices, Metric, Range, Statistic, largest},
    pairing::{Pairing, load, pair, refuse_other_methods},
    show,
};

/// Compares the edges of two models by the circuit metrics of arXiv 2509.21044.
///
/// Reads two tables of `eap score` with a row per example, keeps the examples (documents) and truncations both have, and
/// writes a row per metric, truncation and choice of entries: the value before and after, their difference, each with a
/// 95 % percentile bootstrap interval over examples; that of the difference is paired. The same table twice gives
/// differences of exactly 0.
///
/// W is one example's matrix of edges. The metrics are `activation_intensity`, the mean |W|; `information_complexity_nats`,
/// −Σ p ln(p + ε) over the histogram of all |W|; `distribution_kurtosis`, m4/m2² − 3 of the signed W, mean over examples;
/// `diversity`, 1 − the mean correlation between two examples; `output_entropy_nats`, the entropy of a source's |W| over its
/// targets, mean over sources and examples; `gini` and `top_share`, the concentration of |W|, means over examples. They are
/// computed over the whole matrix, structural zeros included as in the paper (`all`), and over the real edges (`real`).
#[derive(Debug, Clone, clap::Args)]
#[command(
    before_help = "Example:\n  eap metrics base.edges.parquet rl.edges.parquet -o metrics.parquet"
)]
pub struct Args {
    /// Edges of the model before: a file, a directory of parts or a glob
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// Edges of the model after
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// Table of metrics to write; `-` is stdout, then nothing else is printed there
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

/// What decides the numbers.
#[derive(Debug, Clone, clap::Args, Serialize)]
struct Settings {
    /// Equal bins of the histogram of |W|, on [0, largest]
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    bins: usize,
    /// Whether each model's histogram ends at its own largest |W| or both end at the larger one
    #[arg(long, value_enum, default_value_t = Range::Own)]
    range: Range,
    /// ε inside the logarithm of the complexity
    #[arg(long, value_name = "X", default_value_t = 1e-12, value_parser = not_negative)]
    epsilon: f64,
    /// Share of the entries whose part of Σ|W| is the top share
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    top: f64,
    /// Bootstrap draws
    #[arg(long, value_name = "N", default_value_t = stats::DRAWS, value_parser = positive)]
    draws: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| "a whole number above 0 is needed".into())
}

fn not_negative(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|x| (0.0..1.0).contains(x))
        .ok_or_else(|| "a number from 0 to 1 is needed".into())
}

fn share(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|&x: &f64| x > 0.0 && x <= 1.0);
    parsed.ok_or_else(|| "a share above 0 and at most 1 is needed".into())
}

/// Runs `eap metrics`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (before, after) = (load(&args.before)?, load(&args.after)?);
    refuse_other_methods([&args.before, &args.after])?;
    let rows = compare(&before, &after, &args.settings).with_context(|| {
        format!(
            "cannot compare {} to {}",
            args.after.display(),
            args.before.display()
        )
    })?;
    let inputs = [args.before.clone(), args.after.clone()];
    let provenance = Provenance::new("eap metrics", &args.settings)?
        .seed(args.settings.seed)
        .inputs(&inputs)?;
    store::write_table(&args.output, &rows, &provenance)?;
    if args.output == Path::new("-") {
        Ok(())
    } else {
        cli::data(&show::table(&rows))
    }
}

/// Every metric under every truncation that both tables hold.
fn compare(
    before: &EdgeMaps,
    after: &EdgeMaps,
    settings: &Settings,
) -> anyhow::Result<Vec<EdgeMetric>> {
    ensure!(
        before.graph == after.graph,
        "the graphs differ: {} and {}",
        before.graph,
        after.graph
    );
    let pairings = pair(before, after)?;
    let rows = pairings.iter().flat_map(|pairing| {
        Entries::BOTH
            .into_iter()
            .flat_map(move |entries| of_entries(pairing, entries, (before, after), settings))
    });
    Ok(rows.collect())
}

fn of_entries(
    pairing: &Pairing,
    entries: Entries,
    (before, after): (&EdgeMaps, &EdgeMaps),
    settings: &Settings,
) -> Vec<EdgeMetric> {
    let rows_of = |maps: &[&Vec<f64>]| -> Vec<Vec<f64>> {
        maps.iter()
            .map(|map| entries_of(&before.graph, map, entries))
            .collect()
    };
    let (rows_before, rows_after) = (rows_of(&pairing.before), rows_of(&pairing.after));
    let row_lengths = before.row_lengths(entries);
    let choices = Choices {
        bins: settings.bins,
        epsilon: settings.epsilon,
        top: settings.top,
    };
    let end = rows_before
        .iter()
        .chain(&rows_after)
        .map(|row| largest(row))
        .fold(0.0, f64::max);
    let range = (settings.range == Range::Common).then_some(end);
    let row = |metric: Metric| {
        let statistic_before = metric.statistic(&rows_before, &row_lengths, range, &choices);
        let statistic_after = metric.statistic(&rows_after, &row_lengths, range, &choices);
        let estimates = estimate(
            rows_before.len(),
            &statistic_before,
            &statistic_after,
            settings,
        );
        metric_row(
            metric,
            entries,
            pairing,
            (&before.model, &after.model),
            estimates,
        )
    };
    Metric::ALL.map(row).into()
}

/// Before, after, and their paired difference.
fn estimate(n: usize, before: &Statistic, after: &Statistic, settings: &Settings) -> [Estimate; 3] {
    let bootstrap = |statistic: &(dyn Fn(&[usize]) -> f64 + Sync)| {
        stats::bootstrap(n, settings.draws, settings.seed, statistic)
    };
    [
        bootstrap(before),
        bootstrap(after),
        bootstrap(&|examples| after(examples) - before(examples)),
    ]
}

fn metric_row(
    metric: Metric,
    entries: Entries,
    pairing: &Pairing,
    (before_model, after_model): (&str, &str),
    [before, after, difference]: [Estimate; 3],
) -> EdgeMetric {
    EdgeMetric {
        metric: metric.name().into(),
        entries: entries.name().into(),
        alpha: pairing.alpha.value(),
        before_model: before_model.into(),
        after_model: after_model.into(),
        n: pairing.before.len() as u32,
        before: before.value,
        before_low: before.low,
        before_high: before.high,
        after: after.value,
        after_low: after.low,
        after_high: after.high,
        difference: difference.value,
        difference_low: difference.low,
        difference_high: difference.high,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{edges::Alpha, graph::Graph};

    fn settings() -> Settings {
        Settings {
            bins: 100,
            range: Range::Own,
            epsilon: 1e-12,
            top: 0.05,
            draws: 200,
            seed: 7,
        }
    }

    /// Edges of a two-layer model on documents `from..to`, scores from a formula without structure.
    fn maps(model: &str, documents: std::ops::Range<usize>, scale: f64) -> EdgeMaps {
        let graph = Graph::layers(2);
        let map = |document: usize| {
            let mut map = vec![0.0; graph.n_entries()];
            for (source, target) in graph.edges() {
                let phase = (1 + document) * (3 + source * graph.n_targets() + target);
                map[source * graph.n_targets() + target] = scale * (phase as f64).sin();
            }
            map
        };
        let maps = documents
            .map(|document| (format!("sum/{document:02}"), map(document)))
            .collect();
        EdgeMaps {
            model: model.into(),
            graph,
            maps: BTreeMap::from([(Alpha::new(Some(0.3)), maps)]),
            averages: BTreeMap::new(),
        }
    }

    #[test]
    fn an_identical_pair_differs_by_exactly_zero() {
        for range in [Range::Own, Range::Common] {
            let rows = compare(
                &maps("a", 0..9, 1.0),
                &maps("b", 0..9, 1.0),
                &Settings {
                    range,
                    ..settings()
                },
            )
            .unwrap();
            assert_eq!(rows.len(), 2 * Metric::ALL.len());
            for row in rows {
                let differences = [row.difference, row.difference_low, row.difference_high];
                assert!(
                    differences.iter().all(|&difference| difference == 0.0),
                    "{row:?}"
                );
                assert!(
                    row.before_low <= row.before && row.before <= row.before_high
                        || row.metric == "diversity"
                );
            }
        }
    }

    #[test]
    fn twice_the_scores_are_twice_the_intensity_and_nothing_else() {
        let rows = compare(&maps("a", 0..9, 1.0), &maps("b", 0..9, 2.0), &settings()).unwrap();
        for row in rows {
            let expected = if row.metric == "activation_intensity" {
                row.before
            } else {
                0.0
            };
            assert!((row.difference - expected).abs() < 1e-9, "{row:?}");
        }
    }

    #[test]
    fn structural_zeros_dilute_the_intensity_by_their_share() {
        let rows = compare(&maps("a", 0..4, 1.0), &maps("b", 0..4, 1.0), &settings()).unwrap();
        let intensity = |entries: &str| {
            let row = rows
                .iter()
                .find(|row| row.metric == "activation_intensity" && row.entries == entries);
            row.unwrap().before
        };
        assert!((intensity("all") * 45.0 - intensity("real") * 23.0).abs() < 1e-9);
    }

    #[test]
    fn only_documents_in_common_count() {
        let rows = compare(&maps("a", 0..6, 1.0), &maps("b", 4..9, 1.0), &settings()).unwrap();
        assert!(rows.iter().all(|row| row.n == 2 && row.difference == 0.0));
        assert!(compare(&maps("a", 0..2, 1.0), &maps("b", 4..9, 1.0), &settings()).is_err());
    }
}
