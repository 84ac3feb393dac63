//! What tables and features share as Parquet files: how they are written, opened, and named in errors.

use crate::atomic::{AtomicFile, refuse_terminal};
use crate::error::{Error, Result};
use crate::guard::decode;
use crate::input::open_input;
use crate::provenance::{KEY, Provenance};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// First and last bytes of every Parquet file.
pub(crate) const MAGIC: &[u8] = b"PAR1";

/// Settings every file of ours shares: zstd, and nothing in the file but what was asked for.
pub(crate) fn properties(
    provenance: &Provenance,
    more: &[(&str, String)],
) -> WriterPropertiesBuilder {
    let mut metadata = vec![KeyValue::new(KEY.to_owned(), provenance.to_json())];
    metadata.extend(
        more.iter()
            .map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone())),
    );
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(metadata))
}

/// A Parquet file being written, which exists only when it is finished.
pub(crate) struct Writer {
    path: PathBuf,
    file: AtomicFile,
    /// Writes to a second handle of `file`: its own way to give the first one back loses the system's error.
    out: ArrowWriter<File>,
}

impl Writer {
    pub(crate) fn create(
        path: &Path,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self> {
        refuse_terminal(path)?;
        let mut file = AtomicFile::create(path)?;
        let handle = file.file_mut().try_clone().map_err(Error::write(path))?;
        let out =
            ArrowWriter::try_new(handle, schema, Some(properties)).map_err(write_error(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            out,
        })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.out.write(batch).map_err(write_error(&self.path))
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.out.finish().map_err(write_error(&self.path))?;
        self.file.commit()
    }
}

/// Keeps the system's error as it is (a closed pipe must be recognised far above), and every other as its message.
fn write_error(path: &Path) -> impl FnOnce(ParquetError) -> Error {
    let path = path.to_owned();
    move |error| {
        let source = match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(error) => *error,
                Err(other) => io::Error::other(other),
            },
            other => io::Error::other(other),
        };
        Error::Write { path, source }
    }
}

pub(crate) fn read_error(path: &Path, error: &impl ToString) -> Error {
    Error::invalid(path, format!("damaged Parquet: {}", error.to_string()))
}

/// Opens a Parquet file, or says what it is instead.
pub(crate) fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let mut file = open_input(path)?;
    check_ends(path, &mut file)?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| read_error(path, &error))
}

/// Tells a foreign file from a truncated one, which the library does not.
fn check_ends(path: &Path, file: &mut File) -> Result<()> {
    let length = file.metadata().map_err(Error::read(path))?.len();
    if length == 0 {
        return Err(Error::invalid(path, "the file is empty"));
    }
    let mut ends = [0; 8];
    if length >= 12 {
        let (head, tail) = ends.split_at_mut(4);
        file.read_exact(head).map_err(Error::read(path))?;
        file.seek(SeekFrom::End(-4)).map_err(Error::read(path))?;
        file.read_exact(tail).map_err(Error::read(path))?;
        file.rewind().map_err(Error::read(path))?;
    }
    match (&ends[..4] == MAGIC, &ends[4..] == MAGIC) {
        (true, true) => Ok(()),
        (true, false) => Err(Error::invalid(
            path,
            "truncated: a Parquet file without its end",
        )),
        (false, _) => Err(Error::invalid(path, "not a Parquet file")),
    }
}

/// One value of the file's key-value metadata.
pub(crate) fn metadata(path: &Path, key: &str) -> Result<Option<String>> {
    let opened = decode(path, || open(path))?;
    let pairs = opened.metadata().file_metadata().key_value_metadata();
    let found = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == key));
    Ok(found.and_then(|pair| pair.value.clone()))
}

/// The provenance of a file of ours.
pub(crate) fn provenance(path: &Path) -> Result<Provenance> {
    let text =
        metadata(path, KEY)?.ok_or_else(|| Error::invalid(path, "it carries no provenance"))?;
    Provenance::from_json(&text)
        .map_err(|error| Error::invalid(path, format!("unreadable provenance: {error}")))
}
