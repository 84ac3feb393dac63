//! What a forward pass leaves for the reverse pass.

use crate::rotary::Placed;
use crate::transformer::Pass;
use crate::{Batch, Cache, Error, Hook, Model, Result, Rules, Tap, ops};
use candle_core::{DType, Tensor};
use kernels::Precision;
use std::ops::Range;

/// What a forward pass leaves for the reverse pass.
#[derive(Debug)]
pub struct Trace {
    pub(crate) batch: Batch,
    /// Position from which the last block ran: what it left of its queries, its MLP and `last` begins there.
    pub(crate) tail: usize,
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

/// What is kept of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOf {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// The first position whose logits will be read. Before it, the last block makes keys and values and nothing else: a tap
    /// sees that block's activations from there on.
    pub tail: usize,
}

impl TraceOf {
    /// All rows at all positions.
    pub fn whole(batch: &Batch) -> Self {
        Self {
            rows: 0..batch.batch,
            tail: 0,
        }
    }
}

impl Model {
    /// Runs the blocks of a batch and keeps what the reverse pass needs of some of its rows. Logits: [`Model::logits_at`].
    ///
    /// With a `prefix` (see [`Model::prefix`]) of as many rows, the batch goes on behind its positions, and so does the
    /// reverse pass: positions of the prefix are constants to it.
    pub fn trace_rows(
        &self,
        batch: &Batch,
        of: TraceOf,
        prefix: Option<&mut Cache>,
        tap: &mut dyn Tap,
    ) -> Result<Trace> {
        let offset = prefix.as_ref().map_or(0, |prefix| prefix.len);
        let TraceOf { rows: kept, tail } = of;
        let mut pass = Pass {
            cache: prefix,
            trace: Some(Vec::new()),
            kept: Some(kept.clone()),
            tail,
            ..Pass::default()
        };
        let last = self.blocks(batch, &mut pass, tap)?;
        let whole = Rows::of(&batch.behind(tail), offset);
        let last = whole.cut(&last, &kept, batch.seq - tail)?;
        let batch = batch.cut(&kept, batch.seq);
        Ok(Trace {
            offset,
            placed: self.rotary.place(&self.config, &batch, offset)?,
            layers: pass.trace.unwrap_or_default(),
            last_scale: self.final_norm.forward(&last)?.scale,
            last,
            batch,
            tail,
            capped: None,
            rows: None,
            rules: Rules::default(),
            held: None,
        })
    }

    /// Logits `[rows, vocab]` of some positions of a trace, each `row * seq + position`: the reverse pass of the trace
    /// then takes the gradient by them.
    ///
    /// # Errors
    /// At positions before those that were run.
    pub fn logits_at(&self, trace: &mut Trace, rows: &[u32]) -> Result<Tensor> {
        let rows = Tensor::new(trace.behind(rows)?, &self.device)?;
        let logits = self.logits_of(&trace.last.index_select(&rows, 0)?)?;
        trace.rows = Some(rows);
        trace.capped = self.config.form.logit_softcap.map(|_| logits.clone());
        Ok(logits)
    }

    /// What is kept of a block's share: of some rows of the batch, rounded where products of `bf16` round it anyway.
    pub(crate) fn remembered(
        &self,
        mut share: LayerTrace,
        (whole, tail, kept): (&Rows, usize, Option<&Range<usize>>),
        seq: usize,
    ) -> Result<LayerTrace> {
        if self.precision == Precision::Bf16 && self.dtype == DType::F32 && self.device.is_cpu() {
            share = share.rounded()?;
        }
        match kept {
            Some(kept) => share.part((whole, tail), kept, seq),
            None => Ok(share),
        }
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
        let own = Rows::of(&self.batch.behind(self.tail), self.offset);
        let batch = self.batch.cut(rows, seq);
        let layers = self.layers.iter().enumerate();
        Ok(Self {
            placed: model.rotary.place(&model.config, &batch, self.offset)?,
            layers: layers
                .map(|(index, layer)| layer.part((&whole, self.tail_of(index)), rows, seq))
                .collect::<Result<_>>()?,
            last: own.cut(&self.last, rows, seq - self.tail)?,
            last_scale: own.cut(&self.last_scale, rows, seq - self.tail)?,
            batch,
            tail: self.tail,
            offset: self.offset,
            capped: None,
            rows: None,
            rules: self.rules,
            held: self.held,
        })
    }
}

impl Trace {
    /// Position from which a block ran.
    pub(crate) fn tail_of(&self, index: usize) -> usize {
        if index + 1 == self.layers.len() {
            self.tail
        } else {
            0
        }
    }

    /// Places `row * seq + position` among those that the last block ran at.
    fn behind(&self, rows: &[u32]) -> Result<Vec<u32>> {
        let (seq, tail) = (self.batch.seq, self.tail);
        let place = |&place: &u32| {
            let (row, position) = (place as usize / seq, place as usize % seq);
            let own = position.checked_sub(tail);
            own.map(|own| (row * (seq - tail) + own) as u32)
        };
        let places: Option<Vec<u32>> = rows.iter().map(place).collect();
        places.ok_or_else(|| Error::Argument(format!("the last block ran from position {tail} on")))
    }

    /// What the last block left, `[batch * (seq - tail), width]`, with zeros before it: `[batch * seq, width]`.
    pub(crate) fn padded(&self, x: &Tensor, tail: usize) -> Result<Tensor> {
        if tail == 0 {
            return Ok(x.clone());
        }
        let apart = x.reshape((self.batch.batch, self.batch.seq - tail, ()))?;
        Ok(apart.pad_with_zeros(1, tail, 0)?.flatten(0, 1)?)
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

    /// Positions from `tail` on, of a tensor whose first dimension counts tokens.
    pub(crate) fn behind(&self, x: &Tensor, tail: usize) -> Result<Tensor> {
        if tail == 0 {
            return Ok(x.clone());
        }
        let apart = x.reshape((self.batch, self.seq, ()))?;
        let own = apart.narrow(1, tail, self.seq - tail)?;
        Ok(own.force_contiguous()?.flatten(0, 1)?)
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
    /// Some rows of the batch up to some position, of a block that ran from `tail` on.
    pub(crate) fn part(
        &self,
        (whole, tail): (&Rows, usize),
        rows: &Range<usize>,
        seq: usize,
    ) -> Result<Self> {
        let ran = Rows {
            seq: whole.seq - tail,
            ..*whole
        };
        let all = |x: &Tensor| whole.cut(x, rows, seq);
        let cut = |x: &Tensor| ran.cut(x, rows, seq - tail);
        let optional = |x: &Option<Tensor>| x.as_ref().map(cut).transpose();
        let pair = |(x, scale): &(Tensor, Tensor)| -> Result<_> { Ok((cut(x)?, cut(scale)?)) };
        Ok(Self {
            resid_pre: all(&self.resid_pre)?,
            attention_scale: self.attention_scale.as_ref().map(all).transpose()?,
            attention_raw: self.attention_raw.as_ref().map(pair).transpose()?,
            raw_qk: match &self.raw_qk {
                Some([q, (k, scale)]) => Some([pair(q)?, (all(k)?, all(scale)?)]),
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

impl LayerTrace {
    /// The same with what the products of the reverse pass read, or are read by, in `bf16`.
    pub(crate) fn rounded(self) -> Result<Self> {
        Ok(Self {
            q: ops::rounded(&self.q)?,
            k: ops::rounded(&self.k)?,
            v: ops::rounded(&self.v)?,
            z: ops::rounded(&self.z)?,
            gate: ops::rounded(&self.gate)?,
            up: ops::rounded(&self.up)?,
            ..self
        })
    }
}

/// One block's share of a [`Trace`]; `tokens = batch * seq`. Of the last block, all but `resid_pre`, its scale, keys and values
/// are of the positions from the trace's `tail` on. Queries, keys, values, `z`, `gate` and `up` are in `bf16` where that is
/// multiplied ([`Model::remembered`]).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Loading;
    use candle_core::Device;
    use std::path::Path;

    #[test]
    fn products_of_bf16_leave_half_the_bytes_of_what_they_read() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen3");
        let batch = Batch::right_padded(&[vec![3, 7, 1], vec![5, 6, 8]], 0);
        for (precision, dtype) in [(Precision::F32, DType::F32), (Precision::Bf16, DType::BF16)] {
            let loading = Loading {
                precision,
                ..Loading::new(DType::F32)
            };
            let model = Model::load_with(&golden, &Device::Cpu, loading).expect("a golden model");
            let trace = model.trace_rows(&batch, TraceOf::whole(&batch), None, &mut ());
            for layer in trace.expect("a pass").layers {
                let read = [
                    &layer.q,
                    &layer.k,
                    &layer.v,
                    &layer.z,
                    &layer.gate,
                    &layer.up,
                ];
                assert!(read.iter().all(|x| x.dtype() == dtype), "{precision:?}");
                assert_eq!(layer.resid_mid.dtype(), DType::F32);
            }
        }
    }
}
