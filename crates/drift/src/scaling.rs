//! What the activations say about a feature: how often it fires, and latent scaling (arXiv 2504.02922).
//!
//! L1 penalties make features look tuned-only that are not: the base decoder row shrank to nothing although the base model
//! has the feature (complete shrinkage), or another feature carries the base's share of it (latent decoupling). Latent
//! scaling asks the activations instead: by which β does the tuned row, times the code, best describe a target Y^m?
//!
//! ```text
//! β_m = ⟨d_k^T, Y^mᵀ f_k⟩ / (‖f_k‖² ‖d_k^T‖²)    Y^m = x^m − x̂^m + f_k d_k^m  (error)   or   x̂^m  (reconstruction)
//! ν   = β_base / β_tuned
//! ```
//!
//! All features at once in one pass: each β needs only `Σ f_k²`, `Σ f_k⟨d_k^T, e^m⟩` and `Σ f_k⟨d_k^T, x̂^m⟩` over the rows.

use crate::norms::dot;
use dict::{Acts, Codes, Crosscoder, Kept, Selection};
use rayon::prelude::*;

/// Rows taken at a time.
const CHUNK: usize = 1024;

/// Sums over rows for one feature.
#[derive(Debug, Clone, PartialEq)]
struct Sums {
    /// Rows on which it fires.
    n: u64,
    /// Σ f.
    activation: f64,
    /// Σ f².
    square: f64,
    /// For each tuned model: Σ f⟨d^T, e⟩ and Σ f⟨d^T, x̂⟩ in the base, then in the tuned model.
    tuned: Vec<[f64; 4]>,
}

/// What one pass over the activations gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    n_rows: usize,
    base: usize,
    tuned: Vec<usize>,
    features: Vec<Sums>,
}

impl Scaling {
    /// Reads all kept rows once.
    pub fn measure(
        dictionary: &Crosscoder,
        acts: &Acts,
        kept: &Kept,
        base: usize,
        tuned: &[usize],
    ) -> anyhow::Result<Self> {
        let none = Sums {
            n: 0,
            activation: 0.0,
            square: 0.0,
            tuned: vec![[0.0; 4]; tuned.len()],
        };
        let features = vec![none; dictionary.n_features];
        let mut scaling = Self {
            n_rows: kept.rows.len(),
            base,
            tuned: tuned.to_vec(),
            features,
        };
        let progress = cli::Progress::start("latent scaling", kept.rows.len() as u64, "rows");
        for rows in kept.rows.chunks(CHUNK) {
            let x = acts.pick(rows)?;
            let slices: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
            let codes = dictionary.encode(&slices, rows.len(), Selection::Rule);
            scaling.add(dictionary, &x, &codes);
            progress.advance(rows.len() as u64);
        }
        progress.finish();
        Ok(scaling)
    }

    fn add(&mut self, dictionary: &Crosscoder, x: &[Vec<f32>], codes: &Codes) {
        let targets: Vec<Targets> = (0..dictionary.n_models())
            .map(|model| Targets::of(dictionary, model, x, codes))
            .collect();
        let columns = codes.by_feature(dictionary.n_features);
        let (base, tuned) = (self.base, &self.tuned);
        self.features
            .par_iter_mut()
            .enumerate()
            .for_each(|(feature, sums)| {
                for (row, activation) in columns.feature(feature) {
                    let activation = f64::from(activation);
                    sums.n += 1;
                    sums.activation += activation;
                    sums.square += activation * activation;
                    for (place, &model) in tuned.iter().enumerate() {
                        let direction = dictionary.row(model, feature);
                        if dictionary.widths[base] == dictionary.widths[model] {
                            let [base, tuned] = [base, model]
                                .map(|model| targets[model].along(row as usize, direction));
                            let values = [base[0], base[1], tuned[0], tuned[1]];
                            sums.tuned[place]
                                .iter_mut()
                                .zip(values)
                                .for_each(|(sum, value)| *sum += activation * value);
                        }
                    }
                }
            });
    }

    /// Share of rows on which the feature fires.
    pub fn firing_rate(&self, feature: usize) -> f64 {
        self.features[feature].n as f64 / self.n_rows as f64
    }

    /// Mean activation over the rows on which it fires; none for a silent feature.
    pub fn mean_activation(&self, feature: usize) -> Option<f64> {
        let sums = &self.features[feature];
        (sums.n > 0).then(|| sums.activation / sums.n as f64)
    }

    /// ν on the error and on the reconstruction, for the `place`-th tuned model; none for a silent feature, for unequal widths,
    /// or where the tuned model's own β is not positive.
    pub fn nu(&self, dictionary: &Crosscoder, feature: usize, place: usize) -> [Option<f64>; 2] {
        let (sums, tuned) = (&self.features[feature], self.tuned[place]);
        let direction = dictionary.row(tuned, feature);
        let scale = sums.square * dot(direction, direction);
        if scale <= 0.0 || dictionary.widths[self.base] != dictionary.widths[tuned] {
            return [None, None];
        }
        let [error_base, decoded_base, error_tuned, decoded_tuned] = sums.tuned[place];
        let own = |model: usize| sums.square * dot(direction, dictionary.row(model, feature));
        [
            ratio(
                (error_base + own(self.base)) / scale,
                (error_tuned + own(tuned)) / scale,
            ),
            ratio(decoded_base / scale, decoded_tuned / scale),
        ]
    }
}

/// `base / tuned`, where the tuned model has the feature at all.
fn ratio(base: f64, tuned: f64) -> Option<f64> {
    const LEAST: f64 = 1e-6;
    (tuned > LEAST).then(|| base / tuned)
}

/// Error and reconstruction of one model, normalised `[n_rows, d_model]`.
struct Targets {
    error: Vec<f32>,
    decoded: Vec<f32>,
    width: usize,
}

impl Targets {
    fn of(dictionary: &Crosscoder, model: usize, x: &[Vec<f32>], codes: &Codes) -> Self {
        let decoded = dictionary.decode_normalized(model, codes);
        let mut error = dictionary.normalize(model, &x[model]);
        error
            .iter_mut()
            .zip(&decoded)
            .for_each(|(error, decoded)| *error -= decoded);
        Self {
            error,
            decoded,
            width: dictionary.widths[model],
        }
    }

    /// Error and reconstruction of a row along a direction.
    fn along(&self, row: usize, direction: &[f32]) -> [f64; 2] {
        [&self.error, &self.decoded]
            .map(|values| dot(&values[row * self.width..][..self.width], direction))
    }
}
