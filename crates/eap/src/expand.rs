//! Heads between their own width and the width of the residual: rows of `d_model` numbers, made a tile of positions at a
//! time.

use std::ops::Range;

use candle_core::Result;
use model::{KeyGradients, Model, Tensor};

use crate::{
    blocks::{Blocks, layer_of, sources_of},
    graph::{Graph, Heads},
};

/// The weights through which a model's heads write and read.
#[derive(Debug, Clone)]
pub struct Expansion {
    graph: Graph,
    d_head: usize,
    layers: Vec<LayerWeights>,
}

/// Weights of one layer's heads; none at layer level.
#[derive(Debug, Clone)]
pub struct LayerWeights {
    /// Output projection, times γ of the norm behind it where there is one: `[n_heads * d_head, d_model]`.
    pub o: Tensor,
    /// The model's own projections to q, k, v: `[heads * d_head, d_model]`.
    pub qkv: [Tensor; 3],
    /// γ of the norm before them, `[d_model]`.
    pub gamma: Tensor,
}

impl Expansion {
    /// Takes the weights from a model; nothing at layer level.
    pub fn new(model: &Model, graph: &Graph) -> anyhow::Result<Self> {
        let config = &model.config;
        let layer = |layer| -> Result<LayerWeights> {
            let weights = model.head_weights(layer)?;
            let o = weights.o.t()?.contiguous()?;
            Ok(LayerWeights {
                o: match &weights.after {
                    Some(gamma) => o.broadcast_mul(gamma)?,
                    None => o,
                },
                qkv: [weights.q, weights.k, weights.v],
                gamma: weights.norm.contiguous()?,
            })
        };
        let by_head = graph.heads.map_or(0, |_| graph.n_layers);
        Ok(Self {
            graph: *graph,
            d_head: config.d_head,
            layers: (0..by_head).map(layer).collect::<Result<_>>()?,
        })
    }

    /// Weights of a layer's heads; none at layer level.
    pub fn layer(&self, layer: usize) -> Option<&LayerWeights> {
        self.layers.get(layer)
    }

    /// Width of a head.
    pub fn d_head(&self) -> usize {
        self.d_head
    }

    /// What the sources before row `before` write at some positions of one sequence: `[before, positions, d_model]`.
    ///
    /// `blocks` are those of the sequence, `[positions, width]` each.
    pub fn sources(
        &self,
        blocks: &Blocks,
        positions: Range<usize>,
        before: usize,
    ) -> Result<Tensor> {
        let mut rows = Vec::new();
        let mut n = 0;
        for (block, values) in blocks.0.iter().enumerate() {
            if n >= before {
                break;
            }
            let tile = values.narrow(0, positions.start, positions.len())?;
            let row = match (layer_of(block), self.graph.heads) {
                (Some((layer, true)), Some(heads)) => self.written(layer, heads, &tile)?,
                _ => tile.unsqueeze(0)?,
            };
            n += row.dim(0)?;
            rows.push(row);
        }
        Tensor::cat(&rows, 0)
    }

    /// What all heads of a layer add together, from z as it is kept: `[tokens, n_heads * d_head]` → `[tokens, d_model]`.
    pub fn together(&self, layer: usize, z: &Tensor) -> Result<Tensor> {
        model::ops::linear_backward(z, &self.layers[layer].o)
    }

    /// What one source writes, `[positions, d_model]`.
    pub fn source(
        &self,
        blocks: &Blocks,
        positions: Range<usize>,
        source: usize,
    ) -> Result<Tensor> {
        let of_block = |&block: &usize| sources_of(&self.graph, block).contains(&source);
        let block = (0..blocks.0.len()).find(of_block).unwrap_or_default();
        let values = blocks.0[block].narrow(0, positions.start, positions.len())?;
        match (layer_of(block), self.graph.heads) {
            (Some((layer, true)), Some(_)) => {
                let head = source - sources_of(&self.graph, block).start;
                let z = values
                    .narrow(1, head * self.d_head, self.d_head)?
                    .contiguous()?;
                let o = &self.layers[layer].o;
                z.matmul(&o.narrow(0, head * self.d_head, self.d_head)?)
            }
            _ => Ok(values),
        }
    }

    /// `z [positions, n_heads * d_head]` → what each head adds, `[n_heads, positions, d_model]`.
    fn written(&self, layer: usize, heads: Heads, z: &Tensor) -> Result<Tensor> {
        let z = z.reshape((z.dim(0)?, heads.n_heads, self.d_head))?;
        let o = self.layers[layer]
            .o
            .reshape((heads.n_heads, self.d_head, ()))?;
        z.transpose(0, 1)?.contiguous()?.matmul(&o)
    }

    /// Gradients by what a part (0 q, 1 k, 2 v) of a layer's heads projected, `[positions, n * d_head]` → by what each of
    /// them reads up to the norm's own scale, `[n, positions, d_model]`.
    pub fn read(&self, layer: usize, part: usize, delta: &Tensor) -> Result<Tensor> {
        let (positions, width) = delta.dims2()?;
        let weight = &self.layers[layer].qkv[part];
        let (own, n) = (weight.dim(0)? / self.d_head, width / self.d_head);
        let weight = weight.reshape((own, self.d_head, ()))?;
        // Query heads that share a key/value head are its rows of one product.
        let by_head = delta.reshape((positions, n, self.d_head))?;
        let by_head = by_head.transpose(0, 1)?.contiguous()?;
        let rows = by_head.reshape((own, n / own * positions, self.d_head))?;
        let rows = rows.matmul(&weight)?.reshape((n, positions, ()))?;
        rows.broadcast_mul(&self.layers[layer].gamma)
    }

    /// ⟨W·norm(x), δ⟩ per position and head, q then k then v: `resid [tokens, d_model]` with its norm's `scale [tokens, 1]`,
    /// `deltas [tokens, n * d_head]` → `[tokens, targets]`.
    pub fn pull(
        &self,
        layer: usize,
        (resid, scale): (&Tensor, &Tensor),
        deltas: &[Tensor; 3],
    ) -> Result<Tensor> {
        let own = &self.layers[layer];
        let normed = model::ops::rms_norm_again(resid, &own.gamma, scale)?;
        let projected = own.qkv.iter().zip(deltas).map(|(weight, delta)| {
            let projected = model::ops::linear(&normed, weight, None)?;
            model::ops::head_dots(&projected, delta, self.d_head)
        });
        Tensor::cat(&projected.collect::<Result<Vec<_>>>()?, 1)
    }

    /// How gradients by keys and values are asked for.
    pub fn keys(&self) -> KeyGradients {
        match self.graph.heads {
            Some(heads) if heads.n_kv_heads < heads.n_heads => KeyGradients::Summed,
            _ => KeyGradients::Apart,
        }
    }

    /// Bytes that the turned output projections take, and the others where the model keeps them in fewer bytes (`dense`).
    pub fn bytes(model: &model::Config, by_head: bool, dense: bool, width: usize) -> usize {
        let kv = if dense { model.n_kv_heads } else { 0 };
        let q = if dense { model.n_heads } else { 0 };
        let rows = (model.n_heads + q + 2 * kv) * model.d_head;
        if by_head {
            model.n_layers * rows * model.d_model * width
        } else {
            0
        }
    }
}
