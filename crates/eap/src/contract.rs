//! Scores from what sources write and targets read: Σ over positions and width, a tile of positions at a time.
//!
//! In single precision on the CPU the rows are made and multiplied by `kernels::edges` (`fast`); everything else by
//! candle. Terms are in the model's precision, sums of many of them f64. At head level a tile holds
//! `n_sources × tile × d_model` numbers, whatever the length of the prompt.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::{
    blocks::Blocks,
    expand::Expansion,
    fast::{self, Fast},
    graph::Graph,
    node::Target,
    reads::{Norm, Reads},
};

/// Bytes a tile of sources may take: what the processor's last cache holds.
const TILE_BYTES: usize = 16 << 20;
/// Positions of a tile.
const TILE: Range<usize> = 1..32;

/// Positions of a tile for sources of this size.
pub fn tile_positions(graph: &Graph, d_model: usize, width: usize) -> usize {
    (TILE_BYTES / (graph.n_sources() * d_model * width).max(1)).clamp(TILE.start, TILE.end)
}

/// One example's share of a batch.
#[derive(Debug, Clone)]
pub struct Place {
    /// First token of its row in the batch: row × seq.
    pub offset: usize,
    /// Positions that count.
    pub positions: Range<usize>,
}

/// Contracts what was written with what was read.
#[derive(Debug)]
pub struct Contraction<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Weights of the heads.
    pub expansion: &'a Expansion,
    /// Width of the residual.
    pub d_model: usize,
    /// Positions per tile.
    pub tile: usize,
}

impl Contraction<'_> {
    /// Adds to a map `[n_sources, n_targets]` the scores of one example's positions.
    ///
    /// `differences` are its ΔO, `[positions, width]` a block. Only rows of `sources` are written.
    pub fn add(
        &self,
        map: &mut [f64],
        differences: &Blocks,
        reads: &Reads<'_>,
        place: &Place,
        sources: &Range<usize>,
    ) -> Result<()> {
        if place.positions.is_empty() {
            return Ok(());
        }
        let shown = fast::shown(differences, self.expansion, reads);
        if let Some(shown) = &shown {
            Fast::new(self, shown, sources.clone()).add(map, place);
            return Ok(());
        }
        for tile in tiles(&place.positions, self.tile) {
            let written = self
                .expansion
                .sources(differences, tile.clone(), sources.end)?;
            let tokens = place.offset + tile.start..place.offset + tile.end;
            for group in 0..=self.graph.n_layers {
                self.add_group(map, &written, reads, (group, &tokens), sources)?;
            }
        }
        Ok(())
    }

    /// The MLP of the layer before and the attention of layer `group`, or the logits: they see nearly the same sources.
    fn add_group(
        &self,
        map: &mut [f64],
        written: &Tensor,
        reads: &Reads<'_>,
        (group, tokens): (usize, &Range<usize>),
        sources: &Range<usize>,
    ) -> Result<()> {
        let (columns, rows) = self.targets(reads, group, tokens)?;
        let Some(gradients) = rows else {
            return Ok(());
        };
        let before = self.seen(&columns, sources);
        if before <= sources.start {
            return Ok(());
        }
        let written = written.narrow(0, sources.start, before - sources.start)?;
        let products =
            model::ops::linear(&written.flatten(1, 2)?, &gradients.flatten(1, 2)?, None)?;
        let products = products.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let products = products.flatten_all()?;
        self.add_products(map, &products.to_vec1::<f64>()?, sources.start, &columns);
        Ok(())
    }

    /// One past the last row of `sources` that some column sees.
    pub(crate) fn seen(&self, columns: &[usize], sources: &Range<usize>) -> usize {
        let seen = columns
            .iter()
            .map(|&column| self.graph.n_sources_before(column));
        seen.max().unwrap_or(0).min(sources.end)
    }

    /// Columns of a group and the gradients by them at some tokens, `[columns, tokens, d_model]`.
    fn targets(
        &self,
        reads: &Reads<'_>,
        group: usize,
        tokens: &Range<usize>,
    ) -> Result<(Vec<usize>, Option<Tensor>)> {
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        let at = |gradient: &Tensor| gradient.narrow(0, tokens.start, tokens.len());
        let mut whole = |target: Target, gradient: &Option<Tensor>| -> Result<()> {
            if let Some(gradient) = gradient {
                columns.extend(self.graph.target_index(target));
                rows.push(at(gradient)?.unsqueeze(0)?);
            }
            Ok(())
        };
        if let Some(layer) = group.checked_sub(1) {
            whole(Target::Mlp { layer }, &reads.mlp[layer])?;
        }
        if group == self.graph.n_layers {
            whole(Target::Logits, &reads.logits)?;
        } else {
            let mut first = 0;
            for (part, gradient) in reads.attention[group].iter().enumerate() {
                let Some(gradient) = gradient else { continue };
                let own = self.graph.part_columns(group, part);
                rows.push(if self.graph.heads.is_some() {
                    let wide = self.expansion.read(group, part, &at(gradient)?)?;
                    without_norms(wide, &reads.norms[group], tokens, first)?
                } else {
                    at(gradient)?.unsqueeze(0)?
                });
                first += own.len();
                columns.extend(own);
            }
        }
        let rows = if rows.is_empty() {
            None
        } else {
            Some(Tensor::cat(&rows, 0)?)
        };
        Ok((columns, rows))
    }

    /// Adds `products [rows, columns]` where they are edges.
    pub(crate) fn add_products(
        &self,
        map: &mut [f64],
        products: &[f64],
        first: usize,
        columns: &[usize],
    ) {
        let seen: Vec<usize> = columns
            .iter()
            .map(|&column| self.graph.n_sources_before(column))
            .collect();
        for (row, products) in products.chunks_exact(columns.len()).enumerate() {
            let source = first + row;
            for ((&column, &seen), product) in columns.iter().zip(&seen).zip(products) {
                if source < seen {
                    map[source * self.graph.n_targets() + column] += product;
                }
            }
        }
    }
}

/// Rows `[heads, tokens, d_model]` less c·x of every run's norm; the heads' factors begin at column `first`.
fn without_norms(
    mut rows: Tensor,
    norms: &[Norm],
    tokens: &Range<usize>,
    first: usize,
) -> Result<Tensor> {
    for norm in norms {
        let x = norm.resid.narrow(0, tokens.start, tokens.len())?;
        let pull = norm.pull.narrow(0, tokens.start, tokens.len())?;
        let pull = pull.narrow(1, first, rows.dim(0)?)?.t()?.unsqueeze(2)?;
        rows = (rows - pull.broadcast_mul(&x)?)?;
    }
    Ok(rows)
}

/// Contiguous pieces of a range.
pub fn tiles(range: &Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let range = range.clone();
    range
        .clone()
        .step_by(size.max(1))
        .map(move |start| start..(start + size).min(range.end))
}
