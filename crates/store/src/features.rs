//! Sparse activations of a dictionary: `features.parquet`, one line per feature that fires on a row.
//!
//! Columns `row, feature, activation` and, when the readout is per model, `model`; sorted by model (in the order of the
//! file's header), row, feature. How many rows and features there are, and of which tokens, is in the metadata key
//! `features`. The sorted columns are stored as differences: about four bytes an activation.

use crate::dtype::first_not_finite;
use crate::error::{Error, Result};
use crate::guard::decode;
use crate::parquet_file::{self, Writer};
use crate::provenance::Provenance;
use crate::schema::{check, conform};
use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Float32Array, Int32Array, StringArray, UInt32Array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Int32Type, Schema, UInt32Type};
use arrow::record_batch::RecordBatch;
use parquet::basic::Encoding;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the table, as [`crate::table_name`] gives it.
pub(crate) const NAME: &str = "features";

/// Metadata key of the [`FeaturesHeader`].
const HEADER_KEY: &str = "features";

/// Activations per row group: what a writer holds in memory.
const GROUP: usize = 1 << 20;

/// The activations of one readout, three columns side by side, sorted by row, then feature.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Model whose readout it is; none when the code is shared.
    pub model: Option<String>,
    /// Rows of the activation store, those without any active feature included.
    pub n_rows: u32,
    /// Features of the dictionary.
    pub n_features: u32,
    /// Digest of the tokens of the activation store ([`crate::token_digest`]); empty when unknown.
    pub token_digest: String,
    /// Row of each activation.
    pub row: Vec<u32>,
    /// Feature of each activation.
    pub feature: Vec<u32>,
    /// Activation, in the dictionary's normalised units, finite.
    pub activation: Vec<f32>,
}

/// What a features file says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeaturesHeader {
    /// Rows of the activation store.
    pub n_rows: u32,
    /// Features of the dictionary.
    pub n_features: u32,
    /// Digest of the tokens of the activation store; empty when unknown.
    pub token_digest: String,
    /// Models in the order of the file; empty when the code is shared and there is no column `model`.
    pub models: Vec<String>,
}

/// Writes the readouts of a dictionary, one per model or one without.
pub fn write_features(path: &Path, features: &[Features], provenance: &Provenance) -> Result<()> {
    let header = FeaturesHeader::of(path, features)?;
    let mut writer = FeatureWriter::create(path, header, provenance)?;
    for (model, features) in features.iter().enumerate() {
        writer.push(
            model,
            &features.row,
            &features.feature,
            &features.activation,
        )?;
    }
    writer.finish()
}

impl FeaturesHeader {
    fn of(path: &Path, features: &[Features]) -> Result<Self> {
        let first = features
            .first()
            .ok_or_else(|| Error::unwritable(path, "there is no readout to write"))?;
        let alike = |other: &Features| {
            (other.n_rows, other.n_features, &other.token_digest)
                == (first.n_rows, first.n_features, &first.token_digest)
        };
        if !features.iter().all(alike) {
            return Err(Error::unwritable(
                path,
                "the readouts are of different rows or dictionaries",
            ));
        }
        let models: Vec<String> = features
            .iter()
            .filter_map(|features| features.model.clone())
            .collect();
        let shared = models.is_empty() && features.len() == 1;
        if !shared && models.len() != features.len() {
            return Err(Error::unwritable(
                path,
                "every one of several readouts needs its model",
            ));
        }
        Ok(Self {
            n_rows: first.n_rows,
            n_features: first.n_features,
            token_digest: first.token_digest.clone(),
            models,
        })
    }
}

/// Writes a features file piece by piece, for those that do not fit in memory.
pub struct FeatureWriter {
    path: PathBuf,
    header: FeaturesHeader,
    writer: Writer,
    /// Model, row and feature written last.
    last: Option<(usize, u32, u32)>,
}

impl FeatureWriter {
    /// Begins a file; `-` is stdout.
    pub fn create(path: &Path, header: FeaturesHeader, provenance: &Provenance) -> Result<Self> {
        let columns = columns_of(&header);
        let writer = Writer::create(
            path,
            Arc::new(Schema::new(columns)),
            properties(&header, provenance),
        )?;
        Ok(Self {
            path: path.to_owned(),
            header,
            writer,
            last: None,
        })
    }

    /// Appends activations of the `model`-th model (0 when the code is shared). They continue the order of the file.
    pub fn push(
        &mut self,
        model: usize,
        row: &[u32],
        feature: &[u32],
        activation: &[f32],
    ) -> Result<()> {
        if row.len() != feature.len() || row.len() != activation.len() {
            return Err(Error::unwritable(
                &self.path,
                "columns of different lengths",
            ));
        }
        self.check_order(model, row, feature)?;
        if let Some(bad) = first_not_finite(activation) {
            let (path, row) = (self.path.clone(), row[bad] as usize);
            return Err(Error::NotFinite { path, row });
        }
        for start in (0..row.len()).step_by(GROUP) {
            let piece = start..row.len().min(start + GROUP);
            let columns = [&row[piece.clone()], &feature[piece.clone()]];
            self.writer
                .write(&batch(&self.header, model, columns, &activation[piece]))?;
        }
        Ok(())
    }

    /// Ends the file and gives it its name.
    pub fn finish(self) -> Result<()> {
        self.writer.finish()
    }

    fn check_order(&mut self, model: usize, row: &[u32], feature: &[u32]) -> Result<()> {
        let fault = |cause: String| Err(Error::unwritable(&self.path, cause));
        if model >= self.header.models.len().max(1) {
            return fault(format!("there is no model number {model}"));
        }
        for (&row, &feature) in row.iter().zip(feature) {
            if row >= self.header.n_rows || feature >= self.header.n_features {
                return fault(format!(
                    "row {row}, feature {feature} is outside of the header's range"
                ));
            }
            if self.last >= Some((model, row, feature)) {
                return fault(format!(
                    "row {row}, feature {feature} is out of order or there twice"
                ));
            }
            self.last = Some((model, row, feature));
        }
        Ok(())
    }
}

/// Reads a features file: a readout per model, or the one of a shared code. `-` is stdin.
pub fn read_features(path: &Path) -> Result<Vec<Features>> {
    decode(path, || read_all(path))
}

fn read_all(path: &Path) -> Result<Vec<Features>> {
    let header = read_header(path)?;
    let columns = columns_of(&header);
    let opened = parquet_file::open(path)?;
    check(path, NAME, opened.schema(), &columns)?;
    let mut all = header.empty();
    let reader = opened
        .with_batch_size(1 << 16)
        .build()
        .map_err(|error| parquet_file::read_error(path, &error))?;
    for batch in reader {
        let batch = batch.map_err(|error| parquet_file::read_error(path, &error))?;
        append(path, &header, &conform(path, &batch, &columns)?, &mut all)?;
    }
    all.iter()
        .try_for_each(|features| validate(path, features))?;
    Ok(all)
}

fn read_header(path: &Path) -> Result<FeaturesHeader> {
    let text = parquet_file::metadata(path, HEADER_KEY)?.ok_or_else(|| {
        Error::invalid(
            path,
            "not a features file: its metadata says nothing of rows and features",
        )
    })?;
    serde_json::from_str(&text)
        .map_err(|error| Error::invalid(path, format!("unreadable features metadata: {error}")))
}

impl FeaturesHeader {
    fn empty(&self) -> Vec<Features> {
        let of = |model: Option<String>| Features {
            model,
            n_rows: self.n_rows,
            n_features: self.n_features,
            token_digest: self.token_digest.clone(),
            ..Features::default()
        };
        if self.models.is_empty() {
            return vec![of(None)];
        }
        self.models
            .iter()
            .map(|model| of(Some(model.clone())))
            .collect()
    }
}

/// Appends a batch to the readouts of its models.
fn append(
    path: &Path,
    header: &FeaturesHeader,
    batch: &RecordBatch,
    all: &mut [Features],
) -> Result<()> {
    let row = batch.column(0).as_primitive::<UInt32Type>().values();
    let feature = batch.column(1).as_primitive::<UInt32Type>().values();
    let activation = batch.column(2).as_primitive::<Float32Type>().values();
    let models = models(path, header, batch)?;
    let mut start = 0;
    // Sorted by model: a batch holds one run of each.
    for run in models.chunk_by(|a, b| a == b) {
        let piece = start..start + run.len();
        start = piece.end;
        let features = &mut all[run[0]];
        features.row.extend_from_slice(&row[piece.clone()]);
        features.feature.extend_from_slice(&feature[piece.clone()]);
        features.activation.extend_from_slice(&activation[piece]);
    }
    Ok(())
}

/// Number of the model of each line of a batch.
fn models(path: &Path, header: &FeaturesHeader, batch: &RecordBatch) -> Result<Vec<usize>> {
    if header.models.is_empty() {
        return Ok(vec![0; batch.num_rows()]);
    }
    let column = batch.column(3).as_dictionary::<Int32Type>();
    let names = column.values().as_string::<i32>();
    let number = |name: &str| header.models.iter().position(|model| model == name);
    let numbers: Vec<Option<usize>> = names.iter().map(|name| name.and_then(number)).collect();
    let known = column
        .keys()
        .iter()
        .map(|key| key.and_then(|key| numbers[key as usize]));
    known
        .collect::<Option<_>>()
        .ok_or_else(|| Error::invalid(path, "a model its metadata does not name"))
}

fn validate(path: &Path, features: &Features) -> Result<()> {
    if let Some(bad) = first_not_finite(&features.activation) {
        let (path, row) = (path.to_owned(), features.row[bad] as usize);
        return Err(Error::NotFinite { path, row });
    }
    let keys = || features.row.iter().zip(&features.feature);
    if keys().any(|(&row, &feature)| row >= features.n_rows || feature >= features.n_features) {
        return Err(Error::invalid(
            path,
            "a row or feature outside of the range its metadata gives",
        ));
    }
    if !keys().is_sorted_by(|a, b| a < b) {
        return Err(Error::invalid(path, "not sorted by row and feature"));
    }
    Ok(())
}

/// Columns with `model`, which [`crate::schema_text`] shows.
pub(crate) fn columns() -> Vec<FieldRef> {
    columns_of(&FeaturesHeader {
        models: vec![String::new()],
        ..FeaturesHeader::default()
    })
}

fn columns_of(header: &FeaturesHeader) -> Vec<FieldRef> {
    let mut columns = vec![
        Field::new("row", DataType::UInt32, false),
        Field::new("feature", DataType::UInt32, false),
        Field::new("activation", DataType::Float32, false),
    ];
    if !header.models.is_empty() {
        columns.push(Field::new("model", model_type(), false));
    }
    columns.into_iter().map(Arc::new).collect()
}

fn model_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn properties(header: &FeaturesHeader, provenance: &Provenance) -> WriterProperties {
    let text = serde_json::to_string(header).expect("numbers and strings are always JSON");
    let more = [("table", NAME.to_owned()), (HEADER_KEY, text)];
    let mut properties =
        parquet_file::properties(provenance, &more).set_max_row_group_row_count(Some(GROUP));
    for (column, encoding) in [
        ("row", Encoding::DELTA_BINARY_PACKED),
        ("feature", Encoding::DELTA_BINARY_PACKED),
        ("activation", Encoding::BYTE_STREAM_SPLIT),
    ] {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(column), false)
            .set_column_encoding(ColumnPath::from(column), encoding);
    }
    properties.build()
}

fn batch(
    header: &FeaturesHeader,
    model: usize,
    keys: [&[u32]; 2],
    activation: &[f32],
) -> RecordBatch {
    let mut arrays: Vec<ArrayRef> = keys
        .iter()
        .map(|column| Arc::new(UInt32Array::from(column.to_vec())) as ArrayRef)
        .collect();
    arrays.push(Arc::new(Float32Array::from(activation.to_vec())));
    if let Some(name) = header.models.get(model) {
        let keys = Int32Array::from(vec![0; activation.len()]);
        let names = Arc::new(StringArray::from(vec![name.as_str()]));
        let column =
            DictionaryArray::<Int32Type>::try_new(keys, names).expect("key 0 is the only name");
        arrays.push(Arc::new(column));
    }
    let schema = Arc::new(Schema::new(columns_of(header)));
    RecordBatch::try_new(schema, arrays)
        .expect("the columns are of the types and the length of the schema")
}
