//! The runs a method needs: clean, ablated, and in between.

use std::ops::Range;

use anyhow::{Context, ensure};
use candle_core::{DType, Device, Tensor};
use model::{Batch, Cache, Hook, Model, Site, Tap, Trace, TraceOf};

use crate::{
    blocks::{Blocks, from_start, hook_of, layer_of, recorder},
    example::Example,
    expand::Expansion,
    graph::Graph,
    method::{Ablation, Plan},
};

/// The clean sequences side by side.
pub fn clean_batch(examples: &[&Example]) -> Batch {
    // Padding comes after every token that counts: no position that counts can see it.
    Batch::right_padded(&clean_tokens(examples, 0), 0)
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
                let block = block.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
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
        let means = sums.unwrap_or_default().into_iter().map(|sum| {
            (sum / n as f64)?
                .to_dtype(model.dtype())?
                .to_device(model.device())
        });
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

/// The clean run, what ablating each block would change in it, and where its passes begin.
#[derive(Debug)]
pub struct Run {
    /// Position from which the sequences are run; the tensors below begin there.
    pub start: usize,
    /// Position behind `start` from which the last layer runs: what it leaves before that is 0.
    tail: usize,
    /// Keys and values of the positions before it.
    prefix: Option<Cache>,
    /// Trace of the clean run, when asked for.
    pub clean: Option<Trace>,
    /// Trace of the corrupted run, when asked for.
    pub corrupted: Option<Trace>,
    /// Residuals after the last block of the clean run, `[batch * seq, d_model]`.
    pub last: Tensor,
    /// ΔO of every block.
    pub differences: Blocks,
}

/// Which traces a run leaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Of the clean sequences.
    pub clean: bool,
    /// Of the corrupted ones.
    pub corrupted: bool,
    /// The first position of the sequences whose logits a loss reads: before it, the last layer makes keys and values alone.
    pub read_from: usize,
}

impl Wanted {
    /// Rows whose trace is kept, of `n` clean sequences and the corrupted ones below them, if they run at all.
    fn rows(self, n: usize, corrupted: bool) -> Option<Range<usize>> {
        match (self.clean, self.corrupted && corrupted) {
            (true, true) => Some(0..2 * n),
            (true, false) => Some(0..n),
            (false, true) => Some(n..2 * n),
            (false, false) => None,
        }
    }
}

/// Tokens of a batch below which passes begin at the first position: a pass costs as much as some tens of them.
const WORTHWHILE: usize = 32;

impl Run {
    /// Runs the clean sequences, and the corrupted ones beside them when they are the ablation.
    ///
    /// Before the first token at which any pair of the batch differs, and before which no loss reads, nothing is run twice:
    /// all runs are the same there.
    pub fn new(
        setting: Setting<'_>,
        examples: &[&Example],
        wanted: Wanted,
    ) -> anyhow::Result<Self> {
        let model = setting.model;
        let start = start(setting, examples);
        let mut prefix = prefix(model, examples, start)?;
        let n = examples.len();
        let corrupted = setting.plan.ablation == Ablation::Corrupted;
        let batch = if corrupted {
            let beside = corrupted_tokens(examples, start)?;
            Batch::right_padded(&[clean_tokens(examples, start), beside].concat(), 0)
        } else {
            Batch::right_padded(&clean_tokens(examples, start), 0)
        };
        let mut both = match &prefix {
            Some(prefix) if corrupted => Some(prefix.repeated(batch.batch, start + batch.seq)?),
            _ => None,
        };
        let shown = if both.is_some() {
            both.as_mut()
        } else {
            prefix.as_mut()
        };
        let mut recorder = recorder(setting.graph);
        let last = Hook::new(Site::ResidPost, setting.graph.n_layers - 1);
        recorder.hooks.push(last);
        let kept = wanted.rows(n, corrupted);
        let tail = wanted.read_from.saturating_sub(start);
        let trace = if let Some(kept) = &kept {
            let rows = kept.clone();
            Some(model.trace_rows(&batch, TraceOf { rows, tail }, shown, &mut recorder)?)
        } else {
            model.forward_behind(shown, &batch, last, &mut recorder)?;
            None
        };
        let (clean_trace, corrupted_trace) = match (trace, wanted.clean) {
            (Some(trace), true) if wanted.corrupted && corrupted => {
                let part = |rows| trace.part(model, &rows, batch.seq);
                (Some(part(0..n)?), Some(part(n..2 * n)?))
            }
            (trace, true) => (trace, None),
            (trace, false) => (None, trace),
        };
        let shown = recorder.activations.remove(&last);
        let shown = shown.context("the model did not show its last residual")?;
        let shown = from_start(shown, batch.seq)?;
        let outputs = Blocks::recorded(recorder, model, setting.graph)?;
        let differences = if corrupted {
            outputs.rows(0..n)?.towards(&outputs.rows(n..2 * n)?)?
        } else {
            without_pairs(setting, &outputs)?
        };
        Ok(Self {
            start,
            tail,
            prefix,
            clean: clean_trace,
            corrupted: corrupted_trace,
            last: shown.narrow(0, 0, n)?.flatten(0, 1)?,
            differences,
        })
    }

    /// Another run of the clean sequences with its trace.
    pub fn again(
        &mut self,
        model: &Model,
        examples: &[&Example],
        tap: &mut dyn Tap,
    ) -> anyhow::Result<Trace> {
        let batch = Batch::right_padded(&clean_tokens(examples, self.start), 0);
        let of = TraceOf {
            tail: self.tail,
            ..TraceOf::whole(&batch)
        };
        Ok(model.trace_rows(&batch, of, self.prefix.as_mut(), tap)?)
    }
}

/// The first position that any run of the batch may see changed, or whose logits a loss reads.
fn start(setting: Setting<'_>, examples: &[&Example]) -> usize {
    let changes = setting.model.config.rotation_changes_after().is_some();
    if setting.plan.ablation != Ablation::Corrupted || changes {
        return 0;
    }
    let of_example = |example: &&Example| {
        let read = example.positions_read().into_iter().min();
        example.differing().start.min(read.unwrap_or(0))
    };
    let first = examples.iter().map(of_example).min().unwrap_or(0);
    if first * examples.len() < WORTHWHILE {
        0
    } else {
        first
    }
}

fn prefix(model: &Model, examples: &[&Example], start: usize) -> anyhow::Result<Option<Cache>> {
    if start == 0 {
        return Ok(None);
    }
    let tokens: Vec<Vec<u32>> = examples
        .iter()
        .map(|example| example.tokens[..start].to_vec())
        .collect();
    let longest = examples.iter().map(|example| example.tokens.len()).max();
    let more = longest.unwrap_or(start) - start;
    Ok(Some(model.prefix(&Batch::right_padded(&tokens, 0), more)?))
}

fn clean_tokens(examples: &[&Example], start: usize) -> Vec<Vec<u32>> {
    let tokens = examples.iter();
    tokens
        .map(|example| example.tokens[start..].to_vec())
        .collect()
}

fn corrupted_tokens(examples: &[&Example], start: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    let tokens = examples.iter().map(|example| {
        let corrupted = example.corrupted.as_ref();
        let corrupted = corrupted.context("an example has no corrupted tokens")?;
        Ok(corrupted[start..].to_vec())
    });
    tokens.collect()
}

/// ΔO = what ablated blocks write − what they write, from the first position on.
pub fn differences(
    setting: Setting<'_>,
    outputs: &Blocks,
    examples: &[&Example],
) -> anyhow::Result<Blocks> {
    if setting.plan.ablation == Ablation::Corrupted {
        let batch = Batch::right_padded(&corrupted_tokens(examples, 0)?, 0);
        return outputs.towards(&Blocks::run(setting.model, setting.graph, &batch)?);
    }
    without_pairs(setting, outputs)
}

/// The same for ablations that need no corrupted run.
fn without_pairs(setting: Setting<'_>, outputs: &Blocks) -> anyhow::Result<Blocks> {
    match setting.plan.ablation {
        Ablation::Corrupted => anyhow::bail!("a corrupted ablation needs corrupted sequences"),
        Ablation::Zero => outputs.negated(),
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
        let (own, whole) = (activation.dim(1)?, self.by.dim(1)?);
        Ok((activation + self.by.narrow(1, whole - own, own)?)?)
    }
}
