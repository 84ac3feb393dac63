//! Likelihoods of continuations. What the sequences of a task have in common at their beginning is computed once a batch.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use model::{Batch, DType, Hook, Model, Site, Tap, Tensor};

use super::units::{Sequence, Tokens, Unit};

/// Log-likelihood of a continuation in nats, and whether greedy decoding would have written it.
pub type Likelihood = (f64, bool);

/// Logits in memory together: rows of a vocabulary.
const ROWS: usize = 64;
/// Share of a token's computation that its logits take, roughly, in a model of half a billion parameters.
const LOGITS: f64 = 0.4;

/// How the sequences of a task are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Their first so many tokens once, then every different sequence.
    Together(usize),
    /// Every context once, then its continuations.
    Apart,
}

impl Plan {
    /// What costs less over all units of a task: it must not depend on which of them are asked together.
    pub fn of(units: &[&Unit]) -> Self {
        let sequences = || units.iter().flat_map(|unit| sequences_of(unit));
        let Some(first) = sequences().next() else {
            return Self::Apart;
        };
        let common = |n: usize, one: &Sequence| {
            let equal = one
                .tokens
                .iter()
                .zip(&first.tokens[..n])
                .take_while(|(a, b)| a == b);
            equal.count().min(one.start - 1)
        };
        let shared = sequences().fold(first.tokens.len(), common);
        let (mut together, mut apart) = (shared as f64, 0.0);
        for unit in units {
            let rows = distinct(sequences_of(unit).iter().map(input));
            together += rows
                .iter()
                .map(|row| (row.len() - shared) as f64 * (1.0 + LOGITS))
                .sum::<f64>();
            let contexts = distinct(sequences_of(unit).iter().map(context));
            apart += contexts
                .iter()
                .map(|context| context.len() as f64)
                .sum::<f64>();
            apart += sequences_of(unit)
                .iter()
                .map(|one| (one.tokens.len() - one.start - 1) as f64)
                .sum::<f64>()
                * (1.0 + LOGITS);
        }
        if shared > 0 && together < apart {
            Self::Together(shared)
        } else {
            Self::Apart
        }
    }
}

fn sequences_of(unit: &Unit) -> &[Sequence] {
    match &unit.tokens {
        Tokens::Sequences(all) => all,
        Tokens::Prompt(_) => &[],
    }
}

/// What the model reads: the last token predicts nothing that is asked for.
fn input(one: &Sequence) -> &[u32] {
    &one.tokens[..one.tokens.len() - 1]
}

fn context(one: &Sequence) -> &[u32] {
    &one.tokens[..one.start]
}

fn distinct<'a>(rows: impl Iterator<Item = &'a [u32]>) -> Vec<&'a [u32]> {
    let mut seen: Vec<&[u32]> = Vec::new();
    for row in rows {
        if !seen.contains(&row) {
            seen.push(row);
        }
    }
    seen
}

/// Likelihoods of the sequences of several units, in order.
pub fn score(model: &Model, units: &[&Unit], plan: Plan) -> Result<Vec<Vec<Likelihood>>> {
    let all: Vec<&Sequence> = units.iter().flat_map(|unit| sequences_of(unit)).collect();
    let found = match plan {
        Plan::Together(shared) => together(model, &all, shared)?,
        Plan::Apart => apart(model, &all)?,
    };
    let mut found = found.into_iter();
    Ok(units
        .iter()
        .map(|unit| found.by_ref().take(sequences_of(unit).len()).collect())
        .collect())
}

/// Context by context: the model's own way.
fn apart(model: &Model, all: &[&Sequence]) -> Result<Vec<Likelihood>> {
    let mut by_context: Vec<(&[u32], Vec<usize>)> = Vec::new();
    for (place, one) in all.iter().enumerate() {
        match by_context
            .iter_mut()
            .rev()
            .find(|(tokens, _)| *tokens == context(one))
        {
            Some((_, places)) => places.push(place),
            None => by_context.push((context(one), vec![place])),
        }
    }
    let mut found = vec![(0.0, false); all.len()];
    for (context, places) in by_context {
        let continuations: Vec<Vec<u32>> = places
            .iter()
            .map(|place| all[*place].tokens[all[*place].start..].to_vec())
            .collect();
        let scored = model.continuation_logprobs(context, &continuations, &mut ())?;
        for (place, one) in places.into_iter().zip(scored) {
            found[place] = (one.total(), one.greedy);
        }
    }
    Ok(found)
}

/// The shared beginning once, then every different input beside it; logits only where a continuation is predicted.
fn together(model: &Model, all: &[&Sequence], shared: usize) -> Result<Vec<Likelihood>> {
    let mut rows = Vec::new();
    let mut row_of: HashMap<&[u32], usize> = HashMap::new();
    // Like lengths side by side: rows are padded to the longest of sixteen.
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|place| all[*place].tokens.len());
    for place in order {
        row_of.entry(input(all[place])).or_insert_with(|| {
            rows.push(all[place]);
            rows.len() - 1
        });
    }
    let mut wanted: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
    let mut asked: Vec<Vec<(usize, usize)>> = Vec::with_capacity(all.len());
    for one in all {
        let row = row_of[input(one)];
        let places = (one.start - 1 - shared..one.tokens.len() - 1 - shared).map(|position| {
            let known = wanted[row].iter().position(|other| *other == position);
            let place = known.unwrap_or_else(|| {
                wanted[row].push(position);
                wanted[row].len() - 1
            });
            (row, place)
        });
        asked.push(places.collect());
    }
    let prefix = &rows[0].tokens[..shared];
    let continuations: Vec<Vec<u32>> = rows
        .iter()
        .map(|row| row.tokens[shared..].to_vec())
        .collect();
    let mut tap = Picker::new(model, &wanted);
    model.continuation_logprobs(prefix, &continuations, &mut tap)?;
    let residuals = tap.picked()?;
    let starts: Vec<usize> = wanted
        .iter()
        .scan(0, |sum, row| Some(std::mem::replace(sum, *sum + row.len())))
        .collect();
    let place = |(row, place): (usize, usize)| starts[row] + place;
    let mut tokens: Vec<Vec<u32>> = vec![Vec::new(); residuals.dim(0)?];
    for (one, places) in all.iter().zip(&asked) {
        for (token, at) in one.tokens[one.start..].iter().zip(places) {
            tokens[place(*at)].push(*token);
        }
    }
    let scored = scored(model, &residuals, &tokens)?;
    let likelihood = |(one, places): (&&Sequence, &Vec<(usize, usize)>)| {
        let mut total = (0.0, true);
        for (token, at) in one.tokens[one.start..].iter().zip(places) {
            let (logprob, greedy) = scored[place(*at)][token];
            total = (total.0 + logprob, total.1 && greedy);
        }
        total
    };
    Ok(all.iter().zip(&asked).map(likelihood).collect())
}

/// Log-probabilities of tokens under the logits of residuals `[n, d_model]`, and whether each is the likeliest.
fn scored(
    model: &Model,
    residuals: &Tensor,
    tokens: &[Vec<u32>],
) -> Result<Vec<HashMap<u32, Likelihood>>> {
    let mut scored = Vec::with_capacity(tokens.len());
    for (chunk, tokens) in tokens.chunks(ROWS).enumerate() {
        let residuals = residuals
            .narrow(0, chunk * ROWS, tokens.len())?
            .contiguous()?;
        let logits = model
            .logits_of(&residuals)?
            .to_dtype(DType::F32)?
            .to_vec2::<f32>()?;
        for (logits, tokens) in logits.iter().zip(tokens) {
            scored.push(of_logits(logits, tokens));
        }
    }
    Ok(scored)
}

fn of_logits(logits: &[f32], tokens: &[u32]) -> HashMap<u32, Likelihood> {
    let (mut largest, mut best) = (f32::NEG_INFINITY, 0);
    for (id, logit) in logits.iter().enumerate() {
        if *logit > largest {
            (largest, best) = (*logit, id as u32);
        }
    }
    let sum: f64 = logits.iter().map(|x| f64::from((x - largest).exp())).sum();
    let of = |token: &u32| f64::from(logits[*token as usize] - largest) - sum.ln();
    tokens
        .iter()
        .map(|token| (*token, (of(token), *token == best)))
        .collect()
}

/// Keeps the residual stream after the last block at chosen positions of chosen rows.
struct Picker<'a> {
    hook: Hook,
    wanted: &'a [Vec<usize>],
    /// Rows seen; none during the pass over the shared beginning.
    next: Option<usize>,
    kept: Vec<Tensor>,
}

impl<'a> Picker<'a> {
    fn new(model: &Model, wanted: &'a [Vec<usize>]) -> Self {
        Self {
            hook: Hook::new(Site::ResidPost, model.config.n_layers - 1),
            wanted,
            next: None,
            kept: Vec::new(),
        }
    }

    /// `[n, d_model]`, rows in order and positions as they were wanted.
    fn picked(&self) -> Result<Tensor> {
        ensure!(
            self.next == Some(self.wanted.len()),
            "the model has not shown every row"
        );
        Ok(Tensor::cat(&self.kept, 0)?)
    }
}

impl Tap for Picker<'_> {
    fn begin(&mut self, _: &Batch) -> model::Result<()> {
        Ok(())
    }

    fn wants(&self, hook: Hook) -> bool {
        hook == self.hook
    }

    fn tap(&mut self, _: Hook, activation: Tensor) -> model::Result<Tensor> {
        let (batch, seq, d_model) = activation.dims3()?;
        let Some(first) = self.next else {
            self.next = Some(0);
            return Ok(activation);
        };
        let rows = self.wanted[first..first + batch].iter().enumerate();
        let places: Vec<u32> = rows
            .flat_map(|(row, positions)| positions.iter().map(move |at| (row * seq + at) as u32))
            .collect();
        let places = Tensor::new(places, activation.device())?;
        self.kept.push(
            activation
                .reshape((batch * seq, d_model))?
                .index_select(&places, 0)?,
        );
        self.next = Some(first + batch);
        Ok(activation)
    }
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

    #[test]
    fn a_long_shared_beginning_is_computed_once() {
        let start: Vec<u32> = (0..50).collect();
        let with = |end: &[u32]| [start.as_slice(), end].concat();
        let (a, b, c) = (with(&[60, 61, 62]), with(&[60, 61, 63]), with(&[70, 71]));
        let units = [unit(&[(&a, 52), (&b, 52)]), unit(&[(&c, 51)])];
        assert_eq!(
            Plan::of(&units.iter().collect::<Vec<_>>()),
            Plan::Together(50)
        );
        // Nothing in common: every context by itself.
        let units = [unit(&[(&[1, 2, 3], 2)]), unit(&[(&[4, 5], 1)])];
        assert_eq!(Plan::of(&units.iter().collect::<Vec<_>>()), Plan::Apart);
        // The first token of a continuation is predicted by the last of its context, which no beginning may hold.
        let units = [unit(&[(&[1, 2, 3, 4], 3)])];
        assert!(matches!(
            Plan::of(&units.iter().collect::<Vec<_>>()),
            Plan::Apart | Plan::Together(0..=2)
        ));
        assert_eq!(Plan::of(&[]), Plan::Apart);
    }

    #[test]
    fn logits_become_log_probabilities() {
        let found = of_logits(&[0.0, 2_f32.ln(), 0.0], &[1, 2]);
        assert!((found[&1].0 - 0.5_f64.ln()).abs() < 1e-6 && found[&1].1);
        assert!((found[&2].0 - 0.25_f64.ln()).abs() < 1e-6 && !found[&2].1);
    }
}
