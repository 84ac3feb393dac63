//! The runs a method needs: clean, ablated, and in between.

use anyhow::{Context, ensure};
use candle_core::{DType, Tensor};
use model::{Batch, Hook, Model, Site, Tap, Trace};

use crate::{
    blocks::{Blocks, hook_of, layer_of, recorder},
    example::Example,
    expand::Expansion,
    graph::Graph,
    loss::Readout,
    method::{Ablation, Plan},
};

/// The clean sequences side by side.
pub fn clean_batch(examples: &[&Example]) -> Batch {
    let tokens: Vec<Vec<u32>> = examples
        .iter()
        .map(|example| example.tokens.clone())
        .collect();
    // Padding comes after every token that counts: no position that counts can see it.
    Batch::right_padded(&tokens, 0)
}

fn corrupted_batch(examples: &[&Example]) -> anyhow::Result<Batch> {
    let tokens = examples.iter().map(|example| {
        example
            .corrupted
            .clone()
            .context("an example has no corrupted tokens")
    });
    Ok(Batch::right_padded(
        &tokens.collect::<anyhow::Result<Vec<_>>>()?,
        0,
    ))
}

/// Mean outputs of every block: `[1, 1 or seq, width]` each.
#[derive(Debug, Clone)]
pub struct Means(Blocks);

impl Means {
    /// Means over the clean sequences; over positions too unless `positional`.
    ///
    /// # Errors
    /// When positional means are asked for over sequences of unlike lengths.
    pub fn of(
        model: &Model,
        graph: &Graph,
        examples: &[&Example],
        positional: bool,
    ) -> anyhow::Result<Self> {
        let first = examples.first().context("there is nothing to average")?;
        let equal = examples
            .iter()
            .all(|example| example.tokens.len() == first.tokens.len());
        ensure!(
            equal || !positional,
            "means by position need sequences of one length"
        );
        let mut sums: Option<Vec<Tensor>> = None;
        for example in examples {
            let blocks = Blocks::run(model, graph, &clean_batch(&[*example]))?;
            let own = blocks.0.iter().map(|block| {
                let block = block.to_dtype(DType::F64)?;
                if positional {
                    Ok(block)
                } else {
                    block.sum_keepdim(1)
                }
            });
            let own = own.collect::<candle_core::Result<Vec<_>>>()?;
            sums = Some(match sums {
                None => own,
                Some(sums) => sums
                    .iter()
                    .zip(&own)
                    .map(|(a, b)| a + b)
                    .collect::<Result<_, _>>()?,
            });
        }
        let positions: usize = examples.iter().map(|example| example.tokens.len()).sum();
        let n = if positional {
            examples.len()
        } else {
            positions
        };
        let means = sums
            .unwrap_or_default()
            .into_iter()
            .map(|sum| (sum / n as f64)?.to_dtype(model.dtype()));
        Ok(Self(Blocks(means.collect::<candle_core::Result<_>>()?)))
    }

    /// The means an ablation needs, over all examples of a run; none for the others.
    pub fn for_ablation(
        model: &Model,
        graph: &Graph,
        ablation: Ablation,
        examples: &[&Example],
    ) -> anyhow::Result<Option<Self>> {
        let positional = match ablation {
            Ablation::Mean => false,
            Ablation::MeanPositional => true,
            Ablation::Zero | Ablation::Corrupted => return Ok(None),
        };
        Self::of(model, graph, examples, positional).map(Some)
    }
}

/// The clean run, and what ablating each block would change in it.
#[derive(Debug)]
pub struct Run {
    /// Logits that the losses read and the trace behind them; none when nothing asked for them.
    pub clean: Option<(Tensor, Trace)>,
    /// ΔO of every block.
    pub differences: Blocks,
}

/// What runs are made for.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its graph.
    pub graph: &'a Graph,
    /// The method.
    pub plan: Plan,
    /// Means, when the ablation needs them.
    pub means: Option<&'a Means>,
    /// Weights of the heads.
    pub expansion: &'a Expansion,
}

impl Run {
    /// Runs the clean sequences, and the corrupted ones when they are the ablation.
    pub fn new(setting: Setting<'_>, examples: &[&Example], trace: bool) -> anyhow::Result<Self> {
        let Setting { model, graph, .. } = setting;
        let batch = clean_batch(examples);
        let (clean, outputs) = if trace {
            let readout = Readout::new(examples, batch.seq);
            let mut recorder = recorder(graph);
            let clean = model.forward_trace_at(&batch, &readout.rows, &mut recorder)?;
            (Some(clean), Blocks::recorded(recorder, model, graph)?)
        } else {
            (None, Blocks::run(model, graph, &batch)?)
        };
        Ok(Self {
            clean,
            differences: differences(setting, &outputs, examples)?,
        })
    }
}

/// ΔO = what ablated blocks write − what they write.
pub fn differences(
    setting: Setting<'_>,
    outputs: &Blocks,
    examples: &[&Example],
) -> anyhow::Result<Blocks> {
    match setting.plan.ablation {
        Ablation::Zero => outputs.negated(),
        Ablation::Corrupted => {
            let batch = corrupted_batch(examples)?;
            outputs.towards(&Blocks::run(setting.model, setting.graph, &batch)?)
        }
        Ablation::Mean | Ablation::MeanPositional => {
            let means = setting.means.context("a mean ablation needs means")?;
            let pairs = outputs.0.iter().zip(&means.0.0);
            let towards = pairs.map(|(from, to)| from.neg()?.broadcast_add(to));
            Ok(Blocks(towards.collect::<candle_core::Result<_>>()?))
        }
    }
}

/// Adds to one activation: how a block's output is put between ablated and clean.
#[derive(Debug)]
pub struct Shift {
    /// Where.
    pub hook: Hook,
    /// What, `[batch, seq, d_model]`.
    pub by: Tensor,
}

impl Shift {
    /// A block's output at a share of the way from ablated (0) to clean (1).
    pub fn new(
        setting: Setting<'_>,
        differences: &Blocks,
        block: usize,
        share: f64,
    ) -> anyhow::Result<Self> {
        let difference = &differences.0[block];
        let (hook, whole) = match layer_of(block) {
            Some((layer, true)) if setting.graph.heads.is_some() => {
                let (batch, seq, _) = difference.dims3()?;
                let whole = setting
                    .expansion
                    .together(layer, &difference.flatten(0, 1)?)?;
                let hook = Hook::new(Site::AttnOut, layer);
                (hook, whole.reshape((batch, seq, ()))?)
            }
            _ => (hook_of(setting.graph, block), difference.clone()),
        };
        Ok(Self {
            hook,
            by: (whole * (1.0 - share))?,
        })
    }
}

impl Tap for Shift {
    fn wants(&self, hook: Hook) -> bool {
        hook == self.hook
    }

    fn tap(&mut self, _: Hook, activation: Tensor) -> model::Result<Tensor> {
        Ok((activation + &self.by)?)
    }
}
