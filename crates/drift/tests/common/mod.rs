//! Dictionaries whose features are the coordinates, activations written by hand, and the program run on them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use dict::{CodeNormalization, Crosscoder, Normalizer, Rule};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use store::{Provenance, TensorData, write_tensors};

/// Width of every model, and number of features.
pub(crate) const N: usize = 6;

/// Feature k of `n_models` models is coordinate k of each: f = mean over models of x, x̂^m = f.
pub(crate) fn dictionary(labels: &[&str]) -> Crosscoder {
    let n_models = labels.len();
    let diagonal = |value: f32| {
        (0..N * N)
            .map(|place| if place % (N + 1) == 0 { value } else { 0.0 })
            .collect::<Vec<_>>()
    };
    Crosscoder {
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        widths: vec![N; n_models],
        n_features: N,
        encoder: vec![diagonal(1.0 / n_models as f32); n_models],
        encoder_bias: vec![0.0; N],
        decoder: vec![diagonal(1.0); n_models],
        decoder_bias: vec![vec![0.0; N]; n_models],
        normalizer: vec![Normalizer::identity(N); n_models],
        threshold: 0.0,
        thresholds: Vec::new(),
        rule: Rule::BatchTopK { k: 2 },
        code_normalization: CodeNormalization::Crosscoder,
        hook: "resid_post.1".into(),
        tokenizer_digest: String::new(),
    }
}

/// Saves a dictionary as `dict.safetensors`.
pub(crate) fn save(dictionary: &Crosscoder, directory: &Path) {
    let provenance = Provenance::new("test", &()).unwrap();
    dictionary
        .save(&directory.join("dict.safetensors"), &provenance)
        .unwrap();
}

/// Writes activations `[rows, n_models, N]` as a bare file.
pub(crate) fn write_acts(path: &Path, labels: &str, hook: &str, values: Vec<f32>) {
    let n_models = labels.split(',').count();
    let shape = vec![values.len() / (n_models * N), n_models, N];
    let tensors = [("acts".to_owned(), TensorData::F32 { shape, values })];
    let about =
        [("labels", labels), ("hook", hook)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let provenance = Provenance::new("test", &()).unwrap();
    write_tensors(path, &tensors, &BTreeMap::from(about), &provenance).unwrap();
}

/// Runs the program inside a directory.
pub(crate) fn drift(directory: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drift"));
    command.current_dir(directory).args(line.split_whitespace());
    command.output().unwrap()
}

/// Runs the program, which must succeed; returns what it printed.
pub(crate) fn succeed(directory: &Path, line: &str) -> String {
    let output = drift(directory, line);
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail; returns exit code and message.
pub(crate) fn fail(directory: &Path, line: &str) -> (i32, String) {
    let output = drift(directory, line);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap().trim().to_owned(),
    )
}
