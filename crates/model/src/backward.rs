//! The reverse pass, written out: activation gradients always, weight gradients only when training asks.
//!
//! A tap that replaced an activation is taken to have added a constant.

use crate::config::NormNames;
use crate::gradients::Collector;
use crate::norm::{Norm, normed_again, normed_backward};
use crate::ops::{self, Turn};
use crate::transformer::{Layer, LayerTrace, Rows};
use crate::{GradientTap, Gradients, HeadGradients, Model, Result, Site, Target, Trace, heads};
use candle_core::Tensor;
use kernels::KeyGradients;

impl Model {
    /// Gradient of the loss by the embedding's output, `[batch, seq, d_model]`, from `d_logits [batch, seq, vocab]`.
    ///
    /// `taps` see the gradient by the residual stream as each target reads it; `gradients` adds those of the weights.
    pub fn backward(
        &self,
        trace: &Trace,
        d_logits: &Tensor,
        taps: &mut dyn GradientTap,
        gradients: Option<&mut Gradients>,
    ) -> Result<Tensor> {
        let mut gradients = Collector(gradients);
        let mut d_logits = d_logits.reshape(((), self.config.vocab))?;
        if let Some((cap, logits)) = self.config.form.logit_softcap.zip(trace.capped.as_ref()) {
            d_logits = ops::softcap_backward(&d_logits, logits, cap)?;
        }
        let d_resid = self.backward_unembed(trace, &d_logits, &mut gradients)?;
        self.backward_blocks(trace, d_resid, taps, &mut gradients)
    }

    /// The rest of the reverse pass, from the gradient by what the final norm reads, `[tokens, d_model]`.
    fn backward_blocks(
        &self,
        trace: &Trace,
        mut d_resid: Tensor,
        taps: &mut dyn GradientTap,
        gradients: &mut Collector<'_>,
    ) -> Result<Tensor> {
        self.show(
            taps,
            Target::Logits,
            trace,
            &trace.padded(&d_resid, trace.tail)?,
        )?;
        for (index, (layer, kept)) in self.layers.iter().zip(&trace.layers).enumerate().rev() {
            if !trace.holds(Site::MlpOut, index) {
                d_resid =
                    self.backward_mlp(index, layer, kept, &d_resid, trace, taps, gradients)?;
            }
            d_resid = trace.padded(&d_resid, trace.tail_of(index))?;
            if !trace.holds(Site::AttnOut, index) {
                d_resid =
                    self.backward_attention(index, layer, kept, &d_resid, trace, taps, gradients)?;
            }
        }
        gradients.add(
            || "model.embed_tokens.weight".into(),
            || match self.config.form.embedding_scale {
                Some(scale) => self.scatter(trace, &(&d_resid * scale)?),
                None => self.scatter(trace, &d_resid),
            },
        )?;
        Ok(d_resid.reshape((trace.batch.batch, trace.batch.seq, self.config.d_model))?)
    }

    /// Gradient by the embedding's output, `[batch, seq, d_model]`, of a loss whose gradient by the final norm's output
    /// is `d_normed [tokens, d_model]`; weights frozen.
    pub(crate) fn backward_normed(
        &self,
        trace: &Trace,
        d_normed: &Tensor,
        taps: &mut dyn GradientTap,
    ) -> Result<Tensor> {
        let (x, scale) = (&trace.last, &trace.last_scale);
        let d_resid = self.final_norm.backward(trace.rules, d_normed, x, scale)?;
        self.backward_blocks(trace, d_resid, taps, &mut Collector(None))
    }

    fn backward_unembed(
        &self,
        trace: &Trace,
        d_logits: &Tensor,
        gradients: &mut Collector<'_>,
    ) -> Result<Tensor> {
        let unembed = self.unembed.as_ref().unwrap_or(&self.embed);
        let d_normed = trace.spread(&ops::weight_backward(d_logits, unembed, self.precision)?)?;
        let name = if self.unembed.is_some() {
            "lm_head.weight"
        } else {
            "model.embed_tokens.weight"
        };
        gradients.add(
            || name.into(),
            || {
                let x = self.final_norm.again(&trace.last, &trace.last_scale)?;
                ops::weight_gradient(d_logits, &trace.picked(x)?)
            },
        )?;
        gradients.add(
            || "model.norm.weight".into(),
            || ops::rms_norm_gamma_gradient(&d_normed, &trace.last, &trace.last_scale),
        )?;
        let (x, scale) = (&trace.last, &trace.last_scale);
        Ok(self.final_norm.backward(trace.rules, &d_normed, x, scale)?)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what a reverse step reads is what the forward step left"
    )]
    fn backward_mlp(
        &self,
        index: usize,
        layer: &Layer,
        kept: &LayerTrace,
        d_resid: &Tensor,
        trace: &Trace,
        taps: &mut dyn GradientTap,
        gradients: &mut Collector<'_>,
    ) -> Result<Tensor> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let norms = self.norm_names(index);
        let added = (layer.mlp_after.as_ref(), kept.mlp_raw.as_ref());
        let d_out = added_backward(added, norms.mlp_after, trace, d_resid, gradients)?;
        let d_hidden = layer.down.backward(&d_out)?;
        let activation = self.config.form.activation;
        let gate = ops::widened(&kept.gate, self.dtype)?;
        let up = ops::widened(&kept.up, self.dtype)?;
        let (d_gate, d_up) = trace
            .rules
            .gated_backward(activation, &d_hidden, &gate, &up)?;
        let read = (&kept.resid_mid, kept.mlp_scale.as_ref());
        if gradients.wanted() {
            let x = normed_again(layer.mlp_norm.as_ref(), read)?;
            let hidden = self.gated(&gate, &up)?;
            gradients.linear(&name("mlp.down_proj"), &layer.down, &hidden, &d_out)?;
            gradients.linear(&name("mlp.gate_proj"), &layer.gate, &x, &d_gate)?;
            gradients.linear(&name("mlp.up_proj"), &layer.up, &x, &d_up)?;
        }
        let d_normed = ops::add(&layer.gate.backward(&d_gate)?, &layer.up.backward(&d_up)?)?;
        gradients.norm(norms.mlp, read, &d_normed)?;
        let through = normed_backward(layer.mlp_norm.as_ref(), trace.rules, &d_normed, read)?;
        let whole = trace.padded(&through, trace.tail_of(index))?;
        self.show(taps, Target::Mlp(index), trace, &whole)?;
        Ok(ops::add(d_resid, &through)?)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what a reverse step reads is what the forward step left"
    )]
    fn backward_attention(
        &self,
        index: usize,
        layer: &Layer,
        kept: &LayerTrace,
        d_resid: &Tensor,
        trace: &Trace,
        taps: &mut dyn GradientTap,
        gradients: &mut Collector<'_>,
    ) -> Result<Tensor> {
        let name = |part: &str| format!("model.layers.{index}.self_attn.{part}");
        let norms = self.norm_names(index);
        let added = (layer.attention_after.as_ref(), kept.attention_raw.as_ref());
        let tail = trace.tail_of(index);
        let own = Rows::of(&trace.batch, 0).behind(d_resid, tail)?;
        let d_out = added_backward(added, norms.attention_after, trace, &own, gradients)?;
        let dz = layer.o.backward(&d_out)?;
        let wide = |x: &Tensor| ops::widened(x, self.dtype);
        if gradients.wanted() {
            gradients.linear(&name("o_proj"), &layer.o, &wide(&kept.z)?, &d_out)?;
        }
        let shape = self.attention_shape(index, trace.offset + tail, &trace.batch.starts);
        let by_head = taps.wants_heads();
        let keys = by_head.unwrap_or(KeyGradients::Summed);
        let read = (&wide(&kept.q)?, &wide(&kept.k)?, &wide(&kept.v)?);
        let (mut dq, dk, dv) = ops::attention_backward(&dz, read, shape, keys)?;
        let own = |x: Tensor| x.narrow(1, trace.offset, trace.batch.seq)?.contiguous();
        let (mut dk, dv) = (own(dk)?, own(dv)?);
        if trace.rules.attention_constant {
            (dq, dk) = (dq.zeros_like()?, dk.zeros_like()?);
        }
        let dq = self.backward_heads(&dq, layer, kept, (index, 0), trace, gradients)?;
        let dq = trace.padded(&dq, tail)?;
        let mut dk = self.backward_heads(&dk, layer, kept, (index, 1), trace, gradients)?;
        let mut dv = dv.flatten(2, 3)?.flatten(0, 1)?;
        if by_head.is_some() {
            let shown = HeadGradients {
                q: dq.clone(),
                k: dk.clone(),
                v: dv.clone(),
                resid: kept.resid_pre.clone(),
                scale: match &kept.attention_scale {
                    Some(scale) => scale.clone(),
                    None => kept.resid_pre.narrow(1, 0, 1)?.ones_like()?,
                },
                normed: kept.attention_scale.is_some(),
            };
            taps.heads(index, shown)?;
            let (shared, d_head) = (self.config.n_kv_heads, self.config.d_head);
            dk = heads::shared(&dk, shared, d_head)?;
            dv = heads::shared(&dv, shared, d_head)?;
        }
        let through =
            self.backward_reads(index, layer, kept, [dq, dk, dv], trace, taps, gradients)?;
        Ok(ops::add(d_resid, &through)?)
    }

    /// Back through the projections to queries, keys and values, and the norm before them; what joins the stream's
    /// gradient, `[tokens, d_model]`.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a reverse step reads is what the forward step left"
    )]
    fn backward_reads(
        &self,
        index: usize,
        layer: &Layer,
        kept: &LayerTrace,
        [dq, dk, dv]: [Tensor; 3],
        trace: &Trace,
        taps: &mut dyn GradientTap,
        gradients: &mut Collector<'_>,
    ) -> Result<Tensor> {
        let name = |part: &str| format!("model.layers.{index}.self_attn.{part}");
        let projections = [
            ("q_proj", &layer.q, dq, Target::Q(index)),
            ("k_proj", &layer.k, dk, Target::K(index)),
            ("v_proj", &layer.v, dv, Target::V(index)),
        ];
        let (norm, read) = (
            layer.attention_norm.as_ref(),
            (&kept.resid_pre, kept.attention_scale.as_ref()),
        );
        if gradients.wanted() {
            let x = normed_again(norm, read)?;
            for (part, projection, dy, _) in &projections {
                gradients.linear(&name(part), projection, &x, dy)?;
            }
        }
        let norm_backward = |dy: &Tensor| normed_backward(norm, trace.rules, dy, read);
        let mut d_normed: Option<Tensor> = None;
        for (_, projection, dy, target) in &projections {
            let part = projection.backward(dy)?;
            if taps.wants(*target) {
                self.show(taps, *target, trace, &norm_backward(&part)?)?;
            }
            d_normed = Some(match d_normed {
                Some(sum) => ops::add(&sum, &part)?,
                None => part,
            });
        }
        let d_normed = d_normed.expect("three projections were just added");
        gradients.norm(self.norm_names(index).attention, read, &d_normed)?;
        Ok(norm_backward(&d_normed)?)
    }

    /// Names of a block's norms.
    fn norm_names(&self, index: usize) -> NormNames<String> {
        let prefix = format!("model.layers.{index}");
        self.config
            .form
            .norms
            .names()
            .map(|part| format!("{prefix}.{part}"))
    }

    /// Back through rotation and, where there is one, the norm of queries or keys; `which` is 0 for queries and 1 for keys.
    ///
    /// `[batch, seq, n, d_head]` → `[tokens, n * d_head]`.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a reverse step reads is what the forward step left"
    )]
    fn backward_heads(
        &self,
        dy: &Tensor,
        layer: &Layer,
        kept: &LayerTrace,
        (index, which): (usize, usize),
        trace: &Trace,
        gradients: &mut Collector<'_>,
    ) -> Result<Tensor> {
        let (batch, seq, n, d_head) = dy.dims4()?;
        let placed = trace.placed.behind(batch, trace.batch.seq - seq);
        let turned = ops::rope(
            &dy.reshape((batch * seq, n, d_head))?,
            &placed.rows,
            placed.rope(self.config.windows[index].is_some()),
            Turn::Back,
        )?;
        let (Some(norms), Some(raw)) = (&layer.qk_norm, &kept.raw_qk) else {
            return Ok(turned.reshape((batch * seq, n * d_head))?);
        };
        let (norm, part) = if which == 0 {
            (&norms.0, "q_norm")
        } else {
            (&norms.1, "k_norm")
        };
        let name = format!("model.layers.{index}.self_attn.{part}.weight");
        let (x, scale) = &raw[which];
        let dx = if norm.weight.dim(0)? == d_head {
            // One norm a head: a head that is read several times has its norm several times.
            let repeated = |raw: &Tensor, width: usize| {
                let rows = raw.reshape((batch, seq, (), width))?;
                heads::repeated(&rows, n)?.reshape(((), width))
            };
            let (x, scale) = (repeated(x, d_head)?, repeated(scale, 1)?);
            let dy = turned.reshape(((), d_head))?;
            gradients.norm(Some(name), (&x, Some(&scale)), &dy)?;
            norm.backward(trace.rules, &dy, &x, &scale)?
        } else {
            // One norm over all heads: repeating them changes neither its mean square nor its scale.
            let repeated = |raw: &Tensor| {
                let rows = raw.reshape((raw.dim(0)?, 1, (), d_head))?;
                heads::repeated(&rows, n)?.reshape(((), n * d_head))
            };
            let x = repeated(x)?;
            let gamma = repeated(&norm.gamma()?.unsqueeze(0)?)?.squeeze(0)?;
            let dy = turned.reshape(((), n * d_head))?;
            if gradients.wanted() {
                let each = ops::rms_norm_gamma_gradient(&dy, &x, scale)?.unsqueeze(0)?;
                let own = norm.weight.dim(0)? / d_head;
                let shared = heads::shared(&each, own, d_head)?.squeeze(0)?;
                gradients.add(|| name, || Ok(shared))?;
            }
            trace.rules.norm_backward(&dy, &x, &gamma, scale)?
        };
        Ok(dx.reshape((batch * seq, n * d_head))?)
    }

    /// Gradient of the embedding `[vocab, d_model]`: every token's gradient added to its row.
    fn scatter(&self, trace: &Trace, d_embed: &Tensor) -> candle_core::Result<Tensor> {
        let ids = Tensor::new(trace.batch.token_ids.as_slice(), &self.device)?;
        let zeros = Tensor::zeros(
            (self.config.vocab, self.config.d_model),
            self.dtype,
            &self.device,
        )?;
        zeros.index_add(&ids, d_embed, 0)
    }

    fn show(
        &self,
        taps: &mut dyn GradientTap,
        target: Target,
        trace: &Trace,
        gradient: &Tensor,
    ) -> Result<()> {
        if !taps.wants(target) {
            return Ok(());
        }
        let shape = (trace.batch.batch, trace.batch.seq, self.config.d_model);
        taps.gradient(target, gradient.reshape(shape)?)
    }
}

/// Back through the norm of what a sublayer adds, where there is one; `[tokens, d_model]`.
fn added_backward(
    (norm, raw): (Option<&Norm>, Option<&(Tensor, Tensor)>),
    name: Option<String>,
    trace: &Trace,
    d_out: &Tensor,
    gradients: &mut Collector<'_>,
) -> Result<Tensor> {
    let Some((norm, (x, scale))) = norm.zip(raw) else {
        return Ok(d_out.clone());
    };
    gradients.norm(name, (x, Some(scale)), d_out)?;
    Ok(norm.backward(trace.rules, d_out, x, scale)?)
}
