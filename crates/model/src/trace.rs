//! What a forward pass leaves for the reverse pass.

use crate::rotary::Placed;
use crate::{Batch, Hook, Rules};
use candle_core::Tensor;

/// What a forward pass leaves for the reverse pass.
#[derive(Debug)]
pub struct Trace {
    pub(crate) batch: Batch,
    pub(crate) placed: Placed,
    pub(crate) layers: Vec<LayerTrace>,
    /// Input of the final norm, `[tokens, d_model]`, and the norm's scale `[tokens, 1]`.
    pub(crate) last: Tensor,
    pub(crate) last_scale: Tensor,
    /// Logits, where they are soft-capped.
    pub(crate) capped: Option<Tensor>,
    /// Rows of `[batch * seq]` whose logits were made; all of them when absent.
    pub(crate) rows: Option<Tensor>,
    /// What the reverse pass takes for constant.
    pub(crate) rules: Rules,
    /// A block's output that was held: nothing flows back through the block.
    pub(crate) held: Option<Hook>,
}

/// One block's share of a [`Trace`]; `tokens = batch * seq`.
#[derive(Debug)]
pub(crate) struct LayerTrace {
    /// Residual before the block, `[tokens, d_model]`.
    pub(crate) resid_pre: Tensor,
    /// Scale of the norm that reads it, `[tokens, 1]`.
    pub(crate) attention_scale: Option<Tensor>,
    /// Attention's output before its norm, `[tokens, d_model]`, and the norm's scale.
    pub(crate) attention_raw: Option<(Tensor, Tensor)>,
    /// Queries and keys before their norm, one row for each norm, and the norms' scales; for `qk_norm` models.
    pub(crate) raw_qk: Option<[(Tensor, Tensor); 2]>,
    /// Rotated queries and keys, and values, `[batch, seq, heads, d_head]`.
    pub(crate) q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
    /// `[tokens, n_heads * d_head]`
    pub(crate) z: Tensor,
    /// Residual between attention and MLP, `[tokens, d_model]`.
    pub(crate) resid_mid: Tensor,
    /// Scale of the norm that reads it, `[tokens, 1]`.
    pub(crate) mlp_scale: Option<Tensor>,
    /// The MLP's output before its norm, `[tokens, d_model]`, and the norm's scale.
    pub(crate) mlp_raw: Option<(Tensor, Tensor)>,
    /// `[tokens, d_mlp]`
    pub(crate) gate: Tensor,
    pub(crate) up: Tensor,
}
