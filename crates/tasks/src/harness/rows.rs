//! The rows of a task: which files, after which function, and which may be examples.

use std::path::PathBuf;

use serde_json::Value;

use super::config::{Config, Fewshot, Function};
use super::documents::{self, Document, Places};
use super::functions::{self, Native, native};
use crate::{Error, Result};

/// Reads the rows of a task, and remembers the files they came from.
pub(super) struct Rows<'a> {
    pub(super) config: &'a Config,
    pub(super) places: &'a Places,
    /// Files read so far.
    pub(super) files: Vec<PathBuf>,
}

impl Rows<'_> {
    /// The documents of a split, after the file's own function where it names one.
    pub(super) fn read(
        &mut self,
        split: &str,
        process: Option<&Function>,
    ) -> Result<Vec<Document>> {
        let config = self.config;
        let files = documents::files(config, split, self.places)?;
        let rows = documents::split(config, split, &files)?;
        self.files.extend(files);
        let Some(Function { name }) = process else {
            return Ok(rows);
        };
        let fail = |cause| Error::NoData {
            task: config.task.clone(),
            split: split.to_owned(),
            cause,
        };
        let rows = match native(name, config).map_err(fail)? {
            Native::Rows(function) => function(rows).map_err(fail)?,
            Native::Category => of_category(rows, &functions::category(name)),
            _ => return Err(fail(format!("the function {name} is not for rows"))),
        };
        if rows.is_empty() {
            return Err(fail(format!("the function {name} leaves no row")));
        }
        Ok(rows)
    }

    /// Documents that examples come from: a split, a list, else the training, validation or evaluated documents.
    pub(super) fn pool(
        &mut self,
        fewshot: &Fewshot,
        documents: &[Document],
    ) -> Result<Vec<Document>> {
        let config = self.config;
        let usual = config
            .training_split
            .as_ref()
            .or(config.validation_split.as_ref());
        let mut pool = match (&fewshot.split, &fewshot.samples, usual) {
            (Some(split), ..) => self.read(split, fewshot.process_docs.as_ref())?,
            (None, Some(samples), _) => listed(config, samples)?,
            (None, None, Some(split)) => self.read(split, config.process_docs.as_ref())?,
            (None, None, None) => documents.to_vec(),
        };
        if let Some(indices) = &fewshot.fewshot_indices {
            pool = indices
                .iter()
                .filter_map(|index| pool.get(*index).cloned())
                .collect();
        }
        Ok(pool)
    }
}

fn of_category(rows: Vec<Document>, category: &str) -> Vec<Document> {
    let is_one = |row: &Document| row.get("category").and_then(Value::as_str) == Some(category);
    rows.into_iter().filter(is_one).collect()
}

fn listed(config: &Config, samples: &Value) -> Result<Vec<Document>> {
    let list: Option<Vec<Document>> = match samples {
        Value::Array(items) => items.iter().map(|item| item.as_object().cloned()).collect(),
        _ => None,
    };
    list.ok_or_else(|| Error::NoData {
        task: config.task.clone(),
        split: "fewshot_config.samples".to_owned(),
        cause: "examples must be a list of mappings (Python is not run)".to_owned(),
    })
}
