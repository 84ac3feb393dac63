//! Generation where rows end and begin one by one: a text that has ended makes place for the next prompt, so that no step
//! computes padding of texts that are done.

use crate::branch::chunks;
use crate::generate::{Row, one_each};
use crate::{Batch, Cache, Generated, Model, Result, Sampling, Stops, error::Error, ops};
use candle_core::DType;
use rayon::prelude::*;

/// A beginning shorter than this is not worth a pass of its own.
const SHARED: usize = 8;
/// Positions of room beyond the longest text: how often rows that began late are moved to the front.
const ROOM: usize = 64;

impl Model {
    /// Continues every prompt, at most `n_rows` at a time; the texts in the order of the prompts. What all prompts begin
    /// with is computed once, and so are prompts that are the same.
    ///
    /// In `f32` on the CPU the texts and log-probabilities are those of [`Self::generate_until`] to the bit.
    pub fn generate_queued(
        &self,
        prompts: &[Vec<u32>],
        streams: &[u64],
        sampling: &Sampling,
        stops: Stops<'_>,
        n_rows: usize,
    ) -> Result<Vec<Generated>> {
        if prompts.len() != streams.len() || prompts.iter().any(Vec::is_empty) || n_rows == 0 {
            return Err(Error::Argument(
                "every prompt needs at least one token and a random stream, and the batch a row"
                    .into(),
            ));
        }
        let n_rows = n_rows.min(prompts.len());
        let mut queue = Queue::new(self, prompts, streams, (sampling, stops), n_rows)?;
        while queue.admit()? {
            queue.step()?;
        }
        Ok(queue.texts.into_iter().map(Row::into_generated).collect())
    }
}

/// Prompts that wait, and rows under way.
struct Queue<'a> {
    model: &'a Model,
    prompts: &'a [Vec<u32>],
    sampling: &'a Sampling,
    stops: Stops<'a>,
    n_rows: usize,
    /// Prompts that have not begun, the longest last: whoever begins later is no longer than what is under way.
    waiting: Vec<usize>,
    /// What all prompts begin with.
    trunk: Option<Cache>,
    cache: Cache,
    /// Of each row of the cache, the prompt and the token it goes on with.
    running: Vec<(usize, u32)>,
    /// By prompt.
    texts: Vec<Row>,
}

impl<'a> Queue<'a> {
    fn new(
        model: &'a Model,
        prompts: &'a [Vec<u32>],
        streams: &[u64],
        (sampling, stops): (&'a Sampling, Stops<'a>),
        n_rows: usize,
    ) -> Result<Self> {
        let mut waiting: Vec<usize> = (0..prompts.len()).collect();
        // Equal prompts stand side by side, and of them the first goes first.
        waiting.sort_by(|&a, &b| {
            let length = prompts[a].len().cmp(&prompts[b].len());
            length
                .then_with(|| prompts[a].cmp(&prompts[b]))
                .then(b.cmp(&a))
        });
        if sampling.max_new_tokens == 0 {
            waiting.clear();
        }
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let shared = match prompts.first() {
            Some(first) if model.rotates_alike(longest) => &first[..shared(prompts)],
            _ => &[],
        };
        Ok(Self {
            model,
            prompts,
            sampling,
            stops,
            n_rows,
            waiting,
            trunk: model.trunk(shared)?,
            cache: model.new_cache(n_rows, longest + sampling.max_new_tokens + ROOM)?,
            running: Vec::new(),
            texts: streams
                .iter()
                .map(|stream| Row::new(sampling.seed, *stream))
                .collect(),
        })
    }

    /// Begins prompts where there is place; false when nothing is left to do.
    fn admit(&mut self) -> Result<bool> {
        while !self.waiting.is_empty() && self.has_place() {
            let free = self.n_rows - self.running.len();
            let first = self.waiting.len().saturating_sub(free);
            let mut next = self.waiting.split_off(first);
            next.reverse();
            self.begin(&next)?;
        }
        Ok(!self.running.is_empty())
    }

    /// Whether it is time to begin others: a pass over a single short prompt costs as much as a step of all rows.
    fn has_place(&self) -> bool {
        let free = self.n_rows - self.running.len();
        self.running.is_empty() || free >= self.waiting.len().min(self.n_rows.div_ceil(8))
    }

    /// The first pass over some prompts, and their first tokens.
    fn begin(&mut self, prompts: &[usize]) -> Result<()> {
        let text = |prompt: &usize| self.prompts[*prompt].as_slice();
        let distinct: Vec<&[usize]> = prompts.chunk_by(|a, b| text(a) == text(b)).collect();
        let before = self.trunk.as_ref().map_or(0, Cache::len);
        let lengths: Vec<usize> = distinct
            .iter()
            .map(|same| text(&same[0]).len() - before)
            .collect();
        for range in chunks(lengths.iter().copied(), before) {
            let distinct = &distinct[range];
            let rest: Vec<Vec<u32>> = distinct
                .iter()
                .map(|same| self.prompts[same[0]][before..].to_vec())
                .collect();
            let (cache, logits) = self.read(&rest)?;
            for (row, (same, logits)) in distinct.iter().zip(logits).enumerate() {
                for &prompt in *same {
                    self.place(prompt, &logits, (&cache, row))?;
                }
            }
        }
        Ok(())
    }

    /// Reads what follows the trunk; keys and values, and the logits after each.
    fn read(&self, rest: &[Vec<u32>]) -> Result<(Cache, Vec<Vec<f32>>)> {
        let batch = Batch::right_padded(rest, 0);
        let mut cache = self
            .model
            .room(self.trunk.as_ref(), rest.len(), batch.seq)?;
        let last = rest.iter().enumerate();
        let last: Vec<u32> = last
            .map(|(row, tokens)| (row * batch.seq + tokens.len() - 1) as u32)
            .collect();
        let resid = self.model.advance_to(&batch, &mut cache, &last)?;
        let logits = self.model.logits_of(&resid)?;
        Ok((cache, logits.to_dtype(DType::F32)?.to_vec2()?))
    }

    /// Chooses the first token of a text, and gives it a row where it goes on.
    fn place(&mut self, prompt: usize, logits: &[f32], (from, row): (&Cache, usize)) -> Result<()> {
        let text = &mut self.texts[prompt];
        let token = text.advance(logits, self.sampling, self.stops, 0)?;
        if has_ended(text, self.sampling) {
            return Ok(());
        }
        let length = self.prompts[prompt].len();
        if self.running.is_empty() {
            self.cache.clear();
            self.cache.len = length;
        }
        self.cache.put(from, row, length)?;
        self.running.push((prompt, token));
        Ok(())
    }

    /// One token more for every row.
    fn step(&mut self) -> Result<()> {
        if self.cache.len == self.cache.capacity {
            self.cache.close_up()?;
        }
        let tokens = self.running.iter().map(|(_, token)| *token).collect();
        let logits = self
            .model
            .step(&one_each(tokens), &mut self.cache, &mut ())?;
        let mut texts: Vec<Option<&mut Row>> = self.texts.iter_mut().map(Some).collect();
        let mut rows: Vec<(&mut u32, &mut Row)> = Vec::with_capacity(self.running.len());
        for (prompt, token) in &mut self.running {
            rows.extend(texts[*prompt].take().map(|text| (token, text)));
        }
        let (sampling, stops) = (self.sampling, self.stops);
        let vocab = self.model.config.vocab;
        ops::on_values(&logits, |logits| {
            let rows = rows.par_iter_mut().zip(logits.par_chunks(vocab));
            rows.try_for_each(|((token, text), logits)| {
                **token = text.advance(logits, sampling, stops, 0)?;
                Ok::<_, Error>(())
            })
        })??;
        for row in (0..self.running.len()).rev() {
            if has_ended(&self.texts[self.running[row].0], sampling) {
                self.running.swap_remove(row);
                self.cache.remove(row)?;
            }
        }
        Ok(())
    }
}

fn has_ended(text: &Row, sampling: &Sampling) -> bool {
    text.finished || text.tokens.len() >= sampling.max_new_tokens
}

/// Tokens that all prompts begin with and none ends within; none where they are few.
fn shared(prompts: &[Vec<u32>]) -> usize {
    let Some((first, others)) = prompts.split_first() else {
        return 0;
    };
    let common = others.iter().fold(first.len() - 1, |n, other| {
        let equal = first
            .iter()
            .zip(&other[..other.len() - 1])
            .take_while(|(a, b)| a == b);
        n.min(equal.count())
    });
    if others.is_empty() || common < SHARED {
        0
    } else {
        common
    }
}
