//! Decoding: the prompts first, then one token a step, over a cache of keys and values.

use crate::transformer::Pass;
use crate::{Batch, Cache, Model, Result, Tap};
use candle_core::Tensor;

impl Model {
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
        if !cache.begins(batch)? && self.outgrows(batch, cache) {
            return self.advance_afresh(batch, cache, tap);
        }
        let mut pass = Pass {
            cache: Some(cache),
            ..Pass::default()
        };
        let resid = self.blocks(batch, &mut pass, tap)?;
        cache.take(batch);
        Ok(resid)
    }

    /// Whether these tokens take a row beyond the context within which `longrope` rotates as it has so far.
    ///
    /// `dynamic` rotation changes with every position beyond its context; as in `transformers`, what is cached stays.
    pub(crate) fn outgrows(&self, batch: &Batch, cache: &Cache) -> bool {
        let limit = self.config.rotation_changes_after();
        let Some(limit) = limit.filter(|_| self.config.position_limit().is_some()) else {
            return false;
        };
        let rows = cache.starts.iter().zip(&batch.ends);
        rows.into_iter()
            .any(|(start, end)| cache.len - start <= limit && cache.len + end - start > limit)
    }

    /// Processes everything again with the new tokens: keys and values under the old rotation are of no use.
    fn advance_afresh(
        &self,
        batch: &Batch,
        cache: &mut Cache,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let before = cache.len;
        let whole = cache.with(batch);
        cache.clear();
        let resid = self.advance(&whole, cache, tap)?;
        let rows = resid.reshape((batch.batch, whole.seq, self.config.d_model))?;
        let new = rows.narrow(1, before, batch.seq)?.contiguous()?;
        Ok(new.reshape(((), self.config.d_model))?)
    }
}
