//! Whether slopes and scores agree.

use anyhow::ensure;

/// Relative error of slopes that is still called equal.
const TOLERANCE: f64 = 0.05;
/// Slopes in nats that single precision cannot tell from 0 with steps of this size.
const RESOLUTION: f64 = 2e-5;

/// What is said of scores whose identities fail.
pub const DISTRUST: &str =
    "the scores of this model cannot be trusted (--check off writes them all the same)";

/// Slopes against scores, as norms of vectors.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Pairs compared.
    pub n: usize,
    squared_error: f64,
    squared_scores: f64,
}

impl Comparison {
    /// Adds a pair.
    pub fn add(&mut self, slope: f64, score: f64) {
        self.n += 1;
        self.squared_error += (slope - score).powi(2);
        self.squared_scores += score.powi(2);
    }

    /// ‖slopes − scores‖ / ‖scores‖; 0 when all scores are.
    pub fn relative(&self) -> f64 {
        if self.squared_scores > 0.0 {
            (self.squared_error / self.squared_scores).sqrt()
        } else {
            0.0
        }
    }

    /// Fails when they are too far apart.
    pub fn verdict(&self, failure: &str) -> anyhow::Result<()> {
        let resolution = RESOLUTION * (self.n as f64).sqrt();
        let holds =
            self.squared_error.sqrt() <= TOLERANCE * self.squared_scores.sqrt() + resolution;
        ensure!(
            holds,
            "{failure} by {:.2} of their size; {DISTRUST}",
            self.relative()
        );
        Ok(())
    }
}
