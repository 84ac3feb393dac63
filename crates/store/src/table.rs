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
    let columns = columns::<T>();
    let properties =
        parquet_file::properties(provenance, &[(NAME_KEY, T::NAME.to_owned())]).build();
    let mut writer = Writer::create(path, Arc::new(Schema::new(columns.clone())), properties)?;
    for rows in rows.chunks(ROWS_PER_BATCH) {
        let batch = serde_arrow::to_record_batch(&columns, &rows)
            .map_err(|error| Error::unwritable(path, error.message()))?;
        writer.write(&batch)?;
    }
    writer.finish()
}

/// Reads the rows of files, directories of `*.parquet`, globs and `-`, in the order of [`expand`].
pub fn read_table<T: Table>(inputs: &[PathBuf]) -> Result<Vec<T>> {
    let columns = columns::<T>();
    let mut rows = Vec::new();
    for path in expand(inputs, "parquet")? {
        rows.append(&mut decode(&path, || read_one(&path, &columns))?);
    }
    Ok(rows)
}

fn read_one<T: Table>(path: &Path, columns: &[FieldRef]) -> Result<Vec<T>> {
    let mut rows = Vec::new();
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
        rows.extend(read);
    }
    Ok(rows)
}

/// Where a table or a features file came from.
pub fn table_provenance(path: &Path) -> Result<Provenance> {
    parquet_file::provenance(path)
}

/// Which table a Parquet file holds ([`Table::NAME`], or `features`); none when another program wrote it.
pub fn table_name(path: &Path) -> Result<Option<String>> {
    parquet_file::metadata(path, NAME_KEY)
}
