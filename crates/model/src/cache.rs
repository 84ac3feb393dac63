//! Keys and values of the positions already processed.

use crate::{Batch, Error};
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

    /// Makes ready for the tokens of `batch`; whether they are the first.
    ///
    /// # Errors
    /// When there is no room for them.
    pub(crate) fn begins(&mut self, batch: &Batch) -> crate::Result<bool> {
        if self.len + batch.seq > self.capacity {
            return Err(Error::Argument(format!(
                "a cache of {} positions cannot take {} more",
                self.capacity, batch.seq
            )));
        }
        if self.len == 0 {
            self.starts.clone_from(&batch.starts);
        }
        Ok(self.len == 0)
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

    /// Appends keys and values `[batch, seq, n_kv_heads, d_head]` of one layer and returns the whole room of these rows.
    pub(crate) fn append(&self, layer: usize, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let (keys, values) = &self.layers[layer];
        let set = |room: &Tensor, new: &Tensor| -> Result<Tensor> {
            let rows = room.narrow(0, 0, new.dim(0)?)?;
            rows.slice_set(&new.contiguous()?, 1, self.len)?;
            Ok(rows)
        };
        Ok((set(keys, k)?, set(values, v)?))
    }

    /// Rows in use, which may be fewer than there is room for.
    pub(crate) fn rows(&self) -> usize {
        self.starts.len()
    }

    /// Adds a row: the first `n` positions of a row of `from`, so that they end where all rows end.
    ///
    /// Rotation depends on how far apart two positions are, so keys may stand anywhere.
    pub(crate) fn put(&mut self, from: &Self, row: usize, n: usize) -> Result<()> {
        let (slot, start, first) = (self.rows(), self.len - n, from.starts[row]);
        for (to, from) in self.layers.iter().zip(&from.layers) {
            for (to, from) in [(&to.0, &from.0), (&to.1, &from.1)] {
                let piece = from.narrow(0, row, 1)?.narrow(1, first, n)?;
                to.narrow(0, slot, 1)?.slice_set(&piece, 1, start)?;
            }
        }
        let mut tokens = vec![0; start];
        tokens.extend_from_slice(&from.tokens[row][first..first + n]);
        self.starts.push(start);
        self.tokens.push(tokens);
        Ok(())
    }

    /// Drops a row; the last one takes its place.
    pub(crate) fn remove(&mut self, slot: usize) -> Result<()> {
        let last = self.rows() - 1;
        let start = self.starts[last];
        if slot < last {
            for room in self.rooms() {
                let row = room.narrow(0, last, 1)?;
                let piece = row.narrow(1, start, self.len - start)?.force_contiguous()?;
                room.narrow(0, slot, 1)?.slice_set(&piece, 1, start)?;
            }
        }
        self.starts.swap_remove(slot);
        self.tokens.swap_remove(slot);
        Ok(())
    }

    /// Moves all rows to the front, over what is padding in every one of them.
    pub(crate) fn close_up(&mut self) -> Result<()> {
        let by = self.starts.iter().copied().min().unwrap_or(0);
        for room in self.rooms() {
            let rows = room.narrow(0, 0, self.rows())?;
            let kept = rows.narrow(1, by, self.len - by)?.force_contiguous()?;
            rows.slice_set(&kept, 1, 0)?;
        }
        self.len -= by;
        for (start, tokens) in self.starts.iter_mut().zip(&mut self.tokens) {
            *start -= by;
            tokens.drain(..by);
        }
        Ok(())
    }

    /// Keys and values of every layer.
    fn rooms(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flat_map(|(keys, values)| [keys, values])
    }
}
