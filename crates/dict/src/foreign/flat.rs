//! A crosscoder as one autoencoder over the models' activations side by side, in the models' own units: the form every
//! single-model format has.

use crate::crosscoder::Crosscoder;
use crate::rule::{CodeNormalization, Rule};
use serde_json::{Value as Json, json};

/// `f = σ(x W + b)`, `x̂ = f D + c` with x `[d_total]`, the models one after the other.
#[derive(Debug, Clone)]
pub(super) struct Flat {
    pub(super) d_total: usize,
    pub(super) n_features: usize,
    /// `[d_total, n_features]`.
    pub(super) encoder: Vec<f32>,
    pub(super) encoder_bias: Vec<f32>,
    /// `[n_features, d_total]`.
    pub(super) decoder: Vec<f32>,
    pub(super) decoder_bias: Vec<f32>,
    /// Whether `decoder_bias` is also taken from x before it is encoded.
    pub(super) centred: bool,
}

impl Flat {
    /// Folds the normalisers into the weights: with x' = (x − μ)·g, W = g·W', b = b' − Σ μ·W, D = D'/g, c = c'/g + μ.
    ///
    /// A dictionary that only takes a mean off and puts it back is `centred`, and its weights stay as they are, bit by bit.
    pub(super) fn of(dictionary: &Crosscoder) -> Self {
        let d_total: usize = dictionary.widths.iter().sum();
        let n = dictionary.n_features;
        let centred = is_centred(dictionary);
        let mut flat = Self {
            d_total,
            n_features: n,
            encoder: Vec::with_capacity(d_total * n),
            encoder_bias: dictionary.encoder_bias.clone(),
            decoder: vec![0.0; n * d_total],
            decoder_bias: Vec::with_capacity(d_total),
            centred,
        };
        let mut shift = vec![0f64; n];
        let mut start = 0;
        for (model, &width) in dictionary.widths.iter().enumerate() {
            let normalizer = &dictionary.normalizer[model];
            for (weights, mean) in dictionary.encoder[model]
                .chunks_exact(n)
                .zip(&normalizer.mean)
            {
                for (weight, shift) in weights.iter().zip(&mut shift) {
                    let weight = weight * normalizer.scale;
                    *shift += f64::from(weight) * f64::from(*mean);
                    flat.encoder.push(weight);
                }
            }
            for feature in 0..n {
                let row = &mut flat.decoder[feature * d_total + start..][..width];
                let pairs = row.iter_mut().zip(dictionary.row(model, feature));
                pairs.for_each(|(out, value)| *out = value / normalizer.scale);
            }
            let biases = dictionary.decoder_bias[model].iter().zip(&normalizer.mean);
            flat.decoder_bias
                .extend(biases.map(|(bias, mean)| bias / normalizer.scale + mean));
            start += width;
        }
        if !centred {
            let biases = flat.encoder_bias.iter_mut().zip(shift);
            biases.for_each(|(bias, shift)| *bias = (f64::from(*bias) - shift) as f32);
        }
        flat
    }

    /// Takes the decoder's bias off the input, for formats that always do: b ← b + c·W.
    pub(super) fn centre(&mut self) {
        if self.centred {
            return;
        }
        let mut shift = vec![0f64; self.n_features];
        for (weights, bias) in self
            .encoder
            .chunks_exact(self.n_features)
            .zip(&self.decoder_bias)
        {
            let pairs = shift.iter_mut().zip(weights);
            pairs.for_each(|(shift, weight)| *shift += f64::from(*weight) * f64::from(*bias));
        }
        let biases = self.encoder_bias.iter_mut().zip(shift);
        biases.for_each(|(bias, shift)| *bias = (f64::from(*bias) + shift) as f32);
        self.centred = true;
    }

    /// The other way round, for formats that never do.
    pub(super) fn uncentre(&mut self) {
        if !self.centred {
            return;
        }
        let mut negative = self.clone();
        negative.centred = false;
        negative
            .decoder_bias
            .iter_mut()
            .for_each(|bias| *bias = -*bias);
        negative.centre();
        self.encoder_bias = negative.encoder_bias;
        self.centred = false;
    }

    /// Measures activations by their rank value, f ← f·w, so that a format without weights ranks them as we do.
    pub(super) fn measure_by_rank(&mut self, weights: &[f32]) {
        for encoder in self.encoder.chunks_exact_mut(self.n_features) {
            encoder
                .iter_mut()
                .zip(weights)
                .for_each(|(value, weight)| *value *= weight);
        }
        let rows = self.decoder.chunks_exact_mut(self.d_total).zip(weights);
        for ((row, weight), bias) in rows.zip(&mut self.encoder_bias) {
            if *weight > 0.0 {
                *bias *= weight;
                for value in row {
                    *value /= weight;
                }
            } else {
                // It has no rank value, and must get none: its encoder is 0 by now.
                *bias = -1.0;
            }
        }
    }
}

fn is_centred(dictionary: &Crosscoder) -> bool {
    let plain = dictionary
        .normalizer
        .iter()
        .all(|normalizer| normalizer.scale.to_bits() == 1f32.to_bits());
    let moved = dictionary
        .normalizer
        .iter()
        .any(|normalizer| normalizer.mean.iter().any(|&mean| mean != 0.0));
    let unbiased = dictionary
        .decoder_bias
        .iter()
        .flatten()
        .all(|&bias| bias == 0.0);
    plain && moved && unbiased
}

/// Threshold of each feature on its activation, if the dictionary decides by thresholds: θ/w.
pub(super) fn activation_thresholds(dictionary: &Crosscoder) -> Option<Vec<f32>> {
    let learned = !dictionary.code_normalization.is_decoupled()
        && (!dictionary.thresholds.is_empty() || dictionary.threshold >= 0.0);
    let by_threshold = !matches!(dictionary.rule, Rule::L1 { .. } | Rule::TopK { .. });
    let threshold = |(feature, weight): (usize, f32)| {
        let threshold = dictionary.threshold_of(feature).max(0.0);
        if weight > 0.0 {
            threshold / weight
        } else {
            f32::MAX
        }
    };
    (learned && by_threshold).then(|| {
        dictionary
            .rank_weights()
            .into_iter()
            .enumerate()
            .map(threshold)
            .collect()
    })
}

/// Whether activations are their own rank values.
pub(super) fn is_unweighted(dictionary: &Crosscoder) -> bool {
    dictionary.code_normalization == CodeNormalization::None
}

/// What a flat format cannot say, under a key of its own that other readers pass over.
pub(super) fn models(dictionary: &Crosscoder) -> Json {
    json!({ "labels": dictionary.labels, "widths": dictionary.widths, "tokenizer": dictionary.tokenizer_digest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crosscoder::tests::example;
    use crate::normalizer::Normalizer;

    #[test]
    fn normalisers_are_folded_into_the_weights() {
        let mut dictionary = example();
        dictionary.normalizer[0] = Normalizer {
            mean: vec![1.0, 2.0],
            std: vec![1.0; 2],
            scale: 0.5,
        };
        let flat = Flat::of(&dictionary);
        assert_eq!(flat.encoder, [0.5, 0.0, 0.0, 0.5, 0.5, -1.0]);
        assert_eq!(flat.encoder_bias, [-0.5, 0.25 - 1.0]);
        assert_eq!(flat.decoder, [6.0, 8.0, 2.0, 0.0, 2.0, 0.0]);
        assert_eq!(flat.decoder_bias, [1.0, 4.0, -1.0]);
    }

    #[test]
    fn a_bias_taken_off_the_input_and_put_back_changes_nothing() {
        let mut flat = Flat::of(&example());
        let before = flat.clone();
        flat.centre();
        assert_eq!(flat.encoder_bias, [-0.5, 0.25 + 1.0 + 1.0]);
        flat.uncentre();
        assert_eq!(flat.encoder_bias, before.encoder_bias);
    }

    #[test]
    fn a_dictionary_with_a_mean_alone_keeps_its_weights() {
        let mut dictionary = example();
        dictionary.decoder_bias = vec![vec![0.0; 2], vec![0.0]];
        dictionary.normalizer[0].mean = vec![3.0, 4.0];
        let flat = Flat::of(&dictionary);
        assert!(flat.centred);
        assert_eq!(flat.encoder_bias, dictionary.encoder_bias);
        assert_eq!(flat.decoder_bias, [3.0, 4.0, 0.0]);
    }

    #[test]
    fn thresholds_are_those_of_the_activations() {
        assert_eq!(activation_thresholds(&example()).unwrap(), [7.5 / 7.0, 7.5]);
        let mut never = example();
        never.threshold = -1.0;
        assert!(activation_thresholds(&never).is_none());
    }
}
