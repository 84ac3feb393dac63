//! Ranks and correlations.

use crate::moments::mean;

/// Pearson's correlation, −1 to 1; NaN when either side is constant or empty. The slices must be equally long.
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len(), "a correlation is between pairs");
    let (x_mean, y_mean) = (mean(x), mean(y));
    let (mut products, mut x_squares, mut y_squares) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - x_mean, y - y_mean);
        products += x * y;
        x_squares += x * x;
        y_squares += y * y;
    }
    if x_squares == 0.0 || y_squares == 0.0 {
        return f64::NAN;
    }
    (products / (x_squares.sqrt() * y_squares.sqrt())).clamp(-1.0, 1.0)
}

/// Spearman's rank correlation: Pearson's correlation of the [`ranks`].
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y))
}

/// Ranks from 1, ascending; equal values share the mean of their ranks.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|a, b| values[*a].total_cmp(&values[*b]).is_eq()) {
        let rank = before as f64 + (tied.len() + 1) as f64 / 2.0;
        for index in tied {
            ranks[*index] = rank;
        }
        before += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_share_the_mean_of_their_ranks() {
        assert_eq!(ranks(&[10.0, 30.0, 10.0, 20.0]), [1.5, 4.0, 1.5, 3.0]);
        assert_eq!(ranks(&[]), [0.0; 0]);
    }

    #[test]
    fn a_correlation_worked_out_by_hand() {
        // Deviations −1 0 1 and −4/3 −1/3 5/3: 3 / √(2 · 42/9).
        let expected = 3.0 / (2.0_f64 * 42.0 / 9.0).sqrt();
        assert!((pearson(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0]) - expected).abs() < 1e-12);
        assert!((spearman(&[1.0, 2.0, 3.0], &[1.0, 2.0, 400.0]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_constant_correlates_with_nothing() {
        assert!(pearson(&[1.0, 1.0], &[1.0, 2.0]).is_nan() && spearman(&[], &[]).is_nan());
    }

    proptest! {
        #[test]
        fn rank_correlation_sees_only_the_order(pairs in prop::collection::vec((-3.0..3.0, -3.0..3.0), 3..30)) {
            let (x, y): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let bent: Vec<f64> = x.iter().map(|x: &f64| x.exp()).collect();
            let (plain, bent) = (spearman(&x, &y), spearman(&bent, &y));
            prop_assert!((plain - bent).abs() < 1e-12 && plain.abs() <= 1.0);
        }

        #[test]
        fn correlation_is_symmetric_and_blind_to_scale(pairs in prop::collection::vec((-3.0..3.0, -3.0..3.0), 3..30)) {
            let (x, y): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let scaled: Vec<f64> = x.iter().map(|x| 7.0 - 2.0 * x).collect();
            prop_assert!((pearson(&x, &y) - pearson(&y, &x)).abs() < 1e-12);
            prop_assert!((pearson(&x, &y) + pearson(&scaled, &y)).abs() < 1e-9);
        }
    }
}
