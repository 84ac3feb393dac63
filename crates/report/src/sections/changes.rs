//! The arithmetic of interventions: accuracy with and without, beside the same on control sets.

use super::Report;
use crate::answers::{AnswerSet, Doc, Split};
use crate::paired::SEED;
use stats::Estimate;
use std::collections::{BTreeMap, BTreeSet};

/// A document by task and id.
pub(crate) type Key<'a> = (&'a str, &'a str);

/// One intervention on one model and split, with everything it is compared with.
pub(crate) struct Intervention<'a> {
    pub treated: &'a AnswerSet,
    pub plain: &'a AnswerSet,
    /// Control arms of the same setting, by kind: `random` → every random set.
    pub controls: BTreeMap<String, Vec<&'a AnswerSet>>,
}

/// What an intervention did to some documents.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub n: usize,
    /// Share right without the intervention, 0 to 1.
    pub before: f64,
    /// Share right with it.
    pub after: f64,
    /// Paired difference after − before, −1 to 1.
    pub selected: Estimate,
    /// The same for the controls, averaged over their sets; `None` without controls.
    pub control: Option<Control>,
}

/// What the control sets did to the same documents.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    /// Mean over the sets of their paired differences.
    pub mean: Estimate,
    /// Paired difference of each set.
    pub members: Vec<f64>,
    /// Selected minus control, paired by document.
    pub excess: Estimate,
}

/// Every intervention on the selected set on a split whose model also answered without it.
pub(crate) fn interventions(report: &Report, split: Split) -> Vec<Intervention<'_>> {
    let answers = &report.answers;
    let is_wanted =
        |set: &&AnswerSet| set.split == split && !set.arm.is_none() && set.arm.control.is_none();
    let mut all = Vec::new();
    for treated in answers.sets.iter().filter(is_wanted) {
        if let Some(plain) = answers.plain(&treated.model, split) {
            all.push(Intervention {
                treated,
                plain,
                controls: controls(report, treated),
            });
        }
    }
    all.sort_by(|a, b| {
        let place = |one: &Intervention| {
            (
                one.treated.arm.operation != "disable",
                one.treated.arm.operation.clone(),
            )
        };
        let alpha = |one: &Intervention| one.treated.arm.alpha().unwrap_or(0.0);
        place(a).cmp(&place(b)).then(alpha(a).total_cmp(&alpha(b)))
    });
    all
}

/// Interventions whose model has no answers without them on the same split.
pub(crate) fn orphans(report: &Report) -> Vec<&AnswerSet> {
    let treated = report
        .answers
        .sets
        .iter()
        .filter(|set| !set.arm.is_none() && set.arm.control.is_none());
    treated
        .filter(|set| report.answers.plain(&set.model, set.split).is_none())
        .collect()
}

fn controls<'a>(report: &'a Report, treated: &AnswerSet) -> BTreeMap<String, Vec<&'a AnswerSet>> {
    let mut by_kind: BTreeMap<String, Vec<&AnswerSet>> = BTreeMap::new();
    let same = |set: &&AnswerSet| {
        set.model == treated.model
            && set.split == treated.split
            && set.arm.setting == treated.arm.setting
    };
    for set in report.answers.sets.iter().filter(same) {
        if let Some(kind) = set.arm.control_kind() {
            by_kind.entry(kind.to_owned()).or_default().push(set);
        }
    }
    by_kind
}

/// Key samples of a split: the base answers wrong and the model after right, without any intervention.
pub(crate) fn key_samples(report: &Report, split: Split) -> BTreeSet<Key<'_>> {
    let plain = |label: &str| report.answers.plain(label, split);
    let (Some(base), Some(after)) = (
        plain(&report.cast.base),
        report.cast.after.as_deref().and_then(plain),
    ) else {
        return BTreeSet::new();
    };
    let right_after = documents(after)
        .into_iter()
        .filter(|(_, doc)| doc.is_right());
    let base = documents(base);
    right_after
        .map(|(key, _)| key)
        .filter(|key| base.get(key).is_some_and(|doc| !doc.is_right()))
        .collect()
}

impl Intervention<'_> {
    /// Tasks answered with and without.
    pub(crate) fn tasks(&self) -> Vec<String> {
        self.treated
            .tasks
            .keys()
            .filter(|task| self.plain.tasks.contains_key(*task))
            .cloned()
            .collect()
    }

    /// The control shown in figures: matched random sets if there are any, else the first kind.
    pub(crate) fn main_control(&self) -> Option<&str> {
        let first = self.controls.keys().next().map(String::as_str);
        if self.controls.contains_key("random") {
            Some("random")
        } else {
            first
        }
    }

    /// What happened on the documents of these tasks, all of them or those in `keys` only.
    pub(crate) fn change(
        &self,
        tasks: &[String],
        keys: Option<&BTreeSet<Key>>,
        control: Option<&str>,
    ) -> Option<Change> {
        let wanted = |key: &Key| {
            tasks.iter().any(|task| task == key.0) && keys.is_none_or(|keys| keys.contains(key))
        };
        let (treated, plain) = (documents(self.treated), documents(self.plain));
        let chosen: Vec<Key> = plain
            .keys()
            .filter(|key| treated.contains_key(*key) && wanted(key))
            .copied()
            .collect();
        if chosen.is_empty() {
            return None;
        }
        let shares = |docs: &BTreeMap<Key, &Doc>| {
            chosen
                .iter()
                .map(|key| docs[key].share())
                .collect::<Vec<f64>>()
        };
        let (before, after) = (shares(&plain), shares(&treated));
        Some(Change {
            n: chosen.len(),
            before: stats::mean(&before),
            after: stats::mean(&after),
            selected: difference(&before, &after),
            control: control
                .and_then(|kind| compare(self.controls.get(kind)?, &chosen, &before, &after)),
        })
    }
}

/// The control sets on the same documents; sets that lack one of them are left out.
fn compare(sets: &[&AnswerSet], chosen: &[Key], before: &[f64], after: &[f64]) -> Option<Control> {
    let shares = |set: &&AnswerSet| {
        let docs = documents(set);
        chosen
            .iter()
            .map(|key| docs.get(key).map(|doc| doc.share()))
            .collect::<Option<Vec<f64>>>()
    };
    let sets: Vec<Vec<f64>> = sets.iter().filter_map(shares).collect();
    if sets.is_empty() {
        return None;
    }
    let mean: Vec<f64> = (0..chosen.len())
        .map(|doc| sets.iter().map(|set| set[doc]).sum::<f64>() / sets.len() as f64)
        .collect();
    let members = sets
        .iter()
        .map(|set| stats::mean(set) - stats::mean(before))
        .collect();
    Some(Control {
        mean: difference(before, &mean),
        members,
        excess: difference(&mean, after),
    })
}

fn difference(before: &[f64], after: &[f64]) -> Estimate {
    stats::bootstrap_difference(before, after, stats::DRAWS, SEED)
}

fn documents(set: &AnswerSet) -> BTreeMap<Key<'_>, &Doc> {
    let tasks = set.tasks.iter();
    tasks
        .flat_map(|(task, docs)| {
            docs.iter()
                .map(move |(id, doc)| ((task.as_str(), id.as_str()), doc))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::{Answers, tests::sample};
    use crate::cast::{Cast, Roles};
    use crate::find::Tables;

    /// Ten documents: the base right on none, rl on the first eight, disabled on the first two, random sets on seven
    /// and eight.
    fn report() -> Report {
        let mut answers = Answers::default();
        for (model, arm, right) in [
            ("base", "none", 0),
            ("rl", "none", 8),
            ("rl", "disable", 2),
            ("rl", "disable/random-00", 7),
            ("rl", "disable/random-01", 8),
        ] {
            let rows: Vec<_> = (0..10)
                .map(|i| sample(model, arm, ("rev", &format!("test-{i}")), i < right))
                .collect();
            answers.add(arm, &rows);
        }
        let labels = ["base", "rl"].map(str::to_owned).into();
        Report {
            tables: Tables::default(),
            answers,
            cast: Cast::new(&labels, None, None),
            roles: Roles::default(),
        }
    }

    #[test]
    fn effects_are_net_changes_beside_the_mean_of_the_random_sets() {
        let report = report();
        let all = interventions(&report, Split::Test);
        assert_eq!(all.len(), 1);
        let change = all[0]
            .change(&["rev".to_owned()], None, Some("random"))
            .unwrap();
        assert_eq!((change.n, change.before, change.after), (10, 0.8, 0.2));
        let control = change.control.unwrap();
        assert!((change.selected.value + 0.6).abs() < 1e-12);
        assert!((control.mean.value + 0.05).abs() < 1e-12);
        assert!((control.excess.value + 0.55).abs() < 1e-12);
        assert_eq!(control.members.len(), 2);
    }

    #[test]
    fn key_samples_start_at_all_right() {
        let report = report();
        let keys = key_samples(&report, Split::Test);
        let change = interventions(&report, Split::Test)[0]
            .change(&["rev".to_owned()], Some(&keys), Some("random"))
            .unwrap();
        assert_eq!((change.n, change.before, change.after), (8, 1.0, 0.25));
    }
}
