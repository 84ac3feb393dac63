//! The forward pass: one, with taps.

use crate::config::Activation;
use crate::norm::{Norm, normed};
use crate::ops::{self, AttentionShape, Turn};
use crate::packed::Packed;
use crate::rotary::{Placed, Rotary};
use crate::storage::{Linear, Weight};
use crate::{Batch, Cache, Config, Error, Hook, Result, Site, Tap};
use candle_core::{DType, Device, Tensor};

pub use crate::trace::Trace;
pub(crate) use crate::trace::{LayerTrace, Rows, TraceOf};
use kernels::Precision;
use std::borrow::Cow;

/// A decoder-only transformer with its weights.
#[derive(Debug, Clone)]
pub struct Model {
    /// What its `config.json` says.
    pub config: Config,
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    /// `[vocab, d_model]`
    pub(crate) embed: Weight,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Norm,
    /// `[vocab, d_model]`; absent when tied to the embedding.
    pub(crate) unembed: Option<Weight>,
    pub(crate) rotary: Rotary,
    /// What linear layers multiply.
    pub(crate) precision: Precision,
}

/// One block's weights.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Of what attention reads, of what it adds, of what the MLP reads and adds; where the architecture has them.
    pub(crate) attention_norm: Option<Norm>,
    pub(crate) attention_after: Option<Norm>,
    pub(crate) mlp_norm: Option<Norm>,
    pub(crate) mlp_after: Option<Norm>,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    /// Of the queries and of the keys: over each head, or over all of them.
    pub(crate) qk_norm: Option<(Norm, Norm)>,
    pub(crate) o: Linear,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// How a pass runs: what it remembers, and where it may stop.
#[derive(Default)]
pub(crate) struct Pass<'a> {
    pub(crate) cache: Option<&'a mut Cache>,
    pub(crate) trace: Option<Vec<LayerTrace>>,
    /// Rows of the batch whose trace is kept; all when absent.
    pub(crate) kept: Option<std::ops::Range<usize>>,
    /// Stop where this was shown; nothing after it is computed.
    pub(crate) until: Option<Hook>,
    /// Position from which the last block's output is needed: before it, that block makes keys and values alone.
    pub(crate) tail: usize,
    /// What is computed of the batch; everything when absent. Without a tap, a trace or an end before the last block.
    pub(crate) packed: Option<Packed>,
}

impl Pass<'_> {
    /// Heads as attention reads them: `[tokens, n, d_head]` → `[batch, seq, n, d_head]`.
    fn heads(&self, x: &Tensor, batch: &Batch, n: usize) -> Result<Tensor> {
        let x = match &self.packed {
            Some(packed) => packed.spread(&x.flatten_from(1)?)?,
            None => x.clone(),
        };
        Ok(x.reshape((batch.batch, batch.seq, n, ()))?)
    }

    /// What a block goes on with after attention: its input and what its heads have read, where they are computed.
    fn after_heads(&self, resid: Tensor, z: Tensor, is_last: bool) -> Result<(Tensor, Tensor)> {
        let Some(packed) = &self.packed else {
            return Ok((resid, z));
        };
        let z = packed.gather(&z)?;
        if is_last {
            Ok((packed.last(&resid)?, packed.last(&z)?))
        } else {
            Ok((resid, z))
        }
    }
}

impl Model {
    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the weights are computed in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Logits `[batch, seq, vocab]` of every position.
    pub fn forward(&self, batch: &Batch, tap: &mut dyn Tap) -> Result<Tensor> {
        let resid = self.blocks(batch, &mut Pass::default(), tap)?;
        self.logits(&resid, batch, tap)
    }

    /// Runs what `tap` needs and stops after `last`; nothing is returned but what the tap saw.
    pub fn forward_until(&self, batch: &Batch, last: Hook, tap: &mut dyn Tap) -> Result<()> {
        if last.site == Site::Logits {
            return self.forward(batch, tap).map(drop);
        }
        self.forward_behind(None, batch, last, tap)
    }

    /// The same behind the positions of a prefix of as many rows, up to a hook before the logits.
    pub fn forward_behind(
        &self,
        prefix: Option<&mut Cache>,
        batch: &Batch,
        last: Hook,
        tap: &mut dyn Tap,
    ) -> Result<()> {
        let mut pass = Pass {
            cache: prefix,
            until: Some(last),
            ..Pass::default()
        };
        self.blocks(batch, &mut pass, tap).map(drop)
    }

    /// Logits `[batch, seq, vocab]` and what the reverse pass needs.
    pub fn forward_trace(&self, batch: &Batch, tap: &mut dyn Tap) -> Result<(Tensor, Trace)> {
        let (normed, mut trace) = self.traced(batch, tap)?;
        let logits = self.logits_of_normed(&normed)?;
        trace.capped = self.config.form.logit_softcap.map(|_| logits.clone());
        Ok((self.shown_logits(logits, batch, tap)?, trace))
    }

    /// Logits `[rows, vocab]` of some positions only, each `row * seq + position`, and what the reverse pass needs.
    ///
    /// The reverse pass of such a trace takes the gradient by these logits. They are not shown to the tap.
    pub fn forward_trace_at(
        &self,
        batch: &Batch,
        rows: &[u32],
        tap: &mut dyn Tap,
    ) -> Result<(Tensor, Trace)> {
        let mut trace = self.trace_rows(batch, TraceOf::whole(batch), None, tap)?;
        Ok((self.logits_at(&mut trace, rows)?, trace))
    }

    /// The blocks with their trace, and the output of the final norm, `[tokens, d_model]`.
    pub(crate) fn traced(&self, batch: &Batch, tap: &mut dyn Tap) -> Result<(Tensor, Trace)> {
        let trace = self.trace_rows(batch, TraceOf::whole(batch), None, tap)?;
        Ok((
            self.final_norm.again(&trace.last, &trace.last_scale)?,
            trace,
        ))
    }

    /// Residual stream after the last block, `[tokens, d_model]`.
    pub(crate) fn residual(&self, batch: &Batch, tap: &mut dyn Tap) -> Result<Tensor> {
        self.blocks(batch, &mut Pass::default(), tap)
    }

    /// Residual stream after the last block that runs, `[tokens, d_model]`.
    pub(crate) fn blocks(
        &self,
        batch: &Batch,
        pass: &mut Pass<'_>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        batch.check(self.config.vocab)?;
        let n_layers = self.config.n_layers;
        let needed = pass.until.map_or(n_layers, |last| last.blocks(n_layers));
        if needed > self.layers.len() {
            return Err(Error::Argument(format!(
                "a pass through {needed} blocks in a model loaded with {}",
                self.layers.len()
            )));
        }
        tap.begin(batch)?;
        let offset = pass.cache.as_ref().map_or(0, |cache| cache.len);
        let starts = match &pass.cache {
            Some(cache) => cache.starts.clone(),
            None => batch.starts.clone(),
        };
        let rows = Batch {
            starts,
            ..batch.clone()
        };
        let mut placed = self.rotary.place(&self.config, &rows, offset)?;
        let mut ids = Cow::Borrowed(&batch.token_ids);
        if let Some(packed) = &pass.packed {
            placed = packed.place(placed);
            ids = Cow::Owned(packed.ids(batch));
        }
        let embedded = ops::embedding(&self.embed, &ids, self.dtype, &self.device)?;
        let embed = match self.config.form.embedding_scale {
            Some(scale) => (embedded * scale)?,
            None => embedded,
        };
        let at = Hook::new(Site::Embed, 0);
        let mut resid = tapped(tap, at, embed, batch)?;
        if pass.until == Some(at) {
            return Ok(resid);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            resid = self.block(layer, index, resid, (&rows, &placed), pass, tap)?;
            if pass.until.is_some_and(|last| last.layer == index) {
                break;
            }
        }
        Ok(resid)
    }

    /// One block: `resid [tokens, d_model]` → the same shape; what there is where the pass stops within the block.
    #[expect(
        clippy::too_many_arguments,
        reason = "a pass has one place, one memory and one tap"
    )]
    #[expect(
        clippy::too_many_lines,
        reason = "the forward pass reads top to bottom"
    )]
    pub(crate) fn block(
        &self,
        layer: &Layer,
        index: usize,
        resid: Tensor,
        (batch, placed): (&Batch, &Placed),
        pass: &mut Pass<'_>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let config = &self.config;
        let at = |site| Hook::new(site, index);

        // 1. Norm and projections: [tokens, d_model] → [tokens, heads * d_head]
        let resid_pre = tapped(tap, at(Site::ResidPre), resid, batch)?;
        if pass.until == Some(at(Site::ResidPre)) {
            return Ok(resid_pre);
        }
        let (y, attention_scale) = normed(layer.attention_norm.as_ref(), &resid_pre)?;
        let is_last = index + 1 == config.n_layers;
        let tail = if is_last { pass.tail } else { 0 };
        // From here on `own` are the positions that go on; keys and values are those of all.
        let cut = (tail > 0).then(|| (batch.behind(tail), placed.behind(batch.batch, tail)));
        let (own, placed_own) = cut
            .as_ref()
            .map_or((batch, placed), |(own, placed)| (own, placed));
        let behind = |x: Tensor| Rows::of(batch, 0).behind(&x, tail);
        let [q, k, v] = if tail == 0 {
            Linear::all([&layer.q, &layer.k, &layer.v], &y)?
        } else {
            let [k, v] = Linear::all([&layer.k, &layer.v], &y)?;
            [layer.q.forward(&behind(y)?)?, k, v]
        };
        let resid_own = behind(resid_pre.clone())?;

        // 2. Norm of queries and keys, and rotation
        let norms = layer.qk_norm.as_ref();
        let rope = (placed_own, index);
        let (q, raw_q) =
            self.placed_heads(&q, norms.map(|norms| &norms.0), config.n_heads, rope)?;
        let rope = (placed, index);
        let (k, raw_k) =
            self.placed_heads(&k, norms.map(|norms| &norms.1), config.n_kv_heads, rope)?;
        let (q, k, v) = (
            pass.heads(&q, own, config.n_heads)?,
            pass.heads(&k, batch, config.n_kv_heads)?,
            pass.heads(&v, batch, config.n_kv_heads)?,
        );

        // 3. Attention over what is cached and what is new
        let offset = pass.cache.as_ref().map_or(0, |cache| cache.len);
        let (keys, values) = match &pass.cache {
            Some(cache) => cache.append(index, &k, &v)?,
            None => (k.clone(), v.clone()),
        };
        let shape = self.attention_shape(index, offset + tail, &batch.starts);
        let z = ops::attention(&q, &keys, &values, shape)?;
        let z = tapped(tap, at(Site::Z), z, own)?;
        let (resid_own, z) = pass.after_heads(resid_own, z, is_last)?;

        // 4. Output projection, and its norm where there is one, into the residual stream
        let raw = layer.o.forward(&z)?;
        let (attn_out, scale) = normed(layer.attention_after.as_ref(), &raw)?;
        let attention_raw = scale.map(|scale| (raw, scale));
        let attn_out = tapped(tap, at(Site::AttnOut), attn_out, own)?;
        let resid_mid = ops::add(&resid_own, &attn_out)?;
        let resid_mid = tapped(tap, at(Site::ResidMid), resid_mid, own)?;
        if pass
            .until
            .is_some_and(|last| last.layer == index && last.site <= Site::ResidMid)
        {
            return Ok(resid_mid);
        }

        // 5. MLP, and its norm where there is one, into the residual stream
        let (y, mlp_scale) = normed(layer.mlp_norm.as_ref(), &resid_mid)?;
        let [gate, up] = Linear::all([&layer.gate, &layer.up], &y)?;
        let raw = layer.down.forward(&self.gated(&gate, &up)?)?;
        let (mlp_out, scale) = normed(layer.mlp_after.as_ref(), &raw)?;
        let mlp_raw = scale.map(|scale| (raw, scale));
        let mlp_out = tapped(tap, at(Site::MlpOut), mlp_out, own)?;
        let resid_post = ops::add(&resid_mid, &mlp_out)?;
        let resid_post = tapped(tap, at(Site::ResidPost), resid_post, own)?;

        if let Some(trace) = &mut pass.trace {
            let raw_qk = raw_q.zip(raw_k).map(|(q, k)| [q, k]);
            let filled = |all: Tensor| all.narrow(1, 0, offset + batch.seq)?.force_contiguous();
            let (k, v) = match &pass.cache {
                Some(_) => (filled(keys)?, filled(values)?),
                None => (k, v),
            };
            let whole = LayerTrace {
                resid_pre,
                attention_scale,
                attention_raw,
                raw_qk,
                q,
                k,
                v,
                z,
                resid_mid,
                mlp_scale,
                mlp_raw,
                gate,
                up,
            };
            let rows = (&Rows::of(batch, offset), tail, pass.kept.as_ref());
            trace.push(self.remembered(whole, rows, batch.seq)?);
        }
        Ok(resid_post)
    }

    /// How a block attends.
    pub(crate) fn attention_shape<'a>(
        &self,
        index: usize,
        offset: usize,
        starts: &'a [usize],
    ) -> AttentionShape<'a> {
        AttentionShape {
            offset,
            window: self.config.windows[index],
            starts,
            scale: self.config.attention_scale(),
            softcap: self.config.form.attention_softcap,
        }
    }

    /// The MLP's nonlinearity: act(gate) ⊙ up.
    pub(crate) fn gated(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        Ok(match self.config.form.activation {
            Activation::Silu => ops::swiglu(gate, up)?,
            Activation::GeluTanh => ops::geglu(gate, up)?,
        })
    }

    /// Norm of queries or keys where the model has one, then rotation: `[tokens, n * d_head]` → `[tokens, n, d_head]`.
    ///
    /// Also returns what the norm's reverse needs: its input, one row a norm, and its scale.
    pub(crate) fn placed_heads(
        &self,
        x: &Tensor,
        norm: Option<&Norm>,
        n: usize,
        (placed, layer): (&Placed, usize),
    ) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
        let rope = placed.rope(self.config.windows[layer].is_some());
        let turned = |x: &Tensor| {
            let heads = x.reshape((placed.rows.len(), n, self.config.d_head))?;
            ops::rope(&heads, &placed.rows, rope, Turn::Forward)
        };
        let Some(norm) = norm else {
            return Ok((turned(x)?, None));
        };
        let raw = x.reshape(((), norm.weight.dim(0)?))?;
        let normed = norm.forward(&raw)?;
        Ok((turned(&normed.y)?, Some((raw, normed.scale))))
    }

    pub(crate) fn logits(
        &self,
        resid: &Tensor,
        batch: &Batch,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let normed = self.final_norm.forward(resid)?;
        self.shown_logits(self.logits_of_normed(&normed.y)?, batch, tap)
    }

    /// `[n, d_model]` after the final norm → `[n, vocab]`.
    pub(crate) fn logits_of_normed(&self, normed: &Tensor) -> Result<Tensor> {
        let unembed = self.unembed.as_ref().unwrap_or(&self.embed);
        let [logits] = ops::linears(normed, [(unembed, None)], self.precision)?;
        Ok(match self.config.form.logit_softcap {
            Some(cap) => ops::softcap(&logits, cap)?,
            None => logits,
        })
    }

    /// Shows logits to the tap: `[tokens, vocab]` → `[batch, seq, vocab]`.
    fn shown_logits(&self, logits: Tensor, batch: &Batch, tap: &mut dyn Tap) -> Result<Tensor> {
        let logits = tapped(tap, Hook::new(Site::Logits, 0), logits, batch)?;
        Ok(logits.reshape((batch.batch, batch.seq, self.config.vocab))?)
    }
}

/// Shows an activation `[tokens, width]` as `[batch, seq, width]` to a tap that wants it.
fn tapped(tap: &mut dyn Tap, hook: Hook, activation: Tensor, batch: &Batch) -> Result<Tensor> {
    if !tap.wants(hook) {
        return Ok(activation);
    }
    let shape = activation.dims().to_vec();
    let width = shape[shape.len() - 1];
    let replaced = tap.tap(hook, activation.reshape((batch.batch, batch.seq, width))?)?;
    if replaced.dims() != [batch.batch, batch.seq, width] {
        return Err(Error::Argument(format!(
            "a tap returned {:?} at {hook}",
            replaced.dims()
        )));
    }
    Ok(replaced.contiguous()?.reshape(shape)?)
}
