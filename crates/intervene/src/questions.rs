//! What the model is asked, and what becomes of its answers: as in `evaluate run`, so that an edit that changes nothing gives
//! the very same answers.

use anyhow::{Context, ensure};
use model::{Finish, Generated, Message, Tokenizer};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use store::tables::Sample;
use tasks::{Item, grade};

/// One answer to be given.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The item.
    pub item: Item,
    /// Which of the repeated answers, from 0.
    pub sample: u32,
    /// The prompt after the chat template.
    pub prompt: String,
    /// Its tokens.
    pub prompt_ids: Vec<u32>,
}

/// Items of every task file, the first `limit` of each task; no two may share task and id.
pub fn read(paths: &[PathBuf], limit: Option<usize>) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut seen = BTreeSet::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for path in store::expand(paths, "jsonl")? {
        for item in tasks::read_items(&path)? {
            ensure!(
                seen.insert((item.task.clone(), item.id.clone())),
                "cannot use {}: the item {}/{} is in the task files twice",
                path.display(),
                item.task,
                item.id
            );
            let count = counts.entry(item.task.clone()).or_default();
            *count += 1;
            if *count <= limit.unwrap_or(usize::MAX) {
                items.push(item);
            }
        }
    }
    Ok(items)
}

/// Every question to every item, `repeats` answers each.
pub fn prepare(
    items: &[Item],
    repeats: u32,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Vec<Question>> {
    let mut questions = Vec::new();
    for item in items {
        let prompt_ids = tokenizer
            .prompt_ids(&item.prompt)
            .with_context(|| format!("cannot encode {}/{}", item.task, item.id))?;
        ensure!(
            !prompt_ids.is_empty(),
            "cannot encode {}/{}: the prompt has no token",
            item.task,
            item.id
        );
        let message = Message {
            role: "user".into(),
            content: item.prompt.clone(),
        };
        // Without a template the prompt is the text itself; one that fails was reported above.
        let prompt = tokenizer.chat(&[message], true);
        let prompt = prompt.unwrap_or_else(|_| item.prompt.clone());
        questions.extend((0..repeats).map(|sample| Question {
            item: item.clone(),
            sample,
            prompt: prompt.clone(),
            prompt_ids: prompt_ids.clone(),
        }));
    }
    Ok(questions)
}

/// Numbers of the questions of each batch: prompts of like length together, decided by the questions alone.
pub fn batches(questions: &[Question], size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..questions.len()).collect();
    order.sort_by_key(|&question| questions[question].prompt_ids.len());
    order.chunks(size).map(<[usize]>::to_vec).collect()
}

impl Question {
    /// The number of this answer's stream of random numbers: it depends on nothing but what is asked.
    pub fn stream(&self) -> u64 {
        let name = format!("{}\0{}\0{}", self.item.task, self.item.id, self.sample);
        let digest = Sha256::digest(name.as_bytes());
        u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
    }

    /// The answer as a row, graded. An answer that does not come to an end is never right.
    pub fn answer(
        &self,
        (label, arm): (&str, &str),
        generated: &Generated,
        tokenizer: &Tokenizer,
    ) -> anyhow::Result<Sample> {
        let finished = generated.finish == Finish::Stop;
        // The end token is no part of the text.
        let text = &generated.tokens[..generated.tokens.len() - usize::from(finished)];
        let completion = tokenizer.decode(text)?;
        let verdict = grade(self.item.grader, &completion, &self.item.target);
        Ok(Sample {
            model: label.to_owned(),
            arm: arm.to_owned(),
            task: self.item.task.clone(),
            doc_id: self.item.id.clone(),
            sample: self.sample,
            prompt: self.prompt.clone(),
            completion,
            extracted: verdict.extracted,
            target: self.item.target.clone(),
            correct: verdict.correct && finished,
            n_tokens: generated.tokens.len() as u32,
            finish_reason: generated.finish.as_str().to_owned(),
            ..Sample::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::Grader;

    fn question(id: &str, length: usize) -> Question {
        let item = Item {
            id: id.into(),
            task: "t".into(),
            prompt: "?".into(),
            target: "1".into(),
            grader: Grader::Lab,
            solution: None,
            careful: None,
            sloppy: None,
        };
        Question {
            item,
            sample: 0,
            prompt: "?".into(),
            prompt_ids: vec![0; length],
        }
    }

    #[test]
    fn like_lengths_share_a_batch_and_every_question_is_asked_once() {
        let questions: Vec<Question> = [3, 1, 2, 1, 3].map(|n| question("1", n)).into();
        assert_eq!(batches(&questions, 2), [vec![1, 3], vec![2, 0], vec![4]]);
    }

    #[test]
    fn a_stream_depends_on_what_is_asked() {
        assert_eq!(question("1", 1).stream(), question("1", 9).stream());
        assert_ne!(question("1", 1).stream(), question("2", 1).stream());
    }

    #[test]
    fn the_same_item_twice_is_refused_and_a_limit_counts_by_task() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        let mut file = std::fs::File::create(&path).unwrap();
        let items = [question("1", 1).item, question("2", 1).item];
        tasks::write_items(&mut file, &items).unwrap();
        assert_eq!(read(std::slice::from_ref(&path), Some(1)).unwrap().len(), 1);
        let message = read(&[path.clone(), path], None).unwrap_err().to_string();
        assert!(message.contains("t/1"), "{message}");
    }
}
