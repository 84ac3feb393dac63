//! What the sources write: recorded block by block, expanded to heads only where it is contracted.
//!
//! A block is the embedding, or a layer's attention or MLP, in the order of the forward pass. At head level an attention
//! block is kept as z (`n_heads * d_head` numbers a position) and not as what each head adds to the residual
//! (`n_heads * d_model` numbers): head h writes `z_h·W_O^h`, and whatever is linear in the one is linear in the other. Where a
//! norm stands behind attention, z is kept times the norm's scale: what is added to the residual is what counts.

use std::ops::Range;

use anyhow::Context;
use model::{Batch, Hook, Model, Recorder, Site, Tensor};

use crate::graph::Graph;

/// One tensor `[batch, seq, width]` per block: width `d_model`, or `n_heads * d_head` for attention split by head.
#[derive(Debug, Clone)]
pub struct Blocks(pub Vec<Tensor>);

/// Where a block's output is recorded.
pub fn hook_of(graph: &Graph, block: usize) -> Hook {
    match layer_of(block) {
        None => Hook::new(Site::Embed, 0),
        Some((layer, true)) if graph.heads.is_some() => Hook::new(Site::Z, layer),
        Some((layer, true)) => Hook::new(Site::AttnOut, layer),
        Some((layer, false)) => Hook::new(Site::MlpOut, layer),
    }
}

/// Layer of a block and whether it is attention; none for the embedding.
pub fn layer_of(block: usize) -> Option<(usize, bool)> {
    let place = block.checked_sub(1)?;
    Some((place / 2, place.is_multiple_of(2)))
}

/// Rows of the graph that belong to a block.
pub fn sources_of(graph: &Graph, block: usize) -> Range<usize> {
    let width = graph.heads.map_or(1, |heads| heads.n_heads);
    match layer_of(block) {
        None => 0..1,
        Some((layer, true)) => {
            let first = 1 + layer * (width + 1);
            first..first + width
        }
        Some((layer, false)) => {
            let own = 1 + layer * (width + 1) + width;
            own..own + 1
        }
    }
}

/// A tap that keeps every block.
pub fn recorder(graph: &Graph) -> Recorder {
    Recorder::new((0..=2 * graph.n_layers).map(|block| hook_of(graph, block)))
}

/// What the last layer shows of its last positions, behind zeros: `[batch, seq, width]`. No loss reads what stood there.
pub fn from_start(shown: Tensor, seq: usize) -> anyhow::Result<Tensor> {
    let own = shown.dim(1)?;
    if own == seq {
        return Ok(shown);
    }
    Ok(shown.pad_with_zeros(1, seq - own, 0)?)
}

impl Blocks {
    /// What a recorder saw.
    pub fn recorded(mut recorder: Recorder, model: &Model, graph: &Graph) -> anyhow::Result<Self> {
        let seq = recorder.activations.get(&hook_of(graph, 0));
        let seq = seq
            .context("the model did not show its embedding")?
            .dim(1)?;
        let taken = (0..=2 * graph.n_layers).map(|block| {
            let hook = hook_of(graph, block);
            let shown = recorder.activations.remove(&hook);
            let shown = shown.with_context(|| format!("the model did not show {hook}"))?;
            let written = match hook.site {
                Site::Z => {
                    let z = model.scaled_z(hook.layer, &shown.flatten(0, 1)?)?;
                    z.reshape(shown.dims())?
                }
                _ => shown,
            };
            from_start(written, seq)
        });
        Ok(Self(taken.collect::<anyhow::Result<_>>()?))
    }

    /// Runs the blocks of a batch, without logits.
    pub fn run(model: &Model, graph: &Graph, batch: &Batch) -> anyhow::Result<Self> {
        let mut recorder = recorder(graph);
        let last = hook_of(graph, 2 * graph.n_layers);
        model.forward_until(batch, last, &mut recorder)?;
        Self::recorded(recorder, model, graph)
    }

    /// `other − self`, block by block.
    pub fn towards(&self, other: &Self) -> anyhow::Result<Self> {
        self.zip(other, |from, to| model::ops::subtract(to, from))
    }

    /// `−self`.
    pub fn negated(&self) -> anyhow::Result<Self> {
        let blocks = self.0.iter().map(Tensor::neg);
        Ok(Self(blocks.collect::<Result<_, _>>()?))
    }

    fn zip(
        &self,
        other: &Self,
        of: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    ) -> anyhow::Result<Self> {
        let pairs = self.0.iter().zip(&other.0);
        Ok(Self(
            pairs.map(|(a, b)| of(a, b)).collect::<Result<_, _>>()?,
        ))
    }

    /// Some rows of the batch.
    pub fn rows(&self, rows: Range<usize>) -> anyhow::Result<Self> {
        let blocks = self.0.iter();
        let blocks = blocks.map(|block| block.narrow(0, rows.start, rows.len()));
        Ok(Self(blocks.collect::<Result<_, _>>()?))
    }

    /// The blocks of one row of the batch, `[positions, width]` each.
    pub fn row(&self, row: usize, positions: usize) -> anyhow::Result<Self> {
        let of_row = |block: &Tensor| block.narrow(0, row, 1)?.squeeze(0)?.narrow(0, 0, positions);
        let blocks = self.0.iter().map(of_row);
        Ok(Self(blocks.collect::<Result<_, _>>()?))
    }
}
