//! A model running on some of its edges only: every other edge carries what its source writes when ablated.
//!
//! Layer by layer, every target reads the residual as it stands plus, for each ablated edge, what is missing to the ablated
//! output of its source: `Σ_u` (`O_u^ablated` − `O_u^now`). With all edges that is the clean run, with none the ablated one.

use anyhow::Context;
use candle_core::{Device, Result, Tensor};

use crate::{
    attribute::Scorer,
    blocks::{Blocks, recorder},
    contract::tiles,
    example::Example,
    graph::Graph,
    loss::Readout,
    node::Target,
    runs::{clean_batch, differences},
};

/// One example, ready to be run on circuits.
#[derive(Debug)]
pub struct Masked<'a> {
    scorer: &'a Scorer<'a>,
    example: &'a Example,
    /// `[positions, d_model]`
    embedding: Tensor,
    /// What ablated blocks write, `[positions, width]` each.
    ablated: Blocks,
    /// Logits that the loss reads on the clean run.
    reference: Tensor,
}

impl<'a> Masked<'a> {
    /// Runs the clean sequence, and what the ablation needs.
    pub fn new(scorer: &'a Scorer<'a>, example: &'a Example) -> anyhow::Result<Self> {
        let model = scorer.model;
        let mut recorder = recorder(&scorer.graph);
        let readout = Readout::new(&[example], example.tokens.len());
        let (reference, _) =
            model.forward_trace_at(&clean_batch(&[example]), &readout.rows, &mut recorder)?;
        let outputs = Blocks::recorded(recorder, model, &scorer.graph)?;
        let differences = differences(scorer.setting(), &outputs, &[example])?;
        let ablated = outputs
            .0
            .iter()
            .zip(&differences.0)
            .map(|(clean, by)| clean + by);
        let ablated = Blocks(ablated.collect::<Result<_>>()?);
        Ok(Self {
            scorer,
            example,
            embedding: outputs.0[0].squeeze(0)?,
            ablated: ablated.row(0, example.tokens.len())?,
            reference,
        })
    }

    /// Loss when only the edges of `kept` (`[n_sources, n_targets]`) carry what their sources write.
    pub fn loss(&self, kept: &[bool]) -> anyhow::Result<f64> {
        let (model, graph) = (self.scorer.model, &self.scorer.graph);
        let batch = clean_batch(&[self.example]);
        let mut resid = self.embedding.clone();
        let mut missing = Blocks(vec![(&self.ablated.0[0] - &resid)?]);
        for layer in 0..graph.n_layers {
            let reads = |part| {
                let columns: Vec<usize> = graph.part_columns(layer, part).collect();
                self.read(&resid, &missing, &columns, kept)
            };
            let [q, k, v] = [reads(0)?, reads(1)?, reads(2)?];
            let z = model.attend(layer, [&q, &k, &v], &batch)?;
            let written = model.attention_out(layer, &z)?;
            let block = if graph.heads.is_some() {
                model.scaled_z(layer, &z)?
            } else {
                written.clone()
            };
            missing.0.push((&self.ablated.0[2 * layer + 1] - block)?);
            resid = (resid + written)?;
            let column = graph
                .target_index(Target::Mlp { layer })
                .context("every layer has an MLP")?;
            let read = self.read(&resid, &missing, &[column], kept)?;
            let written = model.mlp_out(layer, &read.reshape(resid.dims())?)?;
            missing.0.push((&self.ablated.0[2 * layer + 2] - &written)?);
            resid = (resid + written)?;
        }
        let last = self.read(&resid, &missing, &[graph.n_targets() - 1], kept)?;
        self.read_off(&last.reshape(resid.dims())?)
    }

    fn read_off(&self, last: &Tensor) -> anyhow::Result<f64> {
        let readout = Readout::new(&[self.example], self.example.tokens.len());
        let rows = Tensor::new(readout.rows.as_slice(), last.device())?;
        let logits = self.scorer.model.logits_of(&last.index_select(&rows, 0)?)?;
        let losses = readout.losses(&logits, Some(&self.reference), &[self.example])?;
        Ok(losses.values[0])
    }

    /// What some targets of one kind read: `[columns, positions, d_model]`, or `[positions, d_model]` for one of them, or
    /// when all read the residual as it is.
    fn read(
        &self,
        resid: &Tensor,
        missing: &Blocks,
        columns: &[usize],
        kept: &[bool],
    ) -> Result<Tensor> {
        let graph = &self.scorer.graph;
        let before = graph.n_sources_before(columns[0]);
        let ablated = ablated_edges(graph, kept, columns, before);
        if ablated.iter().all(|&share| share == 0.0) {
            return Ok(resid.clone());
        }
        let shape = (columns.len(), before);
        let ablated = Tensor::from_vec(ablated, shape, &Device::Cpu)?.to_dtype(resid.dtype())?;
        let ablated = ablated.to_device(resid.device())?;
        let mut reads = Vec::new();
        for tile in tiles(&(0..resid.dim(0)?), self.scorer.contraction().tile) {
            let rows = self
                .scorer
                .expansion
                .sources(missing, tile.clone(), before)?;
            let more = ablated.matmul(&rows.flatten(1, 2)?)?;
            let more = more.reshape((columns.len(), tile.len(), ()))?;
            reads.push(more.broadcast_add(&resid.narrow(0, tile.start, tile.len())?)?);
        }
        let reads = Tensor::cat(&reads, 1)?;
        if columns.len() == 1 {
            reads.squeeze(0)
        } else {
            Ok(reads)
        }
    }
}

/// 1 for each ablated edge into the columns, `[columns, before]`.
fn ablated_edges(graph: &Graph, kept: &[bool], columns: &[usize], before: usize) -> Vec<f64> {
    let n_targets = graph.n_targets();
    let of_column = |&column: &usize| {
        (0..before).map(move |source| f64::from(u8::from(!kept[source * n_targets + column])))
    };
    columns.iter().flat_map(of_column).collect()
}
