//! Files of `torch.save`, read without running anything in them: the archive written since torch 1.6, and the plain stream
//! before it.

use super::pickle::{Pickle, Scalar, Tensor, Value};
use half::{bf16, f16};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use store::{Error, Result, open_input};
use zip::ZipArchive;

/// How a file before torch 1.6 begins: a pickle of one large number.
const OLD_MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Dictionaries within dictionaries that are looked into.
const DEPTH: usize = 4;

/// An open file: its tensors by name, its other values as JSON.
#[derive(Debug)]
pub(super) struct TorchFile {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    plain: BTreeMap<String, Json>,
    data: Data,
}

/// Where the numbers of a storage are.
#[derive(Debug)]
enum Data {
    /// In the entry `<prefix>/data/<key>` of the archive.
    Archive { prefix: String },
    /// Behind the pickles, all read.
    Stream(BTreeMap<String, Vec<u8>>),
}

/// The whole numbers of a file of `torch.save` that is one tensor.
pub fn read_numbers(path: &Path) -> Result<Vec<i64>> {
    TorchFile::open(path)?.i64("")
}

impl TorchFile {
    /// Opens a file. What does more than hold tensors and plain values is an error that names it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut start = [0; OLD_MAGIC.len()];
        let mut file = open_input(path)?;
        let n = read_start(&mut file, &mut start).map_err(|error| read_error(path, error))?;
        let (pickle, data) = if start[..n].starts_with(b"PK") {
            open_archive(path)?
        } else if start[..n] == *OLD_MAGIC {
            open_stream(path, file)?
        } else {
            return Err(invalid(path, "this is not a file of torch.save".into()));
        };
        let mut torch = Self {
            path: path.to_owned(),
            tensors: BTreeMap::new(),
            plain: BTreeMap::new(),
            data,
        };
        torch.collect(&pickle, pickle.root(), "", DEPTH);
        torch.enter_only_dictionary();
        Ok(torch)
    }

    /// Names of the tensors, sorted; one of a file that is a single tensor is empty.
    pub(super) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// Values that are no tensors; those of a dictionary within are under `outer.inner`.
    pub(super) fn plain(&self) -> &BTreeMap<String, Json> {
        &self.plain
    }

    /// Dimensions of a tensor, outermost first.
    pub(super) fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.tensor(name)?.shape)
    }

    /// Values of a tensor of floats (or whole numbers), row-major.
    pub(super) fn f32(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        let bytes = self.bytes(name, tensor)?;
        Ok(match tensor.storage.scalar {
            Scalar::F64 => each(&bytes, |b| f64::from_le_bytes(b) as f32),
            Scalar::F32 => each(&bytes, f32::from_le_bytes),
            Scalar::F16 => each(&bytes, |b| f16::from_le_bytes(b).to_f32()),
            Scalar::Bf16 => each(&bytes, |b| bf16::from_le_bytes(b).to_f32()),
            scalar => whole(scalar, &bytes).iter().map(|&v| v as f32).collect(),
        })
    }

    /// Values of a tensor of whole numbers or booleans, row-major.
    pub(super) fn i64(&self, name: &str) -> Result<Vec<i64>> {
        let tensor = self.tensor(name)?;
        let scalar = tensor.storage.scalar;
        if matches!(
            scalar,
            Scalar::F64 | Scalar::F32 | Scalar::F16 | Scalar::Bf16
        ) {
            let cause = format!("tensor `{name}` must hold whole numbers, not {scalar:?}");
            return Err(invalid(&self.path, cause));
        }
        Ok(whole(scalar, &self.bytes(name, tensor)?))
    }

    /// Adds what a value holds under its name.
    fn collect(&mut self, pickle: &Pickle, value: &Value, name: &str, depth: usize) {
        match value {
            Value::Tensor(tensor) => {
                self.tensors.insert(name.to_owned(), tensor.clone());
            }
            Value::Dict(entries) if depth > 0 => {
                for &(key, value) in entries {
                    if let Value::Text(key) = pickle.value(key) {
                        let name = if name.is_empty() {
                            key.clone()
                        } else {
                            format!("{name}.{key}")
                        };
                        self.collect(pickle, pickle.value(value), &name, depth - 1);
                    }
                }
            }
            value => {
                if let Some(plain) = plain(value) {
                    self.plain.insert(name.to_owned(), plain);
                }
            }
        }
    }

    /// A file that holds a state dict under one key (`sae`, `model_state_dict`) is that state dict.
    fn enter_only_dictionary(&mut self) {
        for key in ["sae", "state_dict", "model_state_dict", "model"] {
            let prefix = format!("{key}.");
            if !self.tensors.is_empty() && self.tensors.keys().all(|name| name.starts_with(&prefix))
            {
                let tensors = std::mem::take(&mut self.tensors);
                self.tensors = tensors
                    .into_iter()
                    .map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor))
                    .collect();
                return;
            }
        }
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        let missing = || invalid(&self.path, format!("there is no tensor `{name}`"));
        self.tensors.get(name).ok_or_else(missing)
    }

    /// Bytes of a tensor's numbers, row-major whatever its strides.
    fn bytes(&self, name: &str, tensor: &Tensor) -> Result<Vec<u8>> {
        let fault = |cause: &str| invalid(&self.path, format!("tensor `{name}` {cause}"));
        let n = span(tensor).ok_or_else(|| fault("reaches beyond its storage"))?;
        if n == 0 {
            // Where nothing begins may lie anywhere.
            return Ok(Vec::new());
        }
        let size = tensor.storage.scalar.size();
        let storage = self.storage(tensor)?;
        if storage.len() < tensor.storage.n.saturating_mul(size) {
            return Err(fault("is cut short"));
        }
        if is_contiguous(tensor) {
            let from = tensor.offset * size;
            return Ok(if from == 0 && storage.len() == n * size {
                storage
            } else {
                storage[from..from + n * size].to_vec()
            });
        }
        let mut bytes = Vec::with_capacity(n * size);
        let mut index = vec![0; tensor.shape.len()];
        for _ in 0..n {
            let place: usize = index
                .iter()
                .zip(&tensor.strides)
                .map(|(i, stride)| i * stride)
                .sum();
            let from = (tensor.offset + place) * size;
            bytes.extend_from_slice(&storage[from..from + size]);
            advance(&mut index, &tensor.shape);
        }
        Ok(bytes)
    }

    fn storage(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let key = &tensor.storage.key;
        match &self.data {
            Data::Archive { prefix } => entry(
                &self.path,
                &mut archive(&self.path)?,
                &format!("{prefix}data/{key}"),
            ),
            Data::Stream(storages) => storages
                .get(key)
                .cloned()
                .ok_or_else(|| invalid(&self.path, format!("there is no storage `{key}`"))),
        }
    }
}

/// Numbers of a tensor, if all of them lie in its storage and none is repeated.
fn span(tensor: &Tensor) -> Option<usize> {
    let n = tensor
        .shape
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size))?;
    if n == 0 || tensor.shape.len() != tensor.strides.len() {
        return (n == 0).then_some(0);
    }
    let reach = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(tensor.offset, |last, (size, stride)| {
            last.checked_add((size - 1).checked_mul(*stride)?)
        })?;
    (reach < tensor.storage.n && n <= tensor.storage.n).then_some(n)
}

fn is_contiguous(tensor: &Tensor) -> bool {
    let mut wanted = 1;
    let dimensions = tensor.shape.iter().zip(&tensor.strides).rev();
    dimensions.into_iter().all(|(&size, &stride)| {
        let fits = size == 1 || stride == wanted;
        wanted *= size;
        fits
    })
}

/// Goes to the next index of a shape, the last dimension fastest.
fn advance(index: &mut [usize], shape: &[usize]) {
    for (place, size) in index.iter_mut().zip(shape).rev() {
        *place += 1;
        if *place < *size {
            return;
        }
        *place = 0;
    }
}

fn each<T, const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|chunk| value(*chunk))
        .collect()
}

fn whole(scalar: Scalar, bytes: &[u8]) -> Vec<i64> {
    match scalar {
        Scalar::I64 => each(bytes, i64::from_le_bytes),
        Scalar::I32 => each(bytes, |b| i32::from_le_bytes(b).into()),
        Scalar::I16 => each(bytes, |b| i16::from_le_bytes(b).into()),
        Scalar::I8 => bytes.iter().map(|&b| i64::from(b as i8)).collect(),
        _ => bytes.iter().map(|&b| b.into()).collect(),
    }
}

fn plain(value: &Value) -> Option<Json> {
    match value {
        Value::Bool(value) => Some(json!(value)),
        Value::Int(value) => Some(json!(value)),
        Value::Float(value) => Some(json!(value)),
        Value::Text(value) => Some(json!(value)),
        _ => None,
    }
}

/// Reads the beginning of a file, as much as there is.
fn read_start(file: &mut File, start: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    loop {
        match file.read(&mut start[n..])? {
            0 => return Ok(n),
            more => n += more,
        }
    }
}

fn archive(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    let mut file = open_input(path)?;
    file.rewind().map_err(|error| read_error(path, error))?;
    ZipArchive::new(BufReader::new(file)).map_err(|error| {
        invalid(
            path,
            format!("truncated, or not an archive of torch.save: {error}"),
        )
    })
}

/// One entry, which torch never compresses.
fn entry(path: &Path, archive: &mut ZipArchive<BufReader<File>>, name: &str) -> Result<Vec<u8>> {
    let fault =
        |error: zip::result::ZipError| invalid(path, format!("its entry `{name}`: {error}"));
    let mut bytes = Vec::new();
    archive
        .by_name(name)
        .map_err(fault)?
        .read_to_end(&mut bytes)
        .map_err(|error| invalid(path, format!("its entry `{name}`: {error}")))?;
    Ok(bytes)
}

fn open_archive(path: &Path) -> Result<(Pickle, Data)> {
    let mut archive = archive(path)?;
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()))
        .collect();
    let pickles: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with("data.pkl"))
        .collect();
    let [name] = pickles.as_slice() else {
        let cause = format!(
            "it holds {} data.pkl, a file of torch.save has one",
            pickles.len()
        );
        return Err(invalid(path, cause));
    };
    let prefix = name.trim_end_matches("data.pkl").to_owned();
    let order = format!("{prefix}byteorder");
    if names.contains(&order) && entry(path, &mut archive, &order)? != b"little" {
        return Err(invalid(path, "its numbers are big-endian".into()));
    }
    let bytes = entry(path, &mut archive, name)?;
    let pickle = Pickle::read(&bytes).map_err(|cause| invalid(path, cause))?;
    Ok((pickle, Data::Archive { prefix }))
}

/// After the magic: three pickles (version, machine, object), one with the keys, then each storage behind its length.
fn open_stream(path: &Path, mut file: File) -> Result<(Pickle, Data)> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| read_error(path, error))?;
    let mut at = 0;
    let mut next = || {
        let pickle = Pickle::read(&bytes[at..]).map_err(|cause| invalid(path, cause))?;
        at += pickle.length;
        Ok::<_, Error>(pickle)
    };
    let _ = (next()?, next()?);
    let (object, keys) = (next()?, next()?);
    let sizes = storage_sizes(&object);
    let mut storages = BTreeMap::new();
    let short = || invalid(path, "truncated: a storage is cut short".into());
    let Value::List(list) = keys.root() else {
        return Err(invalid(path, "its list of storages is none".into()));
    };
    for key in list {
        let Value::Text(key) = keys.value(*key) else {
            return Err(invalid(path, "its list of storages is none".into()));
        };
        let n = bytes.get(at..at + 8).ok_or_else(short)?;
        let n = u64::from_le_bytes(n.try_into().expect("eight bytes were taken")) as usize;
        at += 8;
        let size = sizes.get(key).copied().unwrap_or(1);
        let end = n
            .checked_mul(size)
            .and_then(|n| at.checked_add(n))
            .ok_or_else(short)?;
        storages.insert(key.clone(), bytes.get(at..end).ok_or_else(short)?.to_vec());
        at = end;
    }
    Ok((object, Data::Stream(storages)))
}

/// Bytes of a number of each storage.
fn storage_sizes(pickle: &Pickle) -> BTreeMap<String, usize> {
    let storages = pickle.values().iter().filter_map(|value| match value {
        Value::Storage(storage) => Some((storage.key.clone(), storage.scalar.size())),
        _ => None,
    });
    storages.collect()
}

fn invalid(path: &Path, cause: String) -> Error {
    Error::Invalid {
        path: path.to_owned(),
        cause,
    }
}

fn read_error(path: &Path, source: std::io::Error) -> Error {
    Error::Read {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
