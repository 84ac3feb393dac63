//! Key samples: answers the model before gets wrong and the model after gets right.

use anyhow::{Context, bail, ensure};
use cli::Labelled;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use store::tables::Sample;

/// The two models whose answers are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// The model before: `base`.
    pub before: String,
    /// The model after: `rl`.
    pub after: String,
}

/// Key samples of one task: documents as an activation store names them, `task/doc_id/sample`, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskKeys {
    /// Task.
    pub task: String,
    /// `task/doc_id/sample` of every key sample.
    pub documents: Vec<String>,
}

/// Task, document and repetition: what an answer of one model has in common with that of another.
type Answer = (String, String, u32);

/// The two labels of `--samples`, in the order given: before, then after.
pub fn models(samples: &[Labelled]) -> anyhow::Result<Models> {
    let mut labels: Vec<&str> = Vec::new();
    for sample in samples {
        if !labels.contains(&sample.label.as_str()) {
            labels.push(&sample.label);
        }
    }
    match labels[..] {
        [before, after] => Ok(Models {
            before: before.into(),
            after: after.into(),
        }),
        _ => bail!(cli::Usage(format!(
            "--samples takes two models, the one before and the one after, not {}: {}",
            labels.len(),
            labels.join(", ")
        ))),
    }
}

/// Whether each answer of one model is right, untouched answers (`arm` = `none`) only.
pub fn outcomes(samples: &[Labelled], label: &str) -> anyhow::Result<BTreeMap<Answer, bool>> {
    let paths: Vec<PathBuf> = samples
        .iter()
        .filter(|sample| sample.label == label)
        .map(|sample| sample.path.clone())
        .collect();
    let names = paths.iter().map(|path| path.display().to_string());
    let names = names.collect::<Vec<_>>().join(", ");
    let rows: Vec<Sample> = store::read_table(&paths)?;
    let mut outcomes = BTreeMap::new();
    for row in rows.into_iter().filter(|row| row.arm == "none") {
        ensure!(
            row.model == label,
            "{names} holds answers of `{}`, not of `{label}`",
            row.model
        );
        let answer = (row.task, row.doc_id, row.sample);
        if let Some((task, document, sample)) =
            outcomes.insert(answer.clone(), row.correct).map(|_| answer)
        {
            bail!("{names} holds the answer {task}/{document}/{sample} twice");
        }
    }
    ensure!(!outcomes.is_empty(), "{names} holds no untouched answer");
    Ok(outcomes)
}

/// Key samples per task, tasks sorted; `wanted` restricts the tasks. A task without any is an error.
pub fn key_samples(
    before: &BTreeMap<Answer, bool>,
    after: &BTreeMap<Answer, bool>,
    wanted: &[String],
) -> anyhow::Result<Vec<TaskKeys>> {
    let tasks = tasks_of(before, after, wanted)?;
    let keys = tasks
        .into_iter()
        .map(|task| key_samples_of(before, after, task));
    keys.collect()
}

/// The tasks both models answered, or the wanted ones.
fn tasks_of<'a>(
    before: &'a BTreeMap<Answer, bool>,
    after: &'a BTreeMap<Answer, bool>,
    wanted: &'a [String],
) -> anyhow::Result<BTreeSet<&'a str>> {
    let of = |outcomes: &'a BTreeMap<Answer, bool>| {
        let tasks = outcomes.keys().map(|(task, _, _)| task.as_str());
        tasks.collect::<BTreeSet<_>>()
    };
    let common: BTreeSet<&str> = of(before).intersection(&of(after)).copied().collect();
    ensure!(
        !common.is_empty(),
        "the two models have no task in common: cannot tell key samples"
    );
    if wanted.is_empty() {
        return Ok(common);
    }
    for task in wanted {
        ensure!(
            common.contains(task.as_str()),
            "no answers of both models to task `{task}` (there are: {})",
            common.into_iter().collect::<Vec<_>>().join(", ")
        );
    }
    Ok(wanted.iter().map(String::as_str).collect())
}

fn key_samples_of(
    before: &BTreeMap<Answer, bool>,
    after: &BTreeMap<Answer, bool>,
    task: &str,
) -> anyhow::Result<TaskKeys> {
    let mut documents: Vec<String> = Vec::new();
    let mut common = 0_usize;
    for (answer @ (_, document, sample), &right) in after.iter().filter(|(a, _)| a.0 == task) {
        let Some(&right_before) = before.get(answer) else {
            continue;
        };
        common += 1;
        if right && !right_before {
            documents.push(format!("{task}/{document}/{sample}"));
        }
    }
    ensure!(
        common > 0,
        "the two models answered different documents of task `{task}`"
    );
    documents.sort_unstable();
    Ok(TaskKeys {
        task: task.into(),
        documents,
    })
}

/// Parts the tasks with at least `fewest` key samples from those with fewer. Unless told otherwise a task without any is not
/// passed over in silence, since the intersection over tasks would mean something else.
pub fn enough(
    keys: Vec<TaskKeys>,
    fewest: usize,
) -> anyhow::Result<(Vec<TaskKeys>, Vec<TaskKeys>)> {
    let (kept, left): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .partition(|task| task.documents.len() >= fewest.max(1));
    let names: Vec<&str> = left.iter().map(|task| task.task.as_str()).collect();
    ensure!(
        fewest > 0 || left.is_empty(),
        "no key sample (wrong before, right after) in {}: choose others with --tasks, or leave such tasks out with --min-keys",
        names.join(", ")
    );
    ensure!(
        !kept.is_empty(),
        "no task has {fewest} key samples (wrong before, right after): {}",
        names.join(", ")
    );
    Ok((kept, left))
}

/// Reads both sides and pairs them.
pub fn read(samples: &[Labelled], wanted: &[String]) -> anyhow::Result<(Models, Vec<TaskKeys>)> {
    let models = models(samples)?;
    let side = |label: &str| {
        outcomes(samples, label).with_context(|| format!("cannot use the answers of `{label}`"))
    };
    let (before, after) = (side(&models.before)?, side(&models.after)?);
    let keys = key_samples(&before, &after, wanted)?;
    Ok((models, keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(rows: &[(&str, &str, bool)]) -> BTreeMap<Answer, bool> {
        rows.iter()
            .map(|&(task, document, right)| ((task.to_owned(), document.to_owned(), 0), right))
            .collect()
    }

    #[test]
    fn a_key_sample_is_wrong_before_and_right_after() {
        let before = answers(&[("t", "1", false), ("t", "2", true), ("t", "3", false)]);
        let after = answers(&[("t", "1", true), ("t", "2", true), ("t", "3", false)]);
        let keys = key_samples(&before, &after, &[]).unwrap();
        assert_eq!(keys[0].documents, ["t/1/0"]);
    }

    #[test]
    fn a_task_without_key_samples_is_named() {
        let before = answers(&[("t", "1", true), ("u", "1", false)]);
        let after = answers(&[("t", "1", true), ("u", "1", true)]);
        let keys = || key_samples(&before, &after, &[]).unwrap();
        let message = enough(keys(), 0).unwrap_err().to_string();
        assert!(message.contains("no key sample"), "{message}");
        assert!(message.contains(" in t:"), "{message}");
        let (kept, left) = enough(keys(), 1).unwrap();
        assert_eq!((kept[0].task.as_str(), left[0].task.as_str()), ("u", "t"));
        let message = enough(keys(), 2).unwrap_err().to_string();
        assert!(message.contains("no task has 2 key samples"), "{message}");
    }

    #[test]
    fn only_the_wanted_tasks_are_used_and_must_exist() {
        let before = answers(&[("a", "1", false), ("b", "1", true)]);
        let after = answers(&[("a", "1", true), ("b", "1", true)]);
        let keys = key_samples(&before, &after, &["a".into()]).unwrap();
        assert_eq!(keys.len(), 1);
        let message = key_samples(&before, &after, &["c".into()]).unwrap_err();
        assert!(message.to_string().contains("(there are: a, b)"));
    }

    #[test]
    fn two_labels_are_needed() {
        let one: Vec<Labelled> = vec!["base=a".parse().unwrap(), "base=b".parse().unwrap()];
        assert!(models(&one).is_err());
        let two: Vec<Labelled> = vec!["base=a".parse().unwrap(), "rl=b".parse().unwrap()];
        assert_eq!(models(&two).unwrap().after, "rl");
    }
}
