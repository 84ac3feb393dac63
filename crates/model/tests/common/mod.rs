//! What the tests of this crate share: the golden models and ways to compare.

#![expect(clippy::unwrap_used, reason = "a test stops where a value is missing")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "every test file uses its own part"
)]

use candle_core::{DType, Device, Tensor, safetensors};
use model::Model;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Every golden directory; `golden/make.py` says what each of them tries.
pub(crate) const ARCHITECTURES: [&str; 17] = [
    "qwen2",
    "qwen2-window",
    "qwen2-yarn",
    "qwen3",
    "qwen3-bias",
    "llama3",
    "llama-linear-bias",
    "llama-dynamic",
    "llama-yarn",
    "mistral-window",
    "gemma2",
    "gemma3",
    "phi3",
    "phi3-long",
    "phi3-longrope",
    "olmo2",
    "olmo3",
];

/// Those whose rotation depends on the length of the sequence.
pub(crate) const LENGTH_DEPENDENT: [&str; 3] = ["llama-dynamic", "phi3-long", "phi3-longrope"];

/// Positions by which row 1 is padded.
pub(crate) const PADDING: usize = 5;

pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

pub(crate) fn load(name: &str, dtype: DType) -> Model {
    Model::load(&directory(name), &Device::Cpu, dtype).unwrap()
}

/// The tensors of a file of a golden directory.
pub(crate) fn tensors(name: &str, file: &str) -> HashMap<String, Tensor> {
    safetensors::load(directory(name).join(file), &Device::Cpu).unwrap()
}

/// Token ids of both rows.
pub(crate) fn rows(expected: &HashMap<String, Tensor>) -> Vec<Vec<u32>> {
    let rows = expected["input_ids"].to_dtype(DType::I64).unwrap();
    let rows: Vec<Vec<i64>> = rows.to_vec2().unwrap();
    rows.into_iter()
        .map(|row| row.into_iter().map(|id| id as u32).collect())
        .collect()
}

/// Largest difference of two tensors of one shape.
pub(crate) fn worst(ours: &Tensor, wanted: &Tensor) -> f64 {
    let exact = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let difference = (exact(ours) - exact(wanted)).unwrap().abs().unwrap();
    difference.max_all().unwrap().to_scalar().unwrap()
}

/// Every number of a tensor.
pub(crate) fn values(x: &Tensor) -> Vec<f64> {
    let flat = x.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    flat.to_vec1().unwrap()
}
