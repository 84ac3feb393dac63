//! Log-probabilities of what may follow many contexts: what texts have in common at their beginning is computed once.
//!
//! A tree of three levels: the prefix of all, the contexts beside each other, and behind each context its continuations.

use crate::score::Scored;
use crate::{Batch, Cache, Continuation, Error, Model, Result};
use std::collections::HashMap;

/// Tokens computed together: enough for the matrix products to be at full speed.
const TOKENS: usize = 1024;
/// Positions of keys and values in memory together, besides those of the prefix.
const POSITIONS: usize = 16_384;

/// A context with what may follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Tokens behind the prefix, at least one.
    pub context: Vec<u32>,
    /// What may follow.
    pub continuations: Vec<Vec<u32>>,
}

/// A continuation on its way: the branch it belongs to, and the scores of its tokens so far.
struct Leaf<'a> {
    branch: usize,
    tokens: &'a [u32],
    scores: Vec<Scored>,
}

/// Leaves whose tokens but the last are the same: they are computed as one row.
struct Twig<'a> {
    branch: usize,
    input: &'a [u32],
    leaves: Vec<usize>,
}

impl Model {
    /// Scores the continuations of every branch behind `prefix`, which may be empty; as they are, in order.
    ///
    /// In `f32` on the CPU the scores are the same to the bit however texts are cut into prefix and contexts, and
    /// whatever stands beside them.
    ///
    /// # Errors
    /// When a context is empty, or a token is outside the vocabulary.
    pub fn branch_logprobs(
        &self,
        prefix: &[u32],
        branches: &[Branch],
    ) -> Result<Vec<Vec<Continuation>>> {
        if branches.iter().any(|branch| branch.context.is_empty()) {
            return Err(Error::Argument(
                "a continuation needs at least one token before it".into(),
            ));
        }
        if !self.rotates_alike(longest_text(prefix, branches)) {
            return self.whole_texts(prefix, branches);
        }
        let trunk = self.trunk(prefix)?;
        let lengths = branches.iter().map(|branch| branch.context.len());
        let mut out = Vec::with_capacity(branches.len());
        for range in chunks(lengths, prefix.len()) {
            out.extend(self.grow(trunk.as_ref(), &branches[range])?);
        }
        Ok(out)
    }

    /// Whether tokens are rotated the same way in texts of any length up to `positions`, so that texts can share them.
    pub(crate) fn rotates_alike(&self, positions: usize) -> bool {
        let limit = self.config.rotation_changes_after();
        limit.is_none_or(|limit| positions <= limit)
    }

    /// Text by text, with nothing shared.
    fn whole_texts(&self, prefix: &[u32], branches: &[Branch]) -> Result<Vec<Vec<Continuation>>> {
        let of_branch = |branch: &Branch| {
            let context = [prefix, &branch.context].concat();
            let one = |tokens: &Vec<u32>| self.whole_text(&context, tokens);
            branch.continuations.iter().map(one).collect()
        };
        branches.iter().map(of_branch).collect()
    }

    fn whole_text(&self, context: &[u32], tokens: &[u32]) -> Result<Continuation> {
        let text = [context, &tokens[..tokens.len().saturating_sub(1)]].concat();
        let batch = Batch::right_padded(&[text], 0);
        let places = context.len() as u32 - 1..;
        let targets: Vec<(u32, u32)> = places.zip(tokens.iter().copied()).collect();
        check(&targets, self.config.vocab)?;
        let resid = self.residual(&batch, &mut ())?;
        let scored = self.scored(&resid, &batch, &targets, &mut ())?;
        Ok(Continuation::new(&scored))
    }

    /// Keys and values of what all texts begin with; none where they have nothing in common.
    pub(crate) fn trunk(&self, prefix: &[u32]) -> Result<Option<Cache>> {
        if prefix.is_empty() {
            return Ok(None);
        }
        let mut cache = self.new_cache(1, prefix.len())?;
        let batch = Batch::right_padded(&[prefix.to_vec()], 0);
        self.advance(&batch, &mut cache, &mut ())?;
        Ok(Some(cache))
    }

    /// Room behind the trunk for sequences of up to `seq` tokens.
    pub(crate) fn room(&self, trunk: Option<&Cache>, rows: usize, seq: usize) -> Result<Cache> {
        match trunk {
            Some(trunk) => Ok(trunk.repeated(rows, trunk.len + seq)?),
            None => self.new_cache(rows, seq),
        }
    }

    /// The contexts side by side, then what follows them.
    fn grow(&self, trunk: Option<&Cache>, branches: &[Branch]) -> Result<Vec<Vec<Continuation>>> {
        let mut leaves = leaves(branches);
        let contexts: Vec<Vec<u32>> = branches.iter().map(|b| b.context.clone()).collect();
        let batch = Batch::right_padded(&contexts, 0);
        let mut cache = self.room(trunk, branches.len(), batch.seq)?;
        let last = |branch: usize| (branch * batch.seq + contexts[branch].len() - 1) as u32;
        let last: Vec<u32> = (0..branches.len()).map(last).collect();
        let resid = self.advance_to(&batch, &mut cache, &last)?;
        let begun = leaves.iter().filter(|leaf| !leaf.tokens.is_empty());
        let targets: Vec<(u32, u32)> = begun
            .map(|leaf| (leaf.branch as u32, leaf.tokens[0]))
            .collect();
        check(&targets, self.config.vocab)?;
        let mut first = self.scored(&resid, &batch, &targets, &mut ())?.into_iter();
        for leaf in leaves.iter_mut().filter(|leaf| !leaf.tokens.is_empty()) {
            leaf.scores.extend(first.next());
        }
        self.finish(&cache, branches, &mut leaves)?;
        let mut out = vec![Vec::new(); branches.len()];
        for leaf in leaves {
            out[leaf.branch].push(Continuation::new(&leaf.scores));
        }
        Ok(out)
    }

    /// All tokens but the first, which the contexts predict.
    fn finish(&self, contexts: &Cache, branches: &[Branch], leaves: &mut [Leaf]) -> Result<()> {
        let twigs = twigs(leaves);
        let before = contexts.len - longest(branches);
        for range in chunks(twigs.iter().map(|twig| twig.input.len()), contexts.len) {
            let twigs = &twigs[range];
            let inputs: Vec<Vec<u32>> = twigs.iter().map(|twig| twig.input.to_vec()).collect();
            let batch = Batch::right_padded(&inputs, 0);
            let mut cache = self.new_cache(twigs.len(), contexts.len + batch.seq)?;
            cache.len = contexts.len;
            for twig in twigs {
                let n = before + branches[twig.branch].context.len();
                cache.put(contexts, twig.branch, n)?;
            }
            let resid = self.advance_to(&batch, &mut cache, &places(&batch))?;
            let (targets, owners) = targets(twigs, leaves);
            check(&targets, self.config.vocab)?;
            let scored = self.scored(&resid, &batch, &targets, &mut ())?;
            for (leaf, score) in owners.into_iter().zip(scored) {
                leaves[leaf].scores.push(score);
            }
        }
        Ok(())
    }
}

fn longest(branches: &[Branch]) -> usize {
    let lengths = branches.iter().map(|branch| branch.context.len());
    lengths.max().unwrap_or(0)
}

/// Tokens of the longest text.
fn longest_text(prefix: &[u32], branches: &[Branch]) -> usize {
    let of_branch = |branch: &Branch| {
        let longest = branch.continuations.iter().map(Vec::len).max();
        prefix.len() + branch.context.len() + longest.unwrap_or(0)
    };
    branches.iter().map(of_branch).max().unwrap_or(0)
}

fn leaves(branches: &[Branch]) -> Vec<Leaf<'_>> {
    let mut leaves = Vec::new();
    for (branch, one) in branches.iter().enumerate() {
        leaves.extend(one.continuations.iter().map(|tokens| Leaf {
            branch,
            tokens,
            scores: Vec::new(),
        }));
    }
    leaves
}

/// The rows that remain to be computed, like lengths side by side.
fn twigs<'a>(leaves: &[Leaf<'a>]) -> Vec<Twig<'a>> {
    let mut twigs: Vec<Twig> = Vec::new();
    let mut known: HashMap<(usize, &[u32]), usize> = HashMap::new();
    for (number, leaf) in leaves.iter().enumerate() {
        let Some((_, input)) = leaf
            .tokens
            .split_last()
            .filter(|(_, rest)| !rest.is_empty())
        else {
            continue;
        };
        let place = *known.entry((leaf.branch, input)).or_insert_with(|| {
            twigs.push(Twig {
                branch: leaf.branch,
                input,
                leaves: Vec::new(),
            });
            twigs.len() - 1
        });
        twigs[place].leaves.push(number);
    }
    twigs.sort_by_key(|twig| twig.input.len());
    twigs
}

/// Where the tokens of a batch stand.
fn places(batch: &Batch) -> Vec<u32> {
    let of_row = |row: usize| (0..batch.ends[row]).map(move |at| (row * batch.seq + at) as u32);
    (0..batch.batch).flat_map(of_row).collect()
}

/// Tokens of the twigs, by number, with what they should predict, equal ones side by side, and whose that is.
fn targets(twigs: &[Twig], leaves: &[Leaf]) -> (Vec<(u32, u32)>, Vec<usize>) {
    let (mut targets, mut owners) = (Vec::new(), Vec::new());
    let mut number = 0;
    for twig in twigs {
        for position in 0..twig.input.len() {
            for &leaf in &twig.leaves {
                targets.push((number, leaves[leaf].tokens[position + 1]));
                owners.push(leaf);
            }
            number += 1;
        }
    }
    (targets, owners)
}

/// Ranges of rows that are computed together; `before` positions stand before each.
pub(crate) fn chunks(
    lengths: impl Iterator<Item = usize>,
    before: usize,
) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    let (mut tokens, mut widest) = (0, 0);
    for (row, length) in lengths.enumerate() {
        let fits = ranges.last().is_some_and(|range| {
            let positions = (range.len() + 1) * (before + length.max(widest));
            tokens + length <= TOKENS && positions <= POSITIONS
        });
        if let Some(range) = ranges.last_mut().filter(|_| fits) {
            range.end += 1;
            (tokens, widest) = (tokens + length, widest.max(length));
        } else {
            ranges.push(row..row + 1);
            (tokens, widest) = (length, length);
        }
    }
    ranges
}

fn check(targets: &[(u32, u32)], vocab: usize) -> Result<()> {
    match targets.iter().find(|(_, token)| *token as usize >= vocab) {
        Some((_, token)) => Err(Error::Argument(format!(
            "token {token} is outside the vocabulary of {vocab}"
        ))),
        None => Ok(()),
    }
}
