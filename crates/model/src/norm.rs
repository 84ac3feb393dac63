//! The norms of a block, with γ as the file stores it.

use crate::ops::{self, Normed};
use crate::{Config, Rules};
use candle_core::{Result, Tensor};

/// An RMS norm.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    /// γ, or γ − 1 where `offset`: `[width]`.
    pub(crate) weight: Tensor,
    /// Whether 1 is added to the weight (Gemma).
    pub(crate) offset: bool,
    pub(crate) epsilon: f64,
}

impl Norm {
    pub(crate) fn new(weight: Tensor, config: &Config) -> Self {
        Self {
            weight,
            offset: config.form.norm_offset,
            epsilon: config.rms_norm_eps,
        }
    }

    /// γ, `[width]`.
    pub(crate) fn gamma(&self) -> Result<Tensor> {
        if self.offset {
            &self.weight + 1.0
        } else {
            Ok(self.weight.clone())
        }
    }

    /// `x [tokens, width]` → the same, and the scale.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Normed> {
        ops::rms_norm(x, &self.gamma()?, self.epsilon)
    }

    /// Repeats [`Norm::forward`] with its known scale.
    pub(crate) fn again(&self, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
        ops::rms_norm_again(x, &self.gamma()?, scale)
    }

    /// Gradient by the input, under `rules`.
    pub(crate) fn backward(
        &self,
        rules: Rules,
        dy: &Tensor,
        x: &Tensor,
        scale: &Tensor,
    ) -> Result<Tensor> {
        rules.norm_backward(dy, x, &self.gamma()?, scale)
    }
}

/// `x` normed where there is a norm, with its scale `[tokens, 1]`; `x` itself where there is none.
pub(crate) fn normed(norm: Option<&Norm>, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
    match norm {
        Some(norm) => norm.forward(x).map(|normed| (normed.y, Some(normed.scale))),
        None => Ok((x.clone(), None)),
    }
}

/// An input of a norm with what its reverse needs: `[tokens, width]` and `[tokens, 1]`, which is absent without a norm.
pub(crate) type Read<'a> = (&'a Tensor, Option<&'a Tensor>);

/// Repeats [`normed`].
pub(crate) fn normed_again(norm: Option<&Norm>, (x, scale): Read<'_>) -> Result<Tensor> {
    match norm.zip(scale) {
        Some((norm, scale)) => norm.again(x, scale),
        None => Ok(x.clone()),
    }
}

/// Gradient of [`normed`] by its input, under `rules`.
pub(crate) fn normed_backward(
    norm: Option<&Norm>,
    rules: Rules,
    dy: &Tensor,
    (x, scale): Read<'_>,
) -> Result<Tensor> {
    match norm.zip(scale) {
        Some((norm, scale)) => norm.backward(rules, dy, x, scale),
        None => Ok(dy.clone()),
    }
}
