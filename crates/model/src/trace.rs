//! What a forward pass leaves for the reverse pass.

use crate::rotary::Placed;
use crate::transformer::Pass;
use crate::{Batch, Cache, Hook, Model, Result, Rules, Tap};
use candle_core::Tensor;
use std::ops::Range;

/// What a forward pass leaves for the reverse pass.
#[derive(Debug)]
pub struct Trace {
    pub(crate) batch: Batch,
    /// Positions before the first of the batch, whose keys and values are in the layers.
    pub(crate) offset: usize,
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

impl Model {
    /// Runs the blocks of a batch and keeps what the reverse pass needs of some of its rows. Logits: [`Model::logits_at`].
    ///
    /// With a `prefix` (see [`Model::prefix`]) of as many rows, the batch goes on behind its positions, and so does the
    /// reverse pass: positions of the prefix are constants to it.
    pub fn trace_rows(
        &self,
        batch: &Batch,
        kept: Range<usize>,
        prefix: Option<&mut Cache>,
        tap: &mut dyn Tap,
    ) -> Result<Trace> {
        let offset = prefix.as_ref().map_or(0, |prefix| prefix.len);
        let mut pass = Pass {
            cache: prefix,
            trace: Some(Vec::new()),
            kept: Some(kept.clone()),
            ..Pass::default()
        };
        let last = self.blocks(batch, &mut pass, tap)?;
        let whole = Rows::of(batch, offset);
        let last = whole.cut(&last, &kept, batch.seq)?;
        let batch = batch.cut(&kept, batch.seq);
        Ok(Trace {
            offset,
            placed: self.rotary.place(&self.config, &batch, offset)?,
            layers: pass.trace.unwrap_or_default(),
            last_scale: self.final_norm.forward(&last)?.scale,
            last,
            batch,
            capped: None,
            rows: None,
            rules: Rules::default(),
            held: None,
        })
    }

    /// Logits `[rows, vocab]` of some positions of a trace, each `row * seq + position`: the reverse pass of the trace
    /// then takes the gradient by them.
    pub fn logits_at(&self, trace: &mut Trace, rows: &[u32]) -> Result<Tensor> {
        let rows = Tensor::new(rows, &self.device)?;
        let logits = self.logits_of(&trace.last.index_select(&rows, 0)?)?;
        trace.rows = Some(rows);
        trace.capped = self.config.form.logit_softcap.map(|_| logits.clone());
        Ok(logits)
    }

    /// Keys and values of the first positions of several sequences, with room for `more` behind them.
    ///
    /// # Errors
    /// When there is no position.
    pub fn prefix(&self, batch: &Batch, more: usize) -> Result<Cache> {
        let mut cache = self.new_cache(batch.batch, batch.seq + more)?;
        self.advance(batch, &mut cache, &mut ())?;
        Ok(cache)
    }
}

impl Trace {
    /// Some rows of the batch up to some position: what a pass over those alone would have left, but for its logits.
    ///
    /// Rotations that depend on the length of a sequence must not: see `Config::rotation_changes_after`.
    pub fn part(&self, model: &Model, rows: &Range<usize>, seq: usize) -> Result<Self> {
        let whole = Rows::of(&self.batch, self.offset);
        let batch = self.batch.cut(rows, seq);
        let layers = self.layers.iter();
        Ok(Self {
            placed: model.rotary.place(&model.config, &batch, self.offset)?,
            layers: layers
                .map(|layer| layer.part(&whole, rows, seq))
                .collect::<Result<_>>()?,
            last: whole.cut(&self.last, rows, seq)?,
            last_scale: whole.cut(&self.last_scale, rows, seq)?,
            batch,
            offset: self.offset,
            capped: None,
            rows: None,
            rules: self.rules,
            held: self.held,
        })
    }
}

/// How the tokens of a batch lie in tensors.
pub(crate) struct Rows {
    batch: usize,
    seq: usize,
    offset: usize,
}

impl Rows {
    pub(crate) fn of(batch: &Batch, offset: usize) -> Self {
        Self {
            batch: batch.batch,
            seq: batch.seq,
            offset,
        }
    }

    /// Rows of the batch up to some position, of a tensor whose first dimension counts tokens, or pieces of them.
    fn cut(&self, x: &Tensor, rows: &Range<usize>, seq: usize) -> Result<Tensor> {
        self.pieces(x, rows, (self.seq, seq))
    }

    /// The same of keys or values, which begin before the batch.
    fn cut_keys(&self, x: &Tensor, rows: &Range<usize>, seq: usize) -> Result<Tensor> {
        self.pieces(x, rows, (self.offset + self.seq, self.offset + seq))
    }

    fn pieces(
        &self,
        x: &Tensor,
        rows: &Range<usize>,
        (from, to): (usize, usize),
    ) -> Result<Tensor> {
        if *rows == (0..self.batch) && from == to {
            return Ok(x.clone());
        }
        let mut shape = x.dims().to_vec();
        let apart = x.reshape((self.batch, from, ()))?;
        let part = apart.narrow(0, rows.start, rows.len())?.narrow(1, 0, to)?;
        if shape[0] == self.batch && shape.len() == 4 {
            (shape[0], shape[1]) = (rows.len(), to);
        } else {
            shape[0] = shape[0] / (self.batch * from) * rows.len() * to;
        }
        // A copy: a view would keep the memory of the whole.
        Ok(part.force_contiguous()?.reshape(shape)?)
    }
}

impl LayerTrace {
    /// Some rows of the batch up to some position.
    pub(crate) fn part(&self, whole: &Rows, rows: &Range<usize>, seq: usize) -> Result<Self> {
        let cut = |x: &Tensor| whole.cut(x, rows, seq);
        let optional = |x: &Option<Tensor>| x.as_ref().map(cut).transpose();
        let pair = |(x, scale): &(Tensor, Tensor)| -> Result<_> { Ok((cut(x)?, cut(scale)?)) };
        Ok(Self {
            resid_pre: cut(&self.resid_pre)?,
            attention_scale: optional(&self.attention_scale)?,
            attention_raw: self.attention_raw.as_ref().map(pair).transpose()?,
            raw_qk: match &self.raw_qk {
                Some([q, k]) => Some([pair(q)?, pair(k)?]),
                None => None,
            },
            q: cut(&self.q)?,
            k: whole.cut_keys(&self.k, rows, seq)?,
            v: whole.cut_keys(&self.v, rows, seq)?,
            z: cut(&self.z)?,
            resid_mid: cut(&self.resid_mid)?,
            mlp_scale: optional(&self.mlp_scale)?,
            mlp_raw: self.mlp_raw.as_ref().map(pair).transpose()?,
            gate: cut(&self.gate)?,
            up: cut(&self.up)?,
        })
    }
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
    /// Rotated queries, `[batch, seq, n_heads, d_head]`; rotated keys, and values, `[batch, offset + seq, n_kv_heads,
    /// d_head]`.
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
