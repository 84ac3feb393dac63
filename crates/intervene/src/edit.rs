//! The arithmetic of an intervention: what is added to one row of the residual stream.
//!
//! Disabling and amplifying add `Σ_{k∈G} σ_k·(α−1)·f_k·d_k^m / scale_m`, which leaves what the crosscoder does not explain as
//! it is: decoding with the changed code and adding the old reconstruction error back gives the same row. Steering adds
//! `Σ_{k∈G} σ_k·c·d_k^m / scale_m` whatever the activations are. The sign `σ_k` is 1, or −1 for a feature that training
//! lowered: α = 0 then doubles it and α = 2 takes it out. The division undoes the normalisation of the dictionary's input.

use dict::{CodeNormalization, Crosscoder, Readout, Rule, Selection};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where the activation `f_k` of a feature comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The crosscoder's encoder, with activations put before its blocks as the readout says.
    Encoder(Readout),
    /// How far the row reaches along the feature's decoder row: `x·d_k / ‖d_k‖²`, x normalised.
    Projection,
}

/// How much of a feature is added.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    /// `gain · f_k`, read at the same position; the gain of α is α − 1.
    Scaled {
        /// −1 disables, 1 doubles.
        gain: f32,
        /// Where `f_k` comes from.
        source: Source,
    },
    /// The same everywhere: one amount per feature.
    Fixed(Vec<f32>),
}

/// An edit of one model's residual stream at one hook.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The model's slot in the dictionary.
    pub slot: usize,
    /// Features whose activations count.
    pub features: Vec<u32>,
    /// What one unit of each feature adds, in the model's own units: `[features, d_model]`.
    pub directions: Vec<f32>,
    /// How much of it.
    pub amount: Amount,
}

impl Edit {
    /// An edit along the features' own decoder rows.
    pub fn along_decoder(
        dictionary: &Crosscoder,
        slot: usize,
        features: &[u32],
        amount: Amount,
    ) -> Self {
        let scale = dictionary.normalizer[slot].scale;
        let rows = features
            .iter()
            .flat_map(|&k| dictionary.row(slot, k as usize));
        Self {
            slot,
            features: features.to_vec(),
            directions: rows.map(|value| value / scale).collect(),
            amount,
        }
    }

    /// The same edit along random directions, each as long as the one it replaces.
    #[must_use]
    pub fn along_random(&self, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let width = self.width();
        let mut directions = Vec::with_capacity(self.directions.len());
        for row in self.directions.chunks_exact(width) {
            let random: Vec<f32> = (0..width).map(|_| normal(&mut rng)).collect();
            let factor = norm(row) / norm(&random);
            directions.extend(random.iter().map(|value| value * factor));
        }
        Self {
            directions,
            ..self.clone()
        }
    }

    /// The same edit with its sign turned round.
    #[must_use]
    pub fn flipped(&self) -> Self {
        let directions = self.directions.iter().map(|value| -value).collect();
        Self {
            directions,
            ..self.clone()
        }
    }

    /// The same edit with each feature's direction multiplied by its sign, 1 or −1.
    #[must_use]
    pub fn signed(mut self, signs: &[f32]) -> Self {
        let width = self.width();
        for (row, sign) in self.directions.chunks_exact_mut(width).zip(signs) {
            for value in row {
                *value *= sign;
            }
        }
        self
    }

    /// Values per row.
    fn width(&self) -> usize {
        self.directions.len() / self.features.len().max(1)
    }

    /// The dictionary's slots whose activations must be known.
    pub fn needs(&self, n_models: usize) -> Vec<usize> {
        match &self.amount {
            Amount::Fixed(_) => Vec::new(),
            Amount::Scaled {
                source: Source::Projection,
                ..
            } => vec![self.slot],
            Amount::Scaled {
                source: Source::Encoder(readout),
                ..
            } => needed_by(*readout, n_models),
        }
    }

    /// What is added to `n_rows` rows: `[n_rows, d_model]`.
    ///
    /// `x` holds the activations `[n_rows, d_model]` of every slot, in its model's own units; those not needed may be empty.
    pub fn delta(&self, dictionary: &Crosscoder, x: &[&[f32]], n_rows: usize) -> Vec<f32> {
        let amounts = self.amounts(dictionary, x, n_rows);
        let width = self.width();
        let mut delta = vec![0.0; n_rows * width];
        let rows = delta.chunks_exact_mut(width);
        for (row, amounts) in rows.zip(amounts.chunks_exact(self.features.len())) {
            for (&amount, direction) in amounts.iter().zip(self.directions.chunks_exact(width)) {
                if amount != 0.0 {
                    add_scaled(row, amount, direction);
                }
            }
        }
        delta
    }

    /// How much of every feature is added to every row: `[n_rows, features]`.
    fn amounts(&self, dictionary: &Crosscoder, x: &[&[f32]], n_rows: usize) -> Vec<f32> {
        match &self.amount {
            Amount::Fixed(amounts) => amounts.repeat(n_rows),
            Amount::Scaled { gain, source } => {
                let mut amounts = match source {
                    Source::Encoder(readout) => {
                        encode(dictionary, *readout, x, n_rows, &self.features)
                    }
                    Source::Projection => self.projections(dictionary, x[self.slot]),
                };
                for amount in &mut amounts {
                    *amount *= gain;
                }
                amounts
            }
        }
    }

    /// `x·d_k / ‖d_k‖²` of normalised rows, so that this amount of `d_k` is the row's part along it: `[n_rows, features]`.
    fn projections(&self, dictionary: &Crosscoder, rows: &[f32]) -> Vec<f32> {
        let rows = dictionary.normalize(self.slot, rows);
        let mut out = Vec::new();
        for row in rows.chunks_exact(dictionary.widths[self.slot]) {
            for &feature in &self.features {
                let direction = dictionary.row(self.slot, feature as usize);
                let square = dot(direction, direction);
                out.push(if square > 0.0 {
                    dot(row, direction) / square
                } else {
                    0.0
                });
            }
        }
        out
    }
}

/// Activations of a few features `[n_rows, features]`.
///
/// Where features compete within a row, or every model has a threshold of its own, all of them must be encoded to know which
/// are active.
fn encode(
    dictionary: &Crosscoder,
    readout: Readout,
    x: &[&[f32]],
    n_rows: usize,
    features: &[u32],
) -> Vec<f32> {
    let decoupled = matches!(
        dictionary.code_normalization,
        CodeNormalization::Decoupled { .. }
    );
    if !decoupled && !matches!(dictionary.rule, Rule::TopK { .. }) {
        return dictionary.encode_features(readout, x, n_rows, features);
    }
    let codes = dictionary.encode_as(readout, x, n_rows, Selection::Rule);
    let mut out = Vec::with_capacity(n_rows * features.len());
    for row in 0..n_rows {
        let active: Vec<(u32, f32)> = codes.row(row).collect();
        out.extend(features.iter().map(|feature| {
            let found = active.binary_search_by_key(feature, |entry| entry.0);
            found.map_or(0.0, |place| active[place].1)
        }));
    }
    out
}

/// The slots whose own activations a readout looks at.
fn needed_by(readout: Readout, n_models: usize) -> Vec<usize> {
    match readout {
        Readout::Joint => (0..n_models).collect(),
        Readout::Swap { model, keep } if keep < n_models && keep != model => vec![model, keep],
        Readout::SelfOnly { model } | Readout::Swap { model, .. } => vec![model],
    }
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let uniform = |bits: u64| (bits >> 11) as f64 / (1_u64 << 53) as f64;
    let (a, b) = (uniform(rng.next_u64()), uniform(rng.next_u64()));
    ((-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
}

fn add_scaled(row: &mut [f32], factor: f32, direction: &[f32]) {
    for (value, part) in row.iter_mut().zip(direction) {
        *value += factor * part;
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(row: &[f32]) -> f32 {
    dot(row, row).sqrt()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use dict::Normalizer;
    use proptest::prelude::*;

    /// Two models of width 2, three features; base is scaled by 2 around (1, 0), rl by 4 around 0.
    pub(crate) fn dictionary() -> Crosscoder {
        let normalizer = |mean: [f32; 2], scale| Normalizer {
            mean: mean.to_vec(),
            std: vec![1.0; 2],
            scale,
        };
        Crosscoder {
            labels: vec!["base".into(), "rl".into()],
            widths: vec![2, 2],
            n_features: 3,
            // [d_model, n_features]: feature 0 reads coordinate 0, feature 1 coordinate 1, feature 2 their difference.
            encoder: vec![
                vec![1.0, 0.0, 1.0, 0.0, 1.0, -1.0],
                vec![0.5, 0.0, 1.0, 0.0, 0.5, -1.0],
            ],
            encoder_bias: vec![0.0, 0.5, -1.0],
            // [n_features, d_model]
            decoder: vec![
                vec![3.0, 4.0, 0.0, 1.0, 1.0, -1.0],
                vec![2.0, 0.0, 0.0, 2.0, -4.0, 8.0],
            ],
            decoder_bias: vec![vec![0.5, 0.5], vec![-1.0, 0.0]],
            normalizer: vec![normalizer([1.0, 0.0], 2.0), normalizer([0.0, 0.0], 4.0)],
            threshold: 0.0,
            thresholds: Vec::new(),
            rule: Rule::L1 { sparsity: 1.0 },
            code_normalization: CodeNormalization::Crosscoder,
            hook: "resid_post.1".into(),
            tokenizer_digest: "t".into(),
        }
    }

    fn scaled(gain: f32, source: Source) -> Amount {
        Amount::Scaled { gain, source }
    }

    const JOINT: Source = Source::Encoder(Readout::Joint);

    #[test]
    fn a_joint_edit_is_what_was_worked_out_by_hand() {
        // base (2, 1) → normalised (2, 2); rl (1, 0.5) → normalised (4, 2).
        // f_0 = 2 + 0.5·4 = 4; f_1 = 2 + 0.5·2 + 0.5 = 3.5; f_2 = (2 − 2) + (4 − 2) − 1 = 1.
        let x: [&[f32]; 2] = [&[2.0, 1.0], &[1.0, 0.5]];
        let edit = Edit::along_decoder(&dictionary(), 1, &[2, 0], scaled(-1.0, JOINT));
        // −1·(1·(−4, 8) + 4·(2, 0)) / 4
        assert_eq!(edit.delta(&dictionary(), &x, 1), [-1.0, -2.0]);
        let edit = Edit::along_decoder(&dictionary(), 0, &[0], scaled(0.5, JOINT));
        // 0.5·4·(3, 4) / 2
        assert_eq!(edit.delta(&dictionary(), &x, 1), [3.0, 4.0]);
    }

    #[test]
    fn other_sources_are_what_their_definitions_say() {
        let x: [&[f32]; 2] = [&[], &[1.0, 0.5]];
        let alone = Source::Encoder(Readout::SelfOnly { model: 1 });
        let edit = Edit::along_decoder(&dictionary(), 1, &[0], scaled(1.0, alone));
        // f_0 = 0.5·4 = 2; 2·(2, 0)/4
        assert_eq!(edit.delta(&dictionary(), &x, 1), [1.0, 0.0]);
        let edit = Edit::along_decoder(&dictionary(), 1, &[1], scaled(-1.0, Source::Projection));
        // Removing the projection on (0, 2) takes the second coordinate away, in the model's own units.
        assert_eq!(edit.delta(&dictionary(), &x, 1), [0.0, -0.5]);
        let swap = Source::Encoder(Readout::swap(1, 2));
        let edit = Edit::along_decoder(&dictionary(), 1, &[0], scaled(1.0, swap));
        // Slot base sees rl's (1, 0.5) through its own normaliser: (0, 1). f_0 = 0 + 0.5·4 = 2.
        assert_eq!(edit.delta(&dictionary(), &x, 1), [1.0, 0.0]);
    }

    #[test]
    fn a_fixed_amount_is_added_to_every_row() {
        let edit = Edit::along_decoder(&dictionary(), 0, &[1, 2], Amount::Fixed(vec![2.0, 4.0]));
        // 2·(0, 1)/2 + 4·(1, −1)/2
        assert_eq!(
            edit.delta(&dictionary(), &[&[], &[]], 2),
            [2.0, -1.0, 2.0, -1.0]
        );
        assert!(edit.needs(2).is_empty());
        assert_eq!(edit.flipped().delta(&dictionary(), &[], 1), [-2.0, 1.0]);
        // −2·(0, 1)/2 + 4·(1, −1)/2
        let signed = edit.signed(&[-1.0, 1.0]);
        assert_eq!(signed.delta(&dictionary(), &[], 1), [2.0, -3.0]);
    }

    #[test]
    fn disabling_everything_leaves_error_and_bias() {
        let dictionary = dictionary();
        let x: [&[f32]; 2] = [&[2.0, 1.0, -3.0, 0.25], &[1.0, 0.5, 2.0, -7.0]];
        let codes = dictionary.encode(&x, 2, Selection::Rule);
        for (slot, rows) in x.iter().enumerate() {
            let edit = Edit::along_decoder(&dictionary, slot, &[0, 1, 2], scaled(-1.0, JOINT));
            let delta = edit.delta(&dictionary, &x, 2);
            let mut bias = dictionary.decoder_bias[slot].clone();
            dictionary.normalizer[slot].undo(&mut bias);
            let decoded = dictionary.decode(slot, &codes);
            for i in 0..4 {
                let error_and_bias = rows[i] - decoded[i] + bias[i % 2];
                assert!((rows[i] + delta[i] - error_and_bias).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn features_that_compete_are_encoded_together() {
        let mut dictionary = dictionary();
        dictionary.rule = Rule::TopK { k: 1 };
        let x: [&[f32]; 2] = [&[2.0, 1.0], &[1.0, 0.5]];
        // Rank values f_k·Σ‖d_k‖: 4·7, 3.5·3 and 1·(√2 + √80): feature 0 alone is active.
        assert_eq!(
            encode(&dictionary, Readout::Joint, &x, 1, &[1, 0]),
            [0.0, 4.0]
        );
    }

    #[test]
    fn only_the_slots_a_source_looks_at_are_needed() {
        let needs =
            |source| Edit::along_decoder(&dictionary(), 0, &[0], scaled(1.0, source)).needs(3);
        assert_eq!(needs(JOINT), [0, 1, 2]);
        assert_eq!(needs(Source::Encoder(Readout::swap(0, 3))), [0, 2]);
        assert_eq!(needs(Source::Encoder(Readout::swap(2, 3))), [2]);
        assert_eq!(needs(Source::Projection), [0]);
    }

    proptest! {
        #[test]
        fn a_random_direction_is_as_long_as_the_one_it_replaces(seed in 0_u64..100) {
            let edit = Edit::along_decoder(&dictionary(), 0, &[0, 2], scaled(1.0, JOINT));
            let random = edit.along_random(seed);
            prop_assert_ne!(&random.directions, &edit.directions);
            for (row, new) in edit.directions.chunks(2).zip(random.directions.chunks(2)) {
                prop_assert!((norm(row) - norm(new)).abs() < 1e-4);
            }
        }

        #[test]
        fn a_gain_of_zero_adds_exactly_nothing(a in -5.0_f32..5.0, b in -5.0_f32..5.0) {
            let edit = Edit::along_decoder(&dictionary(), 1, &[0, 1, 2], scaled(0.0, JOINT));
            prop_assert_eq!(edit.delta(&dictionary(), &[&[a, b], &[b, a]], 1), [0.0, 0.0]);
        }
    }
}
