//! Loss and gradient without the logits of all positions.
//!
//! Logits of 1,024 positions over a vocabulary of 152 k, and their gradient, take 1.2 GB; here both are made for a few
//! positions at a time and forgotten. For frozen weights.

use crate::loss::{Scored, nll};
use crate::{Batch, GradientTap, Model, Result, Tap, Trace, ops};
use candle_core::Tensor;

/// Positions whose logits are in memory together.
const POSITIONS: usize = 128;

/// A forward pass with its loss.
#[derive(Debug)]
pub struct Likelihood {
    /// Σ weight · nll, in nats.
    pub total: f64,
    /// Unweighted nll of every scored token, in nats, in the given order.
    pub tokens: Vec<f64>,
    trace: Trace,
    /// Gradient of `total` by the output of the final norm, `[tokens, d_model]`.
    d_normed: Tensor,
}

impl Model {
    /// Forward pass and weighted negative log-likelihood of `scored`, at most one token a position.
    ///
    /// The logits are not shown to the tap.
    ///
    /// # Errors
    /// When a scored token lies outside the batch or the vocabulary.
    pub fn likelihood(
        &self,
        batch: &Batch,
        scored: &[Scored],
        tap: &mut dyn Tap,
    ) -> Result<Likelihood> {
        for s in scored {
            s.check(batch.batch, batch.seq, self.config.vocab)?;
        }
        let (normed, trace) = self.traced(batch, tap)?;
        let (mut total, mut tokens) = (0.0, Vec::with_capacity(scored.len()));
        let mut d_normed = normed.zeros_like()?;
        let mut room = Vec::new();
        for chunk in scored.chunks(POSITIONS) {
            let rows: Vec<u32> = chunk
                .iter()
                .map(|s| (s.row * batch.seq + s.position) as u32)
                .collect();
            let rows = Tensor::new(rows, self.device())?;
            let read = normed.index_select(&rows, 0)?;
            let (losses, d_read) = match self.losses_in_place(&read, chunk, &mut room)? {
                Some(both) => both,
                None => self.losses_by_logits(&read, chunk)?,
            };
            total += losses
                .iter()
                .zip(chunk)
                .map(|(loss, s)| loss * s.weight)
                .sum::<f64>();
            tokens.extend(losses);
            d_normed = d_normed.index_add(&rows, &d_read, 0)?;
        }
        Ok(Likelihood {
            total,
            tokens,
            trace,
            d_normed,
        })
    }

    /// Losses of some positions, and their gradient by what the unembedding reads there, `[n, d_model]`; `None` where that
    /// takes tensors of logits.
    fn losses_in_place(
        &self,
        read: &Tensor,
        scored: &[Scored],
        room: &mut Vec<f32>,
    ) -> Result<Option<(Vec<f64>, Tensor)>> {
        if self.config.form.logit_softcap.is_some() {
            return Ok(None);
        }
        let targets: Vec<u32> = scored.iter().map(|s| s.token).collect();
        let weights: Vec<f32> = scored.iter().map(|s| s.weight as f32).collect();
        let unembed = self.unembed.as_ref().unwrap_or(&self.embed);
        let scored = (targets.as_slice(), weights.as_slice());
        Ok(ops::token_losses(
            read,
            unembed,
            scored,
            self.precision,
            room,
        )?)
    }

    /// The same by way of their logits, for every device, dtype and form.
    fn losses_by_logits(&self, read: &Tensor, scored: &[Scored]) -> Result<(Vec<f64>, Tensor)> {
        let logits = self.logits_of_normed(read)?;
        let here: Vec<Scored> = scored
            .iter()
            .enumerate()
            .map(|(position, s)| Scored {
                row: 0,
                position,
                ..*s
            })
            .collect();
        let loss = nll(&logits.unsqueeze(0)?, &here)?;
        let d_logits = loss.d_logits.squeeze(0)?;
        Ok((loss.tokens, self.unembed_backward(&logits, d_logits)?))
    }

    /// Gradient by the output of the final norm from that by some `logits [n, vocab]`.
    fn unembed_backward(&self, logits: &Tensor, d_logits: Tensor) -> Result<Tensor> {
        let d_logits = match self.config.form.logit_softcap {
            Some(cap) => ops::softcap_backward(&d_logits, logits, cap)?,
            None => d_logits,
        };
        let unembed = self.unembed.as_ref().unwrap_or(&self.embed);
        Ok(ops::weight_backward(&d_logits, unembed, self.precision)?)
    }
}

impl Likelihood {
    /// Gradient of `total` by the embedding's output, `[batch, seq, d_model]`; `taps` see it on its way.
    pub fn backward(&self, model: &Model, taps: &mut dyn GradientTap) -> Result<Tensor> {
        model.backward_normed(&self.trace, &self.d_normed, taps)
    }
}
