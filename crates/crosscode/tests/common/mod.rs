//! Activations made of known sparse features, and the program run on them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use store::{Provenance, TensorData, write_tensors};

/// Width of every model.
pub(crate) const WIDTH: usize = 16;

/// A small generator: the tests need no better one.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }
}

/// `[n_rows, 2, WIDTH]`: three of 24 directions a row; the second model sees `share` of the first's activation.
pub(crate) fn rows(n_rows: usize, share: f32) -> Vec<f32> {
    let mut random = Random(7);
    let directions: Vec<f32> = (0..24 * WIDTH).map(|_| random.next() - 0.5).collect();
    let mut values = Vec::new();
    for _ in 0..n_rows {
        let mut row = vec![0.1; WIDTH];
        for _ in 0..3 {
            let feature = (random.next() * 24.0) as usize;
            let activation = 0.5 + random.next();
            row.iter_mut()
                .zip(&directions[feature * WIDTH..])
                .for_each(|(x, d)| *x += activation * d);
        }
        values.extend(&row);
        values.extend(row.iter().map(|x| x * share));
    }
    values
}

/// Writes a bare safetensors file that names its models and its hook.
pub(crate) fn write_acts(path: &Path, values: Vec<f32>, hook: &str) {
    let shape = vec![values.len() / (2 * WIDTH), 2, WIDTH];
    let tensors = [("acts".to_owned(), TensorData::F32 { shape, values })];
    let about = [("labels", "base,sft"), ("hook", hook)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let provenance = Provenance::new("test", &()).unwrap();
    write_tensors(path, &tensors, &BTreeMap::from(about), &provenance).unwrap();
}

/// A directory with `acts.safetensors` in it.
pub(crate) fn workplace(n_rows: usize) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let acts = directory.path().join("acts.safetensors");
    write_acts(&acts, rows(n_rows, 1.0), "resid_post.1");
    (directory, acts)
}

/// Runs the program inside a directory.
pub(crate) fn crosscode(directory: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosscode"));
    command.current_dir(directory).args(line.split_whitespace());
    command.output().unwrap()
}

/// Runs the program, which must succeed.
pub(crate) fn succeed(directory: &Path, line: &str) -> String {
    let output = crosscode(directory, line);
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail with one line; returns exit code and line.
pub(crate) fn fail(directory: &Path, line: &str) -> (i32, String) {
    let output = crosscode(directory, line);
    let message = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), message.trim().to_owned())
}
