//! Finds every table under a folder and reads it, whatever it is called.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use store::tables::{
    Comparison, CrosscoderEval, CrosscoderStep, Drift, Dynamics, Edge, EdgeMetric, Sample, Score,
    Selection, TrainingStep,
};
use store::{Input, Provenance, Table};

/// One file that was found.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Path below the folder, with `/` on every system.
    pub name: String,
    /// Which table it holds: `samples`, `drift`, …; or `features`, `tokens`, `model`, `suite`, `activations`, `tensors`,
    /// `unknown`.
    pub kind: String,
    /// Where it is.
    pub path: PathBuf,
    /// Length and digest.
    pub input: Input,
    /// What it says about its making.
    pub provenance: Option<Provenance>,
}

/// The rows of one file.
#[derive(Debug, Clone)]
pub(crate) struct Rows<T> {
    /// Path below the folder.
    pub file: String,
    pub rows: Vec<T>,
}

/// Every table of a folder.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub files: Vec<File>,
    pub samples: Vec<Rows<Sample>>,
    pub comparisons: Vec<Rows<Comparison>>,
    pub training: Vec<Rows<TrainingStep>>,
    pub crosscoder_steps: Vec<Rows<CrosscoderStep>>,
    pub crosscoder_evals: Vec<Rows<CrosscoderEval>>,
    pub drift: Vec<Rows<Drift>>,
    pub dynamics: Vec<Rows<Dynamics>>,
    pub edges: Vec<Rows<Edge>>,
    pub edge_metrics: Vec<Rows<EdgeMetric>>,
    pub selections: Vec<Rows<Selection>>,
    pub scores: Vec<Rows<Score>>,
    /// What the task suite says about itself.
    pub suite: Option<serde_json::Value>,
}

/// Tables the report shows.
const DRAWN: [&str; 11] = [
    Sample::NAME,
    Comparison::NAME,
    TrainingStep::NAME,
    CrosscoderStep::NAME,
    CrosscoderEval::NAME,
    Drift::NAME,
    Dynamics::NAME,
    Edge::NAME,
    EdgeMetric::NAME,
    Selection::NAME,
    Score::NAME,
];

impl Tables {
    /// Reads everything below `folder`. A damaged file is an error that names it; a folder without any table too.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut tables = Self::default();
        let mut paths = Vec::new();
        walk(folder, &mut paths)?;
        // Files near the top come first: where two repeat each other, the nearer one counts.
        paths.sort_by_key(|path| (path.components().count(), path.clone()));
        for path in paths {
            let name = below(folder, &path);
            tables
                .add(&path, &name)
                .with_context(|| format!("cannot report on {}", folder.display()))?;
        }
        if tables.is_empty() {
            bail!(
                "cannot report on {}: there is no table below it",
                folder.display()
            );
        }
        Ok(tables)
    }

    /// The provenance of the files named.
    pub(crate) fn provenance_of(&self, files: &[&str]) -> Vec<&Provenance> {
        let found = self
            .files
            .iter()
            .filter(|file| files.contains(&file.name.as_str()));
        found.filter_map(|file| file.provenance.as_ref()).collect()
    }

    fn is_empty(&self) -> bool {
        !self
            .files
            .iter()
            .any(|file| DRAWN.contains(&file.kind.as_str()))
    }

    fn add(&mut self, path: &Path, name: &str) -> Result<()> {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = match &*file_name {
            "config.json" => "model".to_owned(),
            "manifest.json" => "activations".to_owned(),
            "suite.json" => self.read_suite(path)?,
            _ if file_name.ends_with(".safetensors") => "tensors".to_owned(),
            _ => self.read_table(path, name)?,
        };
        // A model and an activation store are directories.
        let is_directory = matches!(kind.as_str(), "model" | "activations");
        let place = if is_directory {
            path.parent().unwrap_or(path)
        } else {
            path
        };
        let name = if is_directory {
            name.trim_end_matches(&*file_name).trim_end_matches('/')
        } else {
            name
        };
        let file = File {
            name: name.to_owned(),
            provenance: provenance(&kind, path),
            kind,
            path: place.to_owned(),
            input: Input::of(place)?,
        };
        self.files.push(file);
        Ok(())
    }

    fn read_suite(&mut self, path: &Path) -> Result<String> {
        let text = store::read_text(path)?;
        let suite = serde_json::from_str(&text)
            .with_context(|| format!("cannot read {}", path.display()))?;
        self.suite.get_or_insert(suite);
        Ok("suite".to_owned())
    }

    /// Reads a Parquet file by the name of the table in it, or, of another program's, by its columns.
    fn read_table(&mut self, path: &Path, file: &str) -> Result<String> {
        if let Some(kind) = store::table_name(path)? {
            let known = self.read_as(&kind, path, file).transpose()?.is_some();
            return Ok(if known || matches!(kind.as_str(), "features" | "tokens") {
                kind
            } else {
                "unknown".to_owned()
            });
        }
        for kind in DRAWN {
            if let Some(Ok(())) = self.read_as(kind, path, file) {
                return Ok(kind.to_owned());
            }
        }
        Ok("unknown".to_owned())
    }

    /// Reads a file as the table of this name; nothing for tables that are not drawn.
    fn read_as(&mut self, kind: &str, path: &Path, file: &str) -> Option<Result<()>> {
        Some(match kind {
            Sample::NAME => into(&mut self.samples, path, file),
            Comparison::NAME => into(&mut self.comparisons, path, file),
            TrainingStep::NAME => into(&mut self.training, path, file),
            CrosscoderStep::NAME => into(&mut self.crosscoder_steps, path, file),
            CrosscoderEval::NAME => into(&mut self.crosscoder_evals, path, file),
            Drift::NAME => into(&mut self.drift, path, file),
            Dynamics::NAME => into(&mut self.dynamics, path, file),
            Edge::NAME => into(&mut self.edges, path, file),
            EdgeMetric::NAME => into(&mut self.edge_metrics, path, file),
            Selection::NAME => into(&mut self.selections, path, file),
            Score::NAME => into(&mut self.scores, path, file),
            _ => return None,
        })
    }
}

fn into<T: Table>(all: &mut Vec<Rows<T>>, path: &Path, file: &str) -> Result<()> {
    let rows = store::read_table(&[path.to_owned()])?;
    all.push(Rows {
        file: file.to_owned(),
        rows,
    });
    Ok(())
}

/// What a file says about its making; nothing where it does not say.
fn provenance(kind: &str, path: &Path) -> Option<Provenance> {
    match kind {
        "suite" | "unknown" => None,
        "model" => {
            // Weights of other programs may say nothing: then the record of the training beside them does.
            let folder = path.parent()?;
            let by_weights = weights(folder).and_then(|path| tensors_provenance(&path));
            by_weights.or_else(|| store::table_provenance(&folder.join("metrics.parquet")).ok())
        }
        "tensors" => tensors_provenance(path),
        "activations" => {
            let manifest: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
            serde_json::from_value(manifest.get("provenance")?.clone()).ok()
        }
        _ => store::table_provenance(path).ok(),
    }
}

fn tensors_provenance(path: &Path) -> Option<Provenance> {
    store::TensorFile::open(path).ok()?.provenance().cloned()
}

/// The first file of weights of a model directory.
pub(crate) fn weights(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "safetensors")
        })
        .min()
}

/// Every file the report reads or names below a folder; hidden ones, checkpoints and the parts of activation stores apart.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let cannot = || format!("cannot read {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        names.push((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ));
    }
    let has = |wanted: &str| names.iter().any(|(name, _)| name == wanted);
    let (is_model, is_store) = (has("config.json"), has("manifest.json"));
    for (name, path) in &names {
        if name.starts_with('.') {
            continue;
        }
        if path.is_symlink() && path.is_dir() {
            // Never followed: a link may lead in a circle.
        } else if path.is_dir() {
            // A checkpoint is one of many of its run: the run's final model speaks for it. Parts are unfinished answers.
            let is_aside = name.starts_with("checkpoint-")
                || path
                    .extension()
                    .is_some_and(|extension| extension == "parts");
            if !is_store && !is_aside {
                walk(path, found)?;
            }
        } else if is_wanted(name, is_model) {
            found.push(path.clone());
        }
    }
    Ok(())
}

fn is_wanted(name: &str, in_model: bool) -> bool {
    let ends = |extension: &str| {
        Path::new(name)
            .extension()
            .is_some_and(|found| found == extension)
    };
    matches!(name, "suite.json" | "config.json" | "manifest.json")
        || ends("parquet")
        || (ends("safetensors") && !in_model)
}

fn below(folder: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(folder).unwrap_or(path).components();
    parts
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join("/")
}
