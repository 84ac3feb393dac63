//! Accuracies, and two models on the same documents: as `evaluate compare` computes them.

use crate::answers::{AnswerSet, Doc, Docs};
use stats::Estimate;
use store::tables::Comparison;

/// Seed of every bootstrap of the report.
pub(crate) const SEED: u64 = 0;

/// Accuracy on documents, with a Wilson interval, or a bootstrap over documents where answers repeat.
pub(crate) fn accuracy(docs: &Docs) -> Estimate {
    let shares: Vec<f64> = docs.values().map(Doc::share).collect();
    if docs.values().all(|doc| doc.samples.len() == 1) {
        return stats::wilson(
            shares.iter().filter(|share| **share > 0.5).count() as u64,
            shares.len() as u64,
        );
    }
    stats::bootstrap(shares.len(), stats::DRAWS, SEED, |draw| {
        draw.iter().map(|i| shares[*i]).sum::<f64>() / draw.len() as f64
    })
}

/// Share of answers whose budget ran out, 0 to 1.
pub(crate) fn truncated(docs: &Docs) -> f64 {
    let all: Vec<bool> = docs
        .values()
        .flat_map(|doc| doc.samples.values().map(|sample| sample.1))
        .collect();
    all.iter().filter(|cut| **cut).count() as f64 / all.len().max(1) as f64
}

/// Two models on their common documents, one row per task, Holm over the tasks: as `evaluate compare` writes it.
pub(crate) fn compare(a: &AnswerSet, b: &AnswerSet) -> Vec<Comparison> {
    let pairs = a
        .tasks
        .iter()
        .filter_map(|(task, docs)| Some((task, common(docs, b.tasks.get(task)?))));
    let mut rows: Vec<Comparison> = pairs
        .filter(|(_, (before, _))| !before.is_empty())
        .map(|(task, (before, after))| row(a, b, task, &before, &after))
        .collect();
    let adjusted = stats::holm(&rows.iter().map(|row| row.p).collect::<Vec<_>>());
    for (row, p) in rows.iter_mut().zip(adjusted) {
        row.p_holm = p;
    }
    rows
}

fn row(a: &AnswerSet, b: &AnswerSet, task: &str, before: &Docs, after: &Docs) -> Comparison {
    let (share_a, share_b) = (shares(before), shares(after));
    let (accuracy_a, accuracy_b) = (accuracy(before), accuracy(after));
    let difference = stats::bootstrap_difference(&share_a, &share_b, stats::DRAWS, SEED);
    let flips = |from: bool| {
        before
            .values()
            .zip(after.values())
            .filter(move |(x, y)| x.is_right() == from && y.is_right() != from)
    };
    let (wrong_to_right, right_to_wrong) =
        (flips(false).count() as u32, flips(true).count() as u32);
    let p = stats::mcnemar_exact(u64::from(wrong_to_right), u64::from(right_to_wrong));
    Comparison {
        task: task.to_owned(),
        a: a.model.clone(),
        b: b.model.clone(),
        n: before.len() as u32,
        accuracy_a: accuracy_a.value,
        accuracy_a_low: accuracy_a.low,
        accuracy_a_high: accuracy_a.high,
        accuracy_b: accuracy_b.value,
        accuracy_b_low: accuracy_b.low,
        accuracy_b_high: accuracy_b.high,
        difference: difference.value,
        difference_low: difference.low,
        difference_high: difference.high,
        wrong_to_right,
        right_to_wrong,
        p,
        p_holm: p,
        ..Comparison::default()
    }
}

/// The documents both have, in the same order.
pub(crate) fn common(a: &Docs, b: &Docs) -> (Docs, Docs) {
    let both = |docs: &Docs, other: &Docs| {
        docs.iter()
            .filter(|(id, _)| other.contains_key(*id))
            .map(|(id, doc)| (id.clone(), doc.clone()))
            .collect()
    };
    (both(a, b), both(b, a))
}

/// Each document's share of right answers.
pub(crate) fn shares(docs: &Docs) -> Vec<f64> {
    docs.values().map(Doc::share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::{Answers, Split, tests::answers};

    #[test]
    fn flips_are_counted_on_common_documents() {
        let mut all = Answers::default();
        all.add("a", &answers("base", &[false, false, false, true, true]));
        all.add("b", &answers("rl", &[true, true, false, false]));
        let rows = compare(
            all.plain("base", Split::Test).unwrap(),
            all.plain("rl", Split::Test).unwrap(),
        );
        let row = &rows[0];
        assert_eq!((row.n, row.wrong_to_right, row.right_to_wrong), (4, 2, 1));
        assert!((row.difference - 0.25).abs() < 1e-12);
        assert!((row.p - 1.0).abs() < 1e-12);
    }
}
