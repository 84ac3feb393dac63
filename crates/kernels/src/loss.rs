//! Cross-entropy over the vocabulary and its gradient, in one pass over the logits.

use crate::vector::{exp, largest, vectorised};
use rayon::prelude::*;

/// Weighted negative log-likelihood of one target per row, in nats, and its gradient.
///
/// `logits [rows, vocab]`; rows whose weight is 0 get a zero gradient. `d_logits` ← weight·(softmax − one-hot).
/// Returns each row's unweighted loss (0 where the weight is 0).
///
/// # Panics
/// When a target is not below `vocab`.
pub fn cross_entropy(
    d_logits: &mut [f32],
    logits: &[f32],
    targets: &[u32],
    weights: &[f32],
    vocab: usize,
) -> Vec<f64> {
    let rows = d_logits
        .par_chunks_mut(vocab)
        .zip(logits.par_chunks(vocab))
        .with_min_len(32);
    rows.zip(targets)
        .zip(weights)
        .map(|(((d_row, row), &target), &weight)| {
            if weight == 0.0 {
                d_row.fill(0.0);
                return 0.0;
            }
            vectorised(|| row_loss(d_row, row, target as usize, weight))
        })
        .collect()
}

#[inline(always)]
fn row_loss(d_row: &mut [f32], row: &[f32], target: usize, weight: f32) -> f64 {
    let largest = largest(row);
    let mut lanes = [0f32; 32];
    for (d, x) in d_row.chunks_mut(32).zip(row.chunks(32)) {
        for ((d, x), lane) in d.iter_mut().zip(x).zip(&mut lanes) {
            *d = exp(x - largest);
            *lane += *d;
        }
    }
    let sum: f32 = lanes.iter().sum();
    let scale = weight / sum;
    for d in d_row.iter_mut() {
        *d *= scale;
    }
    d_row[target] -= weight;
    f64::from(sum.ln() + largest - row[target])
}

/// ln Σ eˣ of a row, in nats: sums of 1,024 values in `f32`, of those in f64.
pub fn log_sum_exp(row: &[f32]) -> f64 {
    let largest = vectorised(|| largest(row));
    let part = |part: &[f32]| {
        vectorised(|| {
            let mut lanes = [0f32; 16];
            let (lines, rest) = part.as_chunks::<16>();
            for line in lines {
                for (lane, x) in lanes.iter_mut().zip(line) {
                    *lane += exp(x - largest);
                }
            }
            lanes.iter().sum::<f32>() + rest.iter().map(|x| exp(x - largest)).sum::<f32>()
        })
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
        let mut d = [9.0; 8];
        let losses = cross_entropy(&mut d, &[1.0; 8], &[2, 0], &[1.0, 0.0], 4);
        assert!((losses[0] - 4f64.ln()).abs() < 1e-6);
        assert_eq!(losses[1], 0.0);
        assert_eq!(d, [0.25, 0.25, -0.75, 0.25, 0.0, 0.0, 0.0, 0.0]);
    }
}
