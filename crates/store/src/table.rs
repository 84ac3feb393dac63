//! Tables as Parquet files: rows of [`crate::tables`] in, rows out.

use crate::error::{Error, Result};
use crate::expand::expand;
use crate::guard::decode;
use crate::parquet_file::{self, Writer};
use crate::provenance::Provenance;
use crate::schema::{Table, check, columns, conform};
use arrow::datatypes::{FieldRef, Schema};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows converted at a time: enough to be fast, few enough that long texts stay far below the 2 GiB of a column.
const ROWS_PER_BATCH: usize = 8192;

/// Metadata key of a table's name.
const NAME_KEY: &str = "table";

/// Writes rows as Parquet, with where they came from. `-` is stdout.
pub fn write_table<T: Table>(path: &Path, rows: &[T], provenance: &Provenance) -> Result<()> {
    let mut writer = TableWriter::create(path, provenance)?;
    for rows in rows.chunks(ROWS_PER_BATCH) {
        writer.write(rows)?;
    }
    writer.finish()
}

/// A table written piece by piece: the file exists only once it is finished, and does not depend on the pieces.
pub struct TableWriter<T> {
    path: PathBuf,
    columns: Vec<FieldRef>,
    writer: Writer,
    /// Rows that do not fill a batch yet.
    pending: Vec<T>,
}

impl<T: Table> TableWriter<T> {
    /// Begins a table. `-` is stdout.
    pub fn create(path: &Path, provenance: &Provenance) -> Result<Self> {
        let columns = columns::<T>();
        let properties =
            parquet_file::properties(provenance, &[(NAME_KEY, T::NAME.to_owned())]).build();
        let writer = Writer::create(path, Arc::new(Schema::new(columns.clone())), properties)?;
        Ok(Self {
            path: path.to_owned(),
            columns,
            writer,
            pending: Vec::new(),
        })
    }

    /// Ends the table.
    pub fn finish(mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.write(&rest)?;
        }
        self.writer.finish()
    }

    fn write(&mut self, rows: &[T]) -> Result<()> {
        let batch = serde_arrow::to_record_batch(&self.columns, &rows)
            .map_err(|error| Error::unwritable(&self.path, error.message()))?;
        self.writer.write(&batch)
    }
}

impl<T: Table + Clone> TableWriter<T> {
    /// Adds rows after those already there.
    pub fn push(&mut self, rows: &[T]) -> Result<()> {
        for rows in rows.chunks(ROWS_PER_BATCH) {
            self.pending.extend_from_slice(rows);
            while self.pending.len() >= ROWS_PER_BATCH {
                let rest = self.pending.split_off(ROWS_PER_BATCH);
                let full = std::mem::replace(&mut self.pending, rest);
                self.write(&full)?;
            }
        }
        Ok(())
    }
}

/// Reads the rows of files, directories of `*.parquet`, globs and `-`, in the order of [`expand`].
pub fn read_table<T: Table>(inputs: &[PathBuf]) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    read_table_by(inputs, &mut |mut more: Vec<T>| {
        rows.append(&mut more);
        Ok(())
    })?;
    Ok(rows)
}

/// Shows the rows of a table a few thousand at a time: one that does not fit into memory can be read.
pub fn read_table_by<T: Table>(
    inputs: &[PathBuf],
    each: &mut dyn FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    let columns = columns::<T>();
    for path in expand(inputs, "parquet")? {
        decode(&path, || read_one(&path, &columns, each))?;
    }
    Ok(())
}

fn read_one<T: Table>(
    path: &Path,
    columns: &[FieldRef],
    each: &mut dyn FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    let opened = parquet_file::open(path)?;
    check(path, T::NAME, opened.schema(), columns)?;
    let damaged = |error: &dyn std::fmt::Display| parquet_file::read_error(path, &error);
    let reader = opened
        .with_batch_size(ROWS_PER_BATCH)
        .build()
        .map_err(|error| damaged(&error))?;
    for batch in reader {
        let batch = conform(path, &batch.map_err(|error| damaged(&error))?, columns)?;
        let read: Vec<T> =
            serde_arrow::from_record_batch(&batch).map_err(|error| damaged(&error.message()))?;
        each(read)?;
    }
    Ok(())
}

/// Where a table or a features file came from.
pub fn table_provenance(path: &Path) -> Result<Provenance> {
    parquet_file::provenance(path)
}

/// Which table a Parquet file holds ([`Table::NAME`], or `features`); none when another program wrote it.
pub fn table_name(path: &Path) -> Result<Option<String>> {
    parquet_file::metadata(path, NAME_KEY)
}
