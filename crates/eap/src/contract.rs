//! Scores from what sources write and targets read: Σ over positions and width, a tile of positions at a time.
//!
//! Products are made in the model's precision; the sums of the tiles are f64. At head level a tile holds
//! `n_sources × tile × d_model` numbers, whatever the length of the prompt.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};

use crate::{
    blocks::Blocks,
    expand::Expansion,
    graph::Graph,
    node::Target,
    reads::{Norm, Reads},
};

/// Bytes a tile of sources may take.
const TILE_BYTES: usize = 48 << 20;
/// Positions of a tile: enough for the products, few enough that sums in single precision stay short.
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
    /// Positions per tile.
    pub tile: usize,
}

impl Contraction<'_> {
    /// Adds to a map `[n_sources, n_targets]` the scores of one example's positions, norms included.
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
        for tile in tiles(&place.positions, self.tile) {
            let written = self
                .expansion
                .sources(differences, tile.clone(), sources.end)?;
            let tokens = place.offset + tile.start..place.offset + tile.end;
            for group in 0..=self.graph.n_layers {
                self.add_group(map, &written, reads, (group, &tokens), sources)?;
            }
            self.take_norms(map, &written, &reads.norms, &tokens, sources)?;
        }
        Ok(())
    }

    /// Adds what the norms of one run take back, and nothing else.
    pub fn add_norms(
        &self,
        map: &mut [f64],
        differences: &Blocks,
        norms: &[Option<Norm>],
        place: &Place,
        sources: &Range<usize>,
    ) -> Result<()> {
        if norms.iter().all(Option::is_none) {
            return Ok(());
        }
        for tile in tiles(&place.positions, self.tile) {
            let written = self
                .expansion
                .sources(differences, tile.clone(), sources.end)?;
            let tokens = place.offset + tile.start..place.offset + tile.end;
            self.take_norms(map, &written, norms, &tokens, sources)?;
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
        let seen = columns
            .iter()
            .map(|&column| self.graph.n_sources_before(column));
        let before = seen.max().unwrap_or(0).min(sources.end);
        if before <= sources.start {
            return Ok(());
        }
        let written = written.narrow(0, sources.start, before - sources.start)?;
        let products =
            model::ops::linear(&written.flatten(1, 2)?, &gradients.flatten(1, 2)?, None)?;
        self.add_products(map, &products, sources.start, &columns, 1.0)
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
            for (part, gradient) in reads.attention[group].iter().enumerate() {
                let Some(gradient) = gradient else { continue };
                columns.extend(self.graph.part_columns(group, part));
                rows.push(match self.graph.heads {
                    Some(_) => self.expansion.read(group, part, &at(gradient)?)?,
                    None => at(gradient)?.unsqueeze(0)?,
                });
            }
        }
        let rows = if rows.is_empty() {
            None
        } else {
            Some(Tensor::cat(&rows, 0)?)
        };
        Ok((columns, rows))
    }

    /// Σ over the tile's positions of −(ΔO·x)·c for the targets of every layer's attention.
    fn take_norms(
        &self,
        map: &mut [f64],
        written: &Tensor,
        norms: &[Option<Norm>],
        tokens: &Range<usize>,
        sources: &Range<usize>,
    ) -> Result<()> {
        let there: Vec<(usize, &Norm)> = norms
            .iter()
            .enumerate()
            .filter_map(|(layer, norm)| Some((layer, norm.as_ref()?)))
            .collect();
        if there.is_empty() {
            return Ok(());
        }
        let at = |x: &Tensor| x.narrow(0, tokens.start, tokens.len());
        let residuals = there.iter().map(|(_, norm)| at(&norm.resid));
        // [tile, d_model, layers]
        let residuals = Tensor::stack(&residuals.collect::<Result<Vec<_>>>()?, 2)?;
        // [tile, n_sources, layers]
        let along = written.transpose(0, 1)?.contiguous()?.matmul(&residuals)?;
        for (place, (layer, norm)) in there.into_iter().enumerate() {
            let columns: Vec<usize> = (0..3)
                .flat_map(|part| self.graph.part_columns(layer, part))
                .collect();
            let before = self.graph.n_sources_before(columns[0]).min(sources.end);
            if before <= sources.start {
                continue;
            }
            let along = along.narrow(2, place, 1)?.squeeze(2)?;
            let along = along.narrow(1, sources.start, before - sources.start)?;
            let products = along.t()?.contiguous()?.matmul(&at(&norm.pull)?)?;
            self.add_products(map, &products, sources.start, &columns, -1.0)?;
        }
        Ok(())
    }

    /// Adds `products [rows, columns]` where they are edges.
    fn add_products(
        &self,
        map: &mut [f64],
        products: &Tensor,
        first: usize,
        columns: &[usize],
        sign: f64,
    ) -> Result<()> {
        let seen: Vec<usize> = columns
            .iter()
            .map(|&column| self.graph.n_sources_before(column))
            .collect();
        let products = products.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        for (row, products) in products.iter().enumerate() {
            let source = first + row;
            for ((&column, &seen), product) in columns.iter().zip(&seen).zip(products) {
                if source < seen {
                    map[source * self.graph.n_targets() + column] += sign * product;
                }
            }
        }
        Ok(())
    }
}

/// Contiguous pieces of a range.
pub fn tiles(range: &Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let range = range.clone();
    range
        .clone()
        .step_by(size.max(1))
        .map(move |start| start..(start + size).min(range.end))
}
