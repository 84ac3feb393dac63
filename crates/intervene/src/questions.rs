//! What the model is asked, and what becomes of its answers: as in `evaluate run`, so that an edit that changes nothing gives
//! the very same answers.

use anyhow::Context;
use model::{Finish, Generated, Tokenizer};
use std::path::PathBuf;
use store::tables::Sample;
use tasks::{Item, Question, Selection, grade};

/// Items of every task file, the first `limit` of each task; no two may share task and id.
pub fn read(paths: &[PathBuf], limit: Option<usize>) -> anyhow::Result<Vec<Item>> {
    let mut selection = Selection::new(limit);
    for path in store::expand(paths, "jsonl")? {
        selection.add(store::open_input(&path)?, &path)?;
    }
    Ok(selection.items())
}

/// Every question to every item, `repeats` answers each.
pub fn prepare(
    items: &[Item],
    repeats: u32,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Vec<Question>> {
    tasks::question::questions(items, repeats, |item| {
        let context = || format!("cannot encode {}/{}", item.task, item.id);
        tokenizer.prompt(&item.prompt).with_context(context)
    })
}

/// The answer as a row, graded. An answer that does not come to an end is never right.
pub fn answer(
    question: &Question,
    (label, arm): (&str, &str),
    generated: &Generated,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Sample> {
    let finished = generated.finish == Finish::Stop;
    // The end token is no part of the text.
    let text = &generated.tokens[..generated.tokens.len() - usize::from(finished)];
    let completion = tokenizer.decode(text)?;
    let verdict = grade(question.item.grader, &completion, &question.item.target);
    Ok(Sample {
        model: label.to_owned(),
        arm: arm.to_owned(),
        task: question.item.task.clone(),
        doc_id: question.item.id.clone(),
        sample: question.sample,
        prompt: question.prompt.clone(),
        completion,
        extracted: verdict.extracted,
        target: question.item.target.clone(),
        correct: verdict.correct && finished,
        n_tokens: generated.tokens.len() as u32,
        finish_reason: generated.finish.as_str().to_owned(),
        ..Sample::default()
    })
}
