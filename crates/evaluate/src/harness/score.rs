//! Likelihoods of continuations. What the contexts of a task have in common at their beginning is computed once a batch, and
//! every context once for all its continuations.

use std::collections::HashMap;

use anyhow::Result;
use model::{Branch, Continuation, Model};

use super::units::{Sequence, Tokens, Unit};

/// Log-likelihood of a continuation in nats, and whether greedy decoding would have written it.
pub type Likelihood = (f64, bool);

/// A beginning shorter than this is not worth a pass of its own.
const SHARED: usize = 8;

/// How the sequences of a task are computed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Tokens that the first context of every document begins with: examples and instructions.
    prefix: Vec<u32>,
}

impl Plan {
    /// The plan for all units of a task: it does not depend on which of them are asked together.
    pub fn of(units: &[&Unit]) -> Self {
        let mut contexts = units.iter().filter_map(|unit| sequences_of(unit).first());
        let Some(first) = contexts.next().map(context) else {
            return Self::default();
        };
        // The last token of a context predicts what follows, which no prefix may hold.
        let common = |n: usize, one: &Sequence| {
            let equal = context(one)
                .iter()
                .zip(&first[..n])
                .take_while(|(a, b)| a == b);
            equal.count().min(one.start - 1)
        };
        let n = contexts.fold(first.len() - 1, common);
        let is_worth = units.len() > 1 && n >= SHARED;
        Self {
            prefix: first[..if is_worth { n } else { 0 }].to_vec(),
        }
    }
}

fn sequences_of(unit: &Unit) -> &[Sequence] {
    match &unit.tokens {
        Tokens::Sequences(all) => all,
        Tokens::Prompt(_) => &[],
    }
}

fn context(one: &Sequence) -> &[u32] {
    &one.tokens[..one.start]
}

/// Contexts with their continuations, and of each continuation which sequence it belongs to.
#[derive(Debug, Default)]
struct Tree<'a> {
    branches: Vec<Branch>,
    owners: Vec<Vec<usize>>,
    known: HashMap<&'a [u32], usize>,
}

impl<'a> Tree<'a> {
    /// Adds a sequence, behind the first `shared` tokens of its context.
    fn add(&mut self, number: usize, one: &'a Sequence, shared: usize) {
        let context = &context(one)[shared..];
        let place = *self.known.entry(context).or_insert(self.branches.len());
        if place == self.branches.len() {
            self.branches.push(Branch {
                context: context.to_vec(),
                continuations: Vec::new(),
            });
            self.owners.push(Vec::new());
        }
        self.branches[place]
            .continuations
            .push(one.tokens[one.start..].to_vec());
        self.owners[place].push(number);
    }
}

/// Likelihoods of the sequences of several units, in order.
pub fn score(model: &Model, units: &[&Unit], plan: &Plan) -> Result<Vec<Vec<Likelihood>>> {
    let all: Vec<&Sequence> = units.iter().flat_map(|unit| sequences_of(unit)).collect();
    let (mut behind, mut apart) = (Tree::default(), Tree::default());
    for (number, one) in all.iter().enumerate() {
        let n = plan.prefix.len();
        if n > 0 && one.start > n && one.tokens.starts_with(&plan.prefix) {
            behind.add(number, one, n);
        } else {
            apart.add(number, one, 0);
        }
    }
    let mut found = vec![(0.0, false); all.len()];
    for (tree, prefix) in [(behind, plan.prefix.as_slice()), (apart, &[])] {
        if tree.branches.is_empty() {
            continue;
        }
        let scored = model.branch_logprobs(prefix, &tree.branches)?;
        for (owners, scored) in tree.owners.iter().zip(scored) {
            for (number, one) in owners.iter().zip(scored) {
                found[*number] = likelihood(&one);
            }
        }
    }
    let mut found = found.into_iter();
    Ok(units
        .iter()
        .map(|unit| found.by_ref().take(sequences_of(unit).len()).collect())
        .collect())
}

fn likelihood(one: &Continuation) -> Likelihood {
    (one.total(), one.greedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::harness::Request;

    fn unit(sequences: &[(&[u32], usize)]) -> Unit {
        let sequence = |(tokens, start): &(&[u32], usize)| Sequence {
            tokens: tokens.to_vec(),
            start: *start,
        };
        Unit {
            task: 0,
            document: 0,
            request: Request::Roll {
                text: String::new(),
            },
            tokens: Tokens::Sequences(sequences.iter().map(sequence).collect()),
        }
    }

    fn prefix(units: &[Unit]) -> usize {
        Plan::of(&units.iter().collect::<Vec<_>>()).prefix.len()
    }

    #[test]
    fn a_long_shared_beginning_is_computed_once() {
        let start: Vec<u32> = (0..50).collect();
        let with = |end: &[u32]| [start.as_slice(), end].concat();
        let (a, b, c) = (with(&[60, 61, 62]), with(&[60, 61, 63]), with(&[70, 71]));
        let other: (&[u32], usize) = (&[1, 2], 1);
        let units = [unit(&[(&a, 52), (&b, 52), other]), unit(&[(&c, 51), other])];
        assert_eq!(prefix(&units), 50);
        // The last token of a context predicts the continuation: no prefix holds it.
        assert_eq!(prefix(&[unit(&[(&a, 50)]), unit(&[(&c, 51)])]), 49);
        // One document, or little in common: nothing is gained.
        assert_eq!(prefix(&units[..1]), 0);
        assert_eq!(
            prefix(&[unit(&[(&[1, 2, 3], 2)]), unit(&[(&[1, 5], 1)])]),
            0
        );
        assert_eq!(prefix(&[]), 0);
    }
}
