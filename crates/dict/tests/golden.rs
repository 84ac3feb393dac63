//! Codes and reconstructions that `crosscoder_learning` computed, reproduced from its own files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use dict::{Codes, Crosscoder, Selection, import_crosscoder_learning};
use std::path::{Path, PathBuf};
use store::TensorFile;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

struct Golden {
    dictionary: Crosscoder,
    expected: TensorFile,
    /// One slice of rows per model.
    x: Vec<Vec<f32>>,
}

/// `[n_rows, n_models, d_model]` → per model `[n_rows, d_model]`.
fn per_model(values: &[f32], n_models: usize, d_model: usize) -> Vec<Vec<f32>> {
    let model = |model: usize| {
        values
            .chunks(d_model)
            .skip(model)
            .step_by(n_models)
            .flatten()
            .copied()
            .collect()
    };
    (0..n_models).map(model).collect()
}

fn golden(name: &str) -> Golden {
    let dictionary = import_crosscoder_learning(&directory(name), &[]).unwrap();
    let expected = TensorFile::open(&directory(name).join("expected.safetensors")).unwrap();
    let x = per_model(&expected.f32("x").unwrap(), 3, 8);
    Golden {
        dictionary,
        expected,
        x,
    }
}

impl Golden {
    fn codes(&self, selection: Selection) -> Vec<Codes> {
        let x: Vec<&[f32]> = self.x.iter().map(Vec::as_slice).collect();
        self.dictionary.encode_decoupled(&x, 64, selection)
    }

    fn check(&self, name: &str, ours: &[f32]) {
        let theirs = self.expected.f32(name).unwrap();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        // Sums of terms as large as the tensor's typical value: relative to that.
        let scale = theirs.iter().map(|value| value.abs()).sum::<f32>() / theirs.len() as f32;
        for (place, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert!(
                (a - b).abs() <= 1e-5 * b.abs().max(scale),
                "{name}[{place}]: {a}, not {b}"
            );
        }
    }
}

/// Per model `[n_rows, width]` → `[n_rows, n_models, width]`.
fn interleave(models: &[Vec<f32>], width: usize) -> Vec<f32> {
    let rows = models[0].len() / width;
    let row = |row: usize| {
        models
            .iter()
            .flat_map(move |values| &values[row * width..(row + 1) * width])
    };
    (0..rows).flat_map(row).copied().collect()
}

#[test]
fn a_shared_code_is_reproduced() {
    let golden = golden("crosscoder");
    golden.check(
        "f_threshold",
        &golden.codes(Selection::Threshold)[0].to_dense(32),
    );
    golden.check(
        "f_batchtopk",
        &golden.codes(Selection::BatchTopK)[0].to_dense(32),
    );
    golden.check("code_norm", &golden.dictionary.rank_weights());
}

#[test]
fn decoupled_codes_are_reproduced() {
    let golden = golden("decoupled");
    for (name, selection) in [
        ("f_threshold", Selection::Threshold),
        ("f_batchtopk", Selection::BatchTopK),
    ] {
        let codes: Vec<Vec<f32>> = golden
            .codes(selection)
            .iter()
            .map(|codes| codes.to_dense(32))
            .collect();
        golden.check(name, &interleave(&codes, 32));
    }
}

#[test]
fn reconstructions_are_reproduced_in_model_units() {
    for name in ["crosscoder", "decoupled"] {
        let golden = golden(name);
        let codes = golden.codes(Selection::Threshold);
        let models: Vec<Vec<f32>> = (0..3)
            .map(|model| golden.dictionary.decode(model, &codes[model]))
            .collect();
        golden.check("y_threshold", &interleave(&models, 8));
    }
}

#[test]
fn an_imported_dictionary_survives_our_own_format() {
    let directory = tempfile::tempdir().unwrap();
    let provenance = store::Provenance::new("test", &()).unwrap();
    for name in ["crosscoder", "decoupled"] {
        let path = directory.path().join("dict.safetensors");
        let dictionary = golden(name).dictionary;
        dictionary.save(&path, &provenance).unwrap();
        assert_eq!(Crosscoder::load(&path).unwrap(), dictionary);
    }
}
