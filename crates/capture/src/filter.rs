//! Which answers are read: by task, by what was done to the model, by who got them right.

use anyhow::ensure;
use cli::Labelled;
use std::collections::BTreeMap;
use store::tables::Sample;

/// Task, document and repetition of an answer.
type Answer = (String, String, u32);

/// A condition on answers.
#[derive(Debug, Default)]
pub struct Filter {
    tasks: Vec<String>,
    arm: String,
    conditions: Vec<Condition>,
}

/// A model's outcome that is asked for.
#[derive(Debug)]
struct Condition {
    correct: bool,
    outcomes: BTreeMap<Answer, bool>,
}

impl Filter {
    /// Answers of an arm, to some tasks (all when none is named).
    pub fn new(tasks: &[String], arm: &str) -> Self {
        Self {
            tasks: tasks.to_vec(),
            arm: arm.into(),
            conditions: Vec::new(),
        }
    }

    /// Keeps only what a model got right (or wrong), as its table of answers says. An answer without a counterpart in the
    /// table is not kept.
    pub fn require(&mut self, answers: &Labelled, correct: bool) -> anyhow::Result<()> {
        let rows: Vec<Sample> = store::read_table(std::slice::from_ref(&answers.path))?;
        let untouched = rows
            .into_iter()
            .filter(|row| row.model == answers.label && row.arm == "none");
        let outcomes: BTreeMap<Answer, bool> = untouched
            .map(|row| ((row.task, row.doc_id, row.sample), row.correct))
            .collect();
        ensure!(
            !outcomes.is_empty(),
            "cannot use {}: it holds no untouched answer of `{}`",
            answers.path.display(),
            answers.label
        );
        self.conditions.push(Condition { correct, outcomes });
        Ok(())
    }

    /// Whether an answer is read.
    pub fn keeps(&self, sample: &Sample) -> bool {
        let answer = (sample.task.clone(), sample.doc_id.clone(), sample.sample);
        let holds = |condition: &Condition| {
            condition.outcomes.get(&answer).copied() == Some(condition.correct)
        };
        sample.arm == self.arm
            && (self.tasks.is_empty() || self.tasks.contains(&sample.task))
            && self.conditions.iter().all(holds)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An answer of rl to document 1 of task `t`.
    pub(crate) fn sample() -> Sample {
        Sample {
            model: "rl".into(),
            arm: "none".into(),
            task: "t".into(),
            doc_id: "1".into(),
            sample: 0,
            prompt: "p".into(),
            completion: "c".into(),
            extracted: None,
            target: "x".into(),
            correct: true,
            n_tokens: 2,
            finish_reason: "stop".into(),
            ..Sample::default()
        }
    }

    #[test]
    fn task_arm_and_outcomes_must_all_fit() {
        let mut filter = Filter::new(&["t".into()], "none");
        assert!(filter.keeps(&sample()));
        assert!(!Filter::new(&["u".into()], "none").keeps(&sample()));
        assert!(!Filter::new(&[], "disable").keeps(&sample()));
        let outcomes = [(("t".to_owned(), "1".to_owned(), 0), false)].into();
        filter.conditions.push(Condition {
            correct: false,
            outcomes,
        });
        assert!(filter.keeps(&sample()));
        filter.conditions[0].correct = true;
        assert!(!filter.keeps(&sample()));
        filter.conditions[0].outcomes.clear();
        assert!(!filter.keeps(&sample()), "an answer without a counterpart");
    }
}
