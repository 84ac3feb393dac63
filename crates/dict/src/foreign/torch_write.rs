//! State dicts as `torch.save` writes them, for `torch.load(…, weights_only=True)`.

use serde_json::{Map, Value as Json};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use store::{Error, Result, TensorData, write_atomic};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Name of the folder inside the archive.
const FOLDER: &str = "archive";

/// Writes named tensors (f32 or whole numbers), and dictionaries of plain values beside them, in the order given.
///
/// The same values give the same bytes: entries carry no time.
pub(super) fn write_torch(
    path: &Path,
    tensors: &[(String, TensorData)],
    plain: &[(&str, Map<String, Json>)],
) -> Result<()> {
    let pickle = pickle(path, tensors, plain)?;
    write_atomic(path, |file| {
        let mut archive = ZipWriter::new(BufWriter::with_capacity(1 << 20, file));
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .large_file(true);
        let mut entry = |name: &str, fill: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
            archive.start_file(format!("{FOLDER}/{name}"), options)?;
            fill(&mut archive)
        };
        entry("data.pkl", &|out| out.write_all(&pickle))?;
        entry("byteorder", &|out| out.write_all(b"little"))?;
        for (number, (_, data)) in tensors.iter().enumerate() {
            entry(&format!("data/{number}"), &|out| write_numbers(out, data))?;
        }
        entry("version", &|out| out.write_all(b"3\n"))?;
        archive.finish()?.flush()
    })
}

fn write_numbers(out: &mut dyn Write, data: &TensorData) -> io::Result<()> {
    let mut bytes = Vec::new();
    match data {
        TensorData::F32 { values, .. } => {
            for values in values.chunks(1 << 16) {
                bytes.clear();
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                out.write_all(&bytes)?;
            }
            Ok(())
        }
        TensorData::I64 { values, .. } => {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            out.write_all(&bytes)
        }
        _ => Err(io::Error::other("only f32 and i64 are written")),
    }
}

/// The pickle, protocol 2: an ordered dictionary of tensors that refer to the entries of the archive.
fn pickle(
    path: &Path,
    tensors: &[(String, TensorData)],
    plain: &[(&str, Map<String, Json>)],
) -> Result<Vec<u8>> {
    let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (number, (name, data)) in tensors.iter().enumerate() {
        text(&mut out, name);
        let class = match data {
            TensorData::F32 { .. } => "FloatStorage",
            TensorData::I64 { .. } => "LongStorage",
            _ => {
                return Err(Error::Unwritable {
                    path: path.to_owned(),
                    cause: format!("tensor `{name}` is neither f32 nor i64"),
                });
            }
        };
        tensor(&mut out, class, number, data.shape());
    }
    for (name, entries) in plain {
        text(&mut out, name);
        out.extend(b"}(");
        for (key, value) in entries {
            text(&mut out, key);
            scalar(&mut out, value);
        }
        out.push(b'u');
    }
    out.extend(b"u.");
    Ok(out)
}

/// `_rebuild_tensor_v2(("storage", class, key, "cpu", n), 0, shape, strides, False, OrderedDict())`.
fn tensor(out: &mut Vec<u8>, class: &str, number: usize, shape: &[usize]) {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(out, "storage");
    out.extend(format!("ctorch\n{class}\n").as_bytes());
    text(out, &number.to_string());
    text(out, "cpu");
    whole(out, shape.iter().product());
    out.extend(b"tQK\x00");
    sizes(out, shape);
    let mut strides = vec![1; shape.len()];
    for place in (1..shape.len()).rev() {
        strides[place - 1] = strides[place] * shape[place];
    }
    sizes(out, &strides);
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
}

fn sizes(out: &mut Vec<u8>, sizes: &[usize]) {
    out.push(b'(');
    for &size in sizes {
        whole(out, size);
    }
    out.push(b't');
}

fn whole(out: &mut Vec<u8>, value: usize) {
    if let Ok(value) = i32::try_from(value) {
        out.push(b'J');
        out.extend(value.to_le_bytes());
    } else {
        out.extend(b"\x8a\x08");
        out.extend((value as i64).to_le_bytes());
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'X');
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(value.as_bytes());
}

fn scalar(out: &mut Vec<u8>, value: &Json) {
    if let Some(value) = value.as_u64() {
        whole(out, value as usize);
    } else if let Some(value) = value.as_f64() {
        out.push(b'G');
        out.extend(value.to_be_bytes());
    } else {
        text(out, value.as_str().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::torch_file::TorchFile;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back_and_twice_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["a.pt", "b.pt"].map(|name| directory.path().join(name));
        let tensors = [
            (
                "w.x".to_owned(),
                TensorData::F32 {
                    shape: vec![2, 3],
                    values: vec![1.0, -2.0, 3.5, 0.0, 1e-9, f32::NAN],
                },
            ),
            (
                "k".to_owned(),
                TensorData::I64 {
                    shape: vec![],
                    values: vec![7],
                },
            ),
        ];
        let Json::Object(extra) = json!({ "dict_size": 40, "share": 0.05 }) else {
            unreachable!()
        };
        for path in [&first, &second] {
            write_torch(path, &tensors, &[("_partition_config", extra.clone())]).unwrap();
        }
        assert_eq!(
            std::fs::read(&first).unwrap(),
            std::fs::read(&second).unwrap()
        );
        let file = TorchFile::open(&first).unwrap();
        assert_eq!(file.names(), ["k", "w.x"]);
        assert_eq!(file.shape("w.x").unwrap(), [2, 3]);
        let values = file.f32("w.x").unwrap();
        assert_eq!(values[..5], [1.0, -2.0, 3.5, 0.0, 1e-9]);
        assert!(values[5].is_nan());
        assert_eq!(file.i64("k").unwrap(), [7]);
        assert_eq!(file.plain()["_partition_config.dict_size"], json!(40));
        assert_eq!(file.plain()["_partition_config.share"], json!(0.05));
    }
}
