//! Training against data whose features are known; runs that must end in the same bits.

use super::{kernels, same_bits, subject, uniform};
use crate::rule::{CodeNormalization, Rule, Selection};
use crate::train::{Block, Settings, Trainer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

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
                trainer.step(&[&rows, &rows]).unwrap();
            }
            trainer
        })
    };
    let (one, three) = (train(1), train(3));
    assert!(same_bits(&one, &three));
    assert!(
        one.history.dead(600).any(|dead| dead),
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
        straight.step(&[rows]).unwrap();
    }
    let mut stopped = new();
    for rows in &batches[..11] {
        stopped.step(&[rows]).unwrap();
    }
    let provenance = store::Provenance::new("test", &()).unwrap();
    let about = std::collections::BTreeMap::new();
    let written = stopped.with_state(Vec::new(), |tensors| {
        store::write_tensors(&path, tensors, &about, &provenance)
    });
    written.unwrap().unwrap();
    let mut resumed = new();
    resumed
        .restore(&store::TensorFile::open(&path).unwrap())
        .unwrap();
    assert!(same_bits(&stopped, &resumed), "a state is lent, not taken");
    for rows in &batches[11..] {
        resumed.step(&[rows]).unwrap();
    }
    assert!(same_bits(&straight, &resumed));
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
        kernels(&mut trainer).parameters.encoder[..32 * 32]
            .iter_mut()
            .for_each(|weight| *weight *= 0.05);
        let mut dead = 0.0;
        for _ in 0..400 {
            let rows = sparse_rows(random, 256, &directions, 32, 4);
            dead = trainer.step(&[&rows]).unwrap().dead;
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
            trainer.step(&[&rows, &rows]).unwrap();
        }
        let dictionary = trainer.into_crosscoder().unwrap();
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
        trainer.step(&[&rows]).unwrap();
    }
    let rows = sparse_rows(&mut random, 2000, &directions, 24, 5);
    let codes = trainer
        .crosscoder()
        .unwrap()
        .encode(&[&rows], 2000, Selection::Rule);
    let l0 = codes.len() as f64 / 2000.0;
    assert!((l0 - 5.0).abs() < 0.5, "L0 {l0}");
}

/// A run of a rule on rows made of known directions, the same for every model.
fn trained(mut settings: Settings, widths: &[usize], steps: u64) -> Trainer {
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let width = widths[0];
    let directions = uniform(&mut random, 40 * width);
    (settings.steps, settings.learning_rate, settings.dead_after) = (steps, 2e-3, 4000);
    let mut trainer = Trainer::new(settings, subject(widths));
    for _ in 0..steps {
        let rows = sparse_rows(&mut random, 128, &directions, width, 4);
        let x: Vec<Vec<f32>> = widths
            .iter()
            .map(|&narrow| narrowed(&rows, width, narrow))
            .collect();
        let x: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
        trainer.step(&x).unwrap();
    }
    trainer
}

/// The first `narrow` coordinates of each row.
fn narrowed(rows: &[f32], width: usize, narrow: usize) -> Vec<f32> {
    rows.chunks(width)
        .flat_map(|row| &row[..narrow])
        .copied()
        .collect()
}

#[test]
fn every_rule_learns_with_every_normalization() {
    let decoupled = CodeNormalization::Decoupled {
        thresholds: Vec::new(),
    };
    let mixed = CodeNormalization::Mixed {
        alpha_sae: 1.0,
        alpha_crosscoder: 0.1,
    };
    let jump = Rule::JumpRelu {
        k: 4,
        sparsity: 0.1,
        bandwidth: 0.05,
    };
    let cases = [
        (Rule::BatchTopK { k: 4 }, CodeNormalization::Sae),
        (Rule::BatchTopK { k: 4 }, mixed),
        (Rule::BatchTopK { k: 4 }, CodeNormalization::None),
        (Rule::BatchTopK { k: 4 }, decoupled.clone()),
        (Rule::TopK { k: 4 }, decoupled),
        (Rule::Matryoshka { k: 4 }, CodeNormalization::Crosscoder),
        (Rule::L1 { sparsity: 0.05 }, CodeNormalization::Sae),
        (jump, CodeNormalization::Crosscoder),
    ];
    for (rule, normalization) in cases {
        let mut settings = Settings::new(rule, 64, 20, 300);
        settings.code_normalization = normalization.clone();
        let mut trainer = trained(settings, &[20, 14], 300);
        let mut random = ChaCha8Rng::seed_from_u64(99);
        let rows = sparse_rows(
            &mut random,
            64,
            &uniform(&mut ChaCha8Rng::seed_from_u64(12), 40 * 20),
            20,
            4,
        );
        let narrow = narrowed(&rows, 20, 14);
        let dictionary = trainer.crosscoder().unwrap();
        let codes = dictionary.encode_decoupled(&[&rows, &narrow], 64, Selection::Rule);
        let report = trainer.step(&[&rows, &narrow]).unwrap();
        assert!(
            report.explained_variance > 0.5,
            "{rule:?} {normalization:?}: {report:?}"
        );
        assert_eq!(report.explained_variances.len(), 2);
        let l0 = codes.iter().map(crate::codes::Codes::len).sum::<usize>() as f64
            / (64 * codes.len()) as f64;
        assert!(
            (l0 - report.l0).abs() < 0.35 * report.l0,
            "{rule:?} {normalization:?}: L0 {l0} at inference, {report:?}"
        );
    }
}

#[test]
fn jumprelu_steers_towards_the_number_it_is_given() {
    let rule = Rule::JumpRelu {
        k: 6,
        sparsity: 5.0,
        bandwidth: 0.1,
    };
    let trainer = trained(Settings::new(rule, 64, 20, 1000), &[20], 1000);
    let dictionary = trainer.crosscoder().unwrap();
    assert_eq!(dictionary.thresholds.len(), 64);
    let rows = sparse_rows(
        &mut ChaCha8Rng::seed_from_u64(1),
        500,
        &uniform(&mut ChaCha8Rng::seed_from_u64(12), 40 * 20),
        20,
        4,
    );
    let l0 = dictionary.encode(&[&rows], 500, Selection::Rule).len() as f64 / 500.0;
    assert!((l0 - 6.0).abs() < 2.0, "L0 {l0}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dict.safetensors");
    dictionary
        .save(&path, &store::Provenance::new("test", &()).unwrap())
        .unwrap();
    assert!(crate::Crosscoder::load(&path).unwrap() == dictionary);
}

#[test]
fn a_partition_holds_through_training() {
    let only = |model: usize| Block {
        models: vec![model],
        ..Block::shared(8)
    };
    let tied = Block {
        tied: true,
        ..Block::shared(16)
    };
    let mut settings = Settings::new(Rule::BatchTopK { k: 4 }, 64, 20, 60);
    settings.partition = vec![only(0), only(1), tied, Block::shared(32)];
    let dictionary = trained(settings, &[20, 20], 60).into_crosscoder().unwrap();
    let zero = |row: &[f32]| row.iter().all(|value| *value == 0.0);
    for feature in 0..64 {
        let [base, tuned] = [0, 1].map(|model| dictionary.row(model, feature));
        match feature {
            0..8 => assert!(
                !zero(base) && zero(tuned),
                "feature {feature} is the first model's"
            ),
            8..16 => assert!(
                zero(base) && !zero(tuned),
                "feature {feature} is the second model's"
            ),
            16..32 => assert!(base == tuned && !zero(base), "feature {feature} is tied"),
            _ => assert!(!zero(base) && !zero(tuned), "feature {feature} is shared"),
        }
        let seen: Vec<bool> = [0, 1]
            .map(|model| {
                dictionary.encoder[model]
                    .iter()
                    .skip(feature)
                    .step_by(64)
                    .any(|w| *w != 0.0)
            })
            .to_vec();
        assert_eq!(
            seen,
            match feature {
                0..8 => [true, false],
                8..16 => [false, true],
                _ => [true, true],
            }
        );
    }
}

#[test]
fn settings_that_cannot_be_are_named() {
    let fault = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings::new(Rule::BatchTopK { k: 4 }, 64, 20, 60);
        change(&mut settings);
        settings.fault(&[20, 14]).unwrap_or_default()
    };
    assert_eq!(fault(&|_| ()), "");
    assert!(fault(&|settings| settings.partition = vec![Block::shared(8)]).contains("8 of 64"));
    assert!(
        fault(&|settings| settings.partition = vec![Block {
            tied: true,
            ..Block::shared(64)
        }])
        .contains("one width")
    );
    assert!(
        fault(&|settings| settings.partition = vec![Block {
            models: vec![2],
            ..Block::shared(64)
        }])
        .contains("not there")
    );
    let decoupled = CodeNormalization::Decoupled {
        thresholds: Vec::new(),
    };
    assert!(
        fault(&|settings| (settings.rule, settings.code_normalization) =
            (Rule::Matryoshka { k: 4 }, decoupled.clone()))
        .contains("one code")
    );
}
