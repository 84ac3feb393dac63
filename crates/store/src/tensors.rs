//! Writing safetensors: named arrays of numbers, and one JSON string saying where they came from.
//!
//! The library's own writer takes its metadata in hash order, which varies; here the header is written sorted, so the
//! same tensors give the same bytes. `format: pt` stands beside the provenance because `transformers` refuses a file of
//! weights without it.

use crate::atomic::{refuse_terminal, write_atomic};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::provenance::{KEY, Provenance};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Values encoded at a time.
const CHUNK: usize = 1 << 16;

/// A tensor to write: row-major values of a shape, kept as they are or rounded to a shorter float.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// 32-bit floats.
    F32 {
        /// Dimensions, outermost first.
        shape: Vec<usize>,
        /// Values, as many as the product of the dimensions.
        values: Vec<f32>,
    },
    /// 16-bit floats with the range of `F32`: values are rounded to nearest even.
    Bf16 {
        /// Dimensions, outermost first.
        shape: Vec<usize>,
        /// Values before rounding.
        values: Vec<f32>,
    },
    /// 16-bit IEEE floats: values are rounded to nearest even, beyond 65504 to infinity.
    F16 {
        /// Dimensions, outermost first.
        shape: Vec<usize>,
        /// Values before rounding.
        values: Vec<f32>,
    },
    /// 64-bit whole numbers.
    I64 {
        /// Dimensions, outermost first.
        shape: Vec<usize>,
        /// Values.
        values: Vec<i64>,
    },
    /// 16 bits without a sign.
    U16 {
        /// Dimensions, outermost first.
        shape: Vec<usize>,
        /// Values.
        values: Vec<u16>,
    },
    /// Bytes.
    U8 {
        /// Dimensions, outermost first.
        shape: Vec<usize>,
        /// Values.
        values: Vec<u8>,
    },
}

impl TensorData {
    /// A float tensor in the format a user chose.
    pub fn float(dtype: Dtype, shape: Vec<usize>, values: Vec<f32>) -> Self {
        match dtype {
            // Rows of 8 bits are a matter of activation stores.
            Dtype::F32 | Dtype::Int8 => Self::F32 { shape, values },
            Dtype::F16 => Self::F16 { shape, values },
            Dtype::Bf16 => Self::Bf16 { shape, values },
        }
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32 { shape, .. }
            | Self::Bf16 { shape, .. }
            | Self::F16 { shape, .. }
            | Self::I64 { shape, .. }
            | Self::U16 { shape, .. }
            | Self::U8 { shape, .. } => shape,
        }
    }

    fn n_values(&self) -> usize {
        match self {
            Self::F32 { values, .. } | Self::Bf16 { values, .. } | Self::F16 { values, .. } => {
                values.len()
            }
            Self::I64 { values, .. } => values.len(),
            Self::U16 { values, .. } => values.len(),
            Self::U8 { values, .. } => values.len(),
        }
    }

    /// Name of the format in the header, and bytes of a value.
    fn format(&self) -> (&'static str, usize) {
        match self {
            Self::F32 { .. } => (format_name(Dtype::F32), 4),
            Self::Bf16 { .. } => (format_name(Dtype::Bf16), 2),
            Self::F16 { .. } => (format_name(Dtype::F16), 2),
            Self::I64 { .. } => ("I64", 8),
            Self::U16 { .. } => ("U16", 2),
            Self::U8 { .. } => ("U8", 1),
        }
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut floats = |dtype: Dtype, values: &[f32]| {
            let mut bytes = Vec::new();
            values.chunks(CHUNK).try_for_each(|values| {
                bytes.clear();
                dtype.encode(values, &mut bytes);
                out.write_all(&bytes)
            })
        };
        match self {
            Self::F32 { values, .. } => floats(Dtype::F32, values),
            Self::Bf16 { values, .. } => floats(Dtype::Bf16, values),
            Self::F16 { values, .. } => floats(Dtype::F16, values),
            Self::I64 { values, .. } => values
                .iter()
                .try_for_each(|value| out.write_all(&value.to_le_bytes())),
            Self::U16 { values, .. } => values
                .iter()
                .try_for_each(|value| out.write_all(&value.to_le_bytes())),
            Self::U8 { values, .. } => out.write_all(values),
        }
    }
}

/// Name of a float format in a safetensors header.
pub(crate) fn format_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "F32",
        Dtype::F16 => "F16",
        Dtype::Bf16 => "BF16",
        Dtype::Int8 => "I8",
    }
}

/// Writes tensors as safetensors; `metadata` (labels, rule, hook, …) is packed with the provenance into one string.
///
/// The same tensors in any order give the same bytes. `-` is stdout.
pub fn write_tensors(
    path: &Path,
    tensors: &[(String, TensorData)],
    metadata: &BTreeMap<String, String>,
    provenance: &Provenance,
) -> Result<()> {
    refuse_terminal(path)?;
    let sorted = sorted(path, tensors)?;
    let entries: Vec<Entry> = sorted
        .iter()
        .map(|(name, data)| Entry::new(name, data.format(), data.shape()))
        .collect();
    let header = header(&entries, metadata, provenance);
    write_atomic(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&header)?;
        for (_, data) in &sorted {
            data.write(&mut out)?;
        }
        out.flush()
    })
}

/// Widest values first, so that each stays aligned to its size, then by name: the order the library itself writes.
fn sorted<'a>(
    path: &Path,
    tensors: &'a [(String, TensorData)],
) -> Result<Vec<(&'a String, &'a TensorData)>> {
    let mut sorted: Vec<_> = tensors.iter().map(|(name, data)| (name, data)).collect();
    sorted.sort_by_key(|(name, data)| (std::cmp::Reverse(data.format().1), *name));
    for (name, data) in &sorted {
        let wanted: usize = data.shape().iter().product();
        if wanted != data.n_values() {
            let cause = format!(
                "tensor `{name}` of shape {:?} has {} values",
                data.shape(),
                data.n_values()
            );
            return Err(Error::unwritable(path, cause));
        }
    }
    let mut names: Vec<_> = sorted.iter().map(|(name, _)| name).collect();
    names.sort();
    if let Some([twice, _]) = names.array_windows().find(|[a, b]| a == b) {
        return Err(Error::unwritable(
            path,
            format!("two tensors are called `{twice}`"),
        ));
    }
    Ok(sorted)
}

/// One tensor of a header.
pub(crate) struct Entry<'a> {
    name: &'a str,
    format: &'static str,
    shape: &'a [usize],
    bytes: usize,
}

impl<'a> Entry<'a> {
    pub(crate) fn new(
        name: &'a str,
        (format, size): (&'static str, usize),
        shape: &'a [usize],
    ) -> Self {
        Self {
            name,
            format,
            shape,
            bytes: size * shape.iter().product::<usize>(),
        }
    }
}

/// Length and JSON of a safetensors header, padded so that the data behind it is aligned to 8 bytes.
pub(crate) fn header(
    entries: &[Entry],
    metadata: &BTreeMap<String, String>,
    provenance: &Provenance,
) -> Vec<u8> {
    let mut fields = Map::new();
    let about = json!({ "format": "pt", KEY: pack(metadata, provenance) });
    fields.insert("__metadata__".into(), about);
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.bytes;
        let field =
            json!({ "dtype": entry.format, "shape": entry.shape, "data_offsets": [offset, end] });
        fields.insert(entry.name.into(), field);
        offset = end;
    }
    let mut text = Value::Object(fields).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}

/// The provenance with one more key, `metadata`.
fn pack(metadata: &BTreeMap<String, String>, provenance: &Provenance) -> String {
    let mut value =
        serde_json::to_value(provenance).expect("strings, numbers and JSON values are always JSON");
    if !metadata.is_empty() {
        value["metadata"] = json!(metadata);
    }
    value.to_string()
}
