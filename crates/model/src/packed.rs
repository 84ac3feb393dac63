//! A pass that computes no padding, and of the last block only what somebody reads.
//!
//! Everything but attention goes token by token, so padding may be left out; attention sees the rectangle. A token's
//! numbers are those of the whole pass to the bit wherever the kernels compute.

use crate::rotary::Placed;
use crate::transformer::Pass;
use crate::{Batch, Cache, Model, Result, ops};
use candle_core::Tensor;

/// Which tokens of a batch are computed.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    /// `[tokens]`: `row * seq + position` of every token that is no padding.
    real: Vec<u32>,
    /// `[batch * seq]`: the number of each place among those tokens; of padding, that of the first.
    places: Vec<u32>,
    /// `[wanted]`: numbers, among those tokens, of what is asked for after the last block.
    wanted: Vec<u32>,
}

impl Packed {
    /// `wanted` are places `row * seq + position` that hold tokens.
    pub(crate) fn new(batch: &Batch, wanted: &[u32]) -> Self {
        let mut real = Vec::with_capacity(batch.token_ids.len());
        let mut places = vec![0; batch.token_ids.len()];
        for row in 0..batch.batch {
            for position in batch.starts[row]..batch.ends[row] {
                let place = row * batch.seq + position;
                places[place] = real.len() as u32;
                real.push(place as u32);
            }
        }
        let wanted = wanted.iter().map(|place| places[*place as usize]);
        Self {
            wanted: wanted.collect(),
            real,
            places,
        }
    }

    /// Token ids of what is computed.
    pub(crate) fn ids(&self, batch: &Batch) -> Vec<u32> {
        let of = |place: &u32| batch.token_ids[*place as usize];
        self.real.iter().map(of).collect()
    }

    /// The rotations of what is computed.
    pub(crate) fn place(&self, mut whole: Placed) -> Placed {
        let of = |place: &u32| whole.rows[*place as usize];
        whole.rows = self.real.iter().map(of).collect();
        whole
    }

    /// `[tokens, width]` → `[batch * seq, width]`; padding repeats the first token.
    pub(crate) fn spread(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::select_rows(x, &self.places)?)
    }

    /// `[batch * seq, width]` → `[tokens, width]`
    pub(crate) fn gather(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::select_rows(x, &self.real)?)
    }

    /// `[tokens, width]` → `[wanted, width]`
    pub(crate) fn last(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::select_rows(x, &self.wanted)?)
    }
}

impl Model {
    /// Processes the next tokens of every row, as [`Self::advance`]; the residual stream after the last block at some
    /// places alone, each `row * seq + position` and no padding: `[wanted, d_model]`.
    pub(crate) fn advance_to(
        &self,
        batch: &Batch,
        cache: &mut Cache,
        wanted: &[u32],
    ) -> Result<Tensor> {
        if !cache.begins(batch)? && self.outgrows(batch, cache) {
            let resid = self.advance(batch, cache, &mut ())?;
            return Ok(ops::select_rows(&resid, wanted)?);
        }
        let mut pass = Pass {
            cache: Some(cache),
            packed: Some(Packed::new(batch, wanted)),
            ..Pass::default()
        };
        let resid = self.blocks(batch, &mut pass, &mut ())?;
        cache.take(batch);
        Ok(resid)
    }
}
