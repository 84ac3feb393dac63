//! The splits and their items.

use std::collections::BTreeSet;

use rand::Rng;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Author, Problem, Role, Task};
use crate::{Error, Grader, Item, Result};

/// What the suite is made from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Decides the corpus and the order of the train items. The prompts of `tune` and `test` do not depend on it.
    pub seed: u64,
    /// Documents of the corpus.
    pub documents: u32,
    /// Share of documents by a sloppy author, 0 to 1.
    pub sloppy: f64,
    /// Train items per task.
    pub train: usize,
    /// Tune items per task: for choosing settings, never for reporting.
    pub tune: usize,
    /// Test items per task: for reporting.
    pub test: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            documents: 40_000,
            sloppy: 0.675,
            train: 2000,
            tune: 250,
            test: 500,
        }
    }
}

/// What a prompt may be used for. The prompt alone decides, whatever the seed: the first eight bytes of its SHA-256, read
/// big-endian, modulo 100 give 0–19 `test`, 20–29 `tune`, 30–99 `train`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The corpus, SFT and reinforcement learning.
    Train,
    /// Choosing settings.
    Tune,
    /// Reporting.
    Test,
}

impl Split {
    /// Every split, in the order of the files.
    pub const ALL: [Self; 3] = [Self::Train, Self::Tune, Self::Test];

    /// The split a prompt belongs to.
    pub fn of(prompt: &str) -> Self {
        let digest = Sha256::digest(prompt.as_bytes());
        let bytes = digest[..8].try_into().expect("a digest has 32 bytes");
        match u64::from_be_bytes(bytes) % 100 {
            0..20 => Self::Test,
            20..30 => Self::Tune,
            _ => Self::Train,
        }
    }

    /// The name in file names and item ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Tune => "tune",
            Self::Test => "test",
        }
    }

    /// Draws a problem of this split.
    pub fn problem(self, task: Task, random: &mut impl Rng) -> Problem {
        loop {
            let problem = task.problem(random);
            if Self::of(&problem.prompt) == self {
                return problem;
            }
        }
    }
}

/// The items of one task and split, all prompts different.
///
/// The prompts of `tune` and `test` are the same for every seed, so that runs with different seeds answer the same questions.
pub fn items(task: Task, split: Split, settings: &Settings) -> Result<Vec<Item>> {
    let (seed, wanted) = match split {
        Split::Train => (settings.seed, settings.train),
        Split::Tune => (0, settings.tune),
        Split::Test => (0, settings.test),
    };
    let mut random = super::random(seed, stream(task, split));
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    let mut repeats = 0;
    while items.len() < wanted {
        let problem = split.problem(task, &mut random);
        if seen.insert(problem.prompt.clone()) {
            items.push(item(split, items.len(), problem));
            repeats = 0;
        } else if repeats == PATIENCE {
            return Err(Error::TooFew {
                task: task.name(),
                split: split.name(),
                found: items.len(),
                wanted,
            });
        } else {
            repeats += 1;
        }
    }
    Ok(items)
}

/// Draws without a new prompt after which a split counts as used up.
const PATIENCE: u32 = 20_000;

/// A stream of random numbers of its own, apart from those of the documents (numbered from 0).
fn stream(task: Task, split: Split) -> u64 {
    u64::MAX - (task as u64 * 3 + split as u64)
}

fn item(split: Split, index: usize, problem: Problem) -> Item {
    Item {
        id: format!("{}-{index:04}", split.name()),
        task: problem.task.name().to_owned(),
        careful: Some(Author::Careful.typical(&problem)),
        sloppy: Some(Author::Sloppy.typical(&problem)),
        solution: problem.teacher.filter(|_| split == Split::Train),
        prompt: problem.prompt,
        target: problem.answer,
        grader: Grader::Lab,
    }
}

/// What `suite.json` says: which task may be used for what, and the settings everything was made from.
#[derive(Debug, Clone, Serialize)]
pub struct Suite {
    /// `lab`.
    pub suite: &'static str,
    /// Tasks that SFT and reinforcement learning train on.
    pub trained: Vec<Task>,
    /// Tasks that features may be selected on.
    pub selection: Vec<Task>,
    /// Tasks never used for any selection.
    pub held_out: Vec<Task>,
    /// How a prompt's split is found.
    pub split_rule: &'static str,
    /// What everything was made from.
    pub settings: Settings,
}

impl Suite {
    /// Describes the suite made from these settings.
    pub fn new(settings: &Settings) -> Self {
        let with = |role| {
            Task::ALL
                .into_iter()
                .filter(|task| task.role() == role)
                .collect()
        };
        Self {
            suite: "lab",
            trained: with(Role::Trained),
            selection: with(Role::Selection),
            held_out: with(Role::HeldOut),
            split_rule: "first 8 bytes of sha256(prompt), big-endian, modulo 100: 0-19 test, 20-29 tune, 30-99 train",
            settings: settings.clone(),
        }
    }
}
