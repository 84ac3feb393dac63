//! What a run remembers beside its weights.

use super::settings::Settings;

/// Counters of a run, and the thresholds it learns beside the weights.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct History {
    pub(super) steps_done: u64,
    pub(super) rows_seen: u64,
    /// Rows since each feature last fired `[n_features]`.
    pub(super) silent: Vec<u64>,
    /// Moving averages of the smallest rank value kept: one, or one per model for decoupled codes.
    pub(super) averages: Vec<Option<f32>>,
}

impl History {
    pub(super) fn new(n_features: usize, n_codes: usize) -> Self {
        Self {
            steps_done: 0,
            rows_seen: 0,
            silent: vec![0; n_features],
            averages: vec![None; n_codes],
        }
    }

    /// Counts a batch and the features that fired in it.
    pub(super) fn note_firing(&mut self, fired: impl Iterator<Item = usize>, n_rows: usize) {
        self.rows_seen += n_rows as u64;
        self.silent
            .iter_mut()
            .for_each(|rows| *rows += n_rows as u64);
        fired.for_each(|feature| self.silent[feature] = 0);
    }

    /// Whether each feature is dead.
    pub(super) fn dead(&self, dead_after: u64) -> impl Iterator<Item = bool> + '_ {
        self.silent.iter().map(move |&rows| rows >= dead_after)
    }

    /// Moving averages of the smallest rank values kept: the thresholds of inference.
    pub(super) fn average_thresholds(&mut self, smallest: &[Option<f32>], settings: &Settings) {
        if self.steps_done + 1 < settings.threshold_start {
            return;
        }
        let decay = settings.threshold_decay;
        for (average, smallest) in self.averages.iter_mut().zip(smallest) {
            if let Some(smallest) = *smallest {
                let old = average.unwrap_or(smallest);
                *average = Some(decay * old + (1.0 - decay) * smallest);
            }
        }
    }
}
