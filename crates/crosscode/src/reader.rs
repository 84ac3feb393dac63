//! Shuffled batches of rows: every row exactly once per epoch, a bounded buffer, an order that the seed decides.
//!
//! The kept rows are cut into blocks of neighbours. Each epoch shuffles the blocks, fills the buffer with the next of them
//! (read in one piece each) and hands their rows out in shuffled order. Batches run across buffers and epochs, so none is
//! short.

use dict::Acts;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Rows of a block: enough neighbours for one read to be worth its while.
const BLOCK: usize = 256;

/// Hands out batches.
pub struct Reader<'a> {
    acts: &'a Acts,
    /// Rows that take part, ascending.
    rows: &'a [u32],
    seed: u64,
    blocks_per_buffer: usize,
    epoch: u64,
    /// Blocks of this epoch in their order.
    order: Vec<u32>,
    /// How many blocks of `order` were read.
    blocks_done: usize,
    buffer: Buffer,
}

/// Rows in memory.
#[derive(Default)]
struct Buffer {
    /// Activations of each model `[n_rows, d_model]`.
    x: Vec<Vec<f32>>,
    /// Order in which rows are handed out.
    order: Vec<u32>,
    /// How many were handed out.
    done: usize,
}

impl<'a> Reader<'a> {
    /// Begins the first epoch. About `buffer_rows` rows are held in memory.
    pub fn new(acts: &'a Acts, rows: &'a [u32], seed: u64, buffer_rows: usize) -> Self {
        let mut reader = Self {
            acts,
            rows,
            seed,
            blocks_per_buffer: (buffer_rows / BLOCK).max(1),
            epoch: 0,
            order: Vec::new(),
            blocks_done: 0,
            buffer: Buffer::default(),
        };
        reader.begin_epoch(0);
        reader
    }

    /// Replaces `out` by the next `n` rows of every model, each `[n, d_model]`.
    pub fn next(&mut self, n: usize, out: &mut [Vec<f32>]) -> anyhow::Result<()> {
        out.iter_mut().for_each(Vec::clear);
        let mut missing = n;
        while missing > 0 {
            if self.buffer.left() == 0 {
                self.refill()?;
            }
            let take = missing.min(self.buffer.left());
            self.buffer.take(take, self.acts.widths(), out);
            missing -= take;
        }
        Ok(())
    }

    /// Goes to the place behind the first `n` rows, without reading what lies before.
    pub fn seek(&mut self, n: u64) -> anyhow::Result<()> {
        self.begin_epoch(n / self.rows.len() as u64);
        let mut left = (n % self.rows.len() as u64) as usize;
        while left > 0 {
            let (_, n_rows) = self.next_blocks();
            if left < n_rows {
                self.refill()?;
                self.buffer.done = left;
                return Ok(());
            }
            self.blocks_done += self.blocks_per_buffer;
            left -= n_rows;
        }
        Ok(())
    }

    fn begin_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.blocks_done = 0;
        self.buffer.order.clear();
        self.buffer.done = 0;
        self.order = (0..self.rows.len().div_ceil(BLOCK) as u32).collect();
        let mut random = self.random(0);
        self.order.shuffle(&mut random);
    }

    /// Generator of one purpose within this epoch: 0 orders the blocks, n + 1 the buffer that begins with block n.
    fn random(&self, purpose: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(self.epoch << 32 | purpose);
        random
    }

    /// The blocks that fill the next buffer, and how many rows they have.
    fn next_blocks(&self) -> (&[u32], usize) {
        let end = self
            .order
            .len()
            .min(self.blocks_done + self.blocks_per_buffer);
        let blocks = &self.order[self.blocks_done.min(end)..end];
        (
            blocks,
            blocks.iter().map(|&block| self.block(block).len()).sum(),
        )
    }

    /// Kept rows of a block.
    fn block(&self, block: u32) -> &'a [u32] {
        let start = block as usize * BLOCK;
        &self.rows[start..self.rows.len().min(start + BLOCK)]
    }

    fn refill(&mut self) -> anyhow::Result<()> {
        if self.blocks_done >= self.order.len() {
            self.begin_epoch(self.epoch + 1);
        }
        let (blocks, n_rows) = self.next_blocks();
        let blocks: Vec<&[u32]> = blocks.iter().map(|&block| self.block(block)).collect();
        self.buffer.x.resize(self.acts.n_models(), Vec::new());
        let mut piece = Vec::new();
        for (model, x) in self.buffer.x.iter_mut().enumerate() {
            x.clear();
            for rows in &blocks {
                read_block(self.acts, model, rows, &mut piece, x)?;
            }
        }
        self.buffer.order = (0..n_rows as u32).collect();
        self.buffer.done = 0;
        let mut random = self.random(self.blocks_done as u64 + 1);
        self.buffer.order.shuffle(&mut random);
        self.blocks_done += self.blocks_per_buffer;
        Ok(())
    }
}

/// Appends the rows of a block, read in one piece with those left out between them.
fn read_block(
    acts: &Acts,
    model: usize,
    rows: &[u32],
    piece: &mut Vec<f32>,
    out: &mut Vec<f32>,
) -> anyhow::Result<()> {
    let span: Range<usize> = rows[0] as usize..rows[rows.len() - 1] as usize + 1;
    acts.read(model, span.clone(), piece)?;
    let width = acts.widths()[model];
    for &row in rows {
        out.extend_from_slice(&piece[(row as usize - span.start) * width..][..width]);
    }
    Ok(())
}

impl Buffer {
    fn left(&self) -> usize {
        self.order.len() - self.done
    }

    /// Appends the next `n` rows of every model.
    fn take(&mut self, n: usize, widths: &[usize], out: &mut [Vec<f32>]) {
        for ((x, width), out) in self.x.iter().zip(widths).zip(out) {
            for &row in &self.order[self.done..self.done + n] {
                out.extend_from_slice(&x[row as usize * width..][..*width]);
            }
        }
        self.done += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use store::{Provenance, TensorData, write_tensors};

    /// Rows that hold their own number, in one file.
    fn numbered(directory: &tempfile::TempDir, n_rows: usize) -> Acts {
        let path: PathBuf = directory.path().join("acts.safetensors");
        let values = (0..n_rows).map(|row| row as f32).collect();
        let tensors = [(
            "acts".to_owned(),
            TensorData::F32 {
                shape: vec![n_rows, 1, 1],
                values,
            },
        )];
        write_tensors(
            &path,
            &tensors,
            &BTreeMap::new(),
            &Provenance::new("test", &()).unwrap(),
        )
        .unwrap();
        Acts::open(&[path], &[], None).unwrap()
    }

    fn take(reader: &mut Reader, n: usize) -> Vec<u32> {
        let mut out = [Vec::new()];
        reader.next(n, &mut out).unwrap();
        out[0].iter().map(|&value| value as u32).collect()
    }

    #[test]
    fn every_kept_row_comes_once_per_epoch_in_shuffled_order() {
        let directory = tempfile::tempdir().unwrap();
        let acts = numbered(&directory, 3000);
        let kept: Vec<u32> = (0..3000).filter(|row| row % 7 != 0).collect();
        let mut reader = Reader::new(&acts, &kept, 1, 1000);
        for epoch in 0..2 {
            let mut seen: Vec<u32> = (0..kept.len().div_ceil(100))
                .flat_map(|batch| take(&mut reader, 100.min(kept.len() - batch * 100)))
                .collect();
            assert_ne!(seen, kept, "epoch {epoch} is not shuffled");
            seen.sort_unstable();
            assert_eq!(seen, kept, "epoch {epoch}");
        }
    }

    #[test]
    fn a_reader_put_in_place_goes_on_as_one_that_read_its_way_there() {
        let directory = tempfile::tempdir().unwrap();
        let acts = numbered(&directory, 2000);
        let kept: Vec<u32> = (0..2000).collect();
        for place in [0, 17, 512, 768, 1999, 2000, 2300, 5000] {
            let mut straight = Reader::new(&acts, &kept, 4, 600);
            take(&mut straight, place);
            let mut placed = Reader::new(&acts, &kept, 4, 600);
            placed.seek(place as u64).unwrap();
            assert_eq!(
                take(&mut straight, 700),
                take(&mut placed, 700),
                "from row {place}"
            );
        }
    }
}
