//! A loss written out in f64, and every rule's gradient against it.

mod autograd;
mod slopes;
mod special;

use super::uniform;
use crate::codes::Codes;
use crate::rule::CodeNormalization;
use crate::train::backward::{Backward, Gradients};
use crate::train::forward::Forward;
use crate::train::parameters::{Layout, Parameters, rank_weights};
use crate::train::part::Part;
use crate::train::partition::{Block, Partition};
use crate::train::penalty::Charge;
use crate::train::settings::{Distance, Penalty};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

const WIDTHS: [usize; 3] = [5, 5, 3];
const D_TOTAL: usize = 13;
const N_FEATURES: usize = 16;
const N_ROWS: usize = 12;
/// `λ / n_rows`.
const SHARE: f32 = 0.03;

/// A loss to differentiate.
struct Case {
    distance: Distance,
    penalty: Option<Penalty>,
    normalization: CodeNormalization,
    partition: Vec<Block>,
    /// Ends of the nested dictionaries; empty: one.
    groups: Vec<usize>,
    /// Smallest activation kept: decides how many are.
    floor: f32,
}

/// Gradients summed up.
struct Found {
    encoder: Vec<f32>,
    encoder_bias: Vec<f32>,
    decoder: Vec<f32>,
    decoder_bias: Vec<f32>,
    touched: Vec<bool>,
    norm: f64,
}

impl Found {
    fn of(gradients: &Gradients<'_>, weights: &Parameters) -> Self {
        let (mut encoder, mut decoder) = (Vec::new(), Vec::new());
        gradients.encoder(|gradient| encoder = gradient.to_rows(&weights.encoder));
        gradients.decoder(|gradient| decoder = gradient.to_rows(&weights.decoder));
        Self {
            encoder,
            encoder_bias: gradients.encoder_bias.clone(),
            decoder,
            decoder_bias: gradients.decoder_bias.clone(),
            touched: gradients.touched.clone(),
            norm: gradients.norm(weights),
        }
    }

    /// One row of the decoder, of `width`.
    fn decoder_row(&self, feature: usize, width: usize) -> &[f32] {
        &self.decoder[feature * width..][..width]
    }
}

impl Default for Case {
    fn default() -> Self {
        Self {
            distance: Distance::Norm,
            penalty: None,
            normalization: CodeNormalization::Crosscoder,
            partition: Vec::new(),
            groups: Vec::new(),
            floor: 1.9,
        }
    }
}

/// Weights with encoder ≠ decoder, and a batch.
fn small(case: &Case) -> (Parameters, Vec<f32>) {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut parameters = Parameters {
        encoder: uniform(&mut random, N_FEATURES * D_TOTAL),
        encoder_bias: uniform(&mut random, N_FEATURES),
        decoder: uniform(&mut random, N_FEATURES * D_TOTAL),
        decoder_bias: uniform(&mut random, D_TOTAL),
        thresholds: Vec::new(),
    };
    let (partition, layout) = (Partition::new(&case.partition), Layout::new(&WIDTHS));
    partition.mask(&mut parameters.encoder, &layout);
    partition.mask(&mut parameters.decoder, &layout);
    (parameters, uniform(&mut random, N_ROWS * D_TOTAL))
}

/// Pre-activations `[n_rows, n_features]`.
fn products(parameters: [&[f64]; 4], x: &[f32]) -> Vec<f64> {
    let one = |(row, feature): (usize, usize)| {
        let weights = &parameters[0][feature * D_TOTAL..][..D_TOTAL];
        let x = &x[row * D_TOTAL..][..D_TOTAL];
        weights
            .iter()
            .zip(x)
            .map(|(w, x)| w * f64::from(*x))
            .sum::<f64>()
            + parameters[1][feature]
    };
    let places = (0..N_ROWS).flat_map(|row| (0..N_FEATURES).map(move |feature| (row, feature)));
    places.map(one).collect()
}

fn wide(parameters: &Parameters) -> [Vec<f64>; 4] {
    let all = [
        &parameters.encoder,
        &parameters.encoder_bias,
        &parameters.decoder,
        &parameters.decoder_bias,
    ];
    all.map(|part| part.iter().map(|&value| f64::from(value)).collect())
}

fn borrowed(values: &[Vec<f64>; 4]) -> [&[f64]; 4] {
    [&values[0], &values[1], &values[2], &values[3]]
}

impl Case {
    /// The entries to keep: those above the floor; of decoupled codes another set for every model.
    fn parts(&self, parameters: &Parameters, x: &[f32]) -> Vec<Part> {
        let products = products(borrowed(&wide(parameters)), x);
        let codes = |floor: f64| {
            let mut codes = Codes::default();
            for row in products.chunks(N_FEATURES) {
                let kept = row.iter().enumerate().filter(|(_, value)| **value > floor);
                codes.push_row(kept.map(|(feature, value)| (feature as u32, *value as f32)));
            }
            codes
        };
        let floor = f64::from(self.floor);
        if self.normalization.is_decoupled() {
            let models = Layout::new(&WIDTHS).models.into_iter().enumerate();
            return models
                .map(|(model, range)| Part::new(codes(floor + 0.3 * model as f64), range))
                .collect();
        }
        let codes = codes(floor);
        if self.groups.is_empty() {
            vec![Part::new(codes, 0..D_TOTAL)]
        } else {
            Part::nested(&codes, &self.groups, &(0..D_TOTAL))
        }
    }

    fn by_hand(&self, parameters: &Parameters, x: &[f32]) -> Found {
        let layout = Layout::new(&WIDTHS);
        let mut parts = self.parts(parameters, x);
        let n_outputs = self.groups.len().max(1);
        let forward = Forward {
            parameters,
            layout: &layout,
            x,
            distance: self.distance,
            n_outputs,
        };
        let mut output = Vec::new();
        forward.run(&mut parts, &mut output, None);
        let norms = parameters.norms(&layout);
        let partition = Partition::new(&self.partition);
        let factors = partition.penalties(N_FEATURES);
        let mut by_weight = Vec::new();
        for (model, part) in parts.iter_mut().enumerate() {
            let Some(penalty) = self.penalty else {
                continue;
            };
            let weights: Vec<f32> = if self.normalization.is_decoupled() {
                norms.iter().skip(model).step_by(3).copied().collect()
            } else {
                rank_weights(&self.normalization, &norms, 3)
            };
            let charge = Charge {
                penalty,
                share: SHARE,
                factors: &factors,
                weights: &weights,
            };
            by_weight.push(charge.apply(part).1);
        }
        let backward = Backward {
            n_features: N_FEATURES,
            layout: &layout,
            partition,
            x,
            output: &output,
            n_outputs,
            by_weight: &by_weight,
            normalization: &self.normalization,
            norms: &norms,
        };
        Found::of(&backward.run(&parts, None), parameters)
    }

    /// The loss in plain f64 loops, with the entries held fixed.
    fn loss(&self, parameters: [&[f64]; 4], x: &[f32], parts: &[Part]) -> f64 {
        let products = products(parameters, x);
        let models = Layout::new(&WIDTHS).models;
        let n_outputs = self.groups.len().max(1);
        let mut loss = 0.0;
        for (row, x) in x.chunks(D_TOTAL).enumerate() {
            for output in 0..n_outputs {
                let bias = parameters[3].iter().zip(x);
                let mut error: Vec<f64> = bias.map(|(bias, x)| bias - f64::from(*x)).collect();
                for part in parts.iter().filter(|part| part.output <= output) {
                    for (feature, _) in part.codes.row(row) {
                        let feature = feature as usize;
                        let activation = products[row * N_FEATURES + feature];
                        for place in part.range.clone() {
                            error[place] += activation * parameters[2][feature * D_TOTAL + place];
                        }
                    }
                }
                for model in &models {
                    let square: f64 = error[model.clone()].iter().map(|e| e * e).sum();
                    loss += match self.distance {
                        Distance::Norm => square.sqrt() / (N_ROWS * 3 * n_outputs) as f64,
                        Distance::Squared => square / (N_ROWS * n_outputs) as f64,
                    };
                }
            }
            for (number, part) in parts.iter().enumerate() {
                for (feature, _) in part.codes.row(row) {
                    let activation = products[row * N_FEATURES + feature as usize];
                    loss += self.cost(activation, feature as usize, number, parameters[2]);
                }
            }
        }
        loss
    }

    /// The penalty of one entry.
    fn cost(&self, activation: f64, feature: usize, part: usize, decoder: &[f64]) -> f64 {
        let Some(penalty) = self.penalty else {
            return 0.0;
        };
        let row = &decoder[feature * D_TOTAL..][..D_TOTAL];
        let norm =
            |range: &Range<usize>| row[range.clone()].iter().map(|d| d * d).sum::<f64>().sqrt();
        let norms: Vec<f64> = Layout::new(&WIDTHS).models.iter().map(norm).collect();
        let sum: f64 = norms.iter().sum();
        let joint = norm(&(0..D_TOTAL));
        let weight = match &self.normalization {
            CodeNormalization::Crosscoder => sum,
            CodeNormalization::Sae => joint,
            CodeNormalization::Mixed {
                alpha_sae,
                alpha_crosscoder,
            } => f64::from(*alpha_sae) * joint + f64::from(*alpha_crosscoder) * sum,
            CodeNormalization::None => 1.0,
            CodeNormalization::Decoupled { .. } => norms[part],
        };
        let factor = f64::from(Partition::new(&self.partition).penalties(N_FEATURES)[feature]);
        let value = activation * weight;
        f64::from(SHARE)
            * factor
            * match penalty {
                Penalty::Linear => value,
                Penalty::Tanh { scale } => (f64::from(scale) * value).tanh(),
            }
    }

    /// Compares every gradient that the partition lets through.
    fn check(&self) {
        let (parameters, x) = small(self);
        let parts = self.parts(&parameters, &x);
        let gradients = self.by_hand(&parameters, &x);
        let values = wide(&parameters);
        let layout = Layout::new(&WIDTHS);
        let touched = |row: usize| gradients.touched[row];
        assert!((0..N_FEATURES).any(touched), "nothing has a gradient");
        for part in 0..4 {
            for place in 0..values[part].len() {
                let at = |step: f64| {
                    let mut moved = values.clone();
                    moved[part][place] += step;
                    self.loss(borrowed(&moved), &x, &parts)
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                let (feature, column) = (place / D_TOTAL, place % D_TOTAL);
                let model = layout
                    .models
                    .iter()
                    .position(|range| range.contains(&column));
                let blocks = Partition::new(&self.partition);
                let outside = blocks.blocks().any(|(features, block)| {
                    features.contains(&feature) && model.is_some_and(|model| !block.holds(model))
                });
                let gradient = match part {
                    0 => gradients.encoder[place],
                    2 => gradients.decoder[place],
                    1 => gradients.encoder_bias[place],
                    _ => gradients.decoder_bias[place],
                };
                let wanted = if outside && part % 2 == 0 { 0.0 } else { slope };
                let gradient = f64::from(gradient);
                assert!(
                    (wanted - gradient).abs() < 1e-5 * (1.0 + wanted.abs()),
                    "part {part}, place {place}: {gradient}, not {wanted}"
                );
            }
        }
    }
}
