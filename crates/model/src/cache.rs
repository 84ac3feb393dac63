//! Keys and values of the positions already processed.

use crate::Batch;
use candle_core::{DType, Device, Result, Tensor};

/// Room for the keys and values of a batch, allocated once and filled in place.
#[derive(Debug)]
pub struct Cache {
    /// Per layer, keys and values `[batch, capacity, n_kv_heads, d_head]`.
    pub(crate) layers: Vec<(Tensor, Tensor)>,
    /// Positions filled.
    pub(crate) len: usize,
    /// Positions there is room for.
    pub(crate) capacity: usize,
    /// `[batch]`: first real position of each row.
    pub(crate) starts: Vec<usize>,
    /// Per row, every token processed, padding included.
    tokens: Vec<Vec<u32>>,
}

impl Cache {
    pub(crate) fn new(
        n_layers: usize,
        shape: [usize; 4],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let layer = |_| {
            Ok((
                Tensor::zeros(&shape, dtype, device)?,
                Tensor::zeros(&shape, dtype, device)?,
            ))
        };
        Ok(Self {
            layers: (0..n_layers).map(layer).collect::<Result<_>>()?,
            len: 0,
            capacity: shape[1],
            starts: Vec::new(),
            tokens: Vec::new(),
        })
    }

    /// Notes that the tokens of `batch` were processed.
    pub(crate) fn take(&mut self, batch: &Batch) {
        self.tokens.resize(batch.batch, Vec::new());
        for (row, new) in self
            .tokens
            .iter_mut()
            .zip(batch.token_ids.chunks_exact(batch.seq))
        {
            row.extend(new);
        }
        self.len += batch.seq;
    }

    /// Forgets every position; the room stays.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.starts.clear();
        self.tokens.clear();
    }

    /// Everything processed so far with `batch` behind it.
    pub(crate) fn with(&self, batch: &Batch) -> Batch {
        let new = batch.token_ids.chunks_exact(batch.seq);
        let rows = self.tokens.iter().zip(new);
        Batch {
            batch: batch.batch,
            seq: self.len + batch.seq,
            token_ids: rows
                .flat_map(|(old, new)| old.iter().chain(new).copied())
                .collect(),
            starts: self.starts.clone(),
            ends: batch.ends.iter().map(|end| self.len + end).collect(),
        }
    }

    /// Positions filled so far, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was processed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same rows over and over until there are `rows`, with room for `capacity` positions.
    pub fn repeated(&self, rows: usize, capacity: usize) -> Result<Self> {
        let (keys, _) = &self.layers[0];
        let (own, _, n_kv_heads, d_head) = keys.dims4()?;
        let shape = [rows, capacity, n_kv_heads, d_head];
        let mut copy = Self::new(self.layers.len(), shape, keys.dtype(), keys.device())?;
        let filled = |from: &Tensor, to: &Tensor| {
            let row = from.narrow(1, 0, self.len)?;
            to.slice_set(&row.repeat((rows / own, 1, 1, 1))?.contiguous()?, 1, 0)
        };
        for ((keys, values), (new_keys, new_values)) in self.layers.iter().zip(&copy.layers) {
            filled(keys, new_keys)?;
            filled(values, new_values)?;
        }
        copy.len = self.len;
        copy.starts = self.starts.repeat(rows / own);
        copy.tokens = self.tokens.iter().cycle().take(rows).cloned().collect();
        Ok(copy)
    }

    /// Appends keys and values `[batch, seq, n_kv_heads, d_head]` of one layer and returns the whole room.
    pub(crate) fn append(&self, layer: usize, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let (keys, values) = &self.layers[layer];
        keys.slice_set(&k.contiguous()?, 1, self.len)?;
        values.slice_set(&v.contiguous()?, 1, self.len)?;
        Ok((keys.clone(), values.clone()))
    }
}
