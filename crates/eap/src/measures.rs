//! The circuit metrics of arXiv 2509.21044 and two of concentration, as statistics over examples.
//!
//! Every metric becomes a function of a list of example numbers, so that a bootstrap resamples examples and nothing else.
//! `W` is one example's edges: with the structural zeros of the matrix or the real edges alone.

use clap::ValueEnum;
use serde::Serialize;

use crate::pooled::{complexity, diversity};

/// A metric of the examples with these numbers.
pub type Statistic = Box<dyn Fn(&[usize]) -> f64 + Send + Sync>;

/// Where the histogram of |W| ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Range {
    /// Each model's own largest |W|
    Own,
    /// The larger of the two models' largest |W|
    Common,
}

/// What the metrics leave open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choices {
    /// Equal bins of the histogram of |W|.
    pub bins: usize,
    /// ε inside the logarithm of the complexity.
    pub epsilon: f64,
    /// Share of the entries that counts as the top, above 0 and at most 1.
    pub top: f64,
}

/// A metric, by the name it has in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Mean |W|.
    Intensity,
    /// Entropy of the histogram of all |W|, in nats.
    Complexity,
    /// Excess kurtosis of the signed W of an example, mean over examples.
    Kurtosis,
    /// 1 − mean correlation between the W of two examples.
    Diversity,
    /// Entropy of a source's |W| over its targets, in nats, mean over sources and examples.
    OutputEntropy,
    /// Gini coefficient of |W|, mean over examples: 0 even, towards 1 concentrated.
    Gini,
    /// Share of Σ|W| on the largest entries, mean over examples.
    TopShare,
}

impl Metric {
    /// Every metric, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Intensity,
        Self::Complexity,
        Self::Kurtosis,
        Self::Diversity,
        Self::OutputEntropy,
        Self::Gini,
        Self::TopShare,
    ];

    /// Name in the column `metric`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intensity => "activation_intensity",
            Self::Complexity => "information_complexity_nats",
            Self::Kurtosis => "distribution_kurtosis",
            Self::Diversity => "diversity",
            Self::OutputEntropy => "output_entropy_nats",
            Self::Gini => "gini",
            Self::TopShare => "top_share",
        }
    }

    /// The metric as a function of example numbers.
    ///
    /// `rows` are the examples' entries, each ordered source by source with `row_lengths` targets per source;
    /// `range` is the end of the histogram, or none for the largest |W| of the examples asked for.
    pub fn statistic(
        self,
        rows: &[Vec<f64>],
        row_lengths: &[usize],
        range: Option<f64>,
        choices: &Choices,
    ) -> Statistic {
        match self {
            Self::Intensity => mean_over_examples(rows, |row| stats::mean(&absolute(row))),
            Self::Complexity => complexity(rows, range, *choices),
            Self::Kurtosis => mean_over_examples(rows, |row| or_zero(stats::kurtosis_excess(row))),
            Self::Diversity => diversity(rows),
            Self::OutputEntropy => mean_over_examples(rows, |row| output_entropy(row, row_lengths)),
            Self::Gini => mean_over_examples(rows, |row| or_zero(stats::gini(&absolute(row)))),
            Self::TopShare => mean_over_examples(rows, |row| or_zero(top_share(row, choices.top))),
        }
    }
}

/// Largest |W| of an example; 0 when it is empty.
pub fn largest(row: &[f64]) -> f64 {
    row.iter()
        .fold(0.0, |most, weight| f64::max(most, weight.abs()))
}

/// A metric that is a mean over examples: computed once per example, then averaged over the numbers asked for.
fn mean_over_examples(rows: &[Vec<f64>], of_example: impl Fn(&[f64]) -> f64) -> Statistic {
    let values: Vec<f64> = rows.iter().map(|row| of_example(row)).collect();
    Box::new(move |examples| {
        examples.iter().map(|&example| values[example]).sum::<f64>() / examples.len() as f64
    })
}

fn absolute(row: &[f64]) -> Vec<f64> {
    row.iter().map(|weight| weight.abs()).collect()
}

/// A metric without a value, because all entries are equal, counts as 0: nothing is peaked, nothing is concentrated.
fn or_zero(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}

/// Mean over sources of the entropy of their outgoing |W|.
fn output_entropy(row: &[f64], row_lengths: &[usize]) -> f64 {
    let (mut sum, mut rest) = (0.0, row);
    for &n in row_lengths {
        let (outgoing, after) = rest.split_at(n);
        sum += or_zero(stats::entropy_nats(&absolute(outgoing)));
        rest = after;
    }
    sum / row_lengths.len() as f64
}

/// Share of Σ|W| on the ⌈top·n⌉ largest entries; not a number when they are all 0.
fn top_share(row: &[f64], top: f64) -> f64 {
    let mut descending = absolute(row);
    descending.sort_unstable_by(|a, b| b.total_cmp(a));
    let n_top = ((top * descending.len() as f64).ceil() as usize).clamp(1, descending.len());
    descending[..n_top].iter().sum::<f64>() / descending.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHOICES: Choices = Choices {
        bins: 4,
        epsilon: 1e-12,
        top: 0.25,
    };

    fn value(metric: Metric, rows: &[Vec<f64>], row_lengths: &[usize]) -> f64 {
        let examples: Vec<usize> = (0..rows.len()).collect();
        metric.statistic(rows, row_lengths, None, &CHOICES)(&examples)
    }

    fn check(metric: Metric, rows: &[Vec<f64>], expected: f64) {
        let found = value(metric, rows, &[2, 2]);
        assert!(
            (found - expected).abs() < 1e-10,
            "{}: {found} instead of {expected}",
            metric.name()
        );
    }

    #[test]
    fn metrics_of_one_example_are_those_computed_by_hand() {
        let rows = [vec![1.0, -3.0, 0.0, 4.0]];
        check(Metric::Intensity, &rows, 2.0);
        // |W| in bins of width 1 on [0, 4]: 0, 1 and {3, 4} → shares ¼, ¼, 0, ½.
        check(
            Metric::Complexity,
            &rows,
            0.5 * 4_f64.ln() + 0.5 * 2_f64.ln(),
        );
        // mean ½; deviations ½, −3½, −½, 3½: m2 = 6.25, m4 = (2·0.0625 + 2·150.0625)/4 = 75.0625.
        check(Metric::Kurtosis, &rows, 75.0625 / 39.0625 - 3.0);
        // Rows of two: shares ¼, ¾ and 0, 1.
        check(
            Metric::OutputEntropy,
            &rows,
            0.125 * 4_f64.ln() + 0.375 * (4.0_f64 / 3.0).ln(),
        );
        // Ascending 0, 1, 3, 4 with weights −3, −1, 1, 3 over 4·8.
        check(Metric::Gini, &rows, 14.0 / 32.0);
        check(Metric::TopShare, &rows, 0.5);
    }

    #[test]
    fn diversity_is_one_minus_the_mean_correlation_of_pairs() {
        // The second is twice the first (correlation 1), the third its negative (−1, −1).
        let rows = [
            vec![1.0, 2.0, 3.0],
            vec![2.0, 4.0, 6.0],
            vec![-1.0, -2.0, -3.0],
        ];
        let found = value(Metric::Diversity, &rows, &[3]);
        assert!((found - (1.0 + 1.0 / 3.0)).abs() < 1e-12, "{found}");
    }

    #[test]
    fn copies_of_an_example_do_not_lower_diversity() {
        let statistic =
            Metric::Diversity.statistic(&[vec![1.0, 2.0], vec![2.0, 1.0]], &[2], None, &CHOICES);
        assert!((statistic(&[0, 0, 1]) - 2.0).abs() < 1e-12);
        assert!(statistic(&[0, 0]).abs() < 1e-12);
    }

    #[test]
    fn the_histogram_follows_the_largest_of_the_examples_drawn() {
        let rows = [vec![0.0, 1.0], vec![0.0, 100.0]];
        let own = Metric::Complexity.statistic(&rows, &[2], None, &CHOICES);
        assert!((own(&[0]) - 2_f64.ln()).abs() < 1e-9);
        let common = Metric::Complexity.statistic(&rows, &[2], Some(100.0), &CHOICES);
        assert!(common(&[0]).abs() < 1e-9); // both entries in the first bin
        assert!((common(&[0, 1]) - own(&[0, 1])).abs() < 1e-12);
    }

    #[test]
    fn examples_without_any_edge_have_no_spread() {
        let rows = [vec![0.0; 4], vec![0.0; 4]];
        for metric in Metric::ALL {
            let expected = if metric == Metric::Diversity {
                1.0
            } else {
                0.0
            };
            check(metric, &rows, expected);
        }
    }

    proptest! {
        #[test]
        fn only_intensity_depends_on_the_scale(row in prop::collection::vec(-1.0_f64..1.0, 4), factor in 0.5_f64..2.0) {
            prop_assume!(largest(&row) > 1e-3);
            let scaled: Vec<f64> = row.iter().map(|weight| weight * factor).collect();
            for metric in [Metric::Kurtosis, Metric::OutputEntropy, Metric::Gini, Metric::TopShare] {
                let (a, b) = (value(metric, std::slice::from_ref(&row), &[2, 2]), value(metric, std::slice::from_ref(&scaled), &[2, 2]));
                prop_assert!((a - b).abs() < 1e-6 * (1.0 + a.abs()), "{}: {a} {b}", metric.name());
            }
            let (a, b) = (value(Metric::Intensity, &[row], &[2, 2]), value(Metric::Intensity, &[scaled], &[2, 2]));
            prop_assert!((a * factor - b).abs() < 1e-9);
        }

        #[test]
        fn shares_stay_in_their_ranges(row in prop::collection::vec(-1.0_f64..1.0, 6)) {
            for metric in [Metric::Gini, Metric::TopShare] {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&value(metric, std::slice::from_ref(&row), &[3, 3])));
            }
            prop_assert!(value(Metric::OutputEntropy, std::slice::from_ref(&row), &[3, 3]) <= 3_f64.ln() + 1e-12);
            prop_assert!(value(Metric::Complexity, &[row], &[3, 3]) <= 4_f64.ln() + 1e-9);
        }
    }
}
