//! What the reverse pass may take for constant: the rules of `RelP` (arXiv 2508.21258), and outputs that are held.

use crate::config::Activation;
use crate::{Hook, Site, Trace, ops};
use candle_core::{Result, Tensor};

/// Parts of the computation through which no gradient flows. None by default: then the reverse pass is the gradient.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each rule is on or off by itself"
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// LN rule: the scale of every norm is constant.
    pub norms_constant: bool,
    /// Identity rule: act(x) counts as x times the constant act(x)/x.
    pub activations_linear: bool,
    /// Half rule: each factor of a gated product gets half of the gradient.
    pub products_halved: bool,
    /// AH rule: attention patterns are constant.
    pub attention_constant: bool,
}

impl Rules {
    /// The rules `RelP` uses unless told otherwise: all but constant attention patterns.
    pub const RELP: Self = Self {
        norms_constant: true,
        activations_linear: true,
        products_halved: true,
        attention_constant: false,
    };

    /// Back through an RMS norm; shapes as in [`ops::rms_norm_backward`].
    pub(crate) fn norm_backward(
        self,
        dy: &Tensor,
        x: &Tensor,
        gamma: &Tensor,
        scale: &Tensor,
    ) -> Result<Tensor> {
        if self.norms_constant {
            // With its scale constant the norm is linear, and its own reverse.
            return ops::rms_norm_again(dy, gamma, scale);
        }
        ops::rms_norm_backward(dy, x, gamma, scale)
    }

    /// Back through act(gate) ⊙ up: gradients by `gate` and `up [tokens, d_mlp]` from `dy`.
    pub(crate) fn gated_backward(
        self,
        activation: Activation,
        dy: &Tensor,
        gate: &Tensor,
        up: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (mut d_gate, mut d_up) = match activation {
            Activation::Silu => ops::swiglu_backward(dy, gate, up)?,
            Activation::GeluTanh => ops::geglu_backward(dy, gate, up)?,
        };
        if self.activations_linear {
            let share = match activation {
                Activation::Silu => (gate.neg()?.exp()? + 1.0)?.recip()?,
                Activation::GeluTanh => ops::gelu_share(gate)?,
            };
            d_gate = ((dy * up)? * share)?;
        }
        if self.products_halved {
            (d_gate, d_up) = ((d_gate * 0.5)?, (d_up * 0.5)?);
        }
        Ok((d_gate, d_up))
    }
}

impl Trace {
    /// The same trace, read by these rules.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The same trace with the output of a block's attention or MLP held: the tap put a constant in its place.
    #[must_use]
    pub fn holding(mut self, hook: Hook) -> Self {
        self.held = Some(hook);
        self
    }

    pub(crate) fn holds(&self, site: Site, layer: usize) -> bool {
        self.held == Some(Hook::new(site, layer))
    }

    /// Rows of `[tokens, width]` whose logits were made.
    pub(crate) fn picked(&self, x: Tensor) -> Result<Tensor> {
        match &self.rows {
            Some(rows) => x.index_select(rows, 0),
            None => Ok(x),
        }
    }

    /// Rows whose logits were made, put back among zeros: the reverse of [`Trace::picked`].
    pub(crate) fn spread(&self, dx: &Tensor) -> Result<Tensor> {
        match &self.rows {
            Some(rows) => self.last.zeros_like()?.index_add(rows, dx, 0),
            None => Ok(dx.clone()),
        }
    }
}
