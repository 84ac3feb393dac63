//! `eap compare`: which edges, and which layers, changed between two models.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use candle_core::{Device, Tensor};
use clap::ValueEnum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use store::{Provenance, TableWriter, tables::EdgeChange};

use crate::{
    edges::{Alpha, EdgeMaps},
    graph::Graph,
    pairing::{Pairing, load, pair, refuse_other_methods},
    show, student,
};

/// Finds the edges and layers that changed between two models, on the same documents.
///
/// Reads two tables of `eap score` with a row per example. For every edge: the mean score before and after, the mean
/// difference over the examples both have with a paired 95 % bootstrap interval, its p-value and q, the p-value corrected
/// over all edges of the truncation by Benjamini and Hochberg. The same for layers: Σ|score| over the edges that leave a
/// layer and over those that enter it. The same table twice gives differences of exactly 0 and p-values of 1.
#[derive(Debug, Clone, clap::Args)]
#[command(
    before_help = "Example:\n  eap compare base.edges.parquet rl.edges.parquet -o changes.parquet"
)]
pub struct Args {
    /// Edges of the model before: a file, a directory of parts or a glob
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// Edges of the model after
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// Table of changes to write; `-` is stdout, then nothing else is printed there
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

/// What decides the numbers.
#[derive(Debug, Clone, clap::Args, Serialize)]
struct Settings {
    /// Test of a difference
    #[arg(long, value_enum, default_value_t = Test::T)]
    test: Test,
    /// Expected share of false discoveries up to which a change is told
    #[arg(long, value_name = "Q", default_value_t = 0.05)]
    fdr: f64,
    /// Bootstrap draws, and permutations
    #[arg(long, value_name = "N", default_value_t = stats::DRAWS)]
    draws: usize,
    /// Seed of both
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Where p-values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Test {
    /// Student's paired t
    T,
    /// Signs of the differences exchanged at random: no smaller than 1/(draws + 1)
    Permutation,
}

/// Runs `eap compare`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        args.settings.draws > 0 && (0.0..=1.0).contains(&args.settings.fdr),
        cli::Usage("--draws must be above 0 and --fdr a share from 0 to 1".into())
    );
    let (before, after) = (load(&args.before)?, load(&args.after)?);
    refuse_other_methods([&args.before, &args.after])?;
    let cannot = || {
        format!(
            "cannot compare {} to {}",
            args.after.display(),
            args.before.display()
        )
    };
    ensure!(
        before.graph == after.graph,
        "{}: the graphs differ",
        cannot()
    );
    let inputs = [args.before.clone(), args.after.clone()];
    let provenance = Provenance::new("eap compare", &args.settings)?
        .seed(args.settings.seed)
        .inputs(&inputs)?;
    let mut writer = TableWriter::create(&args.output, &provenance)?;
    let mut told = Vec::new();
    for pairing in pair(&before, &after).with_context(cannot)? {
        let rows = changes(&pairing, (&before, &after), &args.settings)?;
        told.push(show::changes(&rows, args.settings.fdr));
        writer.push(&rows)?;
    }
    writer.finish()?;
    if args.output == Path::new("-") {
        return Ok(());
    }
    cli::data(&told.join("\n"))
}

/// One quantity per example, before and after.
struct Unit {
    kind: &'static str,
    source: Option<String>,
    target: Option<String>,
    before: Vec<f64>,
    after: Vec<f64>,
}

fn changes(
    pairing: &Pairing<'_>,
    (before, after): (&EdgeMaps, &EdgeMaps),
    settings: &Settings,
) -> anyhow::Result<Vec<EdgeChange>> {
    let graph = &before.graph;
    let mut rows = Vec::new();
    for units in [
        edges(graph, pairing),
        layers(graph, pairing, true),
        layers(graph, pairing, false),
    ] {
        let labels = (before.model.as_str(), after.model.as_str());
        rows.extend(tested(&units, pairing.alpha, labels, settings)?);
    }
    Ok(rows)
}

fn edges(graph: &Graph, pairing: &Pairing<'_>) -> Vec<Unit> {
    let of = |maps: &[&Vec<f64>], entry: usize| maps.iter().map(|map| map[entry]).collect();
    let unit = |(source, target): (usize, usize)| {
        let entry = source * graph.n_targets() + target;
        Unit {
            kind: "edge",
            source: Some(graph.source(source).to_string()),
            target: Some(graph.target(target).to_string()),
            before: of(&pairing.before, entry),
            after: of(&pairing.after, entry),
        }
    };
    graph.edges().map(unit).collect()
}

/// Σ|score| by the layer edges leave, or enter.
fn layers(graph: &Graph, pairing: &Pairing<'_>, leaving: bool) -> Vec<Unit> {
    let place = |(source, target): (usize, usize)| {
        if leaving {
            graph.source(source).layer().map_or(0, |layer| layer + 1)
        } else {
            graph.target(target).layer().unwrap_or(graph.n_layers)
        }
    };
    let sums = |map: &Vec<f64>| {
        let mut sums = vec![0.0; graph.n_layers + 1];
        for (source, target) in graph.edges() {
            sums[place((source, target))] += map[source * graph.n_targets() + target].abs();
        }
        sums
    };
    let [before, after] = [&pairing.before, &pairing.after]
        .map(|maps| maps.iter().map(|map| sums(map)).collect::<Vec<_>>());
    let name = |place: usize| match (leaving, place) {
        (true, 0) => "input".to_owned(),
        (true, place) => (place - 1).to_string(),
        (false, place) if place == graph.n_layers => "logits".to_owned(),
        (false, place) => place.to_string(),
    };
    let of = |sums: &[Vec<f64>], place: usize| sums.iter().map(|sums| sums[place]).collect();
    (0..=graph.n_layers)
        .map(|place| Unit {
            kind: if leaving {
                "source-layer"
            } else {
                "target-layer"
            },
            source: leaving.then(|| name(place)),
            target: (!leaving).then(|| name(place)),
            before: of(&before, place),
            after: of(&after, place),
        })
        .collect()
}

fn tested(
    units: &[Unit],
    alpha: Alpha,
    (before_model, after_model): (&str, &str),
    settings: &Settings,
) -> anyhow::Result<Vec<EdgeChange>> {
    let differences: Vec<Vec<f64>> = units
        .iter()
        .map(|unit| {
            unit.after
                .iter()
                .zip(&unit.before)
                .map(|(after, before)| after - before)
                .collect()
        })
        .collect();
    let intervals = intervals(&differences, settings)?;
    let p: Vec<f64> = differences
        .par_iter()
        .map(|differences| match settings.test {
            Test::T => student::paired_p(differences),
            Test::Permutation => permutation_p(differences, settings),
        })
        .collect();
    let q = stats::benjamini_hochberg(&p);
    let row = |place: usize| {
        let unit = &units[place];
        EdgeChange {
            unit: unit.kind.into(),
            alpha: alpha.value(),
            before_model: before_model.into(),
            after_model: after_model.into(),
            source: unit.source.clone(),
            target: unit.target.clone(),
            n: unit.before.len() as u32,
            before: stats::mean(&unit.before),
            after: stats::mean(&unit.after),
            difference: stats::mean(&differences[place]),
            difference_low: intervals[place].0,
            difference_high: intervals[place].1,
            p: p[place],
            q: q[place],
        }
    };
    Ok((0..units.len()).map(row).collect())
}

/// Two-sided: twice the smaller of the two one-sided p-values, at most 1.
fn permutation_p(differences: &[f64], settings: &Settings) -> f64 {
    let p = |values: &[f64]| stats::permutation_sign(values, settings.draws, settings.seed);
    let negated: Vec<f64> = differences.iter().map(|difference| -difference).collect();
    (2.0 * p(differences).min(p(&negated))).min(1.0)
}

/// Percentile bootstrap intervals of many means: one product of how often each example is drawn with the differences.
fn intervals(differences: &[Vec<f64>], settings: &Settings) -> anyhow::Result<Vec<(f64, f64)>> {
    const UNITS: usize = 512;
    let n = differences.first().map_or(0, Vec::len);
    let drawn = Tensor::from_vec(drawn(n, settings), (settings.draws, n), &Device::Cpu)?;
    let mut intervals = Vec::new();
    for units in differences.chunks(UNITS) {
        let values = Tensor::from_vec(units.concat(), (units.len(), n), &Device::Cpu)?;
        let means = values.matmul(&drawn.t()?)?.to_vec2::<f64>()?;
        let ends = means
            .par_iter()
            .map(|means| (stats::quantile(means, 0.025), stats::quantile(means, 0.975)));
        intervals.extend(ends.collect::<Vec<_>>());
    }
    Ok(intervals)
}

/// Share of every example in every draw, `[draws, n]`.
pub(crate) fn shares(n: usize, draws: usize, seed: u64) -> Vec<f64> {
    let mut shares = vec![0.0; draws * n];
    for (draw, shares) in shares.chunks_mut(n.max(1)).enumerate() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(draw as u64);
        for _ in 0..n {
            shares[random.random_range(0..n)] += 1.0 / n as f64;
        }
    }
    shares
}

fn drawn(n: usize, settings: &Settings) -> Vec<f64> {
    shares(n, settings.draws, settings.seed)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        test: Test::T,
        fdr: 0.05,
        draws: 2000,
        seed: 3,
    };

    fn unit(before: &[f64], after: &[f64]) -> Unit {
        Unit {
            kind: "edge",
            source: Some("input".into()),
            target: Some("m0".into()),
            before: before.to_vec(),
            after: after.to_vec(),
        }
    }

    #[test]
    fn a_planted_change_is_found_and_the_others_are_not() {
        // Digits of a sine far behind the point: without structure, from −½ to ½.
        let noise = |unit: usize, example: usize| {
            (((131 * unit + example) as f64 * 12.9898).sin() * 43_758.545_3).rem_euclid(1.0) - 0.5
        };
        let before: Vec<Vec<f64>> = (0..40)
            .map(|u| (0..30).map(|e| noise(u, e)).collect())
            .collect();
        let units: Vec<Unit> = before
            .iter()
            .enumerate()
            .map(|(u, before)| {
                let by = |e: usize| {
                    if u == 11 {
                        0.8
                    } else {
                        0.1 * noise(u + 100, e)
                    }
                };
                let after: Vec<f64> = before
                    .iter()
                    .enumerate()
                    .map(|(e, x)| x + by(e) + 0.05 * noise(u, e + 9))
                    .collect();
                unit(before, &after)
            })
            .collect();
        for test in [Test::T, Test::Permutation] {
            let settings = Settings { test, ..SETTINGS };
            let rows = tested(&units, Alpha::new(None), ("a", "b"), &settings).unwrap();
            let found: Vec<usize> = (0..40).filter(|&u| rows[u].q <= 0.05).collect();
            assert_eq!(found, [11]);
            assert!((rows[11].difference - 0.8).abs() < 0.05);
            assert!(
                rows.iter().all(|row| row.difference_low <= row.difference
                    && row.difference <= row.difference_high)
            );
        }
    }

    #[test]
    fn an_identical_pair_has_not_changed() {
        let units = [
            unit(&[0.1, -0.7, 3.0], &[0.1, -0.7, 3.0]),
            unit(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]),
        ];
        for test in [Test::T, Test::Permutation] {
            for row in tested(
                &units,
                Alpha::new(None),
                ("a", "b"),
                &Settings { test, ..SETTINGS },
            )
            .unwrap()
            {
                assert_eq!(
                    [row.difference, row.difference_low, row.difference_high],
                    [0.0; 3]
                );
                assert_eq!([row.p, row.q], [1.0, 1.0]);
            }
        }
    }

    #[test]
    fn layers_are_sums_of_magnitudes() {
        let graph = Graph::layers(1);
        // input → q, k, v, m0, logits = 1, 2, 3, 4, 5; a0 → m0, logits = −6, 7; m0 → logits = 8.
        let map = vec![1., 2., 3., 4., 5., 0., 0., 0., -6., 7., 0., 0., 0., 0., 8.];
        let pairing = Pairing {
            alpha: Alpha::new(None),
            before: vec![&map],
            after: vec![&map],
        };
        let sums = |leaving| {
            layers(&graph, &pairing, leaving)
                .into_iter()
                .map(|unit| unit.before[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(sums(true), [15.0, 21.0]);
        assert_eq!(sums(false), [16.0, 20.0]);
    }
}
