//! Batches through the edited model, arm by arm.

use crate::arms::Arm;
use crate::questions;
use crate::settings::Args;
use crate::tap::{EditTap, Setting};
use crate::target::Target;
use cli::{Progress, Stopped};
use dict::Crosscoder;
use model::{Device, Model, Place};
use store::Parts;
use store::tables::Sample;
use tasks::Question;

/// The models with everything a batch needs.
pub struct Runner<'a> {
    args: &'a Args,
    dictionary: &'a Crosscoder,
    target: &'a Target,
    model: Model,
    /// By slot; only those that some arm looks at.
    companions: Vec<Option<Model>>,
}

impl<'a> Runner<'a> {
    /// Reads the weights that are needed.
    pub fn load(
        args: &'a Args,
        dictionary: &'a Crosscoder,
        target: &'a Target,
        arms: &[Arm],
    ) -> anyhow::Result<Self> {
        let place = args.place()?;
        let device = place.open()?;
        let model = place.load(&target.model.path, &device)?;
        let mut runner = Self {
            args,
            dictionary,
            target,
            model,
            companions: vec![None; dictionary.n_models()],
        };
        runner.load_companions(arms, place, &device)?;
        Ok(runner)
    }

    fn load_companions(
        &mut self,
        arms: &[Arm],
        place: Place,
        device: &Device,
    ) -> anyhow::Result<()> {
        let n_models = self.dictionary.n_models();
        for other in &self.target.companions {
            if arms
                .iter()
                .any(|arm| arm.edit.needs(n_models).contains(&other.slot))
            {
                self.companions[other.slot] = Some(place.load(&other.path, device)?);
            } else {
                let path = other.path.display();
                cli::say(&format!(
                    "{path} is not needed: nothing looks at its activations"
                ));
            }
        }
        Ok(())
    }

    /// Answers of every arm, arms in order, questions in order.
    pub fn all(
        &self,
        arms: &[Arm],
        questions: &[Question],
        parts: &Parts,
    ) -> anyhow::Result<Vec<Sample>> {
        let batches = tasks::question::batches(questions, self.args.batch);
        let total = (arms.len() * questions.len()) as u64;
        let progress = Progress::start("intervene", total, "answers");
        let mut samples = Vec::new();
        for (number, arm) in arms.iter().enumerate() {
            progress.note(&arm.name);
            let mut answers: Vec<Option<Sample>> = vec![None; questions.len()];
            for (place, batch) in batches.iter().enumerate() {
                let part = format!("arm-{number:02}-batch-{place:05}.parquet");
                let rows = if let Some(rows) = parts.read(&part, batch.len()) {
                    progress.skip(rows.len() as u64);
                    rows
                } else {
                    stop_if_asked(number * batches.len() + place, arms.len() * batches.len())?;
                    let asked: Vec<&Question> = batch.iter().map(|&q| &questions[q]).collect();
                    let rows = self.batch(arm, &asked)?;
                    parts.write(&part, &rows)?;
                    progress.advance(rows.len() as u64);
                    rows
                };
                for (&question, row) in batch.iter().zip(rows) {
                    answers[question] = Some(row);
                }
            }
            samples.extend(answers.into_iter().flatten());
        }
        progress.finish();
        Ok(samples)
    }

    /// Answers of one arm to one batch.
    fn batch(&self, arm: &Arm, questions: &[&Question]) -> anyhow::Result<Vec<Sample>> {
        let tokenizer = &self.target.tokenizer;
        let is_special = |id: u32| tokenizer.is_special(id);
        let companions: Vec<Option<&Model>> = self.companions.iter().map(Option::as_ref).collect();
        let setting = Setting {
            dictionary: self.dictionary,
            hook: self.target.hook,
            positions: self.args.positions,
            is_special: &is_special,
            companions: &companions,
            max_new_tokens: self.args.max_new_tokens,
        };
        let prompts: Vec<Vec<u32>> = questions.iter().map(|q| q.prompt_ids.clone()).collect();
        let streams: Vec<u64> = questions.iter().map(|question| question.stream()).collect();
        let mut tap = EditTap::new(&arm.edit, setting);
        let generated = self.model.generate(
            &prompts,
            &streams,
            &self.args.sampling(),
            tokenizer.eos_ids(),
            &mut tap,
        )?;
        let named = (self.args.model.label.as_str(), arm.name.as_str());
        let answers = questions.iter().zip(&generated);
        answers
            .map(|(question, generated)| questions::answer(question, named, generated, tokenizer))
            .collect()
    }
}

fn stop_if_asked(done: usize, all: usize) -> anyhow::Result<()> {
    if cli::stop_requested() {
        let done = format!("{done} of {all} batches");
        return Err(Stopped { done }.into());
    }
    Ok(())
}
