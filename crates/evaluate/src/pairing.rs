//! Which answers of two sets belong together.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use store::tables::Sample;

/// The answers of one model under one arm.
#[derive(Debug)]
pub struct Set<'a> {
    /// `model`, or `model/arm` when something was done to it.
    pub name: String,
    /// Answers by task, then document, then number of the answer.
    answers: BTreeMap<&'a str, Documents<'a>>,
}

type Documents<'a> = BTreeMap<&'a str, BTreeMap<u32, &'a Sample>>;

/// One document answered in both sets: its answers in each, in the order of their numbers, which are the same.
#[derive(Debug, Clone)]
pub struct Pair<'a> {
    /// The document.
    pub doc_id: &'a str,
    /// In the first set, at least one.
    pub a: Vec<&'a Sample>,
    /// In the second set, as many.
    pub b: Vec<&'a Sample>,
}

/// Share of right answers, 0 to 1.
pub fn share(answers: &[&Sample]) -> f64 {
    let right = answers.iter().filter(|answer| answer.correct).count();
    right as f64 / answers.len() as f64
}

/// Whether the most frequent answer is right; the one given first, of several. Where no answer was found in any, none is.
pub fn majority(answers: &[&Sample]) -> bool {
    let count = |one: &str| {
        let same = |other: &&&Sample| other.extracted.as_deref() == Some(one);
        answers.iter().filter(same).count()
    };
    let found = || {
        answers
            .iter()
            .filter_map(|answer| Some((*answer, answer.extracted.as_deref()?)))
    };
    let most = found().map(|(_, text)| count(text)).max();
    let winner = found().find(|(_, text)| Some(count(text)) == most);
    winner.is_some_and(|(answer, _)| {
        // One of the same answers may have been cut off: the answer counts as right where any of them is.
        let same = |other: &&&Sample| other.extracted == answer.extracted;
        answers.iter().filter(same).any(|other| other.correct)
    })
}

/// Splits answers into sets, in the order of their names.
pub fn sets(samples: &[Sample]) -> Result<Vec<Set<'_>>> {
    let mut sets: BTreeMap<String, Set> = BTreeMap::new();
    for sample in samples {
        let name = name(sample);
        let set = sets.entry(name.clone()).or_insert_with(|| Set {
            name,
            answers: BTreeMap::new(),
        });
        let document = set
            .answers
            .entry(&sample.task)
            .or_default()
            .entry(&sample.doc_id)
            .or_default();
        ensure!(
            document.insert(sample.sample, sample).is_none(),
            "cannot compare: {} answers {} twice",
            set.name,
            full_name(sample)
        );
    }
    Ok(sets.into_values().collect())
}

fn name(sample: &Sample) -> String {
    match sample.arm.as_str() {
        "none" => sample.model.clone(),
        arm => format!("{}/{arm}", sample.model),
    }
}

fn full_name(sample: &Sample) -> String {
    format!("{}/{}/{}", sample.task, sample.doc_id, sample.sample)
}

/// The documents of both sets by task, documents in order. Where one set holds answers that the other lacks, they are left
/// out if `common`, and an error otherwise.
pub fn pair<'a>(
    a: &Set<'a>,
    b: &Set<'a>,
    common: bool,
) -> Result<BTreeMap<&'a str, Vec<Pair<'a>>>> {
    if !common {
        refuse_difference(a, b)?;
    }
    let mut tasks = BTreeMap::new();
    for (task, documents) in &a.answers {
        let Some(others) = b.answers.get(task) else {
            continue;
        };
        let mut pairs = Vec::new();
        for (document, answers) in documents {
            if let Some(others) = others.get(document) {
                pairs.extend(pair_of(document, answers, others)?);
            }
        }
        if !pairs.is_empty() {
            tasks.insert(*task, pairs);
        }
    }
    ensure!(
        !tasks.is_empty(),
        "cannot compare {} with {}: they have no document in common",
        a.name,
        b.name
    );
    Ok(tasks)
}

/// The answers that are in both sets; none when there are no such.
fn pair_of<'a>(
    doc_id: &'a str,
    a: &BTreeMap<u32, &'a Sample>,
    b: &BTreeMap<u32, &'a Sample>,
) -> Result<Option<Pair<'a>>> {
    let mut pair = Pair {
        doc_id,
        a: Vec::new(),
        b: Vec::new(),
    };
    for (number, a) in a {
        let Some(b) = b.get(number) else {
            continue;
        };
        ensure!(
            a.target == b.target,
            "cannot compare {}: the expected answer is `{}` in one set and `{}` in the other",
            full_name(a),
            a.target,
            b.target
        );
        pair.a.push(a);
        pair.b.push(b);
    }
    Ok((!pair.a.is_empty()).then_some(pair))
}

fn refuse_difference(a: &Set, b: &Set) -> Result<()> {
    let (in_a, in_b) = (a.keys(), b.keys());
    for (set, only) in [(a, in_a.difference(&in_b)), (b, in_b.difference(&in_a))] {
        let only: Vec<_> = only.collect();
        if let Some((task, document, number)) = only.first() {
            bail!(
                "cannot compare {} with {}: {} answers are in {} only, such as {task}/{document}/{number} \
                 (--common compares what both hold)",
                a.name,
                b.name,
                only.len(),
                set.name
            );
        }
    }
    Ok(())
}

impl<'a> Set<'a> {
    /// Task, document and number of every answer.
    fn keys(&self) -> BTreeSet<(&'a str, &'a str, u32)> {
        let mut keys = BTreeSet::new();
        for (task, documents) in &self.answers {
            for (document, answers) in documents {
                keys.extend(answers.keys().map(|number| (*task, *document, *number)));
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(model: &str, doc_id: &str, number: u32, correct: bool) -> Sample {
        Sample {
            model: model.into(),
            arm: if model == "rl" { "disable" } else { "none" }.into(),
            task: "t".into(),
            doc_id: doc_id.into(),
            sample: number,
            prompt: String::new(),
            completion: String::new(),
            extracted: None,
            target: "1".into(),
            correct,
            n_tokens: 1,
            finish_reason: "stop".into(),
            ..Sample::default()
        }
    }

    /// Shares of right answers of base and rl by document, or the error.
    fn pairs(samples: &[Sample], common: bool) -> Result<Vec<(f64, f64)>, String> {
        let sets = sets(samples).map_err(|error| error.to_string())?;
        let tasks = pair(&sets[0], &sets[1], common).map_err(|error| error.to_string())?;
        let shares = tasks["t"]
            .iter()
            .map(|pair| (share(&pair.a), share(&pair.b)));
        Ok(shares.collect())
    }

    #[test]
    fn the_most_frequent_answer_decides() {
        let answer = |number: u32, text: Option<&str>, correct: bool| Sample {
            extracted: text.map(str::to_owned),
            ..sample("base", "1", number, correct)
        };
        let of = |answers: &[Sample]| majority(&answers.iter().collect::<Vec<_>>());
        let (right, wrong, none) = (
            answer(0, Some("4"), true),
            answer(1, Some("5"), false),
            answer(2, None, false),
        );
        assert!(of(&[
            wrong.clone(),
            right.clone(),
            right.clone(),
            none.clone()
        ]));
        assert!(!of(&[
            wrong.clone(),
            right.clone(),
            none.clone(),
            none.clone()
        ]));
        assert!(!of(&[none.clone(), none]));
        assert!(of(&[right, wrong]));
    }

    #[test]
    fn sets_are_named_by_model_and_arm() {
        let samples = [sample("rl", "1", 0, true), sample("base", "1", 0, true)];
        let names: Vec<_> = sets(&samples)
            .unwrap()
            .into_iter()
            .map(|set| set.name)
            .collect();
        assert_eq!(names, ["base", "rl/disable"]);
    }

    #[test]
    fn repeated_answers_become_a_share_of_their_document() {
        let samples = [
            sample("base", "1", 0, false),
            sample("base", "1", 1, true),
            sample("rl", "1", 1, true),
            sample("rl", "1", 0, true),
        ];
        assert_eq!(pairs(&samples, false).unwrap(), [(0.5, 1.0)]);
    }

    #[test]
    fn different_documents_are_refused_unless_asked_for() {
        let samples = [
            sample("base", "1", 0, false),
            sample("base", "2", 0, true),
            sample("rl", "1", 0, true),
        ];
        let error = pairs(&samples, false).unwrap_err();
        assert!(
            error.contains("1 answers are in base only, such as t/2/0"),
            "{error}"
        );
        assert_eq!(pairs(&samples, true).unwrap(), [(0.0, 1.0)]);
        let apart = [sample("base", "2", 0, true), sample("rl", "1", 0, true)];
        assert!(
            pairs(&apart, true)
                .unwrap_err()
                .contains("no document in common")
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let twice = [sample("base", "1", 0, false), sample("base", "1", 0, true)];
        assert!(
            sets(&twice)
                .unwrap_err()
                .to_string()
                .contains("base answers t/1/0 twice")
        );
        let mut other = sample("rl", "1", 0, true);
        other.target = "2".into();
        let error = pairs(&[sample("base", "1", 0, false), other], true).unwrap_err();
        assert!(error.contains("`1` in one set and `2`"), "{error}");
    }
}
