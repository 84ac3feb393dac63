//! Every file format of the workspace: dense numbers in safetensors, tables and sparse features in Parquet (zstd).
//!
//! A file exists whole or not at all, carries where it came from under the metadata key `provenance`, and is the same
//! byte for byte when made again from the same inputs. Readers refuse what they cannot vouch for, in one line that
//! names the file. The only code of the workspace that opens output files.
//!
//! # Layout
//! - [`tables`] — every column of every table
//! - [`table`] — [`write_table`], [`read_table`], [`TableWriter`]; [`schema`] — what a column may be, [`schema_text`]
//! - [`features`] — sparse activations, [`write_features`], [`read_features`], [`FeatureWriter`]
//! - [`tensors`] — [`write_tensors`]; [`tensor_file`] — [`TensorFile`]; [`dtype`] — [`Dtype`]
//! - [`activations`] — [`ActivationWriter`], [`ActivationStore`]
//! - [`provenance`] — [`Provenance`]
//! - [`expand()`](expand()): file, directory, glob or `-`
//! - [`parts`] — [`Parts`], what an unfinished run leaves behind
//! - [`atomic`] — [`write_atomic`]; [`input`] — [`open_input`], [`read_text`]
//! - [`error`] — [`Error`]

pub mod activations;
pub mod atomic;
pub mod dtype;
pub mod error;
pub mod expand;
pub mod features;
pub mod input;
pub mod parts;
pub mod provenance;
pub mod schema;
pub mod table;
pub mod tables;
pub mod tensor_file;
pub mod tensors;

mod guard;
mod parquet_file;

pub use activations::{
    ActivationStore, ActivationWriter, Cache, Link, Links, Manifest, Report, Spec, token_digest,
};
pub use atomic::{AtomicFile, write_atomic};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use expand::expand;
pub use features::{FeatureWriter, Features, FeaturesHeader, read_features, write_features};
pub use input::{open_input, read_text};
pub use parts::Parts;
pub use provenance::{Input, Provenance};
pub use schema::{Table, schema_text};
pub use table::{
    TableWriter, read_table, read_table_by, table_name, table_provenance, write_table,
};
pub use tensor_file::TensorFile;
pub use tensors::{TensorData, write_tensors};
