//! Which files hold samples, and of what.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Deepest folder looked into below a directory that was named.
const DEPTH: usize = 8;

/// Who wrote a file of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `samples_<task>_<time>.jsonl`.
    LmEval,
    /// `details_<task>_<time>.parquet`.
    Lighteval,
}

/// A file of samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Who wrote it.
    pub(super) kind: Kind,
    /// The task, as the file is named.
    pub(super) task: String,
}

/// The files of samples among the inputs, in order of their paths.
pub(super) fn discover(inputs: &[PathBuf]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for input in inputs {
        if input.is_dir() {
            let mut files = Vec::new();
            walk(input, DEPTH, &mut files)?;
            let below = latest(files);
            ensure!(
                !below.is_empty(),
                "cannot import {}: it holds neither samples_*.jsonl nor details_*.parquet",
                input.display()
            );
            found.extend(below);
        } else {
            for path in store::expand(std::slice::from_ref(input), "jsonl")? {
                found.push(named(&path).with_context(|| {
                    format!(
                        "cannot import {}: it is neither .jsonl nor .parquet",
                        path.display()
                    )
                })?);
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup();
    Ok(found)
}

fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() && depth > 0 {
            walk(&path, depth - 1, files)?;
        } else if starts(&path, "samples_") || starts(&path, "details_") {
            files.push(path);
        }
    }
    Ok(())
}

fn starts(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with(prefix))
}

/// Of several runs of a task in one directory, the last. The folders of lighteval are named by the time of their run.
fn latest(files: Vec<PathBuf>) -> Vec<Found> {
    let mut latest: BTreeMap<(PathBuf, String), Found> = BTreeMap::new();
    for path in files {
        let Some(found) = named(&path) else {
            continue;
        };
        let folder = match found.kind {
            Kind::LmEval => path.parent(),
            Kind::Lighteval => path.parent().and_then(Path::parent),
        };
        let key = (
            folder.unwrap_or(Path::new("")).to_owned(),
            found.task.clone(),
        );
        let newer = latest.get(&key).is_none_or(|known| known.path < found.path);
        if newer {
            latest.insert(key, found);
        }
    }
    latest.into_values().collect()
}

/// What a file is by its name; none when it is neither JSON lines nor Parquet.
fn named(path: &Path) -> Option<Found> {
    let stem = path.file_stem()?.to_str()?;
    let (kind, prefix) = match path.extension()?.to_str()? {
        "jsonl" => (Kind::LmEval, "samples_"),
        "parquet" => (Kind::Lighteval, "details_"),
        _ => return None,
    };
    let task = stem.strip_prefix(prefix).unwrap_or(stem);
    // The time is `2026-11-20T15-27-58.038369`, which holds no underscore.
    let task = match task.rsplit_once('_') {
        Some((task, time)) if time.len() >= 19 && time.as_bytes()[10] == b'T' => task,
        _ => task,
    };
    Some(Found {
        path: path.to_owned(),
        kind,
        task: task.to_owned(),
    })
}

/// The model's name in the results beside the samples.
pub(super) fn model_name(found: &[Found]) -> Result<String> {
    let mut names: Vec<String> = found.iter().filter_map(name_beside).collect();
    names.sort();
    names.dedup();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => bail!("cannot tell which model answered: say it with --model"),
        _ => bail!(
            "cannot import the answers of several models at once ({}): say which with --model",
            names.join(", ")
        ),
    }
}

/// The model's name as the results or the folders beside a file of samples say.
fn name_beside(found: &Found) -> Option<String> {
    let folder = found.path.parent()?;
    match found.kind {
        Kind::LmEval => name_in_results(folder),
        // details/<model>/<time>/details_….parquet
        Kind::Lighteval => {
            let time = folder.file_name()?.to_str()?;
            let dated = time.len() >= 19 && time.as_bytes()[10] == b'T';
            let name = folder.parent()?.file_name()?.to_str()?;
            dated.then(|| name.to_owned())
        }
    }
}

/// `model_name` of the latest `results_*.json` of a directory.
fn name_in_results(folder: &Path) -> Option<String> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let mut results: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            starts(path, "results") && path.extension().is_some_and(|ending| ending == "json")
        })
        .collect();
    results.sort();
    let results: Value = serde_json::from_slice(&fs::read(results.last()?).ok()?).ok()?;
    let name = results.get("model_name")?.as_str()?;
    let last = name.rsplit(['/', '\\']).find(|part| !part.is_empty())?;
    Some(last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_task_and_the_writer() {
        let task = |name: &str| named(Path::new(name)).map(|found| (found.kind, found.task));
        assert_eq!(
            task("samples_gsm8k_cot_2026-11-20T15-27-58.038369.jsonl"),
            Some((Kind::LmEval, "gsm8k_cot".to_owned()))
        );
        assert_eq!(
            task("details_lighteval|math_500|0_2025-01-02T03-04-05.678901.parquet"),
            Some((Kind::Lighteval, "lighteval|math_500|0".to_owned()))
        );
        assert_eq!(task("mine.jsonl"), Some((Kind::LmEval, "mine".to_owned())));
        assert_eq!(task("results.json"), None);
    }

    #[test]
    fn of_several_runs_the_latest_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "samples_a_2026-01-01T00-00-00.1.jsonl",
            "samples_a_2026-01-02T00-00-00.1.jsonl",
            "samples_b_2026-01-01T00-00-00.1.jsonl",
            "other.jsonl",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = discover(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|found| found.path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "samples_a_2026-01-02T00-00-00.1.jsonl",
                "samples_b_2026-01-01T00-00-00.1.jsonl"
            ]
        );
        assert!(discover(&[folder.path().join("samples_c.txt")]).is_err());
    }
}
