//! Features whose history is known: shared, tuned only, shrunk, rotated, dead.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{N, dictionary, fail, save, succeed, write_acts};
use dict::Crosscoder;
use std::path::Path;
use store::read_table;
use store::tables::Drift;

/// Coordinates 0 shared, 1 and 2 tuned only by their norms, 3 rotated, 4 base only, 5 never fires.
fn planted() -> Crosscoder {
    let mut dictionary = dictionary(&["base", "sft"]);
    for feature in [1, 2] {
        dictionary.encoder[0][feature * (N + 1)] = 0.0;
        dictionary.encoder[1][feature * (N + 1)] = 1.0;
        dictionary.decoder[0][feature * (N + 1)] = 0.0;
    }
    // Feature 3 is coordinate 3 of the base and coordinate 5 of the tuned model.
    dictionary.encoder[1][3 * N + 3] = 0.0;
    dictionary.encoder[1][5 * N + 3] = 0.5;
    dictionary.decoder[1][3 * N + 3] = 0.0;
    dictionary.decoder[1][3 * N + 5] = 1.0;
    dictionary.encoder[0][4 * N + 4] = 1.0;
    dictionary.encoder[1][4 * N + 4] = 0.0;
    dictionary.decoder[1][4 * N + 4] = 0.0;
    dictionary.encoder[0][5 * N + 5] = 0.0;
    dictionary.encoder[1][5 * N + 5] = 0.0;
    dictionary
}

/// Every row has one feature. Feature 1 is in the tuned model alone; feature 2 is in both, whatever the norms say.
fn rows() -> Vec<f32> {
    let mut values = Vec::new();
    for row in 0..100 {
        let feature = row % 5;
        let activation = 1.0 + (row / 5) as f32 * 0.1;
        let mut base = [0.0; N];
        let mut tuned = [0.0; N];
        match feature {
            1 => tuned[1] = activation,
            3 => (base[3], tuned[5]) = (activation, activation),
            4 => base[4] = activation,
            shared => (base[shared], tuned[shared]) = (activation, activation),
        }
        values.extend(base);
        values.extend(tuned);
    }
    values
}

fn run(at: &Path, line: &str) -> Vec<Drift> {
    succeed(
        at,
        &format!("-q features dict.safetensors {line} -o drift.parquet"),
    );
    read_table(&[at.join("drift.parquet")]).unwrap()
}

fn classes(rows: &[Drift]) -> Vec<&str> {
    rows.iter().map(|row| row.class.as_str()).collect()
}

#[test]
fn norms_alone_name_the_classes() {
    let directory = tempfile::tempdir().unwrap();
    save(&planted(), directory.path());
    let rows = run(directory.path(), "");
    assert_eq!(
        classes(&rows),
        [
            "shared",
            "tuned-only",
            "tuned-only",
            "rotated",
            "base-only",
            "shared"
        ]
    );
    assert_eq!(
        rows.iter().map(|row| row.nrn).collect::<Vec<_>>(),
        [0.5, 1.0, 1.0, 0.5, 0.0, 0.5]
    );
    assert!(
        rows.iter()
            .all(|row| row.nu_error.is_none() && row.firing_rate.is_none())
    );
}

#[test]
fn activations_find_the_shrunk_and_the_dead() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    save(&planted(), at);
    write_acts(
        &at.join("acts.safetensors"),
        "base,sft",
        "resid_post.1",
        rows(),
    );
    let rows = run(at, "acts.safetensors");
    assert_eq!(
        classes(&rows),
        [
            "shared",
            "tuned-only",
            "other",
            "rotated",
            "base-only",
            "dead"
        ]
    );
    let close = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 1e-5;
    assert!(
        close(rows[0].nu_error, 1.0) && close(rows[0].nu_reconstruction, 1.0),
        "{:?}",
        rows[0]
    );
    assert!(
        close(rows[1].nu_error, 0.0) && close(rows[1].nu_reconstruction, 0.0),
        "{:?}",
        rows[1]
    );
    assert!(
        close(rows[2].nu_error, 1.0) && close(rows[2].nu_reconstruction, 0.0),
        "{:?}",
        rows[2]
    );
    assert!(
        close(rows[0].firing_rate, 0.2) && close(rows[0].mean_activation, 1.95),
        "{:?}",
        rows[0]
    );
    assert!(rows[5].mean_activation.is_none() && rows[5].nu_error.is_none());
}

#[test]
fn every_tuned_model_is_compared_with_the_base() {
    let directory = tempfile::tempdir().unwrap();
    let mut three = dictionary(&["base", "sft", "rl"]);
    three.decoder[2]
        .iter_mut()
        .for_each(|weight| *weight *= 3.0);
    save(&three, directory.path());
    let rows = run(directory.path(), "");
    assert_eq!(rows.len(), 2 * N);
    assert_eq!(
        (rows[0].tuned.as_str(), rows[N].tuned.as_str()),
        ("sft", "rl")
    );
    assert_eq!(
        (rows[0].nrn, rows[N].nrn, rows[N].mas_tuned),
        (0.5, 0.75, 0.6)
    );
    let turned = run(directory.path(), "--base rl");
    assert_eq!(
        (
            turned[0].tuned.as_str(),
            turned[0].base.as_str(),
            turned[0].nrn
        ),
        ("base", "rl", 0.25)
    );
}

#[test]
fn the_null_holds_for_an_identical_pair_and_for_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    save(&dictionary(&["a", "b"]), at);
    run(at, "--null");
    save(&planted(), at);
    let (code, message) = fail(at, "-q features dict.safetensors --null -o drift.parquet");
    assert!(
        code == 1 && message.contains("the pair is not identical: feature"),
        "{message}"
    );
}
