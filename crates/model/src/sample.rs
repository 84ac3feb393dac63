//! From logits to the next token.

use crate::generate::Sampling;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::cmp::Ordering;

/// Tokens among which the likeliest that reach `top_p` are looked for first: sorting a whole vocabulary takes longer than
/// a step of a small model.
const FIRST: usize = 256;

/// Log-probability of one token, in nats.
pub(crate) fn log_probability(logits: &[f32], token: u32) -> f32 {
    (f64::from(logits[token as usize]) - kernels::loss::log_sum_exp(logits)) as f32
}

/// Draws the next token, or takes the likeliest.
pub(crate) fn choose(logits: &[f32], sampling: &Sampling, rng: &mut ChaCha8Rng) -> u32 {
    if sampling.temperature <= 0.0 {
        return likeliest(logits);
    }
    let largest = f64::from(logits[likeliest(logits) as usize]);
    let weight =
        |id: &u32| ((f64::from(logits[*id as usize]) - largest) / sampling.temperature).exp();
    let kept = if sampling.top_k > 0 {
        sampling.top_k.min(logits.len())
    } else {
        logits.len()
    };
    let candidates: Vec<u32> = if sampling.top_p < 1.0 {
        nucleus(logits, kept, sampling.top_p, &weight)
    } else if kept < logits.len() {
        ranked(logits, kept)
    } else {
        (0..logits.len() as u32).collect()
    };
    let weights: Vec<f64> = candidates.iter().map(weight).collect();
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    let drawn = weights.iter().position(|w| {
        left -= w;
        left < 0.0
    });
    candidates[drawn.unwrap_or(weights.len() - 1)]
}

/// The likeliest of the `kept` likeliest tokens that together have `top_p` of their probability.
fn nucleus(logits: &[f32], kept: usize, top_p: f64, weight: &impl Fn(&u32) -> f64) -> Vec<u32> {
    let total: f64 = if kept < logits.len() {
        ranked(logits, kept).iter().map(weight).sum()
    } else {
        (0..logits.len() as u32).map(|id| weight(&id)).sum()
    };
    let mut n = FIRST.min(kept);
    loop {
        let mut candidates = ranked(logits, n);
        let mut reached = 0.0;
        let last = candidates.iter().position(|id| {
            reached += weight(id) / total;
            reached >= top_p
        });
        if last.is_some() || n == kept {
            candidates.truncate(last.map_or(n, |last| last + 1));
            return candidates;
        }
        n = (n * 8).min(kept);
    }
}

/// The `n` likeliest tokens, the lowest id first among equals.
fn ranked(logits: &[f32], n: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| -> Ordering {
        logits[*b as usize]
            .total_cmp(&logits[*a as usize])
            .then(a.cmp(b))
    };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if n < ids.len() {
        ids.select_nth_unstable_by(n, order);
        ids.truncate(n);
    }
    ids.sort_unstable_by(order);
    ids
}

/// The largest logit; the lowest id among equals.
pub(crate) fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn shares(sampling: &Sampling, logits: &[f32]) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[choose(logits, sampling, &mut rng) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn sampling_follows_the_softmax_and_its_truncations() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let plain = Sampling {
            temperature: 1.0,
            ..Sampling::greedy(1)
        };
        for (share, wanted) in shares(&plain, &logits).iter().zip([0.5, 0.3, 0.2]) {
            assert!((share - wanted).abs() < 0.02, "{share} {wanted}");
        }
        assert_eq!(
            shares(
                &Sampling {
                    top_p: 0.5,
                    ..plain.clone()
                },
                &logits
            )[1..],
            [0.0, 0.0]
        );
        let two = shares(&Sampling { top_k: 2, ..plain }, &logits);
        assert!((two[0] - 0.625).abs() < 0.02 && two[2] == 0.0);
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(likeliest(&[1.0, 3.0, 3.0]), 1);
    }

    #[test]
    fn the_nucleus_is_that_of_the_sorted_vocabulary() {
        let logits: Vec<f32> = (0..5000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 1000.0)
            .collect();
        let weight = |id: &u32| f64::from(logits[*id as usize]).exp();
        for (kept, top_p) in [
            (5000, 0.01),
            (5000, 0.5),
            (5000, 0.999),
            (40, 0.5),
            (3000, 0.9),
        ] {
            let ours = nucleus(&logits, kept, top_p, &weight);
            let mut sorted: Vec<u32> = (0..5000).collect();
            sorted.sort_by(|a, b| {
                let (x, y) = (logits[*a as usize], logits[*b as usize]);
                y.total_cmp(&x).then(a.cmp(b))
            });
            sorted.truncate(kept);
            let total: f64 = sorted.iter().map(weight).sum();
            let before = |n: usize| sorted[..n].iter().map(weight).sum::<f64>() / total;
            assert_eq!(ours, sorted[..ours.len()]);
            assert!(before(ours.len()) >= top_p - 1e-12 && before(ours.len() - 1) < top_p + 1e-12);
        }
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits: Vec<f32> = (0..3000)
            .map(|i| ((i * 37) % 101) as f32 / 7.0 - 40.0)
            .collect();
        let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        for token in [0, 17, 2999] {
            let exact = f64::from(logits[token]) - sum.ln();
            let ours = f64::from(log_probability(&logits, token as u32));
            assert!((ours - exact).abs() < 2e-6, "{ours} {exact}");
        }
    }
}
