//! Gradients that are not the slope of one loss in free parameters: tied rows, thresholds, the revival of dead features.

use super::super::uniform;
use super::{Case, D_TOTAL, Found, N_ROWS, WIDTHS, small};
use crate::codes::Codes;
use crate::rule::CodeNormalization;
use crate::train::aux::revive;
use crate::train::backward::Backward;
use crate::train::forward::Forward;
use crate::train::parameters::{Layout, Parameters};
use crate::train::part::Part;
use crate::train::partition::{Block, Partition};
use crate::train::penalty::Jump;
use crate::train::settings::Distance;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

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
        forward.run(&mut parts, &mut output, None);
        let norms = parameters.norms(&layout);
        let backward = Backward {
            n_features: 2,
            layout: &layout,
            partition: Partition::new(&partition),
            x: &x,
            output: &output,
            n_outputs: 1,
            by_weight: &[],
            normalization: &CodeNormalization::Crosscoder,
            norms: &norms,
        };
        Found::of(&backward.run(&parts, None), &parameters)
    };
    let (free, tied) = (run(false), run(true));
    let (row, sum) = (tied.decoder_row(0, 8), free.decoder_row(0, 8));
    for place in 0..4 {
        assert!((row[place] - (sum[place] + sum[place + 4])).abs() < 1e-6);
        assert!(row[place].to_bits() == row[place + 4].to_bits());
    }
    assert_eq!(tied.decoder_row(1, 8), free.decoder_row(1, 8));
    let squares = |row: &[f32]| row.iter().map(|x| f64::from(x * x)).sum::<f64>();
    let difference = tied.norm.powi(2) - free.norm.powi(2);
    assert!(
        (difference - (squares(&row[..4]) - squares(sum))).abs() < 1e-5,
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
    let run = |codes: Codes, decoder: &[f32]| {
        let mut output = residual.clone();
        let revival = revive(codes, &mut output, (decoder, &layout), 0.5);
        (revival.unwrap(), output)
    };
    let value = |decoder: &[f32]| run(codes.clone(), decoder).0.value;
    let (revival, output) = run(codes.clone(), &parameters.decoder);
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
            .map(|(row, entry)| f64::from(entry.1 * output[row * D_TOTAL + place]))
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
    let above = run(moved, &parameters.decoder).0.value;
    let slope = (above - revival.value) / 1e-2;
    assert!((slope - f64::from(revival.part.through[0])).abs() < 1e-2 * (1.0 + slope.abs()));
}
