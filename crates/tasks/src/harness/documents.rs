//! Rows of data: JSON lines, JSON, CSV and Parquet files, with the columns that `datasets` would give them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Number, Value};

use super::config::Config;
use crate::{Error, Result};

/// One row: values by column.
pub type Document = Map<String, Value>;

/// Endings of files that can be read.
const ENDINGS: [&str; 6] = ["jsonl", "parquet", "json", "csv", "tsv", "ndjson"];

/// Where rows may lie.
#[derive(Debug, Clone)]
pub struct Places {
    /// The directory of the task file.
    pub beside: PathBuf,
    /// Directories the user names, searched first.
    pub data: Vec<PathBuf>,
}

/// The files of one split of a task.
pub fn files(config: &Config, name: &str, places: &Places) -> Result<Vec<PathBuf>> {
    match local_files(config, name, places)? {
        Some(files) => Ok(files),
        None => found(config, name, places),
    }
}

/// The rows of one split of a task, from its files.
pub fn split(config: &Config, name: &str, files: &[PathBuf]) -> Result<Vec<Document>> {
    let mut rows = Vec::new();
    for file in files {
        rows.extend(read(file)?);
    }
    if rows.is_empty() {
        return Err(no_data(config, name, "its files hold no row".to_owned()));
    }
    unify(&mut rows);
    Ok(rows)
}

fn no_data(config: &Config, split: &str, cause: String) -> Error {
    Error::NoData {
        task: config.task.clone(),
        split: split.to_owned(),
        cause,
    }
}

/// `dataset_kwargs: {data_files: …}`: one file or several, for every split or by split.
fn local_files(config: &Config, split: &str, places: &Places) -> Result<Option<Vec<PathBuf>>> {
    let named = config
        .dataset_kwargs
        .as_ref()
        .and_then(|options| options.get("data_files"));
    let names: Vec<&str> = match named {
        None => return Ok(None),
        Some(Value::Object(by_split)) => match by_split.get(split) {
            Some(names) => texts(names),
            None => {
                return Err(no_data(
                    config,
                    split,
                    "`data_files` does not name it".to_owned(),
                ));
            }
        },
        Some(names) => texts(names),
    };
    let mut files = Vec::new();
    for name in names {
        files.push(located(config, split, name, places)?);
    }
    Ok(Some(files))
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A file as named, or in the user's directories, or beside the task file.
fn located(config: &Config, split: &str, name: &str, places: &Places) -> Result<PathBuf> {
    let plain = name.strip_prefix("file://").unwrap_or(name);
    let folders = places.data.iter().chain([&places.beside]);
    let candidates = folders.map(|folder| folder.join(plain));
    let mut candidates = std::iter::once(PathBuf::from(plain)).chain(candidates);
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        let cause = format!("there is no file {name} here, in --data, or beside the task file");
        no_data(config, split, cause)
    })
}

/// A data set with a name of its own, looked for in the user's directories.
fn found(config: &Config, split: &str, places: &Places) -> Result<Vec<PathBuf>> {
    let path = config.dataset_path.as_deref().unwrap_or_default();
    let name = config.dataset_name.as_deref().unwrap_or_default();
    let base = path.rsplit('/').next().unwrap_or_default();
    for data in &places.data {
        for folder in folders(data, &[path, base, &config.task], name) {
            let files = files_of_split(&folder, split)?;
            if !files.is_empty() {
                return Ok(files);
            }
        }
        let stem = format!("{}.{split}", config.task);
        if let Some(file) = ENDINGS
            .iter()
            .map(|ending| data.join(format!("{stem}.{ending}")))
            .find(|file| file.is_file())
        {
            return Ok(vec![file]);
        }
    }
    let place = if name.is_empty() {
        base.to_owned()
    } else {
        format!("{base}/{name}")
    };
    let cause = format!(
        "get the data set {path} and give its directory with --data: DIR/{place}/{split}.parquet or .jsonl is looked for, among others"
    );
    Err(no_data(config, split, cause))
}

/// Directories in which a data set's files may be, the most particular first.
fn folders(data: &Path, bases: &[&str], name: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for base in bases.iter().filter(|base| !base.is_empty()) {
        let base = data.join(base);
        if !name.is_empty() {
            folders.extend([base.join(name), base.join("data").join(name)]);
        }
        folders.extend([base.clone(), base.join("data")]);
    }
    if !name.is_empty() {
        folders.push(data.join(name));
    }
    folders.extend([data.to_owned(), data.join("data")]);
    folders
}

/// `test.jsonl`, `test-00000-of-00002.parquet`, … of a directory, in order.
fn files_of_split(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::read(folder))?.path();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let rest = stem.strip_prefix(split);
        let is_split = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        if is_split && ENDINGS.contains(&ending) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The rows of one file, by its ending.
pub fn read(path: &Path) -> Result<Vec<Document>> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("parquet") => read_parquet(path),
        Some("csv") => read_table(path, ','),
        Some("tsv") => read_table(path, '\t'),
        _ => read_json(&whole(path)?, path),
    }
}

fn whole(path: &Path) -> Result<String> {
    let mut text = String::new();
    let mut file = File::open(path).map_err(Error::read(path))?;
    file.read_to_string(&mut text).map_err(Error::read(path))?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

fn invalid(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::Data {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// JSON lines, or one list of objects.
pub fn read_json(text: &str, path: &Path) -> Result<Vec<Document>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| invalid(path, error));
    }
    let mut rows = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if !line.trim().is_empty() {
            let row = serde_json::from_str(line);
            rows.push(row.map_err(|error| invalid(path, format!("line {number}: {error}")))?);
        }
    }
    Ok(rows)
}

fn read_parquet(path: &Path) -> Result<Vec<Document>> {
    let file = File::open(path).map_err(Error::read(path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build);
    let mut rows = Vec::new();
    for batch in reader.map_err(|error| invalid(path, error))? {
        let batch = batch.map_err(|error| invalid(path, error))?;
        let read: Vec<Document> = serde_arrow::from_record_batch(&batch)
            .map_err(|error| invalid(path, error.message()))?;
        rows.extend(read);
    }
    Ok(rows)
}

/// Comma- or tab-separated values under a line of names: quotes as in RFC 4180, numbers as numbers.
fn read_table(path: &Path, separator: char) -> Result<Vec<Document>> {
    let mut records = records(&whole(path)?, separator).into_iter();
    let names = records.next().ok_or_else(|| invalid(path, "it is empty"))?;
    let mut rows = Vec::new();
    for (number, record) in (2..).zip(records) {
        if record.len() != names.len() {
            let cause = format!(
                "record {number} has {} values under {} names",
                record.len(),
                names.len()
            );
            return Err(invalid(path, cause));
        }
        rows.push(
            names
                .iter()
                .cloned()
                .zip(record.into_iter().map(Value::String))
                .collect(),
        );
    }
    for name in &names {
        as_numbers(&mut rows, name);
    }
    Ok(rows)
}

fn records(text: &str, separator: char) -> Vec<Vec<String>> {
    let (mut records, mut record, mut value) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => value.push('"'),
            '"' if quoted => quoted = false,
            '"' if value.is_empty() => quoted = true,
            c if c == separator && !quoted => record.push(std::mem::take(&mut value)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut value));
                records.push(std::mem::take(&mut record));
            }
            c => value.push(c),
        }
    }
    if !value.is_empty() || !record.is_empty() {
        record.push(value);
        records.push(record);
    }
    records.retain(|record| record.len() > 1 || !record[0].is_empty());
    records
}

/// A column of whole numbers, or of numbers, becomes one; empty values are null then.
fn as_numbers(rows: &mut [Document], name: &str) {
    let values: Vec<&str> = rows.iter().filter_map(|row| row[name].as_str()).collect();
    let parsed: Vec<Option<Value>> = values
        .iter()
        .map(|text| match text.parse::<i64>() {
            Ok(whole) => Some(whole.into()),
            Err(_) => text
                .parse()
                .ok()
                .and_then(Number::from_f64)
                .map(Value::Number),
        })
        .collect();
    let any = parsed.iter().any(Option::is_some);
    let all = values
        .iter()
        .zip(&parsed)
        .all(|(text, value)| text.is_empty() || value.is_some());
    if any && all {
        for (row, value) in rows.iter_mut().zip(parsed) {
            row.insert(name.to_owned(), value.unwrap_or_default());
        }
    }
}

/// Gives every row the columns of all, in the order in which they first occur: a value that is not there is null, and a
/// whole number among floats is a float.
fn unify(rows: &mut [Document]) {
    let mut names: Map<String, Value> = Map::new();
    for row in rows.iter() {
        for (name, value) in row {
            let floats = names.entry(name).or_insert(false.into());
            if value.is_f64() {
                *floats = true.into();
            }
        }
    }
    for row in rows {
        let mut old = std::mem::take(row);
        for (name, floats) in &names {
            let value = old.remove(name).unwrap_or_default();
            let value = match value.as_f64() {
                Some(number) if *floats == true => number.into(),
                _ => value,
            };
            row.insert(name.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn csv_has_quotes_line_ends_and_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "q,n,x\r\n\"a, \"\"b\"\"\nc\",1,\r\nd,2,0.5\n").unwrap();
        let rows = read(&path).unwrap();
        assert_eq!(
            Value::from(rows[0].clone()),
            json!({"q": "a, \"b\"\nc", "n": 1, "x": null})
        );
        assert_eq!(
            Value::from(rows[1].clone()),
            json!({"q": "d", "n": 2, "x": 0.5})
        );
        fs::write(&path, "a,b\n1\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("record 2"));
    }

    #[test]
    fn rows_share_their_columns() {
        let mut rows = read_json("{\"a\":1}\n\n{\"b\":\"x\",\"a\":0.5}\n", Path::new("x")).unwrap();
        unify(&mut rows);
        let texts: Vec<String> = rows
            .into_iter()
            .map(|row| Value::Object(row).to_string())
            .collect();
        assert_eq!(texts, [r#"{"a":1.0,"b":null}"#, r#"{"a":0.5,"b":"x"}"#]);
        let error = read_json("{}\n{", Path::new("x.jsonl"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("x.jsonl") && error.contains("line 2"),
            "{error}"
        );
    }
}
