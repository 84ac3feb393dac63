//! Estimates with intervals: plain slices in, numbers out.
//!
//! Everything random takes a seed, and draw number `i` has a stream of random numbers of its own: the same seed gives the
//! same bits on any number of threads. Intervals are 95 %. Nothing here fails: what is not defined (the mean of nothing,
//! the correlation with a constant) is NaN, and each function says when.
//!
//! # Layout
//! - [`moments`] — mean, variance, standard errors, kurtosis, quantiles
//! - [`rank`] — ranks, correlations
//! - [`proportion`] — Wilson interval, exact McNemar test, pass@k
//! - [`multiplicity`] — Holm, Benjamini–Hochberg
//! - [`resample`] — bootstrap in four forms, sign-flip permutation test
//! - [`concentration`] — entropy, Gini coefficient, overlap of sets
//! - [`normal`] — the normal distribution

pub mod concentration;
pub mod moments;
pub mod multiplicity;
pub mod normal;
pub mod proportion;
pub mod rank;
pub mod resample;

pub use concentration::{entropy_nats, gini, jaccard, overlap};
pub use moments::{
    kurtosis_excess, mean, median, quantile, standard_error, standard_error_clustered, variance,
};
pub use multiplicity::{benjamini_hochberg, holm};
pub use proportion::{mcnemar_exact, pass_at_k, wilson};
pub use rank::{pearson, ranks, spearman};
pub use resample::{
    bootstrap, bootstrap_bca, bootstrap_clusters, bootstrap_difference, permutation_sign,
};

/// Draws of a bootstrap or a permutation test unless the user says otherwise.
pub const DRAWS: usize = 2000;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether a value lies inside, the ends included.
    pub fn contains(self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// A value with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value on the data as they are.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// A value with its interval.
    pub fn new(value: f64, interval: Interval) -> Self {
        Self {
            value,
            low: interval.low,
            high: interval.high,
        }
    }

    /// The interval alone.
    pub fn interval(self) -> Interval {
        Interval {
            low: self.low,
            high: self.high,
        }
    }
}
