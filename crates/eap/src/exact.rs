//! Exact edge patching: what the loss becomes when one target alone reads a source's ablated output.
//!
//! The target's own output is made again from what it then reads, and only the rest of the forward pass after it is run;
//! many edges at once, as rows of a batch. An edge into a query, key or value changes one head of one layer; an edge into
//! the logits changes nothing but them.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use model::{Batch, Device, Hook, Recorder, Site};

use crate::{
    attribute::{Scorer, Scores},
    blocks::{Blocks, recorder},
    example::Example,
    loss::Readout,
    node::Target,
    runs::{clean_batch, differences},
};

/// Rows of a batch of patched runs, times positions.
const TOKENS: usize = 512;

/// One patch: a share of ΔO of `source` (a row) added to what `target` (a column) reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patch {
    /// Row of the graph.
    pub source: usize,
    /// Column of the graph.
    pub target: usize,
    /// 1 ablates the edge; small steps measure its slope.
    pub scale: f64,
}

/// Patches the edges of one example.
#[derive(Debug)]
pub struct Patcher<'a> {
    scorer: &'a Scorer<'a>,
    example: &'a Example,
    /// Residuals of the clean run, `[positions, d_model]`, and z `[positions, n_heads * d_head]`.
    clean: BTreeMap<Hook, Tensor>,
    differences: Blocks,
    /// Logits that the loss reads on the clean run.
    reference: Tensor,
    /// Loss of the clean run.
    pub loss: f64,
}

/// What reads the residual in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reader {
    Attention(usize),
    Mlp(usize),
    Logits,
}

impl<'a> Patcher<'a> {
    /// Runs the clean sequence, and what the ablation needs.
    pub fn new(scorer: &'a Scorer<'a>, example: &'a Example) -> anyhow::Result<Self> {
        let (model, graph) = (scorer.model, &scorer.graph);
        let last = Hook::new(Site::ResidPost, graph.n_layers - 1);
        let Recorder { mut hooks, .. } = recorder(graph);
        for layer in 0..graph.n_layers {
            hooks.extend(
                [Site::ResidPre, Site::Z, Site::ResidMid].map(|site| Hook::new(site, layer)),
            );
        }
        hooks.push(last);
        let mut recorder = Recorder::new(hooks);
        model.forward_until(&clean_batch(&[example]), last, &mut recorder)?;
        let row = |(hook, x): (&Hook, &Tensor)| Ok((*hook, x.squeeze(0)?));
        let clean = recorder
            .activations
            .iter()
            .map(row)
            .collect::<Result<BTreeMap<_, _>>>()?;
        let outputs = Blocks::recorded(recorder, model, graph)?;
        let differences = differences(scorer.setting(), &outputs, &[example])?;
        let readout = Readout::new(&[example], example.tokens.len());
        let rows = Tensor::new(readout.rows.as_slice(), model.device())?;
        let reference = model.logits_of(&clean[&last].index_select(&rows, 0)?)?;
        let losses = readout.losses(&reference, Some(&reference), &[example])?;
        Ok(Self {
            scorer,
            example,
            differences: differences.row(0, example.tokens.len())?,
            clean,
            loss: losses.values[0],
            reference,
        })
    }

    /// ΔO of a source of the graph as it adds to the residual, `[positions, d_model]`.
    pub fn difference(&self, source: usize) -> Result<Tensor> {
        let positions = 0..self.example.tokens.len();
        self.scorer
            .expansion
            .source(&self.differences, positions, source)
    }

    /// The residual that a hook showed on the clean run, `[positions, width]`.
    pub fn clean(&self, hook: Hook) -> &Tensor {
        &self.clean[&hook]
    }

    /// Losses under each patch by itself.
    pub fn losses(&self, patches: &[Patch]) -> anyhow::Result<Vec<f64>> {
        let mut order: Vec<usize> = (0..patches.len()).collect();
        order.sort_by_key(|&place| (self.reader(patches[place].target), patches[place].source));
        let mut losses = vec![0.0; patches.len()];
        let rows = (TOKENS / self.example.tokens.len()).max(1);
        let same_reader = |a: &usize, b: &usize| {
            self.reader(patches[*a].target) == self.reader(patches[*b].target)
        };
        for places in order.chunk_by(same_reader) {
            let reader = self.reader(patches[places[0]].target);
            for places in places.chunks(rows) {
                let chunk: Vec<Patch> = places.iter().map(|&place| patches[place]).collect();
                for (&place, loss) in places.iter().zip(self.run(reader, &chunk)?) {
                    losses[place] = loss;
                }
            }
        }
        Ok(losses)
    }

    fn reader(&self, target: usize) -> Reader {
        match self.scorer.graph.target(target) {
            Target::Attention { layer, .. } => Reader::Attention(layer),
            Target::Mlp { layer } => Reader::Mlp(layer),
            Target::Logits => Reader::Logits,
        }
    }

    /// Losses of patches that one reader reads.
    fn run(&self, reader: Reader, patches: &[Patch]) -> anyhow::Result<Vec<f64>> {
        let (model, n) = (self.scorer.model, patches.len());
        let batch = self.batch(n);
        let last = match reader {
            Reader::Attention(layer) => {
                let mid = self.attention(layer, patches)?;
                model.resume(Hook::new(Site::ResidMid, layer), mid, &batch, &mut ())?
            }
            Reader::Mlp(layer) => {
                let mid = self.clean(Hook::new(Site::ResidMid, layer));
                let read = self.patched(mid, patches)?;
                let post = (model.mlp_out(layer, &read)? + mid.repeat((n, 1))?)?;
                model.resume(Hook::new(Site::ResidPost, layer), post, &batch, &mut ())?
            }
            Reader::Logits => {
                let layer = self.scorer.graph.n_layers - 1;
                self.patched(self.clean(Hook::new(Site::ResidPost, layer)), patches)?
            }
        };
        self.read(&last, n)
    }

    /// Losses from residuals after the last block, `[n * positions, d_model]`.
    pub fn read(&self, last: &Tensor, n: usize) -> anyhow::Result<Vec<f64>> {
        let examples = vec![self.example; n];
        let readout = Readout::new(&examples, self.example.tokens.len());
        let rows = Tensor::new(readout.rows.as_slice(), last.device())?;
        let logits = self.scorer.model.logits_of(&last.index_select(&rows, 0)?)?;
        let reference = self.reference.repeat((n, 1))?;
        Ok(readout.losses(&logits, Some(&reference), &examples)?.values)
    }

    /// The example's tokens `n` times.
    pub fn batch(&self, n: usize) -> Batch {
        Batch::right_padded(&vec![self.example.tokens.clone(); n], 0)
    }

    /// The residual after a layer's attention, `[n * positions, d_model]`, when its heads read patched residuals.
    fn attention(&self, layer: usize, patches: &[Patch]) -> anyhow::Result<Tensor> {
        let model = self.scorer.model;
        let (pre, z) = (
            self.clean(Hook::new(Site::ResidPre, layer)),
            self.clean(Hook::new(Site::Z, layer)),
        );
        // Patches that differ in the head alone read the same residual: one attention serves them all.
        let key = |patch: &Patch| {
            let head = self.spreads().then_some(patch.target);
            (
                patch.source,
                self.part(patch.target),
                patch.scale.to_bits(),
                head,
            )
        };
        let mut reads: Vec<Patch> = Vec::new();
        let places: Vec<u32> = patches
            .iter()
            .map(|patch| {
                let known = reads.iter().position(|read| key(read) == key(patch));
                known.unwrap_or_else(|| {
                    reads.push(*patch);
                    reads.len() - 1
                }) as u32
            })
            .collect();
        let of_part = |part: usize| {
            let scaled = reads.iter().map(|read| Patch {
                scale: if self.part(read.target) == part {
                    read.scale
                } else {
                    0.0
                },
                ..*read
            });
            self.reads(pre, &scaled.collect::<Vec<_>>(), part)
        };
        let [q, k, v] = [of_part(0)?, of_part(1)?, of_part(2)?];
        let new = model.attend(layer, [&q, &k, &v], &self.batch(reads.len()))?;
        let (positions, width) = z.dims2()?;
        let new = new.reshape((reads.len(), positions, width))?;
        let new = new.index_select(&Tensor::new(places, z.device())?, 0)?;
        let change = new.broadcast_sub(z)?.broadcast_mul(&self.mask(patches)?)?;
        let z = change.broadcast_add(z)?.reshape(((), width))?;
        Ok((model.attention_out(layer, &z)? + pre.repeat((patches.len(), 1))?)?)
    }

    /// 1 for the numbers of z that a patch reaches: `[patches, 1, n_heads * d_head]`.
    fn mask(&self, patches: &[Patch]) -> Result<Tensor> {
        let config = &self.scorer.model.config;
        let mask: Vec<f64> = patches
            .iter()
            .flat_map(|patch| {
                let reached = self.heads(patch.target);
                let of_head = move |head: usize| f64::from(u8::from(reached.contains(&head)));
                (0..config.n_heads * config.d_head).map(move |i| of_head(i / config.d_head))
            })
            .collect();
        let shape = (patches.len(), 1, config.n_heads * config.d_head);
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let mask = mask.to_dtype(self.scorer.model.dtype())?;
        mask.to_device(self.scorer.model.device())
    }

    /// Whether one head's query or key changes the others': a norm over all of them together.
    fn spreads(&self) -> bool {
        self.scorer.model.config.form.qk_norm_whole && self.scorer.graph.heads.is_some()
    }

    /// What one part of a layer's attention reads under each patch: `[patches * positions, d_model]` for all heads, or head
    /// by head where they must be told apart.
    fn reads(&self, pre: &Tensor, patches: &[Patch], part: usize) -> Result<Tensor> {
        if !self.spreads() || part == 2 || patches.iter().all(|patch| patch.scale == 0.0) {
            return self.patched(pre, patches);
        }
        let of_head = |head: usize| {
            let own = patches.iter().map(|patch| Patch {
                scale: if self.read_by(patch.target).contains(&head) {
                    patch.scale
                } else {
                    0.0
                },
                ..*patch
            });
            self.patched(pre, &own.collect::<Vec<_>>())
        };
        let heads = (0..self.scorer.model.config.n_heads).map(of_head);
        Tensor::stack(&heads.collect::<Result<Vec<_>>>()?, 0)
    }

    /// Query heads whose output a target changes.
    fn heads(&self, target: usize) -> std::ops::Range<usize> {
        if self.spreads() && self.part(target) < 2 {
            return 0..self.scorer.model.config.n_heads;
        }
        self.read_by(target)
    }

    /// Query heads for which a target is read.
    fn read_by(&self, target: usize) -> std::ops::Range<usize> {
        let n_heads = self.scorer.model.config.n_heads;
        let (
            Some(heads),
            Target::Attention {
                head: Some(head), ..
            },
        ) = (self.scorer.graph.heads, self.scorer.graph.target(target))
        else {
            return 0..n_heads;
        };
        let shared = if self.part(target) == 0 {
            1
        } else {
            heads.n_heads / heads.n_kv_heads
        };
        head * shared..(head + 1) * shared
    }

    /// 0 query, 1 key, 2 value.
    fn part(&self, target: usize) -> usize {
        match self.scorer.graph.target(target) {
            Target::Attention { part, .. } => part as usize,
            _ => 0,
        }
    }

    /// A residual `[positions, d_model]` with every patch added to it: `[patches * positions, d_model]`.
    fn patched(&self, resid: &Tensor, patches: &[Patch]) -> Result<Tensor> {
        let rows = patches.iter().map(|patch| {
            if patch.scale == 0.0 {
                Ok(resid.clone())
            } else {
                resid + (self.difference(patch.source)? * patch.scale)?
            }
        });
        Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
    }
}

/// Every edge of every example.
pub fn all(scorer: &Scorer<'_>, examples: &[&Example]) -> anyhow::Result<Vec<Scores>> {
    let edges: Vec<(usize, usize)> = match &scorer.edges {
        Some(edges) => edges.clone(),
        None => scorer.graph.edges().collect(),
    };
    examples
        .iter()
        .map(|example| some(scorer, example, &edges))
        .collect()
}

/// Some edges of one example; the others keep the score 0.
pub fn some(
    scorer: &Scorer<'_>,
    example: &Example,
    edges: &[(usize, usize)],
) -> anyhow::Result<Scores> {
    let patcher = Patcher::new(scorer, example)?;
    let patch = |&(source, target): &(usize, usize)| Patch {
        source,
        target,
        scale: 1.0,
    };
    let patches: Vec<Patch> = edges.iter().map(patch).collect();
    let mut map = vec![0.0; scorer.graph.n_entries()];
    for (&(source, target), loss) in edges.iter().zip(patcher.losses(&patches)?) {
        map[source * scorer.graph.n_targets() + target] = loss - patcher.loss;
    }
    Ok(Scores {
        map,
        positions: Vec::new(),
    })
}
