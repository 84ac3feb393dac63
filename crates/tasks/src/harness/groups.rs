//! Groups of tasks: what they hold, and how their figures become one.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::Config;
use super::load::{Definition, Library, Selection, invalid, read_whole, text};
use crate::{Error, Result};

/// How the results of a group's tasks become one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// Metric.
    pub metric: String,
    /// Filters; all that occur where it is not set.
    #[serde(default)]
    pub filter_list: Option<Value>,
    /// `mean`, the only one there is.
    #[serde(default)]
    pub aggregation: Option<String>,
    /// Whether a task counts by its documents, else all count the same.
    #[serde(default = "yes")]
    pub weight_by_size: bool,
}

fn yes() -> bool {
    true
}

/// Several tasks under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its name in tables.
    pub alias: Option<String>,
    /// Names of its tasks and groups.
    pub children: Vec<String>,
    /// Names of all tasks below it.
    pub leaves: Vec<String>,
    /// Its figures.
    pub aggregates: Vec<Aggregate>,
    /// `version` of its metadata.
    pub version: String,
}

/// Keys of a group's own; all others are for its tasks.
const GROUP_KEYS: [&str; 5] = [
    "group",
    "group_alias",
    "task",
    "aggregate_metric_list",
    "metadata",
];

/// Gathers the tasks and groups that names stand for.
pub(super) struct Builder<'a> {
    library: &'a Library,
    pub(super) selection: Selection,
}

impl<'a> Builder<'a> {
    pub(super) fn new(library: &'a Library) -> Self {
        Self {
            library,
            selection: Selection::default(),
        }
    }

    /// Adds what a name stands for, and returns the names of the tasks and groups it became.
    pub(super) fn named(
        &mut self,
        name: &str,
        overrides: &Map<String, Value>,
        depth: usize,
    ) -> Result<Vec<String>> {
        if let Some(path) = self.library.files.get(name) {
            if depth > 32 {
                return Err(invalid(path, "its groups go round in a circle"));
            }
            let raw = read_whole(path, &mut Vec::new())?;
            if raw.contains_key("group") {
                self.group(name, &raw, overrides, (path, depth))?;
            } else {
                self.task(name, raw, overrides, path)?;
            }
            return Ok(vec![name.to_owned()]);
        }
        let Some(tagged) = self.library.tags.get(name) else {
            return Err(Error::UnknownTask {
                name: name.to_owned(),
            });
        };
        let mut names = Vec::new();
        for name in tagged {
            names.extend(self.named(name, overrides, depth + 1)?);
        }
        Ok(names)
    }

    fn task(
        &mut self,
        name: &str,
        mut raw: Map<String, Value>,
        overrides: &Map<String, Value>,
        path: &Path,
    ) -> Result<()> {
        if let Some(Value::Array(list)) = raw.remove("task_list") {
            let own = list.into_iter().find(|task| task["task"] == name);
            raw.extend(
                own.and_then(|own| own.as_object().cloned())
                    .unwrap_or_default(),
            );
        }
        raw.extend(overrides.clone());
        for key in ["tag", "group", "group_alias"] {
            raw.remove(key);
        }
        raw.insert("task".to_owned(), name.into());
        let config = Config::new(&raw).map_err(|cause| invalid(path, cause))?;
        self.selection.tasks.retain(|task| task.config.task != name);
        self.selection.tasks.push(Definition {
            config,
            raw,
            path: path.to_owned(),
        });
        Ok(())
    }

    fn group(
        &mut self,
        name: &str,
        raw: &Map<String, Value>,
        overrides: &Map<String, Value>,
        (path, depth): (&Path, usize),
    ) -> Result<()> {
        let is_own = |key: &str| GROUP_KEYS.contains(&key);
        let mut below: Map<String, Value> = raw
            .iter()
            .filter(|(key, _)| !is_own(key))
            .map(owned)
            .collect();
        below.extend(
            overrides
                .iter()
                .filter(|(key, _)| *key != "task")
                .map(owned),
        );
        let members = match raw.get("task") {
            Some(Value::Array(members)) => members.clone(),
            Some(one @ Value::String(_)) => vec![one.clone()],
            _ => return Err(invalid(path, format!("the group {name} lists no task"))),
        };
        let mut children = Vec::new();
        for member in &members {
            children.extend(self.member(name, member, &below, (path, depth))?);
        }
        let leaves = self.leaves(&children);
        let group = Group {
            name: name.to_owned(),
            alias: text(raw, "group_alias"),
            children,
            leaves,
            aggregates: aggregates(raw).map_err(|cause| invalid(path, cause))?,
            version: version(raw),
        };
        self.selection
            .groups
            .retain(|other| other.name != group.name);
        self.selection.groups.push(group);
        Ok(())
    }

    /// One entry of a group's list: a name, a name with changed keys, or a group or task defined on the spot.
    fn member(
        &mut self,
        group: &str,
        member: &Value,
        below: &Map<String, Value>,
        (path, depth): (&Path, usize),
    ) -> Result<Vec<String>> {
        let own = match member {
            Value::String(name) => return self.named(name, below, depth + 1),
            Value::Object(own) => own,
            other => return Err(invalid(path, format!("the group {group} lists {other}"))),
        };
        let mut keys = below.clone();
        if let Some(name) = text(own, "group") {
            keys.extend(own.iter().filter(|(key, _)| *key != "group").map(owned));
            if self.library.knows(&name) {
                return self.named(&name, &keys, depth + 1);
            }
            let name = format!("{group}::{name}");
            self.group(&name, own, below, (path, depth + 1))?;
            return Ok(vec![name]);
        }
        let name = text(own, "task").ok_or_else(|| {
            invalid(
                path,
                format!("the group {group} lists an entry without a name"),
            )
        })?;
        keys.extend(own.iter().filter(|(key, _)| *key != "task").map(owned));
        if self.library.knows(&name) {
            return self.named(&name, &keys, depth + 1);
        }
        let name = format!("{group}::{name}");
        self.task(&name, keys, &Map::new(), path)?;
        Ok(vec![name])
    }

    fn leaves(&self, children: &[String]) -> Vec<String> {
        let mut leaves: Vec<String> = Vec::new();
        for child in children {
            let group = self
                .selection
                .groups
                .iter()
                .find(|group| group.name == *child);
            let below = group.map_or(std::slice::from_ref(child), |group| group.leaves.as_slice());
            for name in below {
                if !leaves.contains(name) {
                    leaves.push(name.clone());
                }
            }
        }
        leaves
    }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn aggregates(raw: &Map<String, Value>) -> std::result::Result<Vec<Aggregate>, String> {
    let list = match raw.get("aggregate_metric_list") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(list @ Value::Array(_)) => list.clone(),
        Some(one) => Value::Array(vec![one.clone()]),
    };
    let aggregates: Vec<Aggregate> =
        serde_json::from_value(list).map_err(|error| error.to_string())?;
    let other = aggregates
        .iter()
        .find_map(|one| one.aggregation.clone().filter(|name| name != "mean"));
    match other {
        Some(name) => Err(format!(
            "the aggregation {name} of a group is not known: there is `mean`"
        )),
        None => Ok(aggregates),
    }
}

fn version(raw: &Map<String, Value>) -> String {
    match raw
        .get("metadata")
        .and_then(|metadata| metadata.get("version"))
    {
        Some(version) => super::python::text(version),
        None => "N/A".to_owned(),
    }
}
