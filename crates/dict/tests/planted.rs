//! Data made of known sparse features: some shared, some exclusive to one model, some rotated between the models.

use dict::{Crosscoder, Moments, Normalizer, Rule, Settings, Subject, Trainer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WIDTH: usize = 48;
const SHARED: usize = 30;
const EXCLUSIVE: usize = 10;
const ROTATED: usize = 10;
const N_TRUE: usize = SHARED + 2 * EXCLUSIVE + ROTATED;
const PER_ROW: usize = 5;

/// True directions `[N_TRUE, WIDTH]` of two models; an exclusive feature has length 0 in the other model.
fn truth(random: &mut ChaCha8Rng) -> [Vec<f32>; 2] {
    let mut direction = || {
        let values: Vec<f32> = (0..WIDTH)
            .map(|_| random.random_range(-1.0f32..1.0))
            .collect();
        let norm = length(&values);
        values
            .iter()
            .map(|value| value / norm)
            .collect::<Vec<f32>>()
    };
    let zero = vec![0.0; WIDTH];
    let mut models = [Vec::new(), Vec::new()];
    for feature in 0..N_TRUE {
        let first = direction();
        let pair = match feature {
            _ if feature < SHARED => [first.clone(), first],
            _ if feature < SHARED + EXCLUSIVE => [first, zero.clone()],
            _ if feature < SHARED + 2 * EXCLUSIVE => [zero.clone(), first],
            _ => [first, direction()],
        };
        models
            .iter_mut()
            .zip(pair)
            .for_each(|(model, direction)| model.extend(direction));
    }
    models
}

fn length(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// Activations of both models on the same rows.
fn rows(random: &mut ChaCha8Rng, truth: &[Vec<f32>; 2], n_rows: usize) -> [Vec<f32>; 2] {
    let mut out = [vec![0.0; n_rows * WIDTH], vec![0.0; n_rows * WIDTH]];
    for row in 0..n_rows {
        for _ in 0..PER_ROW {
            let feature = random.random_range(0..N_TRUE);
            let activation = random.random_range(0.5f32..2.0);
            for (out, truth) in out.iter_mut().zip(truth) {
                let out = &mut out[row * WIDTH..(row + 1) * WIDTH];
                out.iter_mut()
                    .zip(&truth[feature * WIDTH..])
                    .for_each(|(x, d)| *x += activation * d);
            }
        }
    }
    out
}

fn train(truth: &[Vec<f32>; 2], random: &mut ChaCha8Rng) -> Crosscoder {
    let sample = rows(random, truth, 5000);
    let normalizer: Vec<Normalizer> = sample
        .iter()
        .map(|rows| {
            let mut moments = Moments::new(WIDTH);
            moments.add(rows);
            moments.normalizer(1.0)
        })
        .collect();
    let steps = 1500;
    let mut settings = Settings::new(Rule::BatchTopK { k: PER_ROW }, 128, WIDTH, steps);
    settings.dead_after = 50_000;
    let subject = Subject {
        labels: vec!["base".into(), "tuned".into()],
        widths: vec![WIDTH; 2],
        normalizer,
        hook: "resid_post.0".into(),
        tokenizer_digest: String::new(),
    };
    let mut trainer = Trainer::new(settings, subject);
    for _ in 0..steps {
        let [a, b] = rows(random, truth, 512);
        trainer.step(&[&a, &b]).expect("kernels compute");
    }
    trainer.into_crosscoder().expect("kernels compute")
}

/// Both models' parts of a direction side by side, in normalised units.
fn joint(parts: [&[f32]; 2], scales: [f32; 2]) -> Vec<f32> {
    parts
        .iter()
        .zip(scales)
        .flat_map(|(part, scale)| part.iter().map(move |value| value * scale))
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    product / (length(a) * length(b)).max(f32::MIN_POSITIVE)
}

/// ‖d^tuned‖ / (‖d^base‖ + ‖d^tuned‖) in model units.
fn share(dictionary: &Crosscoder, feature: usize) -> f32 {
    let [a, b] = [0, 1]
        .map(|model| length(dictionary.row(model, feature)) / dictionary.normalizer[model].scale);
    b / (a + b)
}

#[test]
fn planted_features_are_recovered_and_told_apart() {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let truth = truth(&mut random);
    let dictionary = train(&truth, &mut random);
    let scales = [
        dictionary.normalizer[0].scale,
        dictionary.normalizer[1].scale,
    ];
    let mut total = 0.0;
    for feature in 0..N_TRUE {
        let range = feature * WIDTH..(feature + 1) * WIDTH;
        let wanted = joint([&truth[0][range.clone()], &truth[1][range]], scales);
        let found = |k: usize| {
            cosine(
                &joint([dictionary.row(0, k), dictionary.row(1, k)], [1.0; 2]),
                &wanted,
            )
        };
        let best = (0..dictionary.n_features)
            .max_by(|&a, &b| found(a).total_cmp(&found(b)))
            .unwrap();
        total += found(best);
        let (share, between) = (
            share(&dictionary, best),
            cosine(dictionary.row(0, best), dictionary.row(1, best)),
        );
        match feature {
            _ if feature < SHARED => assert!(
                (0.4..0.6).contains(&share) && between > 0.9,
                "shared {feature}: {share}"
            ),
            _ if feature < SHARED + EXCLUSIVE => {
                assert!(share < 0.1, "base only {feature}: {share}");
            }
            _ if feature < SHARED + 2 * EXCLUSIVE => {
                assert!(share > 0.9, "tuned only {feature}: {share}");
            }
            _ => assert!(
                (0.4..0.6).contains(&share) && between < 0.6,
                "rotated {feature}: {share}, {between}"
            ),
        }
    }
    let mean = total / N_TRUE as f32;
    assert!(mean >= 0.95, "mean max cosine {mean}");
}
