//! Batches of questions through the model.

use anyhow::Result;
use model::{Finish, Model, Sampling, Tokenizer};
use store::tables::Sample;
use tasks::{Question, grade};

use crate::harness::until::{Writer, Written};

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
