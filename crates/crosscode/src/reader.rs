//! Shuffled batches of rows: every row exactly once per epoch, a bounded buffer, an order that the seed decides.
//!
//! The rows are cut into blocks of neighbours. Each epoch shuffles the blocks; a buffer takes the next of them (read in one
//! piece each), leaves out rows of outlying norm, and hands the rest out in shuffled order. Batches run across buffers and
//! epochs. A thread of its own fills the next buffer while this one is trained on; both together hold `buffer_rows`.

use crate::sample::Sampled;
use crate::source::Source;
use anyhow::{Context, bail};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

/// The order in which rows are handed out.
pub struct Order {
    source: Arc<Source>,
    sampled: Arc<Sampled>,
    /// Where blocks begin among the sampled rows, and the end.
    blocks: Vec<usize>,
    seed: u64,
    /// Rows of a buffer, about.
    buffer_rows: usize,
}

/// A place in that order: epoch, buffer within it, row within that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Buffer of the epoch, from 0.
    pub buffer: u64,
    /// Rows of the buffer handed out.
    pub row: u64,
}

/// Hands out batches.
pub struct Reader {
    filled: Receiver<anyhow::Result<Buffer>>,
    /// Where buffers go back to be filled again.
    spent: Sender<Buffer>,
    buffer: Buffer,
    widths: Vec<usize>,
    /// Rows left out for their norm in the first epoch.
    outliers: usize,
}

/// Rows in memory.
#[derive(Default)]
struct Buffer {
    position: Position,
    /// Activations of each model `[n_rows, d_model]`.
    x: Vec<Vec<f32>>,
    /// Order in which rows are handed out.
    order: Vec<u32>,
    /// Rows left out for their norm.
    outliers: usize,
}

impl Order {
    /// About `buffer_rows` rows are held in memory, half of them being read.
    pub fn new(source: Arc<Source>, sampled: Arc<Sampled>, seed: u64, buffer_rows: usize) -> Self {
        Self {
            blocks: source.blocks(&sampled.rows),
            source,
            sampled,
            seed,
            buffer_rows: (buffer_rows / 2).max(1),
        }
    }

    /// Blocks of every buffer of an epoch.
    fn buffers(&self, epoch: u64) -> Vec<Vec<u32>> {
        let mut order: Vec<u32> = (0..self.blocks.len() as u32 - 1).collect();
        order.shuffle(&mut self.random(epoch, 0));
        let mut buffers: Vec<Vec<u32>> = Vec::new();
        let mut held = usize::MAX;
        for block in order {
            let size = self.block(block).len();
            if held.saturating_add(size) > self.buffer_rows {
                buffers.push(Vec::new());
                held = 0;
            }
            held += size;
            buffers.last_mut().expect("one was just added").push(block);
        }
        buffers
    }

    /// Generator of one purpose within an epoch: 0 orders the blocks, n + 1 the rows of buffer n.
    fn random(&self, epoch: u64, purpose: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(epoch << 32 | purpose);
        random
    }

    fn block(&self, block: u32) -> &[u32] {
        let block = block as usize;
        &self.sampled.rows[self.blocks[block]..self.blocks[block + 1]]
    }

    /// Reads one buffer into the memory of a spent one: fresh memory costs a page fault for every page.
    fn fill(
        &self,
        position: Position,
        blocks: &[u32],
        mut buffer: Buffer,
    ) -> anyhow::Result<Buffer> {
        let widths = self.source.widths();
        buffer.clear(position, widths.len());
        let most: usize = blocks.iter().map(|&block| self.block(block).len()).sum();
        for (x, width) in buffer.x.iter_mut().zip(widths) {
            x.reserve(most * width);
        }
        for &block in blocks {
            let start = buffer.x[0].len() / widths[0];
            self.source.append(self.block(block), &mut buffer.x)?;
            buffer.keep_ordinary(start, widths, |row| self.sampled.is_ordinary(row));
        }
        let n_rows = buffer.x[0].len() / widths[0];
        buffer.order.extend(0..n_rows as u32);
        buffer
            .order
            .shuffle(&mut self.random(position.epoch, position.buffer + 1));
        Ok(buffer)
    }

    /// Begins to read at a place.
    pub fn read_from(self, start: Position) -> Reader {
        let (sender, filled) = sync_channel(0);
        let (spent, returned) = channel();
        let widths = self.source.widths().to_vec();
        std::thread::spawn(move || {
            let mut at = start;
            loop {
                let buffers = self.buffers(at.epoch);
                let mut any = false;
                for (number, blocks) in buffers.iter().enumerate().skip(at.buffer as usize) {
                    at.buffer = number as u64;
                    let room = returned.try_recv().unwrap_or_default();
                    let buffer = self.fill(at, blocks, room);
                    any |= buffer.as_ref().is_ok_and(|buffer| !buffer.order.is_empty());
                    let failed = buffer.is_err();
                    // Whoever read has stopped, or will when it sees the error.
                    if sender.send(buffer).is_err() || failed {
                        return;
                    }
                    at.row = 0;
                }
                if !any && at.buffer as usize + 1 == buffers.len() && start.epoch < at.epoch {
                    // An epoch without a row would go on for ever.
                    let _ = sender.send(Err(anyhow::anyhow!(
                        "cannot train: every row is of outlying norm"
                    )));
                    return;
                }
                at = Position {
                    epoch: at.epoch + 1,
                    ..Position::default()
                };
            }
        });
        Reader {
            filled,
            spent,
            buffer: Buffer::default(),
            widths,
            outliers: 0,
        }
    }
}

impl Reader {
    /// Replaces `out` by the next `n` rows of every model, each `[n, d_model]`.
    pub fn next(&mut self, n: usize, out: &mut [Vec<f32>]) -> anyhow::Result<()> {
        out.iter_mut().for_each(Vec::clear);
        let mut missing = n;
        while missing > 0 {
            if self.buffer.left() == 0 {
                if !self.buffer.x.is_empty() {
                    // Nobody takes it when the reading thread has ended, which is said below.
                    let _ = self.spent.send(std::mem::take(&mut self.buffer));
                }
                self.buffer = match self.filled.recv() {
                    Ok(buffer) => buffer?,
                    Err(_) => bail!("cannot read on: the reading thread has ended"),
                };
                if self.buffer.position.epoch == 0 {
                    self.outliers += self.buffer.outliers;
                }
                continue;
            }
            let take = missing.min(self.buffer.left());
            self.buffer.take(take, &self.widths, out);
            missing -= take;
        }
        Ok(())
    }

    /// Where the next row comes from.
    pub fn position(&self) -> Position {
        self.buffer.position
    }

    /// Rows left out for their norm so far, in the first epoch.
    pub fn outliers(&self) -> usize {
        self.outliers
    }
}

impl Buffer {
    /// Empties it for other rows.
    fn clear(&mut self, position: Position, n_models: usize) {
        self.position = position;
        self.x.resize_with(n_models, Vec::new);
        self.x.iter_mut().for_each(Vec::clear);
        self.order.clear();
        self.outliers = 0;
    }

    /// Takes out the rows from `start` on that are not `ordinary`.
    fn keep_ordinary(
        &mut self,
        start: usize,
        widths: &[usize],
        ordinary: impl Fn(&[&[f32]]) -> bool,
    ) {
        let end = self.x[0].len() / widths[0];
        let mut kept = start;
        for row in start..end {
            let models = self.x.iter().zip(widths);
            let values: Vec<&[f32]> = models
                .map(|(x, width)| &x[row * width..][..*width])
                .collect();
            if !ordinary(&values) {
                continue;
            }
            if kept < row {
                for (x, width) in self.x.iter_mut().zip(widths) {
                    x.copy_within(row * width..(row + 1) * width, kept * width);
                }
            }
            kept += 1;
        }
        self.outliers += end - kept;
        for (x, width) in self.x.iter_mut().zip(widths) {
            x.truncate(kept * width);
        }
    }

    fn left(&self) -> usize {
        self.order.len().saturating_sub(self.position.row as usize)
    }

    /// Appends the next `n` rows of every model.
    fn take(&mut self, n: usize, widths: &[usize], out: &mut [Vec<f32>]) {
        let done = self.position.row as usize;
        for ((x, width), out) in self.x.iter().zip(widths).zip(out) {
            for &row in &self.order[done..done + n] {
                out.extend_from_slice(&x[row as usize * width..][..*width]);
            }
        }
        self.position.row += n as u64;
    }
}

impl Position {
    /// As numbers of a state file.
    pub fn to_numbers(self) -> Vec<i64> {
        vec![self.epoch as i64, self.buffer as i64, self.row as i64]
    }

    /// From the numbers of a state file.
    pub fn of_numbers(numbers: &[i64]) -> anyhow::Result<Self> {
        let [epoch, buffer, row] = *numbers else {
            bail!(
                "a place of reading has three numbers, not {}",
                numbers.len()
            );
        };
        let number =
            |value: i64| u64::try_from(value).context("a place of reading is not negative");
        Ok(Self {
            epoch: number(epoch)?,
            buffer: number(buffer)?,
            row: number(row)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dict::{Acts, Filter};
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use store::{Provenance, TensorData, write_tensors};

    /// Rows that hold their own number (and 1 more, so that none is 0), in one file; some a thousand times as much.
    fn numbered(
        directory: &tempfile::TempDir,
        n_rows: usize,
        outlying: impl Fn(usize) -> bool,
    ) -> Arc<Source> {
        let path: PathBuf = directory.path().join("acts.safetensors");
        let values = (0..n_rows)
            .flat_map(|row| [row as f32 + 1.0, if outlying(row) { 1e9 } else { 1e4 }])
            .collect();
        let tensors = [(
            "acts".to_owned(),
            TensorData::F32 {
                shape: vec![n_rows, 1, 2],
                values,
            },
        )];
        let provenance = Provenance::new("test", &()).unwrap();
        write_tensors(&path, &tensors, &BTreeMap::new(), &provenance).unwrap();
        Arc::new(Source::Store(Acts::open(&[path], &[], None).unwrap()))
    }

    fn order(source: &Arc<Source>, buffer_rows: usize) -> Order {
        let sampled = Sampled::new(source, Filter::default()).unwrap();
        Order::new(Arc::clone(source), Arc::new(sampled), 1, buffer_rows)
    }

    fn take(reader: &mut Reader, n: usize) -> Vec<u32> {
        let mut out = [Vec::new()];
        reader.next(n, &mut out).unwrap();
        out[0].chunks(2).map(|row| row[0] as u32 - 1).collect()
    }

    #[test]
    fn every_row_comes_once_per_epoch_in_shuffled_order_and_outliers_never() {
        let directory = tempfile::tempdir().unwrap();
        let source = numbered(&directory, 3000, |row| row % 7 == 0);
        let kept: Vec<u32> = (0..3000).filter(|row| row % 7 != 0).collect();
        let mut reader = order(&source, 1000).read_from(Position::default());
        for epoch in 0..3 {
            let mut seen: Vec<u32> = (0..kept.len().div_ceil(100))
                .flat_map(|batch| take(&mut reader, 100.min(kept.len() - batch * 100)))
                .collect();
            assert_ne!(seen, kept, "epoch {epoch} is not shuffled");
            seen.sort_unstable();
            assert_eq!(seen, kept, "epoch {epoch}");
        }
        assert_eq!(reader.outliers(), 3000 - kept.len());
    }

    #[test]
    fn a_reader_put_in_place_goes_on_as_one_that_read_its_way_there() {
        let directory = tempfile::tempdir().unwrap();
        let source = numbered(&directory, 2000, |row| row == 5);
        for place in [0, 17, 512, 768, 1999, 2000, 2300, 5000] {
            let mut straight = order(&source, 600).read_from(Position::default());
            take(&mut straight, place);
            let numbers = straight.position().to_numbers();
            let mut placed = order(&source, 600).read_from(Position::of_numbers(&numbers).unwrap());
            assert_eq!(
                take(&mut straight, 700),
                take(&mut placed, 700),
                "from row {place}"
            );
        }
    }

    #[test]
    fn no_more_than_the_buffer_is_held() {
        let directory = tempfile::tempdir().unwrap();
        let source = numbered(&directory, 5000, |_| false);
        let order = order(&source, 2048);
        let rows = |blocks: &Vec<u32>| {
            blocks
                .iter()
                .map(|&block| order.block(block).len())
                .sum::<usize>()
        };
        assert!(order.buffers(0).iter().all(|blocks| rows(blocks) <= 1024));
        assert_eq!(order.buffers(0).iter().map(rows).sum::<usize>(), 5000);
    }
}
