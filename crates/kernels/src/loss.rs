//! Cross-entropy over the vocabulary and its gradient, in one pass over the logits.

use crate::vector::{Body, exp, largest, vectorised};
use rayon::prelude::*;

/// Weighted negative log-likelihood of one target per row, in nats, and its gradient, in place of the logits.
///
/// `logits [rows, vocab]` ← weight·(softmax − one-hot); rows whose weight is 0 get a zero gradient.
/// Returns each row's unweighted loss (0 where the weight is 0).
///
/// # Panics
/// When a target is not below `vocab`.
pub fn cross_entropy(
    logits: &mut [f32],
    targets: &[u32],
    weights: &[f32],
    vocab: usize,
) -> Vec<f64> {
    let rows = logits.par_chunks_mut(vocab).with_min_len(8);
    rows.zip(targets)
        .zip(weights)
        .map(|((row, &target), &weight)| {
            if weight == 0.0 {
                row.fill(0.0);
                return 0.0;
            }
            let target = target as usize;
            vectorised(Row {
                logits: row,
                target,
                weight,
            })
        })
        .collect()
}

/// One row at work.
struct Row<'a> {
    logits: &'a mut [f32],
    target: usize,
    weight: f32,
}

impl Body for Row<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let largest = largest(self.logits);
        let wanted = self.logits[self.target];
        let mut lanes = [0f32; 32];
        for values in self.logits.chunks_mut(32) {
            for (x, lane) in values.iter_mut().zip(&mut lanes) {
                *x = exp(*x - largest);
                *lane += *x;
            }
        }
        let sum: f32 = lanes.iter().sum();
        let scale = self.weight / sum;
        for d in self.logits.iter_mut() {
            *d *= scale;
        }
        self.logits[self.target] -= self.weight;
        f64::from(sum.ln() + largest - wanted)
    }
}

/// ln Σ eˣ of a row, in nats: sums of 1,024 values in `f32`, of those in f64.
pub fn log_sum_exp(row: &[f32]) -> f64 {
    let largest = vectorised(
        #[inline(always)]
        || largest(row),
    );
    let part = |part: &[f32]| {
        vectorised(
            #[inline(always)]
            || {
                let mut lanes = [0f32; 16];
                let (lines, rest) = part.as_chunks::<16>();
                for line in lines {
                    for (lane, x) in lanes.iter_mut().zip(line) {
                        *lane += exp(x - largest);
                    }
                }
                lanes.iter().sum::<f32>() + rest.iter().map(|x| exp(x - largest)).sum::<f32>()
            },
        )
    };
    row.chunks(1024)
        .map(|values| f64::from(part(values)))
        .sum::<f64>()
        .ln()
        + f64::from(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_vocabulary() {
        let mut d = [1.0; 8];
        let losses = cross_entropy(&mut d, &[2, 0], &[1.0, 0.0], 4);
        assert!((losses[0] - 4f64.ln()).abs() < 1e-6);
        assert_eq!(losses[1], 0.0);
        assert_eq!(d, [0.25, 0.25, -0.75, 0.25, 0.0, 0.0, 0.0, 0.0]);
    }
}
