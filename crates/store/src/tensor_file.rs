//! Reading safetensors, ours and anybody's, without copying them into memory first.

use crate::dtype::{Dtype, first_not_finite};
use crate::error::{Error, Result};
use crate::input::open_input;
use crate::provenance::{KEY, Provenance};
use memmap2::Mmap;
use safetensors::tensor::{Dtype as Format, Metadata, TensorInfo};
use safetensors::{SafeTensorError, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// An open safetensors file: header checked against the length of the file, values read when asked for.
///
/// The file is mapped: replacing it by a new one (as all writers here do) is safe, cutting it short in place is not.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    header: Metadata,
    /// Where the data begins.
    start: usize,
    metadata: BTreeMap<String, String>,
    provenance: Option<Provenance>,
}

impl TensorFile {
    /// Opens a file, or `-` for stdin. A truncated one is an error here, not at the first read.
    pub fn open(path: &Path) -> Result<Self> {
        let map = map(path, &open_input(path)?)?;
        let (n, header) =
            SafeTensors::read_metadata(&map).map_err(|error| explain(path, &error))?;
        let (metadata, provenance) = unpack(path, &header)?;
        Ok(Self {
            path: path.to_owned(),
            map,
            header,
            start: 8 + n,
            metadata,
            provenance,
        })
    }

    /// The file, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the tensors, in the order of the file.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// Dimensions of a tensor, outermost first.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.info(name)?.shape)
    }

    /// Values of a float tensor (f32, f16, bf16, or f64 rounded), row-major. A NaN or an infinity is an error that names
    /// its row, the index along the first dimension.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>> {
        let values = self.f32_any(name)?;
        let Some(bad) = first_not_finite(&values) else {
            return Ok(values);
        };
        let per_row: usize = self.shape(name)?.iter().skip(1).product();
        Err(Error::NotFinite {
            path: self.path.clone(),
            row: bad / per_row.max(1),
        })
    }

    /// The same without the check, for tensors in which an infinity has a meaning.
    pub fn f32_any(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.info(name)?;
        let bytes = self.data(info);
        if info.dtype == Format::F64 {
            let wide = bytes.as_chunks().0;
            return Ok(wide.iter().map(|b| f64::from_le_bytes(*b) as f32).collect());
        }
        let mut values = Vec::with_capacity(info.shape.iter().product());
        self.float_dtype(name, info)?.decode(bytes, &mut values);
        Ok(values)
    }

    /// Values of a tensor of whole numbers (signed or unsigned, 8 to 64 bits, or bool), row-major.
    pub fn i64(&self, name: &str) -> Result<Vec<i64>> {
        let info = self.info(name)?;
        let bytes = self.data(info);
        let values = match info.dtype {
            Format::I64 | Format::U64 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b))
                .collect(),
            Format::I32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| i32::from_le_bytes(*b).into())
                .collect(),
            Format::U32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| u32::from_le_bytes(*b).into())
                .collect(),
            Format::I16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| i16::from_le_bytes(*b).into())
                .collect(),
            Format::U16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| u16::from_le_bytes(*b).into())
                .collect(),
            Format::I8 => bytes.iter().map(|b| i64::from(*b as i8)).collect(),
            Format::U8 | Format::BOOL => bytes.iter().map(|b| i64::from(*b)).collect(),
            other => return Err(self.wrong_format(name, other, "whole numbers")),
        };
        Ok(values)
    }

    /// Values of a tensor of 16 bits without a sign, row-major.
    pub fn u16(&self, name: &str) -> Result<Vec<u16>> {
        let info = self.info(name)?;
        if info.dtype != Format::U16 {
            return Err(self.wrong_format(name, info.dtype, "16 bits without a sign"));
        }
        let values = self.data(info).as_chunks().0;
        Ok(values.iter().map(|b| u16::from_le_bytes(*b)).collect())
    }

    /// Values of a tensor of bytes, row-major.
    pub fn u8(&self, name: &str) -> Result<Vec<u8>> {
        let info = self.info(name)?;
        if info.dtype != Format::U8 {
            return Err(self.wrong_format(name, info.dtype, "bytes"));
        }
        Ok(self.data(info).to_vec())
    }

    /// What was packed beside the provenance, and every other metadata key of a foreign file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Where the file came from; none when it is foreign.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.provenance.as_ref()
    }

    /// Format, shape and bytes of a float tensor of at most 32 bits.
    pub(crate) fn raw(&self, name: &str) -> Result<(Dtype, &[usize], &[u8])> {
        let info = self.info(name)?;
        Ok((self.float_dtype(name, info)?, &info.shape, self.data(info)))
    }

    /// The same for a part of an activation store, which may also hold rows of 8 bits.
    pub(crate) fn stored(&self, name: &str) -> Result<(Dtype, &[usize], &[u8])> {
        let info = self.info(name)?;
        let dtype = match info.dtype {
            Format::I8 => Dtype::Int8,
            _ => self.float_dtype(name, info)?,
        };
        Ok((dtype, &info.shape, self.data(info)))
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        let missing = || Error::invalid(&self.path, format!("there is no tensor `{name}`"));
        self.header.info(name).ok_or_else(missing)
    }

    fn data(&self, info: &TensorInfo) -> &[u8] {
        let (from, to) = info.data_offsets;
        &self.map[self.start + from..self.start + to]
    }

    fn float_dtype(&self, name: &str, info: &TensorInfo) -> Result<Dtype> {
        match info.dtype {
            Format::F32 => Ok(Dtype::F32),
            Format::F16 => Ok(Dtype::F16),
            Format::BF16 => Ok(Dtype::Bf16),
            other => Err(self.wrong_format(name, other, "floats")),
        }
    }

    fn wrong_format(&self, name: &str, found: Format, wanted: &str) -> Error {
        Error::invalid(
            &self.path,
            format!("tensor `{name}` must hold {wanted}, not {found:?}"),
        )
    }
}

#[expect(
    unsafe_code,
    reason = "a file too large to copy is mapped; nothing here shortens a file in place"
)]
pub(crate) fn map(path: &Path, file: &File) -> Result<Mmap> {
    // SAFETY: the map is read-only and private; writers of this workspace replace files by renaming, so the mapped one
    // keeps its length and bytes for as long as it is open.
    unsafe { Mmap::map(file) }.map_err(Error::read(path))
}

fn explain(path: &Path, error: &SafeTensorError) -> Error {
    let cause = match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            "truncated safetensors: the header promises another length than the file has".into()
        }
        SafeTensorError::HeaderTooSmall
        | SafeTensorError::InvalidHeaderLength
        | SafeTensorError::HeaderTooLarge => "truncated, or not a safetensors file".into(),
        other => format!("not a safetensors file: {other}"),
    };
    Error::invalid(path, cause)
}

/// Takes the one string of ours apart; a foreign file has its keys as they are.
fn unpack(
    path: &Path,
    header: &Metadata,
) -> Result<(BTreeMap<String, String>, Option<Provenance>)> {
    let mut metadata: BTreeMap<String, String> = header
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    metadata.remove("format");
    let Some(text) = metadata.remove(KEY) else {
        return Ok((metadata, None));
    };
    let broken =
        |error: serde_json::Error| Error::invalid(path, format!("unreadable provenance: {error}"));
    let value: Value = serde_json::from_str(&text).map_err(broken)?;
    if let Some(packed) = value.get("metadata") {
        let packed: BTreeMap<String, String> =
            serde_json::from_value(packed.clone()).map_err(broken)?;
        metadata.extend(packed);
    }
    let provenance = serde_json::from_value(value).map_err(broken)?;
    Ok((metadata, Some(provenance)))
}
