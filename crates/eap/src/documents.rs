//! Which documents are scored: those that every model answers correctly, at comparable length (arXiv 2509.21044 §3.2).
//!
//! T̄ is the mean answer length over the models and the documents all of them answer correctly, task by task (a task is a
//! data set of the paper). A document stays when every model's length lies in [βT̄, γT̄] and the spread of the lengths is
//! below δ of their mean. The choice treats the models alike, so each model of a comparison is scored on the same ones.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use clap::ValueEnum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::answers::{Answers, Document};

/// What T̄ is when the models' mean lengths differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// Mean over all models, as the paper writes
    Mean,
    /// Smallest of the models' means, as its code does
    Min,
}

/// The filter's constants.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args, Serialize)]
pub struct Filter {
    /// Shortest answer as a share of T̄
    #[arg(long, value_name = "X", default_value_t = 0.5)]
    pub beta: f64,
    /// Longest answer as a share of T̄
    #[arg(long, value_name = "X", default_value_t = 1.5)]
    pub gamma: f64,
    /// Largest difference of the models' lengths as a share of their mean, excluded
    #[arg(long, value_name = "X", default_value_t = 0.5)]
    pub delta: f64,
    /// T̄ when the models' mean lengths differ
    #[arg(long, value_enum, default_value_t = Reference::Mean)]
    pub reference: Reference,
    /// Documents to draw
    #[arg(short, long = "n", value_name = "N", default_value_t = 100)]
    pub n: usize,
    /// Seed of the draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// A document that is scored, and the length its truncations are shares of.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The document.
    pub document: Document,
    /// T̄ of its task, in tokens.
    pub mean_length: f64,
}

impl Chosen {
    /// `T_cut = max(1, ⌊αT̄⌋)` in tokens.
    pub fn cut(&self, alpha: f64) -> usize {
        ((alpha * self.mean_length) as usize).max(1)
    }
}

/// How many documents each step left: said and stored with the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Answered by every model.
    pub answered: usize,
    /// Answered correctly by every model.
    pub correct: usize,
    /// Of comparable length as well.
    pub passed: usize,
    /// Drawn from these.
    pub chosen: usize,
}

/// Chooses the documents; sorted, and the same whichever of the models comes first.
///
/// # Errors
/// When no document is left.
pub fn choose(models: &[&Answers], filter: &Filter) -> anyhow::Result<(Vec<Chosen>, Counts)> {
    let answered = answered_by_all(models);
    let correct: Vec<Document> = answered
        .iter()
        .filter(|document| models.iter().all(|model| model.answers[document].correct))
        .map(|&document| document.clone())
        .collect();
    let mean_lengths = mean_lengths(models, &correct, filter.reference);
    let mut passing: Vec<Chosen> = correct
        .iter()
        .map(|document| Chosen {
            document: document.clone(),
            mean_length: mean_lengths[&document.0],
        })
        .filter(|chosen| {
            comparable(
                &lengths(models, &chosen.document),
                chosen.mean_length,
                filter,
            )
        })
        .collect();
    let mut counts = Counts {
        answered: answered.len(),
        correct: correct.len(),
        passed: passing.len(),
        chosen: 0,
    };
    draw(&mut passing, filter);
    counts.chosen = passing.len();
    ensure!(
        counts.chosen > 0,
        "no document is left: {} answered by every model, {} of them correctly, {} of comparable length",
        counts.answered,
        counts.correct,
        counts.passed
    );
    Ok((passing, counts))
}

fn answered_by_all<'a>(models: &[&'a Answers]) -> Vec<&'a Document> {
    let Some((first, others)) = models.split_first() else {
        return Vec::new();
    };
    let by_others = |document: &&Document| {
        others
            .iter()
            .all(|model| model.answers.contains_key(*document))
    };
    first.answers.keys().filter(by_others).collect()
}

fn lengths(models: &[&Answers], document: &Document) -> Vec<u32> {
    models
        .iter()
        .map(|model| model.answers[document].n_tokens)
        .collect()
}

/// T̄ of every task. Sums are whole numbers, so that the order of the models cannot change a bit of it.
fn mean_lengths(
    models: &[&Answers],
    documents: &[Document],
    reference: Reference,
) -> BTreeMap<String, f64> {
    let tasks: BTreeSet<&String> = documents.iter().map(|(task, _)| task).collect();
    let of_task = |task: &String| {
        let documents: Vec<&Document> = documents
            .iter()
            .filter(|document| document.0 == *task)
            .collect();
        let total = |model: &&Answers| {
            documents
                .iter()
                .map(|d| u64::from(model.answers[*d].n_tokens))
                .sum::<u64>()
        };
        let totals: Vec<u64> = models.iter().map(total).collect();
        match reference {
            Reference::Mean => {
                totals.iter().sum::<u64>() as f64 / (totals.len() * documents.len()) as f64
            }
            Reference::Min => {
                totals.iter().min().copied().unwrap_or(0) as f64 / documents.len() as f64
            }
        }
    };
    tasks
        .into_iter()
        .map(|task| (task.clone(), of_task(task)))
        .collect()
}

fn comparable(lengths: &[u32], mean_length: f64, filter: &Filter) -> bool {
    let window = filter.beta * mean_length..=filter.gamma * mean_length;
    let (Some(&shortest), Some(&longest)) = (lengths.iter().min(), lengths.iter().max()) else {
        return false;
    };
    let mean = lengths.iter().map(|&length| f64::from(length)).sum::<f64>() / lengths.len() as f64;
    let spread = f64::from(longest - shortest) / mean;
    shortest > 0
        && lengths
            .iter()
            .all(|&length| window.contains(&f64::from(length)))
        && spread < filter.delta
}

/// Keeps `n` at random, in order: the first steps of a Fisher–Yates shuffle, then sorted again.
fn draw(passing: &mut Vec<Chosen>, filter: &Filter) {
    let mut random = ChaCha8Rng::seed_from_u64(filter.seed);
    let n = filter.n.min(passing.len());
    for place in 0..n {
        let other = random.random_range(place..passing.len());
        passing.swap(place, other);
    }
    passing.truncate(n);
    passing.sort_by(|a, b| a.document.cmp(&b.document));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::tests::answers;

    const FILTER: Filter = Filter {
        beta: 0.5,
        gamma: 1.5,
        delta: 0.5,
        reference: Reference::Mean,
        n: 100,
        seed: 0,
    };

    #[test]
    fn only_correct_answers_of_comparable_length_stay() {
        // T̄ over documents 0–4 (5 is wrong) = (10+10+10+30+10 + 10+12+18+30+10) / 10 = 15: window [7.5, 22.5].
        let a = answers(
            "a",
            &[
                (10, true),
                (10, true),
                (10, true),
                (30, true),
                (10, true),
                (10, false),
            ],
        );
        let b = answers(
            "b",
            &[
                (10, true),
                (12, true),
                (18, true),
                (30, true),
                (10, true),
                (10, true),
            ],
        );
        let (chosen, counts) = choose(&[&a, &b], &FILTER).unwrap();
        let ids: Vec<&str> = chosen
            .iter()
            .map(|chosen| chosen.document.1.as_str())
            .collect();
        assert_eq!(ids, ["000", "001", "004"]); // 2: spread 8/14 > ½; 3: too long
        assert_eq!(
            counts,
            Counts {
                answered: 6,
                correct: 5,
                passed: 3,
                chosen: 3
            }
        );
        assert!(
            chosen
                .iter()
                .all(|chosen| (chosen.mean_length - 15.0).abs() < 1e-12)
        );
        assert_eq!(
            (chosen[0].cut(0.3), chosen[0].cut(0.5), chosen[0].cut(0.01)),
            (4, 7, 1)
        );
    }

    #[test]
    fn the_smallest_mean_is_an_option() {
        let (a, b) = (
            answers("a", &[(10, true), (10, true)]),
            answers("b", &[(12, true), (12, true)]),
        );
        let filter = Filter {
            reference: Reference::Min,
            ..FILTER
        };
        assert!((choose(&[&a, &b], &filter).unwrap().0[0].mean_length - 10.0).abs() < 1e-12);
    }

    #[test]
    fn the_choice_is_the_same_from_either_side_and_depends_on_the_seed() {
        let lengths: Vec<(u32, bool)> = (0..200).map(|i| (10 + i % 7, i % 5 != 0)).collect();
        let (a, b) = (answers("a", &lengths), answers("b", &lengths[..180]));
        let filter = Filter { n: 20, ..FILTER };
        let chosen = choose(&[&a, &b], &filter).unwrap();
        assert_eq!(chosen, choose(&[&b, &a], &filter).unwrap());
        assert_eq!(chosen.0.len(), 20);
        assert_ne!(
            chosen.0,
            choose(&[&a, &b], &Filter { seed: 1, ..filter }).unwrap().0
        );
    }

    #[test]
    fn nothing_left_says_where_it_was_lost() {
        let (a, b) = (answers("a", &[(10, true)]), answers("b", &[(10, false)]));
        let error = choose(&[&a, &b], &FILTER).unwrap_err().to_string();
        assert!(
            error.contains("1 answered by every model, 0 of them correctly"),
            "{error}"
        );
    }
}
