//! The two metrics that are not means over examples: the complexity of the pooled edges and the diversity of pairs.

use std::sync::OnceLock;

use crate::measures::{Choices, Statistic, largest};

/// −Σ p ln(p + ε) over the bins of the pooled histogram of |W|.
///
/// The histogram ends at the largest |W| of the examples asked for, or at `range`. Which example is the largest takes few
/// values over a bootstrap, so each example's histogram is counted once per end and then only added up.
pub(crate) fn complexity(rows: &[Vec<f64>], range: Option<f64>, choices: Choices) -> Statistic {
    let maxima: Vec<f64> = rows.iter().map(|row| largest(row)).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| maxima[b].total_cmp(&maxima[a]));
    let mut rank = vec![0; rows.len()];
    order
        .iter()
        .enumerate()
        .for_each(|(place, &example)| rank[example] = place);
    let rows = rows.to_vec();
    let counted: Vec<OnceLock<Vec<Vec<u32>>>> = rows.iter().map(|_| OnceLock::new()).collect();
    Box::new(move |examples| {
        let first = examples
            .iter()
            .map(|&example| rank[example])
            .min()
            .unwrap_or(0);
        let first = if range.is_some() { 0 } else { first };
        let end = range.unwrap_or(maxima[order[first]]);
        let histograms = counted[first].get_or_init(|| {
            rows.iter()
                .map(|row| histogram(row, end, choices.bins))
                .collect()
        });
        histogram_entropy(
            examples.iter().map(|&example| &histograms[example]),
            &choices,
        )
    })
}

/// Counts of |W| in equal bins on `[0, end]`; what lies at the end belongs to the last bin, what lies beyond it too.
fn histogram(row: &[f64], end: f64, bins: usize) -> Vec<u32> {
    let mut counts = vec![0; bins];
    for weight in row {
        let place = if end > 0.0 {
            weight.abs() / end * bins as f64
        } else {
            0.0
        };
        counts[(place as usize).min(bins - 1)] += 1;
    }
    counts
}

fn histogram_entropy<'a>(histograms: impl Iterator<Item = &'a Vec<u32>>, choices: &Choices) -> f64 {
    let mut pooled = vec![0_u64; choices.bins];
    for histogram in histograms {
        pooled
            .iter_mut()
            .zip(histogram)
            .for_each(|(sum, &count)| *sum += u64::from(count));
    }
    let total = pooled.iter().sum::<u64>() as f64;
    let entropy: f64 = pooled
        .iter()
        .map(|&count| count as f64 / total)
        .map(|p| -p * (p + choices.epsilon).ln())
        .sum();
    // With everything in one bin, ε alone would make it negative.
    entropy.max(0.0)
}

/// 1 − mean Pearson correlation over pairs of distinct examples.
///
/// A bootstrap draws an example more than once; a pair of such copies is no pair of examples and is left out. With fewer
/// than two distinct examples the diversity is 0.
pub(crate) fn diversity(rows: &[Vec<f64>]) -> Statistic {
    let unit: Vec<Vec<f64>> = rows.iter().map(|row| standardised(row)).collect();
    let n = rows.len();
    let mut correlations = vec![0.0; n * n];
    for a in 0..n {
        for b in 0..a {
            let correlation = unit[a].iter().zip(&unit[b]).map(|(x, y)| x * y).sum();
            correlations[a * n + b] = correlation;
            correlations[b * n + a] = correlation;
        }
    }
    Box::new(move |examples| {
        let mut copies = vec![0.0; n];
        for &example in examples {
            copies[example] += 1.0;
        }
        let (mut sum, mut pairs) = (0.0, 0.0);
        for a in (0..n).filter(|&a| copies[a] > 0.0) {
            for b in 0..a {
                sum += copies[a] * copies[b] * correlations[a * n + b];
                pairs += copies[a] * copies[b];
            }
        }
        if pairs > 0.0 { 1.0 - sum / pairs } else { 0.0 }
    })
}

/// The entries minus their mean, scaled to length 1; zeros for an example whose entries are all equal.
fn standardised(row: &[f64]) -> Vec<f64> {
    let centre = stats::mean(row);
    let length = row
        .iter()
        .map(|weight| (weight - centre).powi(2))
        .sum::<f64>()
        .sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    row.iter().map(|weight| (weight - centre) * scale).collect()
}
