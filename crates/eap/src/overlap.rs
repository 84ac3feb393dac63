//! `eap overlap`: how much the circuits of two models have in common.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use store::{Provenance, tables::CircuitOverlap};

use crate::{
    circuit::Ranking,
    compare::shares,
    edges::{Alpha, EdgeMaps},
    graph::Graph,
    pairing::refuse_other_methods,
    show::number,
};

/// Compares the circuits of two models: the Jaccard index of their largest edges, size by size.
///
/// Reads two tables of `eap score` or `eap import`. A circuit is the given share of the edges with the largest mean scores,
/// not pruned. The interval is a bootstrap over the examples both tables have, drawn for both alike; tables of averages have
/// none. The null shuffles one model's scores among the edges into each target: what two circuits share that agree on nothing
/// but how strongly each target is read.
#[derive(Debug, Clone, clap::Args)]
#[command(
    before_help = "Example:\n  eap overlap base.edges.parquet rl.edges.parquet -o overlap.parquet"
)]
pub struct Args {
    /// Edges of the first model
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// Edges of the second model
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Table of overlaps to write; `-` is stdout, then nothing else is printed there
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

/// What decides the numbers.
#[derive(Debug, Clone, clap::Args, Serialize)]
struct Settings {
    /// What edges are ranked by
    #[arg(long, value_enum, default_value_t = Ranking::Absolute)]
    rank: Ranking,
    /// Shares of the edges in a circuit
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0.001,0.002,0.005,0.01,0.02,0.05,0.1,0.2,0.5"
    )]
    sizes: Vec<f64>,
    /// Bootstrap draws, and draws of the null
    #[arg(long, value_name = "N", default_value_t = 1000)]
    draws: usize,
    /// Seed of both
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs `eap overlap`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = &args.settings;
    ensure!(
        settings.draws > 0 && settings.sizes.iter().all(|size| (0.0..=1.0).contains(size)),
        cli::Usage("--draws must be above 0 and --sizes shares from 0 to 1".into())
    );
    let read = |path: &PathBuf| {
        let edges = EdgeMaps::read(std::slice::from_ref(path));
        edges.with_context(|| format!("cannot use {}", path.display()))
    };
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    refuse_other_methods([&args.a, &args.b])?;
    ensure!(
        a.graph == b.graph,
        "cannot compare {} to {}: the graphs differ",
        args.b.display(),
        args.a.display()
    );
    let mut rows = Vec::new();
    for alpha in truncations(&a)
        .into_iter()
        .filter(|alpha| truncations(&b).contains(alpha))
    {
        rows.extend(overlaps(&a, &b, alpha, settings)?);
    }
    ensure!(
        !rows.is_empty(),
        "the two tables have no truncation α in common"
    );
    let inputs = [args.a.clone(), args.b.clone()];
    let provenance = Provenance::new("eap overlap", settings)?
        .seed(settings.seed)
        .inputs(&inputs)?;
    store::write_table(&args.output, &rows, &provenance)?;
    if args.output == Path::new("-") {
        return Ok(());
    }
    cli::data(&text(&rows))
}

fn truncations(edges: &EdgeMaps) -> std::collections::BTreeSet<Alpha> {
    edges
        .maps
        .keys()
        .chain(edges.averages.keys())
        .copied()
        .collect()
}

/// Real edges of a matrix, ranked.
fn ranks(graph: &Graph, map: &[f64], ranking: Ranking) -> Vec<f64> {
    let at =
        |(source, target): (usize, usize)| ranking.of(map[source * graph.n_targets() + target]);
    graph.edges().map(at).collect()
}

/// Jaccard indices of the largest `sizes` of two lists; equal ranks go to the earlier edge.
fn jaccards(a: &[f64], b: &[f64], sizes: &[usize]) -> Vec<f64> {
    let place_of = |values: &[f64]| {
        let mut order: Vec<u32> = (0..values.len() as u32).collect();
        order.sort_by(|&i, &j| {
            values[j as usize]
                .total_cmp(&values[i as usize])
                .then(i.cmp(&j))
        });
        let mut places = vec![0_u32; values.len()];
        order
            .iter()
            .enumerate()
            .for_each(|(place, &edge)| places[edge as usize] = place as u32);
        places
    };
    let (a, b) = (place_of(a), place_of(b));
    // An edge is in both circuits from the size at which it is in the later one.
    let mut later: Vec<u32> = a.iter().zip(&b).map(|(a, b)| *a.max(b)).collect();
    later.sort_unstable();
    let of_size = |&n: &usize| {
        let both = later.partition_point(|&place| (place as usize) < n) as f64;
        if n == 0 {
            0.0
        } else {
            both / (2.0 * n as f64 - both)
        }
    };
    sizes.iter().map(of_size).collect()
}

fn overlaps(
    a: &EdgeMaps,
    b: &EdgeMaps,
    alpha: Alpha,
    settings: &Settings,
) -> anyhow::Result<Vec<CircuitOverlap>> {
    let graph = &a.graph;
    let sizes: Vec<usize> = settings
        .sizes
        .iter()
        .map(|share| (share * graph.n_edges() as f64) as usize)
        .collect();
    let of = |edges: &EdgeMaps| -> anyhow::Result<Vec<f64>> {
        Ok(ranks(graph, &edges.average(alpha.value())?, settings.rank))
    };
    let common = common(a, b, alpha);
    let (ranks_a, ranks_b) = if common.is_empty() {
        (of(a)?, of(b)?)
    } else {
        let equal = vec![1.0 / common.len() as f64; common.len()];
        (
            drawn(graph, &common, 0, &equal, settings.rank),
            drawn(graph, &common, 1, &equal, settings.rank),
        )
    };
    let found = jaccards(&ranks_a, &ranks_b, &sizes);
    let shares = shares(common.len(), settings.draws, settings.seed);
    let draws: Vec<Vec<f64>> = shares
        .par_chunks(common.len().max(1))
        .map(|shares| {
            let a = drawn(graph, &common, 0, shares, settings.rank);
            jaccards(&a, &drawn(graph, &common, 1, shares, settings.rank), &sizes)
        })
        .collect();
    let nulls: Vec<Vec<f64>> = (0..settings.draws)
        .into_par_iter()
        .map(|draw| {
            jaccards(
                &ranks_a,
                &shuffled(graph, &ranks_b, settings.seed, draw as u64),
                &sizes,
            )
        })
        .collect();
    let row = |place: usize| {
        let column =
            |draws: &[Vec<f64>]| draws.iter().map(|draw| draw[place]).collect::<Vec<f64>>();
        let (spread, null) = (column(&draws), column(&nulls));
        let or = |value: f64| if value.is_nan() { found[place] } else { value };
        let as_high = null.iter().filter(|&&null| null >= found[place]).count();
        CircuitOverlap {
            a: a.model.clone(),
            b: b.model.clone(),
            alpha: alpha.value(),
            share: settings.sizes[place],
            edges: sizes[place] as u32,
            jaccard: found[place],
            jaccard_low: or(stats::quantile(&spread, 0.025)),
            jaccard_high: or(stats::quantile(&spread, 0.975)),
            null: stats::mean(&null),
            null_low: stats::quantile(&null, 0.025),
            null_high: stats::quantile(&null, 0.975),
            p: (as_high + 1) as f64 / (null.len() + 1) as f64,
        }
    };
    Ok((0..sizes.len()).map(row).collect())
}

/// Matrices of the examples both models have.
fn common<'a>(a: &'a EdgeMaps, b: &'a EdgeMaps, alpha: Alpha) -> Vec<[&'a Vec<f64>; 2]> {
    let (Some(a), Some(b)) = (a.maps.get(&alpha), b.maps.get(&alpha)) else {
        return Vec::new();
    };
    a.iter()
        .filter_map(|(key, map)| Some([map, b.get(key)?]))
        .collect()
}

/// Ranks of the mean over drawn examples of one of the models.
fn drawn(
    graph: &Graph,
    examples: &[[&Vec<f64>; 2]],
    model: usize,
    shares: &[f64],
    ranking: Ranking,
) -> Vec<f64> {
    let mut mean = vec![0.0; graph.n_entries()];
    for (maps, &share) in examples
        .iter()
        .zip(shares)
        .filter(|(_, share)| **share > 0.0)
    {
        mean.iter_mut()
            .zip(maps[model])
            .for_each(|(sum, score)| *sum += share * score);
    }
    ranks(graph, &mean, ranking)
}

/// Ranks exchanged at random among the edges into each target.
fn shuffled(graph: &Graph, ranks: &[f64], seed: u64, draw: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(draw);
    let mut by_target: Vec<Vec<f64>> = vec![Vec::new(); graph.n_targets()];
    for ((_, target), &rank) in graph.edges().zip(ranks) {
        by_target[target].push(rank);
    }
    for ranks in &mut by_target {
        ranks.shuffle(&mut random);
    }
    graph
        .edges()
        .map(|(_, target)| by_target[target].pop().unwrap_or_default())
        .collect()
}

fn text(rows: &[CircuitOverlap]) -> String {
    let line = |row: &CircuitOverlap| {
        let alpha = row
            .alpha
            .map_or_else(|| "-".into(), |alpha| alpha.to_string());
        format!(
            "{alpha}\t{}\t{}\t{} [{}, {}]\t{} [{}, {}]\t{}",
            row.share,
            row.edges,
            number(row.jaccard),
            number(row.jaccard_low),
            number(row.jaccard_high),
            number(row.null),
            number(row.null_low),
            number(row.null_high),
            number(row.p)
        )
    };
    let head = "alpha\tshare\tedges\tjaccard\tnull\tp".to_owned();
    std::iter::once(head)
        .chain(rows.iter().map(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jaccard_counts_what_both_hold() {
        let a = [5.0, 4.0, 3.0, 2.0, 1.0];
        let b = [5.0, 1.0, 4.0, 2.0, 3.0];
        // Largest two: {0, 1} and {0, 2}; three: {0, 1, 2} and {0, 2, 4}.
        let found = jaccards(&a, &b, &[0, 1, 2, 3, 5]);
        assert_eq!(found, [0.0, 1.0, 1.0 / 3.0, 0.5, 1.0]);
    }

    #[test]
    fn a_shuffle_keeps_what_each_target_is_read_with() {
        let graph = Graph::layers(2);
        let ranks: Vec<f64> = (0..graph.n_edges()).map(|i| i as f64).collect();
        let other = shuffled(&graph, &ranks, 0, 1);
        let of_target = |ranks: &[f64], wanted: usize| {
            let mut own: Vec<f64> = graph
                .edges()
                .zip(ranks)
                .filter(|((_, t), _)| *t == wanted)
                .map(|(_, r)| *r)
                .collect();
            own.sort_by(f64::total_cmp);
            own
        };
        assert_ne!(ranks, other);
        for target in 0..graph.n_targets() {
            assert_eq!(of_target(&ranks, target), of_target(&other, target));
        }
    }
}
