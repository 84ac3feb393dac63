//! What a model is asked: the items of the task files, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tasks::Item;

/// Reads the items of every file, directory, glob or `-`, the first `limit` of each task.
pub fn read(paths: &[PathBuf], limit: Option<usize>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for path in store::expand(paths, "jsonl")? {
        items.extend(tasks::read_items_from(store::open_input(&path)?, &path)?);
    }
    refuse_repetition(&items)?;
    Ok(limited(items, limit.unwrap_or(usize::MAX)))
}

/// The same items by task and id, which answers refer to.
pub fn by_name(items: &[Item]) -> BTreeMap<(&str, &str), &Item> {
    items
        .iter()
        .map(|item| ((item.task.as_str(), item.id.as_str()), item))
        .collect()
}

/// Answers are matched by task and id, so no two items may share them.
fn refuse_repetition(items: &[Item]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for Item { task, id, .. } in items {
        ensure!(
            seen.insert((task, id)),
            "cannot tell two items {task}/{id} apart: the task files hold both"
        );
    }
    Ok(())
}

fn limited(items: Vec<Item>, limit: usize) -> Vec<Item> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut within = |item: &Item| {
        let count = counts.entry(item.task.clone()).or_default();
        *count += 1;
        *count <= limit
    };
    items.into_iter().filter(|item| within(item)).collect()
}

/// One answer to be given: an item, and which of its repeated answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The item.
    pub item: Item,
    /// Which of the repeated answers, from 0.
    pub sample: u32,
    /// The prompt after the chat template, as the model sees it.
    pub prompt: String,
    /// Its tokens.
    pub prompt_ids: Vec<u32>,
}

impl Question {
    /// The number of this answer's stream of random numbers: it depends on nothing but what is asked.
    pub fn stream(&self) -> u64 {
        let name = format!("{}\0{}\0{}", self.item.task, self.item.id, self.sample);
        let digest = Sha256::digest(name.as_bytes());
        u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
    }
}

/// Every question to every item: `repeats` answers each, with the prompt as this tokenizer writes it.
pub fn prepare(
    items: &[Item],
    repeats: u32,
    tokenizer: &model::Tokenizer,
) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for item in items {
        let context = || format!("cannot encode {}/{}", item.task, item.id);
        let prompt_ids = tokenizer.prompt_ids(&item.prompt).with_context(context)?;
        ensure!(
            !prompt_ids.is_empty(),
            "{}: the prompt has no token",
            context()
        );
        let prompt = written(&item.prompt, tokenizer);
        questions.extend((0..repeats).map(|sample| Question {
            item: item.clone(),
            sample,
            prompt: prompt.clone(),
            prompt_ids: prompt_ids.clone(),
        }));
    }
    Ok(questions)
}

/// The prompt after the chat template; as it is where there is none (a template that fails has been reported before).
fn written(prompt: &str, tokenizer: &model::Tokenizer) -> String {
    let message = model::Message {
        role: "user".to_owned(),
        content: prompt.to_owned(),
    };
    tokenizer
        .chat(&[message], true)
        .unwrap_or_else(|_| prompt.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::Grader;

    fn item(task: &str, id: &str) -> Item {
        Item {
            id: id.into(),
            task: task.into(),
            prompt: "1+1?".into(),
            target: "2".into(),
            grader: Grader::Lab,
            solution: None,
            careful: None,
            sloppy: None,
        }
    }

    #[test]
    fn a_limit_counts_by_task() {
        let items = vec![
            item("a", "1"),
            item("b", "1"),
            item("a", "2"),
            item("a", "3"),
        ];
        let ids: Vec<_> = limited(items, 2)
            .into_iter()
            .map(|item| item.task + &item.id)
            .collect();
        assert_eq!(ids, ["a1", "b1", "a2"]);
    }

    #[test]
    fn the_same_document_twice_is_refused() {
        let error =
            refuse_repetition(&[item("a", "1"), item("b", "1"), item("a", "1")]).unwrap_err();
        assert!(error.to_string().contains("a/1"), "{error}");
    }

    #[test]
    fn streams_depend_on_what_is_asked_alone() {
        let question = |id: &str, sample| Question {
            item: item("a", id),
            sample,
            prompt: String::new(),
            prompt_ids: Vec::new(),
        };
        assert_eq!(question("1", 0).stream(), question("1", 0).stream());
        assert_ne!(question("1", 0).stream(), question("1", 1).stream());
        assert_ne!(question("1", 1).stream(), question("11", 0).stream());
    }
}
