//! Task files on disk: includes, lists of tasks, groups, tags, and the names by which they refer to one another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::config::Config;
use super::groups::{Builder, Group};
use super::yaml;
use crate::{Error, Result};

/// One task as its file says.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its keys, read.
    pub config: Config,
    /// Its keys as they are, those of included files and of the group among them.
    pub raw: Map<String, Value>,
    /// The file.
    pub path: PathBuf,
}

/// What was asked for: tasks in order, and groups, those within others first.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Tasks, each once.
    pub tasks: Vec<Definition>,
    /// Groups.
    pub groups: Vec<Group>,
}

/// Task files by the names they define.
#[derive(Debug, Default)]
pub struct Library {
    pub(super) files: BTreeMap<String, PathBuf>,
    pub(super) tags: BTreeMap<String, BTreeSet<String>>,
}

impl Library {
    /// Adds every `.yaml` file under a directory. One that is no task file is passed over; it matters only if it is asked for.
    pub fn scan(&mut self, directory: &Path) -> Result<()> {
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(directory).map_err(Error::read(directory))? {
            entries.push(entry.map_err(Error::read(directory))?.path());
        }
        entries.sort();
        for path in entries {
            if path.is_dir() {
                self.scan(&path)?;
            } else if is_task_file(&path) {
                self.add(&path).ok();
            }
        }
        Ok(())
    }

    /// Adds one file under the names it defines, and returns them.
    pub fn add(&mut self, path: &Path) -> Result<Vec<String>> {
        let raw = read(path)?;
        let mut names = Vec::new();
        if let Some(name) = text(&raw, "group") {
            names.push(name);
        } else if let Some(Value::Array(list)) = raw.get("task_list") {
            let tasks = list.iter().filter_map(Value::as_object);
            names.extend(tasks.filter_map(|task| text(task, "task")));
        } else if let Some(name) = text(&raw, "task") {
            names.push(name);
        }
        if names.is_empty() {
            return Err(invalid(path, "it has neither `task` nor `group`"));
        }
        for name in &names {
            self.files.insert(name.clone(), path.to_owned());
            for tag in tags(&raw) {
                self.tags.entry(tag).or_default().insert(name.clone());
            }
        }
        Ok(names)
    }

    /// Whether a name is known.
    pub fn knows(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.tags.contains_key(name)
    }

    /// The tasks and groups of these names, in order.
    pub fn select(&self, names: &[String]) -> Result<Selection> {
        let mut builder = Builder::new(self);
        for name in names {
            builder.named(name, &Map::new(), 0)?;
        }
        Ok(builder.selection)
    }
}

/// `.yaml` and `.yml`.
pub fn is_task_file(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

pub(super) fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn tags(raw: &Map<String, Value>) -> Vec<String> {
    match raw.get("tag") {
        Some(Value::String(tag)) => vec![tag.clone()],
        Some(Value::Array(tags)) => tags
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn invalid(path: &Path, cause: impl Into<String>) -> Error {
    Error::Task {
        path: path.to_owned(),
        cause: cause.into(),
    }
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let text = fs::read_to_string(path).map_err(Error::read(path))?;
    match yaml::read(&text).map_err(|cause| invalid(path, cause))? {
        Value::Object(map) => Ok(map),
        _ => Err(invalid(path, "it is no mapping of keys to values")),
    }
}

/// A file with what it includes: its own keys win, of several includes the later.
pub(super) fn read_whole(path: &Path, seen: &mut Vec<PathBuf>) -> Result<Map<String, Value>> {
    if seen.iter().any(|one| one == path) || seen.len() > 32 {
        return Err(invalid(path, "its includes go round in a circle"));
    }
    seen.push(path.to_owned());
    let own = read(path)?;
    let included = match own.get("include") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut whole = Map::new();
    for name in included {
        let mut base = read_whole(&folder.join(name), seen)?;
        base.remove("task_list");
        whole.extend(base);
    }
    seen.pop();
    whole.extend(own.into_iter().filter(|(key, _)| key != "include"));
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(files: &[(&str, &str)]) -> (tempfile::TempDir, Library) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut library = Library::default();
        library.scan(folder.path()).unwrap();
        (folder, library)
    }

    fn names(selection: &Selection) -> Vec<&str> {
        selection
            .tasks
            .iter()
            .map(|task| task.config.task.as_str())
            .collect()
    }

    #[test]
    fn own_keys_win_over_included_ones() {
        let (_folder, library) = library(&[
            ("base_yaml", "test_split: test\nnum_fewshot: 2\ntask: base"),
            (
                "sub/a.yaml",
                "include: ../base_yaml\ntask: a\nnum_fewshot: 3",
            ),
        ]);
        let selection = library.select(&["a".into()]).unwrap();
        let config = &selection.tasks[0].config;
        assert_eq!(
            (config.num_fewshot, config.test_split.as_deref()),
            (Some(3), Some("test"))
        );
        assert!(!library.knows("base"));
    }

    #[test]
    fn groups_hold_tasks_tags_and_groups() {
        let (_folder, library) = library(&[
            ("a.yaml", "task: a\ntag: both"),
            ("b.yaml", "task: b\ntag: [both]"),
            ("c.yaml", "task: c"),
            ("inner.yaml", "group: inner\ntask: [both]\nnum_fewshot: 4"),
            (
                "outer.yaml",
                "group: outer\ngroup_alias: O\ntask: [inner, {task: c, num_fewshot: 1}]\naggregate_metric_list: {metric: acc}\nmetadata: {version: 2}",
            ),
        ]);
        let selection = library.select(&["outer".into()]).unwrap();
        assert_eq!(names(&selection), ["a", "b", "c"]);
        let shots: Vec<_> = selection
            .tasks
            .iter()
            .map(|task| task.config.num_fewshot)
            .collect();
        assert_eq!(shots, [Some(4), Some(4), Some(1)]);
        let [inner, outer] = selection.groups.as_slice() else {
            panic!("{:?}", selection.groups);
        };
        assert_eq!((inner.name.as_str(), inner.children.len()), ("inner", 2));
        assert_eq!(outer.leaves, ["a", "b", "c"]);
        assert_eq!(
            (outer.version.as_str(), outer.alias.as_deref()),
            ("2", Some("O"))
        );
        assert_eq!(outer.children, ["inner", "c"]);
        assert!(outer.aggregates[0].weight_by_size);
    }

    #[test]
    fn lists_of_tasks_share_their_keys() {
        let (_folder, library) = library(&[(
            "l.yaml",
            "test_split: dev\ntask_list:\n- {task: x, num_fewshot: 1}\n- {task: y}",
        )]);
        let selection = library.select(&["y".into(), "x".into()]).unwrap();
        assert_eq!(names(&selection), ["y", "x"]);
        assert_eq!(selection.tasks[1].config.num_fewshot, Some(1));
        assert_eq!(selection.tasks[0].config.test_split.as_deref(), Some("dev"));
    }

    #[test]
    fn what_is_missing_or_circular_is_said() {
        let (_folder, library) = library(&[
            ("a.yaml", "task: a\ninclude: b.yaml"),
            ("b.yaml", "task: b\ninclude: a.yaml"),
            ("g.yaml", "group: g\ntask: [h]"),
            ("h.yaml", "group: h\ntask: [g]"),
            ("bad.yaml", "task: bad\nmetrics: []"),
        ]);
        for (name, cause) in [
            ("a", "circle"),
            ("g", "circle"),
            ("bad", "metrics"),
            ("zzz", "zzz"),
        ] {
            let error = library.select(&[name.into()]).unwrap_err().to_string();
            assert!(error.contains(cause), "{error}");
        }
    }
}
