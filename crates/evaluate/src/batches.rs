//! In which order the questions are asked: prompts of like length together, so that little is padding.

use anyhow::Result;
use model::{Finish, Model, Sampling, Tokenizer};
use store::tables::Sample;
use tasks::grade;

use crate::harness::until::{Writer, Written};
use crate::questions::Question;

/// Indices of the questions of each batch: by prompt length, then in order. Decided by the questions alone.
pub fn plan(questions: &[Question], size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..questions.len()).collect();
    order.sort_by_key(|index| questions[*index].prompt_ids.len());
    order.chunks(size).map(<[usize]>::to_vec).collect()
}

/// Who answers, and how.
#[derive(Debug)]
pub struct Answerer<'a> {
    /// Role of the model.
    pub label: &'a str,
    /// The model.
    pub model: &'a Model,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How it chooses its words.
    pub sampling: &'a Sampling,
    /// Texts under way at a time.
    pub rows: usize,
}

impl Answerer<'_> {
    /// Answers the questions of one batch and grades the answers, in the order of the questions.
    pub fn answer(&self, questions: &[&Question]) -> Result<Vec<Sample>> {
        let prompts: Vec<Vec<u32>> = questions
            .iter()
            .map(|question| question.prompt_ids.clone())
            .collect();
        let streams: Vec<u64> = questions.iter().map(|question| question.stream()).collect();
        let writer = Writer {
            model: self.model,
            tokenizer: self.tokenizer,
            sampling: self.sampling,
            until: &[],
            rows: self.rows,
        };
        let written = writer.write(&prompts, &streams)?;
        let answers = questions.iter().zip(written);
        Ok(answers
            .map(|(question, written)| self.sample(question, written))
            .collect())
    }

    fn sample(&self, question: &Question, written: Written) -> Sample {
        let item = &question.item;
        let verdict = grade(item.grader, &written.text, &item.target);
        Sample {
            model: self.label.to_owned(),
            arm: "none".to_owned(),
            task: item.task.clone(),
            doc_id: item.id.clone(),
            sample: question.sample,
            prompt: question.prompt.clone(),
            completion: written.text,
            extracted: verdict.extracted,
            target: item.target.clone(),
            correct: verdict.correct && written.finish == Finish::Stop,
            n_tokens: written.n_tokens as u32,
            finish_reason: written.finish.as_str().to_owned(),
            ..Sample::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::{Grader, Item};

    fn question(length: usize) -> Question {
        let item = Item {
            id: length.to_string(),
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
        let questions: Vec<_> = [3, 1, 2, 1, 3].map(question).into();
        assert_eq!(plan(&questions, 2), [vec![1, 3], vec![2, 0], vec![4]]);
        assert!(plan(&[], 2).is_empty());
    }
}
