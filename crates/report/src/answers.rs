//! Every answer of every model and arm, gathered from the samples tables.

use std::collections::{BTreeMap, BTreeSet};
use store::tables::Sample;

/// What was done to a model: `amplify-2/random-03` is the operation `amplify` at strength 2 on the control `random-03`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arm {
    /// The arm as the table names it.
    pub name: String,
    /// `none`, `disable`, `amplify`, …
    pub operation: String,
    /// The part before the `/`: `amplify-2`.
    pub setting: String,
    /// The part after the `/`: `random-03`; `None` for the selected set.
    pub control: Option<String>,
}

impl Arm {
    /// Reads the name of an arm.
    pub(crate) fn parse(name: &str) -> Self {
        let (setting, control) = match name.split_once('/') {
            Some((setting, control)) => (setting, Some(control.to_owned())),
            None => (name, None),
        };
        // `amplify-2`, `amplify--10` (α = −10), but `sign-flip` has no strength.
        let is_strength = |(place, _): &(usize, &str)| setting[place + 1..].parse::<f64>().is_ok();
        let dash = setting.match_indices('-').find(is_strength);
        let operation = dash.map_or(setting, |(place, _)| &setting[..place]);
        Self {
            name: name.to_owned(),
            operation: operation.to_owned(),
            setting: setting.to_owned(),
            control,
        }
    }

    /// Whether the model was left as it is.
    pub(crate) fn is_none(&self) -> bool {
        self.operation == "none" && self.control.is_none()
    }

    /// The strength α in the arm's name, where there is one.
    pub(crate) fn alpha(&self) -> Option<f64> {
        self.setting
            .strip_prefix(&self.operation)?
            .strip_prefix('-')?
            .parse()
            .ok()
    }

    /// The kind of control: `random` for `random-03`.
    pub(crate) fn control_kind(&self) -> Option<&str> {
        let control = self.control.as_deref()?;
        Some(
            control
                .trim_end_matches(|c: char| c.is_ascii_digit())
                .trim_end_matches('-'),
        )
    }
}

/// What the documents of a set are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Split {
    /// Reported: everything not marked as one of the others.
    Test,
    /// Strengths were chosen on it.
    Tuning,
    /// The models were trained on it.
    Train,
}

/// One document's answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Doc {
    /// By sample number: whether it is right, and whether its budget ran out.
    pub samples: BTreeMap<u32, (bool, bool)>,
}

impl Doc {
    /// Share of right answers, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        let right = self.samples.values().filter(|sample| sample.0).count();
        right as f64 / self.samples.len().max(1) as f64
    }

    /// Whether at least half of the answers are right.
    pub(crate) fn is_right(&self) -> bool {
        self.share() >= 0.5
    }
}

/// Documents of one task by their id.
pub(crate) type Docs = BTreeMap<String, Doc>;

/// All answers of one model under one arm on one split.
#[derive(Debug, Clone)]
pub(crate) struct AnswerSet {
    pub model: String,
    pub arm: Arm,
    /// Which documents these are.
    pub split: Split,
    pub tasks: BTreeMap<String, Docs>,
    /// File of the first answers, for messages.
    pub file: String,
}

impl AnswerSet {
    /// Whether any document stands in both sets.
    pub(crate) fn shares_documents(&self, other: &Self) -> bool {
        let in_other = |(task, docs): (&String, &Docs)| {
            let others = other.tasks.get(task);
            others.is_some_and(|others| docs.keys().any(|id| others.contains_key(id)))
        };
        self.tasks.iter().any(in_other)
    }
}

/// Answers of a file that contradict those of an earlier one to the same documents, and were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub file: String,
    pub earlier: String,
    pub model: String,
    pub arm: String,
    pub n_documents: usize,
}

/// Everything the samples tables hold.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub sets: Vec<AnswerSet>,
    pub conflicts: Vec<Conflict>,
}

impl Answers {
    /// Adds the rows of one file. Rows that repeat an answer are merged; a model and arm whose answers contradict those
    /// already there are recorded as a conflict and left out, for this file.
    pub(crate) fn add(&mut self, file: &str, rows: &[Sample]) {
        for set in split_by_arm(file, rows) {
            let same = |other: &&mut AnswerSet| {
                other.model == set.model && other.arm == set.arm && other.split == set.split
            };
            match self.sets.iter_mut().find(same) {
                None => self.sets.push(set),
                Some(there) => match contradictions(there, &set) {
                    0 => merge(there, set),
                    n_documents => self.conflicts.push(conflict(there, set, n_documents)),
                },
            }
        }
        self.sets
            .sort_by(|a, b| (&a.model, &a.arm, a.split).cmp(&(&b.model, &b.arm, b.split)));
    }

    /// The answers of a model that was left as it is.
    pub(crate) fn plain(&self, model: &str, split: Split) -> Option<&AnswerSet> {
        self.sets
            .iter()
            .find(|set| set.model == model && set.arm.is_none() && set.split == split)
    }

    /// Models with answers of their own on the reported split.
    pub(crate) fn plain_models(&self) -> Vec<String> {
        let plain = self
            .sets
            .iter()
            .filter(|set| set.arm.is_none() && set.split == Split::Test);
        plain.map(|set| set.model.clone()).collect()
    }

    /// Every task of the reported split.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let reported = self.sets.iter().filter(|set| set.split == Split::Test);
        let tasks: BTreeSet<String> = reported.flat_map(|set| set.tasks.keys().cloned()).collect();
        tasks.into_iter().collect()
    }
}

/// The split a document belongs to: as its id says (`tune-0007`), or its file (`amplify.tune.samples.parquet`).
fn split_of(file: &str, doc_id: &str) -> Split {
    let marked = |word: &str| match word {
        "tune" | "tuning" | "dev" | "validation" => Some(Split::Tuning),
        "train" => Some(Split::Train),
        "test" => Some(Split::Test),
        _ => None,
    };
    let by_id = doc_id.split('-').next().and_then(marked);
    let name = file.rsplit('/').next().unwrap_or(file);
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    by_id
        .or_else(|| words.find_map(marked))
        .unwrap_or(Split::Test)
}

fn split_by_arm(file: &str, rows: &[Sample]) -> Vec<AnswerSet> {
    let mut sets: BTreeMap<(&str, &str, Split), AnswerSet> = BTreeMap::new();
    for row in rows {
        let split = split_of(file, &row.doc_id);
        let set = sets
            .entry((&row.model, &row.arm, split))
            .or_insert_with(|| AnswerSet {
                model: row.model.clone(),
                arm: Arm::parse(&row.arm),
                split,
                tasks: BTreeMap::new(),
                file: file.to_owned(),
            });
        let docs = set.tasks.entry(row.task.clone()).or_default();
        let doc = docs.entry(row.doc_id.clone()).or_default();
        doc.samples
            .insert(row.sample, (row.correct, row.finish_reason == "length"));
    }
    sets.into_values().collect()
}

fn contradictions(there: &AnswerSet, new: &AnswerSet) -> usize {
    let documents = new
        .tasks
        .iter()
        .flat_map(|(task, docs)| docs.iter().map(move |(id, doc)| (task, id, doc)));
    let differs = |(task, id, doc): &(&String, &String, &Doc)| {
        let Some(known) = there.tasks.get(*task).and_then(|docs| docs.get(*id)) else {
            return false;
        };
        doc.samples.iter().any(|(sample, answer)| {
            known
                .samples
                .get(sample)
                .is_some_and(|other| other.0 != answer.0)
        })
    };
    documents.filter(differs).count()
}

fn merge(there: &mut AnswerSet, new: AnswerSet) {
    for (task, docs) in new.tasks {
        let known = there.tasks.entry(task).or_default();
        for (id, doc) in docs {
            known.entry(id).or_default().samples.extend(doc.samples);
        }
    }
}

fn conflict(there: &AnswerSet, new: AnswerSet, n_documents: usize) -> Conflict {
    Conflict {
        file: new.file,
        earlier: there.file.clone(),
        model: new.model,
        arm: new.arm.name,
        n_documents,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row of a samples table.
    pub(crate) fn sample(
        model: &str,
        arm: &str,
        (task, doc_id): (&str, &str),
        correct: bool,
    ) -> Sample {
        Sample {
            model: model.to_owned(),
            arm: arm.to_owned(),
            task: task.to_owned(),
            doc_id: doc_id.to_owned(),
            sample: 0,
            prompt: String::new(),
            completion: String::new(),
            extracted: None,
            target: String::new(),
            correct,
            n_tokens: 1,
            finish_reason: "stop".to_owned(),
            ..Sample::default()
        }
    }

    /// Answers to the documents of one task, in order.
    pub(crate) fn answers(model: &str, right: &[bool]) -> Vec<Sample> {
        right
            .iter()
            .enumerate()
            .map(|(i, right)| sample(model, "none", ("add", &format!("test-{i}")), *right))
            .collect()
    }

    #[test]
    fn arms_are_read_by_operation_strength_and_control() {
        let arm = Arm::parse("amplify-2.5/random-03");
        assert_eq!(
            (arm.operation.as_str(), arm.alpha(), arm.control_kind()),
            ("amplify", Some(2.5), Some("random"))
        );
        let arm = Arm::parse("amplify--10");
        assert_eq!(
            (arm.operation.as_str(), arm.alpha()),
            ("amplify", Some(-10.0))
        );
        let arm = Arm::parse("disable/sign-flip");
        assert_eq!(
            (arm.operation.as_str(), arm.alpha(), arm.control_kind()),
            ("disable", None, Some("sign-flip"))
        );
        assert!(Arm::parse("none").is_none());
    }

    #[test]
    fn splits_are_told_by_document_or_file() {
        assert_eq!(split_of("rl.samples.parquet", "tune-0001"), Split::Tuning);
        assert_eq!(
            split_of("amplify.tune.samples.parquet", "17"),
            Split::Tuning
        );
        assert_eq!(
            split_of("rl.train.samples.parquet", "test-0001"),
            Split::Test
        );
        assert_eq!(split_of("finetuned.samples.parquet", "17"), Split::Test);
    }

    #[test]
    fn the_same_answers_twice_are_merged_and_others_are_a_conflict() {
        let mut all = Answers::default();
        all.add("a", &answers("rl", &[true, false]));
        all.add("b", &answers("rl", &[true, false, true]));
        assert_eq!((all.sets.len(), all.sets[0].tasks["add"].len()), (1, 3));
        all.add("c", &answers("rl", &[false]));
        assert_eq!(all.conflicts.len(), 1);
        assert_eq!(
            (all.conflicts[0].file.as_str(), all.conflicts[0].n_documents),
            ("c", 1)
        );
    }
}
