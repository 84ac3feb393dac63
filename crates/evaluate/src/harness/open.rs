//! Which tasks the arguments of a run name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tasks::harness::{Definition, Group, Library, Task, is_task_file};

use super::preset::Preset;

/// Where tasks and their rows are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Files, directories, globs, `-`, or names of tasks, groups and tags.
    pub tasks: &'a [PathBuf],
    /// Directories with the task files that names refer to.
    pub include: &'a [PathBuf],
    /// Directories with rows.
    pub data: &'a [PathBuf],
    /// What bare JSON lines are.
    pub preset: Option<Preset>,
    /// Examples before each question, in place of a task's own number.
    pub n_fewshot: Option<usize>,
}

/// What the arguments came to.
#[derive(Debug, Default)]
pub struct Opened {
    /// Files of items, as the arguments name them.
    pub items: Vec<PathBuf>,
    /// Tasks with their rows.
    pub tasks: Vec<Task>,
    /// Groups of them.
    pub groups: Vec<Group>,
}

impl Opened {
    /// Files the tasks and their rows come from, each once.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        for task in &self.tasks {
            for file in std::iter::once(&task.definition.path).chain(&task.files) {
                if !files.contains(file) {
                    files.push(file.clone());
                }
            }
        }
        files
    }
}

/// Opens everything that is named. Files that end in `.yaml` are task files; others hold items, unless a preset says what
/// their lines are.
pub fn open(sources: Sources) -> Result<Opened> {
    let mut library = Library::default();
    for directory in sources.include {
        library.scan(directory)?;
    }
    for directory in sources.data {
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    }
    let (mut names, mut opened) = (Vec::new(), Opened::default());
    let mut definitions: Vec<Definition> = Vec::new();
    for argument in sources.tasks {
        if let Some(found) = named(argument, &library) {
            names.extend(found);
            continue;
        }
        let files = task_files(argument)?;
        if !files.is_empty() {
            for file in files {
                names.extend(added(&mut library, &file)?);
            }
        } else if let Some(preset) = sources.preset {
            for file in store::expand(std::slice::from_ref(argument), "jsonl")? {
                definitions.push(preset.definition(&file)?);
            }
        } else {
            opened.items.push(argument.clone());
        }
    }
    let selection = library.select(&names)?;
    definitions.extend(selection.tasks);
    opened.groups = selection.groups;
    for definition in &definitions {
        let task = Task::open(definition, sources.n_fewshot, sources.data)?;
        let known = opened.tasks.iter().any(|other| other.name() == task.name());
        ensure!(!known, "cannot ask the task {} twice", task.name());
        opened.tasks.push(task);
    }
    Ok(opened)
}

/// `mmlu,gsm8k`: names that the include directories define, where no such file exists.
fn named(argument: &Path, library: &Library) -> Option<Vec<String>> {
    let text = argument.to_str().filter(|_| !argument.exists())?;
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    names
        .iter()
        .all(|name| library.knows(name))
        .then_some(names)
}

/// The task files an argument stands for: itself, those of a directory without items, those a pattern matches.
fn task_files(argument: &Path) -> Result<Vec<PathBuf>> {
    if argument == Path::new("-") {
        return Ok(Vec::new());
    }
    if argument.is_dir() {
        let listed = fs::read_dir(argument)
            .with_context(|| format!("cannot read {}", argument.display()))?;
        let mut files: Vec<PathBuf> = listed
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        let has_items = files
            .iter()
            .any(|file| file.extension().is_some_and(|ending| ending == "jsonl"));
        files.retain(|file| is_task_file(file) && !has_items);
        files.sort();
        return Ok(files);
    }
    if is_task_file(argument) {
        return Ok(store::expand(&[argument.to_owned()], "yaml")?);
    }
    Ok(Vec::new())
}

/// Adds a file to the library; where it is a group, the files around it, which its names refer to, as well.
fn added(library: &mut Library, file: &Path) -> Result<Vec<String>> {
    let names = library.add(file)?;
    let text = store::read_text(file)?;
    if text
        .lines()
        .any(|line| line.trim_start_matches('"').starts_with("group"))
    {
        let folder = file
            .parent()
            .filter(|folder| *folder != Path::new(""))
            .unwrap_or(Path::new("."));
        library.scan(folder)?;
        library.add(file)?;
    }
    Ok(names)
}
