//! The forward pass: one, with taps.

use crate::ops::{self, AttentionShape, Normed, Rope, Turn};
use crate::weights::Linear;
use crate::{Batch, Cache, Config, Error, Hook, Result, Rules, Site, Tap};
use candle_core::{DType, Device, Tensor};

/// A decoder-only transformer with its weights.
#[derive(Debug, Clone)]
pub struct Model {
    /// What its `config.json` says.
    pub config: Config,
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    /// `[vocab, d_model]`
    pub(crate) embed: Tensor,
    pub(crate) layers: Vec<Layer>,
    /// `[d_model]`
    pub(crate) final_norm: Tensor,
    /// `[vocab, d_model]`; absent when tied to the embedding.
    pub(crate) unembed: Option<Tensor>,
    pub(crate) rope: Rope,
}

/// One block's weights.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// `[d_model]`
    pub(crate) attention_norm: Tensor,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    /// γ of the query heads and of the key heads, `[d_head]`.
    pub(crate) qk_norm: Option<(Tensor, Tensor)>,
    pub(crate) o: Linear,
    /// `[d_model]`
    pub(crate) mlp_norm: Tensor,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// What a forward pass leaves for the reverse pass.
#[derive(Debug)]
pub struct Trace {
    pub(crate) batch: Batch,
    pub(crate) positions: Vec<u32>,
    pub(crate) layers: Vec<LayerTrace>,
    /// Input of the final norm, `[tokens, d_model]`, and the norm's scale `[tokens, 1]`.
    pub(crate) last: Tensor,
    pub(crate) last_scale: Tensor,
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
    /// `[tokens, 1]`
    pub(crate) attention_scale: Tensor,
    /// Queries and keys before their norm, `[tokens * n_heads, d_head]`, and the norms' scales; for `qk_norm` models.
    pub(crate) raw_qk: Option<[(Tensor, Tensor); 2]>,
    /// Rotated queries and keys, and values, `[batch, seq, heads, d_head]`.
    pub(crate) q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
    /// `[tokens, n_heads * d_head]`
    pub(crate) z: Tensor,
    /// Residual between attention and MLP, `[tokens, d_model]`.
    pub(crate) resid_mid: Tensor,
    /// `[tokens, 1]`
    pub(crate) mlp_scale: Tensor,
    /// `[tokens, d_mlp]`
    pub(crate) gate: Tensor,
    pub(crate) up: Tensor,
}

/// How a pass runs: what it remembers, and where it may stop.
#[derive(Default)]
pub(crate) struct Pass<'a> {
    cache: Option<&'a mut Cache>,
    trace: Option<Vec<LayerTrace>>,
    /// Stop after this block; nothing after it is computed.
    until: Option<usize>,
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

    /// Runs the blocks that `tap` needs and stops after `last`; nothing is returned but what the tap saw.
    pub fn forward_until(&self, batch: &Batch, last: Hook, tap: &mut dyn Tap) -> Result<()> {
        if last.site == Site::Logits {
            return self.forward(batch, tap).map(drop);
        }
        let mut pass = Pass {
            until: Some(last.layer),
            ..Pass::default()
        };
        self.blocks(batch, &mut pass, tap).map(drop)
    }

    /// Logits `[batch, seq, vocab]` and what the reverse pass needs.
    pub fn forward_trace(&self, batch: &Batch, tap: &mut dyn Tap) -> Result<(Tensor, Trace)> {
        let (normed, trace) = self.traced(batch, tap)?;
        Ok((self.unembedded(&normed, batch, tap)?, trace))
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
        let (normed, mut trace) = self.traced(batch, tap)?;
        let rows = Tensor::new(rows, &self.device)?;
        let logits = self.logits_of_normed(&normed.index_select(&rows, 0)?)?;
        trace.rows = Some(rows);
        Ok((logits, trace))
    }

    /// The blocks with their trace, and the output of the final norm, `[tokens, d_model]`.
    fn traced(&self, batch: &Batch, tap: &mut dyn Tap) -> Result<(Tensor, Trace)> {
        let mut pass = Pass {
            trace: Some(Vec::new()),
            ..Pass::default()
        };
        let last = self.blocks(batch, &mut pass, tap)?;
        let normed = ops::rms_norm(&last, &self.final_norm, self.config.rms_norm_eps)?;
        let trace = Trace {
            batch: batch.clone(),
            positions: positions(batch, 0),
            layers: pass.trace.unwrap_or_default(),
            last,
            last_scale: normed.scale,
            rows: None,
            rules: Rules::default(),
            held: None,
        };
        Ok((normed.y, trace))
    }

    /// Room for `batch` sequences of at most `capacity` positions.
    pub fn new_cache(&self, batch: usize, capacity: usize) -> Result<Cache> {
        let config = &self.config;
        let shape = [batch, capacity, config.n_kv_heads, config.d_head];
        Ok(Cache::new(
            config.n_layers,
            shape,
            self.dtype,
            &self.device,
        )?)
    }

    /// Processes the next tokens of every row: the left-padded prompts first, then one token a call.
    ///
    /// Returns the logits of the last position, `[batch, vocab]`.
    pub fn step(&self, batch: &Batch, cache: &mut Cache, tap: &mut dyn Tap) -> Result<Tensor> {
        let resid = self.advance(batch, cache, tap)?;
        let d_model = self.config.d_model;
        let last = resid
            .reshape((batch.batch, batch.seq, d_model))?
            .narrow(1, batch.seq - 1, 1)?;
        let one = Batch {
            seq: 1,
            ..batch.clone()
        };
        let logits = self.logits(
            &last.contiguous()?.reshape((batch.batch, d_model))?,
            &one,
            tap,
        )?;
        Ok(logits.squeeze(1)?)
    }

    /// Processes the next tokens of every row; returns the residual stream after the last block, `[tokens, d_model]`.
    pub(crate) fn advance(
        &self,
        batch: &Batch,
        cache: &mut Cache,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        if cache.len + batch.seq > cache.capacity {
            return Err(Error::Argument(format!(
                "a cache of {} positions cannot take {} more",
                cache.capacity, batch.seq
            )));
        }
        if cache.len == 0 {
            cache.starts.clone_from(&batch.starts);
        }
        let mut pass = Pass {
            cache: Some(cache),
            ..Pass::default()
        };
        let resid = self.blocks(batch, &mut pass, tap)?;
        cache.len += batch.seq;
        Ok(resid)
    }

    /// Residual stream after the last block, `[tokens, d_model]`.
    pub(crate) fn residual(&self, batch: &Batch, tap: &mut dyn Tap) -> Result<Tensor> {
        self.blocks(batch, &mut Pass::default(), tap)
    }

    /// Residual stream after the last block that runs, `[tokens, d_model]`.
    fn blocks(&self, batch: &Batch, pass: &mut Pass<'_>, tap: &mut dyn Tap) -> Result<Tensor> {
        batch.check(self.config.vocab)?;
        tap.begin(batch)?;
        let offset = pass.cache.as_ref().map_or(0, |cache| cache.len);
        if offset + batch.seq > self.rope.positions() {
            let limit = self.rope.positions();
            return Err(Error::Argument(format!(
                "{} positions are more than the model's {limit}",
                offset + batch.seq
            )));
        }
        let starts = match &pass.cache {
            Some(cache) => cache.starts.clone(),
            None => batch.starts.clone(),
        };
        let placed = Batch {
            starts,
            ..batch.clone()
        };
        let positions = positions(&placed, offset);
        let ids = Tensor::new(batch.token_ids.as_slice(), &self.device)?;
        let mut resid = tapped(
            tap,
            Hook::new(Site::Embed, 0),
            self.embed.index_select(&ids, 0)?,
            batch,
        )?;
        for (index, layer) in self.layers.iter().enumerate() {
            resid = self.block(layer, index, resid, (&placed, &positions), pass, tap)?;
            if pass.until == Some(index) {
                break;
            }
        }
        Ok(resid)
    }

    /// One block: `resid [tokens, d_model]` → the same shape.
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
        (batch, positions): (&Batch, &[u32]),
        pass: &mut Pass<'_>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let (config, epsilon) = (&self.config, self.config.rms_norm_eps);
        let at = |site| Hook::new(site, index);
        let heads = |x: &Tensor, n: usize| x.reshape((batch.batch, batch.seq, n, config.d_head));

        // 1. Norm and projections: [tokens, d_model] → [tokens, heads * d_head]
        let resid_pre = tapped(tap, at(Site::ResidPre), resid, batch)?;
        let Normed {
            y,
            scale: attention_scale,
        } = ops::rms_norm(&resid_pre, &layer.attention_norm, epsilon)?;
        let (q, k, v) = (
            layer.q.forward(&y)?,
            layer.k.forward(&y)?,
            layer.v.forward(&y)?,
        );

        // 2. Norm per head (Qwen3) and rotation
        let (q, raw_q) = self.placed_heads(
            &q,
            layer.qk_norm.as_ref().map(|norms| &norms.0),
            config.n_heads,
            positions,
        )?;
        let (k, raw_k) = self.placed_heads(
            &k,
            layer.qk_norm.as_ref().map(|norms| &norms.1),
            config.n_kv_heads,
            positions,
        )?;
        let (q, k, v) = (
            heads(&q, config.n_heads)?,
            heads(&k, config.n_kv_heads)?,
            heads(&v, config.n_kv_heads)?,
        );

        // 3. Attention over what is cached and what is new
        let offset = pass.cache.as_ref().map_or(0, |cache| cache.len);
        let (keys, values) = match &pass.cache {
            Some(cache) => cache.append(index, &k, &v)?,
            None => (k.clone(), v.clone()),
        };
        let shape = AttentionShape {
            offset,
            window: config.windows[index],
            starts: &batch.starts,
        };
        let z = tapped(
            tap,
            at(Site::Z),
            ops::attention(&q, &keys, &values, shape)?,
            batch,
        )?;

        // 4. Output projection, into the residual stream
        let attn_out = tapped(tap, at(Site::AttnOut), layer.o.forward(&z)?, batch)?;
        let resid_mid = tapped(
            tap,
            at(Site::ResidMid),
            ops::add(&resid_pre, &attn_out)?,
            batch,
        )?;

        // 5. MLP, into the residual stream
        let Normed {
            y,
            scale: mlp_scale,
        } = ops::rms_norm(&resid_mid, &layer.mlp_norm, epsilon)?;
        let (gate, up) = (layer.gate.forward(&y)?, layer.up.forward(&y)?);
        let mlp_out = tapped(
            tap,
            at(Site::MlpOut),
            layer.down.forward(&ops::swiglu(&gate, &up)?)?,
            batch,
        )?;
        let resid_post = tapped(
            tap,
            at(Site::ResidPost),
            ops::add(&resid_mid, &mlp_out)?,
            batch,
        )?;

        if let Some(trace) = &mut pass.trace {
            let raw_qk = raw_q.zip(raw_k).map(|(q, k)| [q, k]);
            trace.push(LayerTrace {
                resid_pre,
                attention_scale,
                raw_qk,
                q,
                k,
                v,
                z,
                resid_mid,
                mlp_scale,
                gate,
                up,
            });
        }
        Ok(resid_post)
    }

    /// Norm per head where the model has one, then rotation: `[tokens, n * d_head]` → `[tokens, n, d_head]`.
    ///
    /// Also returns what the norm's reverse needs.
    pub(crate) fn placed_heads(
        &self,
        x: &Tensor,
        gamma: Option<&Tensor>,
        n: usize,
        positions: &[u32],
    ) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
        let d_head = self.config.d_head;
        let shape = (positions.len(), n, d_head);
        let Some(gamma) = gamma else {
            return Ok((
                ops::rope(&x.reshape(shape)?, positions, &self.rope, Turn::Forward)?,
                None,
            ));
        };
        let raw = x.reshape((positions.len() * n, d_head))?;
        let normed = ops::rms_norm(&raw, gamma, self.config.rms_norm_eps)?;
        let turned = ops::rope(
            &normed.y.reshape(shape)?,
            positions,
            &self.rope,
            Turn::Forward,
        )?;
        Ok((turned, Some((raw, normed.scale))))
    }

    pub(crate) fn logits(&self, resid: &Tensor, batch: &Batch, tap: &mut dyn Tap) -> Result<Tensor> {
        let normed = ops::rms_norm(resid, &self.final_norm, self.config.rms_norm_eps)?;
        self.unembedded(&normed.y, batch, tap)
    }

    /// `[n, d_model]` after the final norm → `[n, vocab]`.
    pub(crate) fn logits_of_normed(&self, normed: &Tensor) -> Result<Tensor> {
        let unembed = self.unembed.as_ref().unwrap_or(&self.embed);
        Ok(ops::linear(normed, unembed, None)?)
    }

    fn unembedded(&self, normed: &Tensor, batch: &Batch, tap: &mut dyn Tap) -> Result<Tensor> {
        let logits = self.logits_of_normed(normed)?;
        let logits = tapped(tap, Hook::new(Site::Logits, 0), logits, batch)?;
        Ok(logits.reshape((batch.batch, batch.seq, self.config.vocab))?)
    }
}

/// Position of every token in its own sequence, from 0; padding counts as position 0.
pub(crate) fn positions(batch: &Batch, offset: usize) -> Vec<u32> {
    let row = |start: usize| (0..batch.seq).map(move |i| (offset + i).saturating_sub(start) as u32);
    batch.starts.iter().flat_map(|&start| row(start)).collect()
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
