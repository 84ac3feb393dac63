//! The files of lm-evaluation-harness: `results_TIME.json` and `samples_TASK_TIME.jsonl`, key by key.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use store::tables::Sample;
use tasks::harness::functions::Values;
use tasks::harness::{Request, Task, filter, python};

use super::figures::{self, Column, Figures};
use super::header::Header;
use super::open::Opened;
use super::{judge, units};

/// One line of a samples file.
type Line = Map<String, Value>;

/// A task's lines, its columns of values, and the digest of its hashes.
#[derive(Debug, Default)]
struct Written {
    lines: Vec<Line>,
    columns: Vec<Column>,
    hashes: String,
}

/// Writes both files for every task, and returns the path of the results.
pub fn write(
    opened: &Opened,
    samples: &[Sample],
    header: &Header,
    directory: &Path,
) -> Result<PathBuf> {
    let folder = directory.join(header.model_name_sanitized());
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let by_document = by_document(samples);
    let (mut figures, mut task_hashes) = (Figures::default(), Map::new());
    for task in &opened.tasks {
        let requests = units::requests(task, header.writing, usize::MAX)?;
        let written = task_lines(task, &requests, &by_document, header)?;
        ensure!(
            !written.lines.is_empty(),
            "cannot write the samples of {}: none was asked",
            task.name()
        );
        task_hashes.insert(task.name().to_owned(), sha256(&written.hashes).into());
        let path = folder.join(format!("samples_{}_{}.jsonl", task.name(), header.time));
        write_lines(&path, &written.lines)?;
        figures.add(task, &written.columns);
    }
    figures.add_groups(&opened.groups);
    let results = header.results(opened, &figures, task_hashes);
    let path = folder.join(format!("results_{}.json", header.time));
    let text = python::dumps(&Value::Object(results), Some(2));
    store::write_atomic(&path, |file| file.write_all(text.as_bytes()))?;
    Ok(path)
}

fn write_lines(path: &Path, lines: &[Line]) -> Result<()> {
    store::write_atomic(path, |file| {
        let mut writer = BufWriter::new(file);
        for line in lines {
            writeln!(
                writer,
                "{}",
                python::dumps(&Value::Object(line.clone()), None)
            )?;
        }
        writer.flush()
    })?;
    Ok(())
}

/// Samples by task and document, in the order of their numbers.
type ByDocument<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Sample>>;

fn by_document(samples: &[Sample]) -> ByDocument<'_> {
    let mut all: ByDocument = BTreeMap::new();
    for sample in samples {
        all.entry((&sample.task, &sample.doc_id))
            .or_default()
            .push(sample);
    }
    for samples in all.values_mut() {
        samples.sort_by_key(|sample| sample.sample);
    }
    all
}

/// Pipeline after pipeline, every document in order.
fn task_lines(
    task: &Task,
    requests: &[Request],
    samples: &ByDocument,
    header: &Header,
) -> Result<Written> {
    let mut written = Written::default();
    for pipeline in &task.pipelines {
        for (number, request) in requests.iter().enumerate() {
            let name = number.to_string();
            let Some(samples) = samples.get(&(task.name(), name.as_str())) else {
                continue;
            };
            let document = &task.documents[number];
            let context = || format!("cannot write {}/{number}", task.name());
            let responses = judge::stored(samples)
                .map_err(anyhow::Error::msg)
                .with_context(context)?;
            let filtered = responses
                .iter()
                .map(|one| filter::apply(pipeline, one.clone(), document));
            let filtered: Vec<Value> = filtered
                .collect::<Result<_, _>>()
                .map_err(anyhow::Error::msg)
                .with_context(context)?;
            let values = task
                .score(document, &filtered)
                .map_err(anyhow::Error::msg)
                .with_context(context)?;
            let target = task.target(document).map_err(anyhow::Error::msg)?;
            let arguments = arguments(request, task, header);
            let hashes = [
                sha256(&python::dumps(&Value::Object(document.clone()), Some(2))),
                sha256(first_argument(request)),
                sha256(&python::text(&target)),
            ];
            written.hashes += &hashes.concat();
            figures::add(&mut written.columns, &pipeline.name, &values);
            let responses = repeated(responses, header.repeats(task));
            let parts = (
                number,
                arguments,
                responses,
                filtered,
                pipeline.name.as_str(),
            );
            written
                .lines
                .push(line(task, parts, &target, hashes, values));
        }
    }
    Ok(written)
}

/// Likelihoods are asked once and listed as often as the task is repeated.
fn repeated(responses: Vec<Vec<Value>>, repeats: u32) -> Vec<Vec<Value>> {
    let again = |one: Vec<Value>| match &one[..] {
        [Value::String(_)] => one,
        [likelihood] => vec![likelihood.clone(); repeats as usize],
        _ => one,
    };
    responses.into_iter().map(again).collect()
}

fn line(
    task: &Task,
    (number, arguments, responses, filtered, filter): (
        usize,
        Value,
        Vec<Vec<Value>>,
        Vec<Value>,
        &str,
    ),
    target: &Value,
    [doc_hash, prompt_hash, target_hash]: [String; 3],
    values: Values,
) -> Line {
    let names: Value = values
        .iter()
        .map(|(name, _)| Value::from(name.as_str()))
        .collect();
    let responses: Value = responses.into_iter().map(Value::Array).collect();
    let pairs = [
        ("doc_id", number.into()),
        ("doc", Value::Object(task.documents[number].clone())),
        ("target", python::text(target).into()),
        ("arguments", arguments),
        ("resps", as_texts(&responses)),
        ("filtered_resps", as_texts(&Value::Array(filtered))),
        ("filter", filter.into()),
        ("metrics", names),
        ("doc_hash", doc_hash.into()),
        ("prompt_hash", prompt_hash.into()),
        ("target_hash", target_hash.into()),
    ];
    let mut line: Line = pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    line.extend(values);
    line
}

/// Numbers and booleans are texts in these files.
fn as_texts(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(as_texts).collect(),
        other => python::text(other).into(),
    }
}

fn arguments(request: &Request, task: &Task, header: &Header) -> Value {
    let pair = |first: &str, second: Option<Value>| {
        let mut arguments = Map::new();
        arguments.insert("arg_0".to_owned(), first.into());
        arguments.extend(second.map(|second| ("arg_1".to_owned(), second)));
        Value::Object(arguments)
    };
    let all: Vec<Value> = match request {
        Request::Generate { context } => vec![pair(
            context,
            Some(Value::Object(header.overrides.generation(task))),
        )],
        Request::Score { pairs } => pairs
            .iter()
            .map(|(context, continuation)| pair(context, Some(continuation.as_str().into())))
            .collect(),
        Request::Roll { text } => vec![pair(text, None)],
    };
    let named = all
        .into_iter()
        .enumerate()
        .map(|(number, value)| (format!("gen_args_{number}"), value));
    Value::Object(named.collect())
}

fn first_argument(request: &Request) -> &str {
    match request {
        Request::Generate { context } => context,
        Request::Score { pairs } => pairs.first().map_or("", |pair| &pair.0),
        Request::Roll { text } => text,
    }
}

/// SHA-256 of a text, in hexadecimal digits.
pub fn sha256(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits =
        |byte: u8| [byte >> 4, byte & 15].map(|half| char::from(DIGITS[usize::from(half)]));
    Sha256::digest(text.as_bytes())
        .iter()
        .copied()
        .flat_map(digits)
        .collect()
}
