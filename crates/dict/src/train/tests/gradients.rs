//! Every rule's gradient against finite differences of its loss in f64, and against autograd over dense tensors.

use super::uniform;
use crate::codes::Codes;
use crate::rule::CodeNormalization;
use crate::train::aux::revive;
use crate::train::backward::{Backward, Gradients, Room};
use crate::train::forward::{Forward, is_dense};
use crate::train::parameters::{Layout, Parameters, rank_weights};
use crate::train::part::Part;
use crate::train::partition::{Block, Partition};
use crate::train::penalty::{Charge, Jump};
use crate::train::settings::{Distance, Penalty};
use candle_core::{Device, Tensor, Var};
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

    fn by_hand(&self, parameters: &Parameters, x: &[f32]) -> Gradients {
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
        forward.run(&mut parts, &mut output, &mut Vec::new());
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
        let mut gradients = Gradients::default();
        Backward {
            parameters,
            layout: &layout,
            partition,
            x,
            output: &output,
            n_outputs,
            by_weight: &by_weight,
            normalization: &self.normalization,
            norms: &norms,
        }
        .run(&parts, None, &mut Room::default(), &mut gradients);
        gradients
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
                let touched = gradients
                    .touched
                    .get(feature)
                    .is_some_and(|touched| *touched);
                let gradient = match part {
                    0 if touched => gradients.encoder.row(feature)[column],
                    2 if touched => gradients.decoder.row(feature)[column],
                    0 | 2 => 0.0,
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

#[test]
fn both_distances_have_the_slope_of_their_loss() {
    for distance in [Distance::Norm, Distance::Squared] {
        let case = Case {
            distance,
            ..Case::default()
        };
        let (parameters, x) = small(&case);
        assert!(
            !is_dense(&case.parts(&parameters, &x), N_FEATURES),
            "the sparse loops are tested here"
        );
        case.check();
        Case { floor: 0.0, ..case }.check();
    }
}

#[test]
fn penalties_have_the_slope_of_their_loss_under_every_normalization() {
    let normalizations = [
        CodeNormalization::Crosscoder,
        CodeNormalization::Sae,
        CodeNormalization::Mixed {
            alpha_sae: 1.0,
            alpha_crosscoder: 0.1,
        },
        CodeNormalization::None,
        CodeNormalization::Decoupled {
            thresholds: Vec::new(),
        },
    ];
    for normalization in normalizations {
        for penalty in [Penalty::Linear, Penalty::Tanh { scale: 0.4 }] {
            let (penalty, normalization) = (Some(penalty), normalization.clone());
            Case {
                penalty,
                normalization,
                distance: Distance::Squared,
                ..Case::default()
            }
            .check();
        }
    }
}

#[test]
fn decoupled_codes_have_the_slope_of_their_loss() {
    let normalization = CodeNormalization::Decoupled {
        thresholds: Vec::new(),
    };
    Case {
        normalization,
        ..Case::default()
    }
    .check();
}

#[test]
fn nested_dictionaries_have_the_slope_of_their_loss() {
    for groups in [vec![3, 16], vec![2, 7, 16]] {
        Case {
            groups,
            floor: 0.8,
            ..Case::default()
        }
        .check();
    }
}

#[test]
fn masked_models_have_no_gradient_and_the_others_that_of_their_loss() {
    let only = |models: &[usize], n_features| Block {
        models: models.to_vec(),
        ..Block::shared(n_features)
    };
    let shared = Block {
        penalty: 0.2,
        ..Block::shared(6)
    };
    let partition = vec![only(&[0], 4), only(&[1, 2], 6), shared];
    Case {
        partition,
        penalty: Some(Penalty::Linear),
        ..Case::default()
    }
    .check();
}

#[test]
fn a_tied_row_gets_the_gradient_of_one_shared_parameter() {
    let layout = Layout::new(&[4, 4]);
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut parameters = Parameters::zeros(2, 8);
    parameters.encoder = uniform(&mut random, 16);
    parameters.decoder = uniform(&mut random, 8).repeat(2);
    let x = uniform(&mut random, 3 * 8);
    let mut codes = Codes::default();
    for row in [[1.0, 2.0], [0.5, 0.2], [0.7, 0.1]] {
        codes.push_row([(0, row[0]), (1, row[1])]);
    }
    let run = |tied: bool| {
        let partition = [
            Block {
                tied,
                ..Block::shared(1)
            },
            Block::shared(1),
        ];
        let mut parts = [Part::new(codes.clone(), 0..8)];
        let mut output = Vec::new();
        let forward = Forward {
            parameters: &parameters,
            layout: &layout,
            x: &x,
            distance: Distance::Norm,
            n_outputs: 1,
        };
        forward.run(&mut parts, &mut output, &mut Vec::new());
        let mut gradients = Gradients::default();
        let norms = parameters.norms(&layout);
        Backward {
            parameters: &parameters,
            layout: &layout,
            partition: Partition::new(&partition),
            x: &x,
            output: &output,
            n_outputs: 1,
            by_weight: &[],
            normalization: &CodeNormalization::Crosscoder,
            norms: &norms,
        }
        .run(&parts, None, &mut Room::default(), &mut gradients);
        gradients
    };
    let (free, tied) = (run(false), run(true));
    let (row, sum) = (tied.decoder.row(0), free.decoder.row(0));
    for place in 0..4 {
        assert!((row[place] - (sum[place] + sum[place + 4])).abs() < 1e-6);
        assert!(row[place].to_bits() == row[place + 4].to_bits());
    }
    assert_eq!(tied.decoder.row(1), free.decoder.row(1));
    let squares = |row: &[f32]| row.iter().map(|x| f64::from(x * x)).sum::<f64>();
    let difference = tied.norm.powi(2) - free.norm.powi(2);
    assert!(
        (difference - (squares(&row[..4]) - squares(&sum))).abs() < 1e-5,
        "a tied row counts once"
    );
}

#[test]
fn thresholds_get_the_straight_through_gradient() {
    // Two rows; feature 0 is just above its threshold on the first and just below on the second, feature 1 far above.
    let mut codes = Codes::default();
    codes.push_row([(0, 0.51), (1, 3.0)]);
    codes.push_row([(0, 0.0)]);
    let mut part = Part::new(codes, 0..1);
    part.through = vec![-0.2, 0.4, 0.1];
    let jump = Jump {
        k: 2,
        sparsity: 0.5,
        bandwidth: 0.1,
        thresholds: &[1.0, 1.0],
        weights: &[2.0, 1.0],
    };
    let (cost, gradient) = jump.apply(&part, &[1.02, 3.0, 0.98]);
    // L0 = 1: λ(1/2 − 1)² = 0.125; its slope 0.5·2·(−1/2)/(2·2) = −0.125 by entry.
    assert!((cost - 0.125).abs() < 1e-6);
    let wanted = -((0.5 * -0.2 - 0.125) + (0.5 * 0.1 - 0.125)) / 0.1;
    assert!(
        (gradient[0] - wanted).abs() < 1e-5 && gradient[1].abs() < 1e-9,
        "{gradient:?}"
    );
}

#[test]
fn the_loss_that_revives_has_a_gradient_and_it_is_its_slope() {
    let layout = Layout::new(&WIDTHS);
    let case = Case {
        floor: 1.0,
        ..Case::default()
    };
    let (parameters, x) = small(&case);
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let residual = uniform(&mut random, N_ROWS * D_TOTAL);
    let codes = case.parts(&parameters, &x).remove(0).codes;
    let value = |decoder: &[f32]| {
        revive(codes.clone(), &residual, (decoder, &layout), 0.5)
            .unwrap()
            .value
    };
    let revival = revive(
        codes.clone(),
        &residual,
        (&parameters.decoder, &layout),
        0.5,
    )
    .unwrap();
    let feature = revival.part.codes.features[0] as usize;
    // By the decoder: Σ over rows of f·output. By an activation: `through`.
    let mut largest = 0f64;
    for place in 0..D_TOTAL {
        let mut moved = parameters.decoder.clone();
        moved[feature * D_TOTAL + place] += 1e-2;
        let above = value(&moved);
        moved[feature * D_TOTAL + place] -= 2e-2;
        let slope = (above - value(&moved)) / 2e-2;
        let rows = (0..N_ROWS).flat_map(|row| codes.row(row).map(move |entry| (row, entry)));
        let gradient: f64 = rows
            .filter(|(_, entry)| entry.0 as usize == feature)
            .map(|(row, entry)| f64::from(entry.1 * revival.output[row * D_TOTAL + place]))
            .sum();
        assert!(
            (slope - gradient).abs() < 1e-3 * (1.0 + slope.abs()),
            "{place}: {gradient}, not {slope}"
        );
        largest = largest.max(gradient.abs());
    }
    assert!(largest > 1e-3, "the gradient of the auxiliary loss is zero");
    let mut moved = codes.clone();
    moved.activations[0] += 1e-2;
    let above = revive(moved, &residual, (&parameters.decoder, &layout), 0.5)
        .unwrap()
        .value;
    let slope = (above - revival.value) / 1e-2;
    assert!((slope - f64::from(revival.part.through[0])).abs() < 1e-2 * (1.0 + slope.abs()));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one loss, built up term by term")]
fn gradients_agree_with_autograd_over_dense_tensors() -> candle_core::Result<()> {
    let case = Case {
        penalty: Some(Penalty::Linear),
        ..Case::default()
    };
    let (parameters, x) = small(&case);
    let mask = case
        .parts(&parameters, &x)
        .remove(0)
        .codes
        .to_dense(N_FEATURES);
    let mask: Vec<f32> = mask.iter().map(|&value| f32::from(value > 0.0)).collect();
    let gradients = case.by_hand(&parameters, &x);
    let device = Device::Cpu;
    let tensor = |values: &[f32], columns: usize| {
        Tensor::from_slice(values, (values.len() / columns, columns), &device)
    };
    let (x, mask) = (tensor(&x, D_TOTAL)?, tensor(&mask, N_FEATURES)?);
    let encoder = Var::from_tensor(&tensor(&parameters.encoder, D_TOTAL)?)?;
    let encoder_bias = Var::from_tensor(&tensor(&parameters.encoder_bias, N_FEATURES)?)?;
    let decoder = Var::from_tensor(&tensor(&parameters.decoder, D_TOTAL)?)?;
    let decoder_bias = Var::from_tensor(&tensor(&parameters.decoder_bias, D_TOTAL)?)?;
    let f = x
        .matmul(&encoder.t()?)?
        .broadcast_add(&encoder_bias)?
        .relu()?
        .mul(&mask)?;
    let error = (f.matmul(&decoder)?.broadcast_add(&decoder_bias)? - &x)?;
    let mut loss = Tensor::zeros((), candle_core::DType::F32, &device)?;
    for model in Layout::new(&WIDTHS).models {
        let norms = |rows: &Tensor| {
            rows.narrow(1, model.start, model.len())?
                .sqr()?
                .sum(1)?
                .sqrt()
        };
        loss = (loss + (norms(&error)?.sum_all()? / (N_ROWS * WIDTHS.len()) as f64)?)?;
        let sums = f.sum(0)?.mul(&norms(&decoder)?)?;
        loss = (loss + (sums.sum_all()? * f64::from(SHARE))?)?;
    }
    let store = loss.backward()?;
    let theirs = |var: &Var| store.get(var).unwrap().flatten_all()?.to_vec1::<f32>();
    let close = |name: &str, ours: &[f32], theirs: &[f32]| {
        let pairs = ours.iter().zip(theirs);
        pairs.for_each(|(a, b)| {
            assert!((a - b).abs() < 2e-6, "{name}: {a} by hand, {b} by autograd");
        });
    };
    close(
        "encoder bias",
        &gradients.encoder_bias,
        &theirs(&encoder_bias)?,
    );
    close(
        "decoder bias",
        &gradients.decoder_bias,
        &theirs(&decoder_bias)?,
    );
    let (by_encoder, by_decoder) = (theirs(&encoder)?, theirs(&decoder)?);
    for feature in (0..N_FEATURES).filter(|&feature| gradients.touched[feature]) {
        let range = feature * D_TOTAL..(feature + 1) * D_TOTAL;
        close(
            "encoder",
            &gradients.encoder.row(feature),
            &by_encoder[range.clone()],
        );
        close(
            "decoder",
            &gradients.decoder.row(feature),
            &by_decoder[range],
        );
    }
    Ok(())
}
