//! What a model is asked: the items of the task files, in order.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use model::Tokenizer;
use tasks::{Item, Question, Selection};

/// Reads the items of every file, directory, glob or `-`, the first `limit` of each task; none where nothing is named.
pub fn read(paths: &[PathBuf], limit: Option<usize>) -> Result<Vec<Item>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let mut selection = Selection::new(limit);
    for path in store::expand(paths, "jsonl")? {
        selection.add(store::open_input(&path)?, &path)?;
    }
    Ok(selection.items())
}

/// The same items by task and id, which answers refer to.
pub fn by_name(items: &[Item]) -> BTreeMap<(&str, &str), &Item> {
    items
        .iter()
        .map(|item| ((item.task.as_str(), item.id.as_str()), item))
        .collect()
}

/// Every question to every item: `repeats` answers each, with the prompt as this tokenizer writes it.
pub fn prepare(items: &[Item], repeats: u32, tokenizer: &Tokenizer) -> Result<Vec<Question>> {
    tasks::question::questions(items, repeats, |item| {
        let context = || format!("cannot encode {}/{}", item.task, item.id);
        tokenizer.prompt(&item.prompt).with_context(context)
    })
}
