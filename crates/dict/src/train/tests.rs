//! The gradients against their definitions, and training against data whose features are known.

use super::backward::{self, Batch};
use super::forward;
use super::parameters::{Layout, Parameters};
use super::settings::{Distance, Settings};
use super::trainer::{Subject, Trainer};
use crate::codes::Codes;
use crate::normalizer::Normalizer;
use crate::rule::{Rule, Selection};
use crate::select;
use candle_core::{Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WIDTHS: [usize; 3] = [5, 5, 3];
const D_TOTAL: usize = 13;
const N_FEATURES: usize = 16;
const N_ROWS: usize = 12;
/// Stands for `λ / n_rows`.
const PENALTY: f32 = 0.03;

fn uniform(random: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.random_range(-1.0f32..1.0)).collect()
}

fn subject(widths: &[usize]) -> Subject {
    Subject {
        labels: (0..widths.len()).map(|model| format!("m{model}")).collect(),
        widths: widths.to_vec(),
        normalizer: widths
            .iter()
            .map(|&width| Normalizer::identity(width))
            .collect(),
        hook: String::new(),
        tokenizer_digest: String::new(),
    }
}

/// A small crosscoder with encoder ≠ decoder, a batch, and its codes.
fn small() -> (Parameters, Vec<f32>, Codes) {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let parameters = Parameters {
        encoder: uniform(&mut random, N_FEATURES * D_TOTAL),
        encoder_bias: uniform(&mut random, N_FEATURES),
        decoder: uniform(&mut random, N_FEATURES * D_TOTAL),
        decoder_bias: uniform(&mut random, D_TOTAL),
    };
    let x = uniform(&mut random, N_ROWS * D_TOTAL);
    let mut activations = Vec::new();
    forward::activations(&parameters, &x, D_TOTAL, &mut activations);
    let weights = parameters.rank_weights(&Layout::new(&WIDTHS));
    let (codes, _) = select::batch_top_k(&activations, &weights, N_ROWS);
    (parameters, x, codes)
}

fn by_hand(parameters: &Parameters, x: &[f32], codes: &Codes, distance: Distance) -> Parameters {
    let layout = Layout::new(&WIDTHS);
    let mut error = Vec::new();
    forward::error(parameters, codes, x, &mut error);
    forward::loss_and_gradient(&mut error, &layout, distance);
    let mut gradients = Parameters::zeros(N_FEATURES, D_TOTAL);
    let batch = Batch {
        parameters,
        layout: &layout,
        x,
        output: &error,
        penalty: PENALTY,
    };
    backward::gradients(&batch, codes, &mut gradients);
    gradients
}

/// The loss in plain f64 loops, with the set of active features held fixed.
fn plain_loss(parameters: [&[f64]; 4], x: &[f32], codes: &Codes, distance: Distance) -> f64 {
    let [encoder, encoder_bias, decoder, decoder_bias] = parameters;
    let layout = Layout::new(&WIDTHS);
    let norm = |row: &[f64]| row.iter().map(|value| value * value).sum::<f64>().sqrt();
    let mut loss = 0.0;
    for (number, x) in x.chunks(D_TOTAL).enumerate() {
        let mut error: Vec<f64> = decoder_bias
            .iter()
            .zip(x)
            .map(|(bias, x)| bias - f64::from(*x))
            .collect();
        for (feature, _) in codes.row(number) {
            let feature = feature as usize;
            let row = feature * D_TOTAL..(feature + 1) * D_TOTAL;
            let product = encoder[row.clone()]
                .iter()
                .zip(x)
                .map(|(w, x)| w * f64::from(*x))
                .sum::<f64>();
            let activation = product + encoder_bias[feature];
            error
                .iter_mut()
                .zip(&decoder[row.clone()])
                .for_each(|(e, d)| *e += activation * d);
            let norms: f64 = layout
                .models
                .iter()
                .map(|model| norm(&decoder[row.clone()][model.clone()]))
                .sum();
            loss += f64::from(PENALTY) * activation * norms;
        }
        loss += layout
            .models
            .iter()
            .map(|model| norm(&error[model.clone()]))
            .fold(0.0, |sum, length| match distance {
                Distance::Norm => sum + length / (N_ROWS * WIDTHS.len()) as f64,
                Distance::Squared => sum + length * length / N_ROWS as f64,
            });
    }
    loss
}

#[test]
fn gradients_agree_with_finite_differences() {
    for distance in [Distance::Norm, Distance::Squared] {
        let (parameters, x, codes) = small();
        assert!(!forward::is_dense(&codes, N_FEATURES));
        let gradients = by_hand(&parameters, &x, &codes, distance);
        let values: Vec<Vec<f64>> = parameters
            .parts()
            .iter()
            .map(|(_, part)| part.iter().map(|&value| f64::from(value)).collect())
            .collect();
        for part in 0..4 {
            for place in 0..values[part].len() {
                let at = |step: f64| {
                    let mut moved = values.clone();
                    moved[part][place] += step;
                    plain_loss(
                        [&moved[0], &moved[1], &moved[2], &moved[3]],
                        &x,
                        &codes,
                        distance,
                    )
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                let (name, gradient) = gradients.parts()[part];
                let gradient = f64::from(gradient[place]);
                assert!(
                    (slope - gradient).abs() < 1e-5 * (1.0 + slope.abs()),
                    "{name}[{place}]: {gradient}, not {slope}"
                );
            }
        }
    }
}

#[test]
fn gradients_agree_with_autograd_over_dense_tensors() -> candle_core::Result<()> {
    let (parameters, x, codes) = small();
    let gradients = by_hand(&parameters, &x, &codes, Distance::Norm);
    let device = Device::Cpu;
    let tensor = |values: &[f32], columns: usize| {
        Tensor::from_slice(values, (values.len() / columns, columns), &device)
    };
    let x = tensor(&x, D_TOTAL)?;
    let mask: Vec<f32> = codes
        .to_dense(N_FEATURES)
        .iter()
        .map(|&value| f32::from(value > 0.0))
        .collect();
    let mask = tensor(&mask, N_FEATURES)?;
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
        loss = (loss + (sums.sum_all()? * f64::from(PENALTY))?)?;
    }
    let store = loss.backward()?;
    let vars = [&encoder, &encoder_bias, &decoder, &decoder_bias];
    for ((name, ours), var) in gradients.parts().into_iter().zip(vars) {
        let theirs = store.get(var).unwrap().flatten_all()?.to_vec1::<f32>()?;
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() < 2e-6, "{name}: {a} by hand, {b} by autograd");
        }
    }
    Ok(())
}

#[test]
fn dense_products_and_sparse_loops_give_the_same_gradients() {
    let (parameters, x, _) = small();
    let layout = Layout::new(&WIDTHS);
    let mut activations = Vec::new();
    forward::activations(&parameters, &x, D_TOTAL, &mut activations);
    let codes = select::above(&activations, &[1.0; N_FEATURES], 0.0);
    assert!(forward::is_dense(&codes, N_FEATURES));
    let by_products = by_hand(&parameters, &x, &codes, Distance::Squared);
    let mut error = vec![0.0; x.len()];
    forward::sparse_error(
        &parameters.decoder,
        &parameters.decoder_bias,
        &codes,
        &x,
        &mut error,
    );
    forward::loss_and_gradient(&mut error, &layout, Distance::Squared);
    let mut by_loops = Parameters::zeros(N_FEATURES, D_TOTAL);
    let batch = Batch {
        parameters: &parameters,
        layout: &layout,
        x: &x,
        output: &error,
        penalty: PENALTY,
    };
    backward::sparse(&batch, &codes.by_feature(N_FEATURES), &mut by_loops, true);
    for ((name, a), (_, b)) in by_products
        .parts()
        .into_iter()
        .zip(by_loops.parts())
        .take(3)
    {
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
    }
}

/// Rows with `active` of `n_features` random directions each, the same rows for every one of `n_models` models.
fn sparse_rows(
    random: &mut ChaCha8Rng,
    n_rows: usize,
    directions: &[f32],
    width: usize,
    active: usize,
) -> Vec<f32> {
    let n_features = directions.len() / width;
    let mut rows = vec![0.0; n_rows * width];
    for row in rows.chunks_mut(width) {
        for _ in 0..active {
            let feature = random.random_range(0..n_features);
            let activation = random.random_range(0.5f32..1.5);
            row.iter_mut()
                .zip(&directions[feature * width..])
                .for_each(|(x, d)| *x += activation * d);
        }
    }
    rows
}

#[test]
fn the_same_seed_gives_the_same_bits_on_one_thread_and_on_three() {
    let train = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let directions = uniform(&mut random, 40 * 24);
            let mut settings = Settings::new(Rule::BatchTopK { k: 3 }, 256, 24, 30);
            (settings.dead_after, settings.learning_rate) = (600, 1e-3);
            let mut trainer = Trainer::new(settings, subject(&[24, 24]));
            for _ in 0..30 {
                let rows = sparse_rows(&mut random, 200, &directions, 24, 3);
                trainer.step(&[&rows, &rows]);
            }
            trainer
        })
    };
    let (one, three) = (train(1), train(3));
    assert!(one == three);
    assert!(
        one.dead().any(|dead| dead),
        "the test should cover the auxiliary loss"
    );
}

#[test]
fn a_restored_run_ends_in_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.safetensors");
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let directions = uniform(&mut random, 20 * 8);
    let batches: Vec<Vec<f32>> = (0..20)
        .map(|_| sparse_rows(&mut random, 64, &directions, 8, 2))
        .collect();
    let new = || {
        Trainer::new(
            Settings::new(Rule::BatchTopK { k: 2 }, 32, 8, 20),
            subject(&[8]),
        )
    };
    let mut straight = new();
    for rows in &batches {
        straight.step(&[rows]);
    }
    let mut stopped = new();
    for rows in &batches[..11] {
        stopped.step(&[rows]);
    }
    let provenance = store::Provenance::new("test", &()).unwrap();
    store::write_tensors(
        &path,
        &stopped.state(),
        &std::collections::BTreeMap::new(),
        &provenance,
    )
    .unwrap();
    let mut resumed = new();
    resumed
        .restore(&store::TensorFile::open(&path).unwrap())
        .unwrap();
    for rows in &batches[11..] {
        resumed.step(&[rows]);
    }
    assert!(straight.crosscoder() == resumed.crosscoder());
}

#[test]
fn dead_features_come_back_to_life() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let directions = uniform(&mut random, 64 * 32);
    let dead_after = |aux_coefficient: f32, random: &mut ChaCha8Rng| {
        let mut settings = Settings::new(Rule::BatchTopK { k: 4 }, 64, 32, 400);
        (settings.dead_after, settings.learning_rate) = (2000, 2e-3);
        settings.aux_coefficient = aux_coefficient;
        let mut trainer = Trainer::new(settings, subject(&[32]));
        // Half of the features begin with an encoder that cannot compete.
        trainer.parameters.encoder[..32 * 32]
            .iter_mut()
            .for_each(|weight| *weight *= 0.05);
        let mut dead = 0.0;
        for _ in 0..400 {
            let rows = sparse_rows(random, 256, &directions, 32, 4);
            dead = trainer.step(&[&rows]).dead;
        }
        dead
    };
    let (without, with) = (
        dead_after(0.0, &mut random),
        dead_after(1.0 / 32.0, &mut random),
    );
    assert!(without > 0.3, "without revival {without} are dead");
    assert!(with < 0.1, "with revival {with} are dead");
}

#[test]
fn an_identical_pair_stays_identical_to_the_last_bit() {
    for rule in [
        Rule::BatchTopK { k: 4 },
        Rule::L1 { sparsity: 0.2 },
        Rule::TopK { k: 4 },
    ] {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let directions = uniform(&mut random, 40 * 20);
        let mut settings = Settings::new(rule, 64, 20, 100);
        (settings.learning_rate, settings.dead_after) = (1e-3, 4000);
        let mut trainer = Trainer::new(settings, subject(&[20, 20]));
        for _ in 0..100 {
            let rows = sparse_rows(&mut random, 128, &directions, 20, 4);
            trainer.step(&[&rows, &rows]);
        }
        let dictionary = trainer.into_crosscoder();
        assert!(
            dictionary.decoder[0] == dictionary.decoder[1]
                && dictionary.encoder[0] == dictionary.encoder[1]
        );
    }
}

#[test]
fn the_learned_threshold_keeps_about_k_features_a_row() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let directions = uniform(&mut random, 40 * 24);
    let mut settings = Settings::new(Rule::BatchTopK { k: 5 }, 64, 24, 300);
    settings.learning_rate = 2e-3;
    let mut trainer = Trainer::new(settings, subject(&[24]));
    for _ in 0..300 {
        let rows = sparse_rows(&mut random, 256, &directions, 24, 5);
        trainer.step(&[&rows]);
    }
    let rows = sparse_rows(&mut random, 2000, &directions, 24, 5);
    let codes = trainer.crosscoder().encode(&[&rows], 2000, Selection::Rule);
    let l0 = codes.len() as f64 / 2000.0;
    assert!((l0 - 5.0).abs() < 0.5, "L0 {l0}");
}
