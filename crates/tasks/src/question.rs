//! What a model is asked: items, each with its prompt as this model reads it, in batches of like length.

use crate::error::{Error, Result};
use crate::{Item, read_items_from};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

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

/// Items of several files, the first `limit` of each task.
#[derive(Debug)]
pub struct Selection {
    limit: usize,
    items: Vec<Item>,
    seen: BTreeSet<(String, String)>,
    counts: BTreeMap<String, usize>,
}

impl Selection {
    /// Nothing yet; all of each task when there is no limit.
    pub fn new(limit: Option<usize>) -> Self {
        Self {
            limit: limit.unwrap_or(usize::MAX),
            items: Vec::new(),
            seen: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Adds the items of one file.
    ///
    /// # Errors
    /// When it cannot be read, or holds an item of a task and id that is there already: answers are matched by them.
    pub fn add(&mut self, source: impl Read, path: &Path) -> Result<()> {
        for item in read_items_from(source, path)? {
            if !self.seen.insert((item.task.clone(), item.id.clone())) {
                return Err(Error::Twice {
                    path: path.to_owned(),
                    name: format!("{}/{}", item.task, item.id),
                });
            }
            let count = self.counts.entry(item.task.clone()).or_default();
            *count += 1;
            if *count <= self.limit {
                self.items.push(item);
            }
        }
        Ok(())
    }

    /// The items in order.
    pub fn items(self) -> Vec<Item> {
        self.items
    }
}

/// Every question to every item: `repeats` answers each. `written` gives the prompt as the model reads it, and its tokens.
///
/// # Errors
/// Those of `written`.
pub fn questions<E>(
    items: &[Item],
    repeats: u32,
    mut written: impl FnMut(&Item) -> std::result::Result<(String, Vec<u32>), E>,
) -> std::result::Result<Vec<Question>, E> {
    let mut questions = Vec::new();
    for item in items {
        let (prompt, prompt_ids) = written(item)?;
        questions.extend((0..repeats).map(|sample| Question {
            item: item.clone(),
            sample,
            prompt: prompt.clone(),
            prompt_ids: prompt_ids.clone(),
        }));
    }
    Ok(questions)
}

/// Numbers of the questions of each batch: prompts of like length together, so that little is padding, then in order.
/// Decided by the questions alone.
pub fn batches(questions: &[Question], size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..questions.len()).collect();
    order.sort_by_key(|&question| questions[question].prompt_ids.len());
    order.chunks(size).map(<[usize]>::to_vec).collect()
}

/// The number of an answer's stream of random numbers: it depends on nothing but what is asked.
pub fn stream(task: &str, document: &str, sample: u32) -> u64 {
    let digest = Sha256::digest(format!("{task}\0{document}\0{sample}").as_bytes());
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

impl Question {
    /// The number of this answer's stream of random numbers ([`stream`]).
    pub fn stream(&self) -> u64 {
        stream(&self.item.task, &self.item.id, self.sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Grader;

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

    fn question(id: &str, sample: u32, length: usize) -> Question {
        Question {
            item: item("a", id),
            sample,
            prompt: String::new(),
            prompt_ids: vec![0; length],
        }
    }

    fn added(selection: &mut Selection, items: &[Item]) -> Result<()> {
        let mut text = Vec::new();
        crate::write_items(&mut text, items).unwrap();
        selection.add(text.as_slice(), Path::new("t.jsonl"))
    }

    #[test]
    fn a_limit_counts_by_task() {
        let mut selection = Selection::new(Some(2));
        added(&mut selection, &[item("a", "1"), item("b", "1")]).unwrap();
        added(&mut selection, &[item("a", "2"), item("a", "3")]).unwrap();
        let names = selection.items().into_iter();
        let names: Vec<String> = names.map(|item| item.task + &item.id).collect();
        assert_eq!(names, ["a1", "b1", "a2"]);
    }

    #[test]
    fn the_same_document_twice_is_refused() {
        let mut selection = Selection::new(None);
        added(&mut selection, &[item("a", "1"), item("b", "1")]).unwrap();
        let message = added(&mut selection, &[item("a", "1")]).unwrap_err();
        let message = message.to_string();
        assert!(
            message.contains("t.jsonl") && message.contains("a/1"),
            "{message}"
        );
    }

    #[test]
    fn like_lengths_share_a_batch_and_every_question_is_asked_once() {
        let questions: Vec<Question> = [3, 1, 2, 1, 3].map(|n| question("1", 0, n)).into();
        assert_eq!(batches(&questions, 2), [vec![1, 3], vec![2, 0], vec![4]]);
        assert!(batches(&[], 2).is_empty());
    }

    #[test]
    fn every_item_is_asked_as_often_as_wanted() {
        let written = |item: &Item| Ok::<_, String>((item.prompt.clone() + "!", vec![1]));
        let asked = questions(&[item("a", "1"), item("a", "2")], 2, written).unwrap();
        let names: Vec<(&str, u32)> = asked
            .iter()
            .map(|question| (question.item.id.as_str(), question.sample))
            .collect();
        assert_eq!(names, [("1", 0), ("1", 1), ("2", 0), ("2", 1)]);
        assert_eq!(asked[0].prompt, "1+1?!");
        assert!(questions(&[item("a", "1")], 1, |_| Err("no")).is_err());
    }

    #[test]
    fn streams_depend_on_what_is_asked_alone() {
        assert_eq!(question("1", 0, 1).stream(), question("1", 0, 9).stream());
        assert_ne!(question("1", 0, 1).stream(), question("1", 1, 1).stream());
        assert_ne!(question("1", 1, 1).stream(), question("11", 0, 1).stream());
    }
}
