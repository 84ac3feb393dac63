//! The contraction in single precision on the CPU: rows are written into room made once, never copied.

use std::ops::{Deref, Range};

use candle_core::{Storage, Tensor};
use kernels::edges::{self, Along, Heads};

use crate::{
    blocks::{Blocks, layer_of, sources_of},
    contract::{Contraction, Place, tiles},
    expand::Expansion,
    node::Target,
    reads::Reads,
};

/// A tensor's numbers where they lie.
struct Shown<'a> {
    memory: Box<dyn Deref<Target = Storage> + 'a>,
    range: Range<usize>,
}

impl<'a> Shown<'a> {
    /// The numbers of adjacent `f32` on the CPU; none of others.
    fn of(tensor: &'a Tensor) -> Option<Self> {
        let (memory, layout) = tensor.storage_and_layout();
        let Storage::Cpu(cpu) = &*memory else {
            return None;
        };
        cpu.as_slice::<f32>().ok()?;
        let (start, end) = layout.contiguous_offsets()?;
        Some(Self {
            memory: Box::new(memory),
            range: start..end,
        })
    }

    fn values(&self) -> &[f32] {
        match &**self.memory {
            Storage::Cpu(cpu) => match cpu.as_slice::<f32>() {
                Ok(values) => &values[self.range.clone()],
                Err(_) => &[],
            },
            _ => &[],
        }
    }
}

/// Everything a contraction reads.
pub(crate) struct Inputs<'a> {
    blocks: Vec<Shown<'a>>,
    layers: Vec<LayerInputs<'a>>,
    logits: Option<Shown<'a>>,
}

struct LayerInputs<'a> {
    /// Output projection, projections to q, k and v, γ; at head level.
    weights: Option<[Shown<'a>; 5]>,
    attention: [Option<Shown<'a>>; 3],
    /// Residual, factors and their number a position, of every run.
    norms: Vec<(Shown<'a>, Shown<'a>, usize)>,
    mlp: Option<Shown<'a>>,
}

/// The inputs as slices, when all of them are adjacent `f32` on the CPU.
pub(crate) fn shown<'a>(
    differences: &'a Blocks,
    expansion: &'a Expansion,
    reads: &'a Reads<'_>,
) -> Option<Inputs<'a>> {
    let blocks = differences.0.iter().map(Shown::of);
    let layers = (0..reads.attention.len()).map(|layer| LayerInputs::of(expansion, reads, layer));
    Some(Inputs {
        blocks: blocks.collect::<Option<_>>()?,
        layers: layers.collect::<Option<_>>()?,
        logits: optional(reads.logits.as_ref())?,
    })
}

/// None when a tensor that is there cannot be shown.
#[expect(
    clippy::option_option,
    reason = "no tensor is something else than one that cannot be shown"
)]
fn optional(tensor: Option<&Tensor>) -> Option<Option<Shown<'_>>> {
    match tensor {
        Some(tensor) => Shown::of(tensor).map(Some),
        None => Some(None),
    }
}

impl<'a> LayerInputs<'a> {
    fn of(expansion: &'a Expansion, reads: &'a Reads<'_>, layer: usize) -> Option<Self> {
        let weights = match expansion.layer(layer) {
            Some(own) => {
                let [q, k, v] = &own.qkv;
                Some([
                    Shown::of(&own.o)?,
                    Shown::of(q)?,
                    Shown::of(k)?,
                    Shown::of(v)?,
                    Shown::of(&own.gamma)?,
                ])
            }
            None => None,
        };
        let [q, k, v] = &reads.attention[layer];
        let norms = reads.norms[layer].iter().map(|norm| {
            let pull = Shown::of(&norm.pull)?;
            Some((Shown::of(&norm.resid)?, pull, norm.pull.dim(1).ok()?))
        });
        Some(Self {
            weights,
            attention: [
                optional(q.as_ref())?,
                optional(k.as_ref())?,
                optional(v.as_ref())?,
            ],
            norms: norms.collect::<Option<_>>()?,
            mlp: optional(reads.mlp[layer].as_ref())?,
        })
    }
}

/// One contraction with its room.
pub(crate) struct Fast<'a> {
    contraction: &'a Contraction<'a>,
    inputs: &'a Inputs<'a>,
    /// Rows of the graph that are written.
    sources: Range<usize>,
    d_model: usize,
    /// `[sources, tile, d_model]`
    written: Vec<f32>,
    /// `[columns, tile, d_model]`
    gradients: Vec<f32>,
}

impl<'a> Fast<'a> {
    pub(crate) fn new(
        contraction: &'a Contraction<'a>,
        inputs: &'a Inputs<'a>,
        sources: Range<usize>,
    ) -> Self {
        Self {
            contraction,
            inputs,
            sources,
            d_model: contraction.d_model,
            written: Vec::new(),
            gradients: Vec::new(),
        }
    }

    /// Adds the scores of one example's positions to a map `[n_sources, n_targets]`.
    pub(crate) fn add(mut self, map: &mut [f64], place: &Place) {
        let graph = self.contraction.graph;
        for tile in tiles(&place.positions, self.contraction.tile) {
            self.write(&tile);
            let tokens = place.offset + tile.start..place.offset + tile.end;
            for group in 0..=graph.n_layers {
                let columns = self.columns(group);
                let before = self.contraction.seen(&columns, &self.sources);
                if columns.is_empty() || before <= self.sources.start {
                    continue;
                }
                self.read(group, &tokens, columns.len());
                let (rows, width) = (before - self.sources.start, tile.len() * self.d_model);
                let mut sums = vec![0.0; rows * columns.len()];
                let written = &self.written[..rows * width];
                let gradients = &self.gradients[..columns.len() * width];
                edges::add_products(&mut sums, written, gradients, width);
                let first = self.sources.start;
                self.contraction.add_products(map, &sums, first, &columns);
            }
        }
    }

    /// Makes the rows of the sources at some positions.
    fn write(&mut self, tile: &Range<usize>) {
        let (contraction, inputs) = (self.contraction, self.inputs);
        let width = tile.len() * self.d_model;
        self.written.resize(self.sources.len() * width, 0.0);
        for (block, values) in inputs.blocks.iter().enumerate() {
            let rows = sources_of(contraction.graph, block);
            if rows.start < self.sources.start || rows.end > self.sources.end {
                continue;
            }
            let first = rows.start - self.sources.start;
            let out = &mut self.written[first * width..(first + rows.len()) * width];
            let by_head = layer_of(block).filter(|(_, attention)| *attention);
            let weights = by_head.and_then(|(layer, _)| inputs.layers[layer].weights.as_ref());
            match weights {
                Some([o, ..]) => {
                    let heads = heads_of(contraction, o, None, &[]);
                    let z = rows.len() * heads.d_in;
                    let values = &values.values()[tile.start * z..tile.end * z];
                    edges::expand(out, values, tile.len(), heads);
                }
                None => out.copy_from_slice(at(values, tile, self.d_model)),
            }
        }
    }

    /// Columns of a group that have gradients, in the order in which [`Self::read`] makes their rows.
    fn columns(&self, group: usize) -> Vec<usize> {
        let (graph, inputs) = (self.contraction.graph, self.inputs);
        let mut columns = Vec::new();
        if let Some(layer) = group.checked_sub(1)
            && inputs.layers[layer].mlp.is_some()
        {
            columns.extend(graph.target_index(Target::Mlp { layer }));
        }
        let Some(layer) = inputs.layers.get(group) else {
            let logits = inputs.logits.as_ref().map(|_| Target::Logits);
            columns.extend(logits.and_then(|logits| graph.target_index(logits)));
            return columns;
        };
        for (part, gradient) in layer.attention.iter().enumerate() {
            if gradient.is_some() {
                columns.extend(graph.part_columns(group, part));
            }
        }
        columns
    }

    /// Makes the rows of a group's targets at some tokens.
    fn read(&mut self, group: usize, tokens: &Range<usize>, columns: usize) {
        let (inputs, d_model) = (self.inputs, self.d_model);
        let width = tokens.len() * d_model;
        let mut gradients = std::mem::take(&mut self.gradients);
        // Room once for the largest group of the longest tile: filling it anew would cost as much as writing it.
        if gradients.len() < columns * width {
            gradients.resize(columns * width, 0.0);
        }
        let mut out = gradients.as_mut_slice();
        let mlp = group
            .checked_sub(1)
            .and_then(|layer| inputs.layers[layer].mlp.as_ref());
        if let Some(mlp) = mlp {
            taken(&mut out, width).copy_from_slice(at(mlp, tokens, d_model));
        }
        match (inputs.layers.get(group), &inputs.logits) {
            (Some(layer), _) => self.read_attention(out, layer, tokens),
            (None, Some(logits)) => out[..width].copy_from_slice(at(logits, tokens, d_model)),
            (None, None) => (),
        }
        self.gradients = gradients;
    }

    fn read_attention(&self, mut out: &mut [f32], layer: &LayerInputs<'_>, tokens: &Range<usize>) {
        let width = tokens.len() * self.d_model;
        let mut first = 0;
        for (part, gradient) in layer.attention.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let Some(weights) = &layer.weights else {
                taken(&mut out, width).copy_from_slice(at(gradient, tokens, self.d_model));
                continue;
            };
            let norms: Vec<Along<'_>> = layer
                .norms
                .iter()
                .map(|(x, factors, stride)| Along {
                    x: at(x, tokens, self.d_model),
                    factors: at(factors, tokens, *stride),
                    stride: *stride,
                    first,
                })
                .collect();
            let heads = heads_of(
                self.contraction,
                &weights[1 + part],
                Some(weights[4].values()),
                &norms,
            );
            let n = self.contraction.graph.part_columns(0, part).len();
            let narrow = at(gradient, tokens, n * heads.d_in);
            edges::expand(taken(&mut out, n * width), narrow, tokens.len(), heads);
            first += n;
        }
    }
}

fn heads_of<'a>(
    contraction: &Contraction<'_>,
    weight: &'a Shown<'_>,
    gamma: Option<&'a [f32]>,
    norms: &'a [Along<'a>],
) -> Heads<'a> {
    Heads {
        weight: weight.values(),
        d_in: contraction.expansion.d_head(),
        d_out: contraction.d_model,
        gamma,
        norms,
    }
}

/// The first numbers of a slice, which then begins behind them.
#[expect(clippy::mut_mut, reason = "the slice itself moves on")]
fn taken<'a>(rest: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (first, behind) = std::mem::take(rest).split_at_mut(n);
    *rest = behind;
    first
}

/// Rows of a range.
fn at<'a>(values: &'a Shown<'_>, rows: &Range<usize>, width: usize) -> &'a [f32] {
    &values.values()[rows.start * width..rows.end * width]
}
