//! Columns of a table, traced from its struct, and the check of a file against them.

use crate::error::{Error, Result};
use crate::features;
use crate::tables::{
    CircuitOverlap, CircuitPoint, Comparison, CrosscoderEval, CrosscoderModelStep, CrosscoderStep,
    Drift, Dynamics, Edge, EdgeChange, EdgeMetric, PositionEdge, Sample, Score, Selection, Token,
    TrainingStep,
};
use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// A row type of [`crate::tables`]: its fields are the columns of a Parquet file.
pub trait Table: Serialize + DeserializeOwned {
    /// Name of the table, kept in the file under the metadata key `table`.
    const NAME: &'static str;
}

macro_rules! tables {
    ($($row:ty => $name:literal),* $(,)?) => {
        $(impl Table for $row {
            const NAME: &'static str = $name;
        })*

        /// Name and columns of every table.
        fn all() -> Vec<(&'static str, Vec<FieldRef>)> {
            vec![$(($name, columns::<$row>())),*]
        }
    };
}

tables! {
    Sample => "samples",
    Comparison => "comparison",
    Token => "tokens",
    CrosscoderEval => "crosscoder_eval",
    CrosscoderStep => "crosscoder_steps",
    CrosscoderModelStep => "crosscoder_model_steps",
    Drift => "drift",
    Dynamics => "dynamics",
    Edge => "edges",
    PositionEdge => "position_edges",
    EdgeMetric => "edge_metrics",
    EdgeChange => "edge_changes",
    CircuitPoint => "circuit",
    CircuitOverlap => "circuit_overlap",
    Selection => "selection",
    Score => "scores",
    TrainingStep => "training_steps",
}

/// Columns of a table.
pub(crate) fn columns<T: Table>() -> Vec<FieldRef> {
    let options = TracingOptions::default().strings_as_large_utf8(false);
    Vec::<FieldRef>::from_type::<T>(options)
        .expect("every table is a flat struct of numbers and texts: tests trace all")
}

/// All tables and their columns, a line per column: `name: type`, with `?` where it may be null.
pub fn schema_text() -> String {
    let mut tables = all();
    tables.push((features::NAME, features::columns()));
    let mut text = String::new();
    for (name, columns) in tables {
        writeln!(text, "{name}").expect("a String takes any text");
        for column in columns {
            let null = if column.is_nullable() { "?" } else { "" };
            writeln!(
                text,
                "  {}: {}{null}",
                column.name(),
                type_name(column.data_type())
            )
            .expect("a String takes any text");
        }
    }
    text
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Boolean => "bool".into(),
        DataType::Dictionary(_, value) => type_name(value),
        DataType::Float32 => "f32".into(),
        DataType::Float64 => "f64".into(),
        DataType::UInt32 => "u32".into(),
        DataType::UInt64 => "u64".into(),
        other => other.to_string(),
    }
}

/// Refuses a file that lacks a column, has one nobody knows, or one of another type. A column that may be null may be absent:
/// files written before it existed stay readable.
pub(crate) fn check(path: &Path, name: &str, found: &Schema, wanted: &[FieldRef]) -> Result<()> {
    let lacks = wanted
        .iter()
        .find(|column| !column.is_nullable() && found.column_with_name(column.name()).is_none());
    if let Some(column) = lacks {
        let cause = format!("not a {name} table: there is no column `{}`", column.name());
        return Err(Error::invalid(path, cause));
    }
    for column in found.fields() {
        let Some(ours) = wanted.iter().find(|ours| ours.name() == column.name()) else {
            let cause = format!("not a {name} table: unknown column `{}`", column.name());
            return Err(Error::invalid(path, cause));
        };
        if !convertible(column.data_type(), ours.data_type()) {
            let types = [ours, column].map(|column| type_name(column.data_type()));
            let cause = format!(
                "column `{}` must be {}, not {}",
                column.name(),
                types[0],
                types[1]
            );
            return Err(Error::invalid(path, cause));
        }
    }
    Ok(())
}

/// Whether a column of another program means the same: texts in any layout, whole numbers of any width (their range is
/// checked value by value), floats from any number, nothing at all where nulls may be.
fn convertible(found: &DataType, wanted: &DataType) -> bool {
    let text =
        |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match found {
        DataType::Null => true,
        DataType::Dictionary(_, value) => convertible(value, wanted),
        found if text(found) => {
            text(wanted) || matches!(wanted, DataType::Dictionary(_, value) if text(value))
        }
        found if found.is_integer() => wanted.is_numeric(),
        found if found.is_floating() => wanted.is_floating(),
        found => found == wanted,
    }
}

/// Brings a batch of a checked file into our columns, in our order.
pub(crate) fn conform(
    path: &Path,
    batch: &RecordBatch,
    wanted: &[FieldRef],
) -> Result<RecordBatch> {
    let arrays: Result<Vec<ArrayRef>> = wanted
        .iter()
        .map(|column| convert(path, batch, column))
        .collect();
    let schema = Arc::new(Schema::new(wanted.to_vec()));
    RecordBatch::try_new(schema, arrays?).map_err(|error| Error::invalid(path, error.to_string()))
}

fn convert(path: &Path, batch: &RecordBatch, column: &FieldRef) -> Result<ArrayRef> {
    let name = column.name();
    let Some(found) = batch.column_by_name(name) else {
        // `check` has seen that only columns that may be null are absent.
        return Ok(new_null_array(column.data_type(), batch.num_rows()));
    };
    if !column.is_nullable() && found.logical_null_count() > 0 {
        return Err(Error::invalid(
            path,
            format!("column `{name}` holds a null"),
        ));
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(found, column.data_type(), &strict)
        .map_err(|error| Error::invalid(path, format!("column `{name}`: {error}")))
}
