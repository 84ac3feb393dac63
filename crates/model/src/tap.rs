//! Taps: whoever wants to see, or replace, an activation on its way.

use crate::{Batch, HeadGradients, Hook, Result, Target};
use candle_core::Tensor;
use kernels::KeyGradients;
use std::collections::BTreeMap;

/// Sees, and may replace, activations of the forward pass. The identity unless told otherwise.
pub trait Tap {
    /// The tokens about to be processed: the whole batch, or the prompts first and then one token a decoding step.
    fn begin(&mut self, batch: &Batch) -> Result<()> {
        let _ = batch;
        Ok(())
    }

    /// Whether this hook is to be shown. A hook nobody wants costs nothing.
    fn wants(&self, hook: Hook) -> bool;

    /// Returns what the rest of the forward pass reads: the shape of the hook's [`crate::Site`].
    fn tap(&mut self, hook: Hook, activation: Tensor) -> Result<Tensor>;
}

/// No tap.
impl Tap for () {
    fn wants(&self, _: Hook) -> bool {
        false
    }

    fn tap(&mut self, _: Hook, activation: Tensor) -> Result<Tensor> {
        Ok(activation)
    }
}

/// Keeps what it sees.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The hooks to keep.
    pub hooks: Vec<Hook>,
    /// What was kept; a later pass overwrites an earlier one.
    pub activations: BTreeMap<Hook, Tensor>,
}

impl Recorder {
    /// Keeps these hooks.
    pub fn new(hooks: impl IntoIterator<Item = Hook>) -> Self {
        Self {
            hooks: hooks.into_iter().collect(),
            activations: BTreeMap::new(),
        }
    }
}

impl Tap for Recorder {
    fn wants(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook)
    }

    fn tap(&mut self, hook: Hook, activation: Tensor) -> Result<Tensor> {
        self.activations.insert(hook, activation.clone());
        Ok(activation)
    }
}

/// Sees gradients of the reverse pass.
pub trait GradientTap {
    /// Whether this target is to be shown. A target nobody wants costs nothing.
    fn wants(&self, target: Target) -> bool;

    /// `gradient [batch, seq, d_model]`: of the loss by the residual stream as this target reads it, before its norm.
    fn gradient(&mut self, target: Target, gradient: Tensor) -> Result<()>;

    /// Whether the gradients of single heads are to be shown, and whether those by keys and values that query heads share are
    /// to be told apart. They cost nothing unless somebody wants them.
    fn wants_heads(&self) -> Option<KeyGradients> {
        None
    }

    /// Gradients by the queries, keys and values of a block, head by head: shown before the block's targets.
    fn heads(&mut self, layer: usize, gradients: HeadGradients) -> Result<()> {
        let _ = (layer, gradients);
        Ok(())
    }
}

/// No tap.
impl GradientTap for () {
    fn wants(&self, _: Target) -> bool {
        false
    }

    fn gradient(&mut self, _: Target, _: Tensor) -> Result<()> {
        Ok(())
    }
}
