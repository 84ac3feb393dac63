//! Information flow routes (arXiv 2403.00824): how much of what a target reads comes from each source.
//!
//! At a position, a source is worth what the target's residual loses without it, `p_u` = max(0, ‖x‖₁ − ‖x − `O_u‖₁`), divided
//! by the sum over the sources. No loss and no ablation: shares from 0 to 1 that add up to 1 over the sources of a target.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use model::{Hook, Recorder, Site};
use rayon::prelude::*;

use crate::{
    attribute::{Scorer, Scores},
    blocks::{Blocks, recorder},
    contract::tiles,
    example::Example,
    graph::Graph,
    runs::clean_batch,
};

/// Places where something reads the residual: every layer's attention and MLP, then the logits.
fn readers(graph: &Graph) -> Vec<(Hook, Vec<usize>)> {
    let mut readers = Vec::new();
    for layer in 0..graph.n_layers {
        let attention = (0..3).flat_map(|part| graph.part_columns(layer, part));
        readers.push((Hook::new(Site::ResidPre, layer), attention.collect()));
        let mlp = graph.target_index(crate::node::Target::Mlp { layer });
        readers.push((Hook::new(Site::ResidMid, layer), mlp.into_iter().collect()));
    }
    let last = Hook::new(Site::ResidPost, graph.n_layers.saturating_sub(1));
    readers.push((last, vec![graph.n_targets() - 1]));
    readers
}

/// Shares of every example: mean over its positions.
pub fn flow(scorer: &Scorer<'_>, examples: &[&Example]) -> anyhow::Result<Vec<Scores>> {
    examples
        .iter()
        .map(|example| of_example(scorer, example))
        .collect()
}

fn of_example(scorer: &Scorer<'_>, example: &Example) -> anyhow::Result<Scores> {
    let graph = &scorer.graph;
    let readers = readers(graph);
    let Recorder { mut hooks, .. } = recorder(graph);
    hooks.extend(readers.iter().map(|reader| reader.0));
    let mut recorder = Recorder::new(hooks);
    let last = readers[readers.len() - 1].0;
    scorer
        .model
        .forward_until(&clean_batch(&[example]), last, &mut recorder)?;
    let residuals = readers.iter().map(|(hook, _)| {
        let resid = recorder.activations[hook].squeeze(0)?;
        resid.to_device(&Device::Cpu)?.to_dtype(DType::F64)
    });
    let residuals = residuals.collect::<candle_core::Result<Vec<Tensor>>>()?;
    let n = example.tokens.len();
    let blocks = Blocks::recorded(recorder, scorer.model, graph)?.row(0, n)?;
    let mut scores = Scores {
        map: vec![0.0; graph.n_entries()],
        positions: Vec::new(),
    };
    let size = if scorer.by_position {
        1
    } else {
        scorer.contraction().tile
    };
    for tile in tiles(&example.span(), size) {
        let written = scorer
            .expansion
            .sources(&blocks, tile.clone(), graph.n_sources())?;
        let written = written
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F64)?
            .flatten_all()?
            .to_vec1::<f64>()?;
        let mut map = vec![0.0; graph.n_entries()];
        let shares = readers
            .par_iter()
            .zip(&residuals)
            .map(|((_, columns), resid)| {
                shares(graph.n_sources_before(columns[0]), &written, resid, &tile)
            });
        let shares = shares.collect::<candle_core::Result<Vec<_>>>()?;
        for ((_, columns), shares) in readers.iter().zip(shares) {
            for (source, share) in shares.into_iter().enumerate() {
                for &column in columns {
                    map[source * graph.n_targets() + column] = share / n as f64;
                }
            }
        }
        scores
            .map
            .iter_mut()
            .zip(&map)
            .for_each(|(sum, share)| *sum += share);
        if scorer.by_position {
            scores.positions.push((tile.start, map));
        }
    }
    Ok(scores)
}

/// Σ over the tile's positions of each source's share in the residual; `written [n_sources, tile, d_model]`.
fn shares(
    before: usize,
    written: &[f64],
    resid: &Tensor,
    tile: &Range<usize>,
) -> candle_core::Result<Vec<f64>> {
    let d_model = resid.dim(1)?;
    let resid = resid
        .narrow(0, tile.start, tile.len())?
        .flatten_all()?
        .to_vec1::<f64>()?;
    let mut sums = vec![0.0; before];
    for (place, x) in resid.chunks_exact(d_model).enumerate() {
        let whole: f64 = x.iter().map(|x| x.abs()).sum();
        let worth: Vec<f64> = (0..before)
            .map(|source| {
                let own = &written[(source * tile.len() + place) * d_model..][..d_model];
                let rest: f64 = x.iter().zip(own).map(|(x, o)| (x - o).abs()).sum();
                (whole - rest).max(0.0)
            })
            .collect();
        let total: f64 = worth.iter().sum();
        if total > 0.0 {
            sums.iter_mut()
                .zip(worth)
                .for_each(|(sum, worth)| *sum += worth / total);
        }
    }
    Ok(sums)
}
