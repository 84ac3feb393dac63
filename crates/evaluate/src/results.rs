//! The results JSON: for every task, and for all, how many answers were right.

use std::collections::BTreeMap;

use serde::Serialize;
use stats::Estimate;
use store::Provenance;
use store::tables::Sample;

/// What the file holds.
#[derive(Debug, Serialize)]
pub struct Results<'a> {
    /// Role of the model.
    pub model: &'a str,
    /// By task, and under `all` over every document.
    pub results: BTreeMap<String, TaskResult>,
    /// Where the figures came from.
    pub provenance: &'a Provenance,
}

/// The figures of one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskResult {
    /// Documents asked.
    pub documents: usize,
    /// Answers per document.
    pub samples_per_document: usize,
    /// Share of right answers, 0 to 1.
    pub accuracy: f64,
    /// Lower end of the 95 % interval: Wilson's for one answer a document, else a bootstrap over documents.
    pub accuracy_low: f64,
    /// Upper end of the interval.
    pub accuracy_high: f64,
    /// Share of answers that came to an end within the budget, or were chosen among given ones, 0 to 1.
    pub finished: f64,
    /// Mean length of an answer in tokens, the end token included.
    pub mean_tokens: f64,
    /// Chance that one of k answers is right, by k; only where there are several a document.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pass_at: BTreeMap<u64, f64>,
}

/// The name under which all tasks are taken together.
pub const ALL: &str = "all";

impl<'a> Results<'a> {
    /// The figures of a model's answers.
    pub fn new(model: &'a str, samples: &[Sample], provenance: &'a Provenance) -> Self {
        let mut by_task: BTreeMap<String, Vec<&Sample>> = BTreeMap::new();
        for sample in samples {
            by_task.entry(sample.task.clone()).or_default().push(sample);
            by_task.entry(ALL.to_owned()).or_default().push(sample);
        }
        let results = by_task
            .into_iter()
            .map(|(task, samples)| (task, TaskResult::of(&samples)));
        Self {
            model,
            results: results.collect(),
            provenance,
        }
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("names and numbers are always JSON");
        text.push('\n');
        text
    }
}

impl TaskResult {
    fn of(samples: &[&Sample]) -> Self {
        let mut documents: BTreeMap<(&str, &str), Vec<bool>> = BTreeMap::new();
        for sample in samples {
            documents
                .entry((&sample.task, &sample.doc_id))
                .or_default()
                .push(sample.correct);
        }
        let documents: Vec<Vec<bool>> = documents.into_values().collect();
        let accuracy = accuracy(&documents);
        let n = samples.len() as f64;
        let finished = samples
            .iter()
            .filter(|sample| sample.finish_reason != "length")
            .count();
        let tokens: f64 = samples
            .iter()
            .map(|sample| f64::from(sample.n_tokens))
            .sum();
        Self {
            documents: documents.len(),
            samples_per_document: samples.len() / documents.len().max(1),
            accuracy: accuracy.value,
            accuracy_low: accuracy.low,
            accuracy_high: accuracy.high,
            finished: finished as f64 / n,
            mean_tokens: tokens / n,
            pass_at: pass_at(&documents),
        }
    }
}

/// Share of right answers over documents with equally many answers each.
pub fn accuracy(documents: &[Vec<bool>]) -> Estimate {
    let right = |answers: &Vec<bool>| answers.iter().filter(|right| **right).count();
    if documents.iter().all(|answers| answers.len() == 1) {
        let successes: usize = documents.iter().map(right).sum();
        return stats::wilson(successes as u64, documents.len() as u64);
    }
    let shares: Vec<f64> = documents
        .iter()
        .map(|answers| right(answers) as f64 / answers.len() as f64)
        .collect();
    stats::bootstrap(shares.len(), stats::DRAWS, 0, |drawn| {
        drawn.iter().map(|document| shares[*document]).sum::<f64>() / drawn.len() as f64
    })
}

/// Mean pass@k over documents for k = 1, 2, 4, … up to the answers per document.
fn pass_at(documents: &[Vec<bool>]) -> BTreeMap<u64, f64> {
    let least = documents.iter().map(Vec::len).min().unwrap_or(0) as u64;
    if least < 2 {
        return BTreeMap::new();
    }
    let mut ks: Vec<u64> = std::iter::successors(Some(1), |k| Some(2 * k))
        .take_while(|k| *k < least)
        .collect();
    ks.push(least);
    let chance = |answers: &Vec<bool>, k| {
        let right = answers.iter().filter(|right| **right).count();
        stats::pass_at_k(answers.len() as u64, right as u64, k)
    };
    let mean = |k| {
        let chances: Vec<f64> = documents.iter().map(|answers| chance(answers, k)).collect();
        stats::mean(&chances)
    };
    ks.into_iter().map(|k| (k, mean(k))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(task: &str, doc_id: &str, number: u32, correct: bool) -> Sample {
        Sample {
            model: "m".into(),
            arm: "none".into(),
            task: task.into(),
            doc_id: doc_id.into(),
            sample: number,
            prompt: String::new(),
            completion: String::new(),
            extracted: None,
            target: String::new(),
            correct,
            n_tokens: 10,
            finish_reason: if correct { "stop" } else { "length" }.into(),
            ..Sample::default()
        }
    }

    fn figures(samples: &[Sample]) -> BTreeMap<String, TaskResult> {
        let provenance = Provenance::new("evaluate run", &()).unwrap();
        Results::new("m", samples, &provenance).results
    }

    #[test]
    fn one_answer_a_document_has_wilsons_interval() {
        let found = figures(&[
            sample("a", "1", 0, true),
            sample("a", "2", 0, false),
            sample("b", "1", 0, true),
        ]);
        let (a, all, wilson) = (&found["a"], &found["all"], stats::wilson(1, 2));
        assert_eq!(
            (a.documents, a.samples_per_document, a.accuracy),
            (2, 1, 0.5)
        );
        assert_eq!((a.accuracy_low, a.accuracy_high), (wilson.low, wilson.high));
        assert_eq!((a.finished, a.mean_tokens), (0.5, 10.0));
        assert!(a.pass_at.is_empty() && all.documents == 3);
    }

    #[test]
    fn several_answers_a_document_are_drawn_together() {
        let samples: Vec<Sample> = (0..40)
            .map(|i| sample("a", &(i / 4).to_string(), i % 4, i % 8 < 4 || i % 4 == 0))
            .collect();
        let a = &figures(&samples)["a"];
        assert_eq!((a.documents, a.samples_per_document), (10, 4));
        assert!((a.accuracy - 0.625).abs() < 1e-12);
        assert!(a.accuracy_low < 0.5 && a.accuracy_high > 0.75, "{a:?}");
        // Half of the documents are all right, half have one of four.
        let expected = [(1, 0.625), (2, 0.75), (4, 1.0)];
        assert!(
            a.pass_at
                .iter()
                .zip(expected)
                .all(|(a, b)| *a.0 == b.0 && (a.1 - b.1).abs() < 1e-12)
        );
    }
}
