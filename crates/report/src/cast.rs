//! Who plays which part: the order and look of the models, and what each task was used for.

use crate::svg::Style;
use std::collections::BTreeSet;

/// The models of a run in the order they are shown, the base first.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    /// Label of the base model.
    pub base: String,
    /// Label of the model after reinforcement learning: key samples are those the base gets wrong and it gets right.
    pub after: Option<String>,
    /// Every label, in order of appearance on the page.
    labels: Vec<String>,
}

impl Cast {
    /// Orders labels: the base, then supervised models, then the others by name. The base is the one named, or `base`,
    /// or the first; the model after is the one named, or `rl`, or the last.
    pub(crate) fn new(labels: &BTreeSet<String>, base: Option<&str>, after: Option<&str>) -> Self {
        let given = |label: &str| labels.contains(label).then(|| label.to_owned());
        let first = || labels.first().cloned().unwrap_or_default();
        let base = base
            .map(str::to_owned)
            .or_else(|| given("base"))
            .unwrap_or_else(first);
        let mut ordered: Vec<String> = labels.iter().cloned().collect();
        ordered.sort_by_key(|label| (*label != base, !label.starts_with("sft"), label.clone()));
        let last = ordered.last().filter(|label| **label != base).cloned();
        let after = after.map(str::to_owned).or_else(|| given("rl")).or(last);
        Self {
            base,
            after,
            labels: ordered,
        }
    }

    /// The labels, the base first.
    pub(crate) fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The labels without the base.
    pub(crate) fn tuned(&self) -> impl Iterator<Item = &String> {
        self.labels.iter().filter(|label| **label != self.base)
    }

    /// How a label looks everywhere on the page: the base grey, the others in palette order.
    pub(crate) fn style(&self, label: &str) -> Style {
        let place = self.labels.iter().position(|other| other == label);
        Style::nth(place.unwrap_or(self.labels.len()))
    }

    /// Where a label stands in the order of the page; unknown labels last.
    pub(crate) fn rank(&self, label: &str) -> usize {
        self.labels
            .iter()
            .position(|other| other == label)
            .unwrap_or(self.labels.len())
    }

    /// A legend of these labels, in the order of the page.
    pub(crate) fn legend<'a>(
        &self,
        labels: impl IntoIterator<Item = &'a String>,
    ) -> Vec<(String, Style)> {
        let mut labels: Vec<&String> = labels.into_iter().collect();
        labels.sort_by_key(|label| (self.rank(label), (*label).clone()));
        labels.dedup();
        labels
            .into_iter()
            .map(|label| (label.clone(), self.style(label)))
            .collect()
    }
}

/// What a task was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The models were post-trained on it.
    Trained,
    /// Its samples helped to select features.
    Selection,
    /// Used neither for training nor for selection.
    HeldOut,
}

impl Role {
    /// The heading of a group of tasks.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Trained => "trained on",
            Self::Selection => "used for selection",
            Self::HeldOut => "held out",
        }
    }
}

/// What each task was used for, as far as the files say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roles {
    pub trained: BTreeSet<String>,
    pub selection: BTreeSet<String>,
    pub held_out: BTreeSet<String>,
}

impl Roles {
    /// The role of a task. One that is named nowhere is held out, once any task is known to be used for something.
    pub(crate) fn of(&self, task: &str) -> Role {
        if self.trained.contains(task) {
            Role::Trained
        } else if self.selection.contains(task) {
            Role::Selection
        } else {
            Role::HeldOut
        }
    }

    /// Whether nothing is known: then tasks are not grouped.
    pub(crate) fn is_unknown(&self) -> bool {
        self.trained.is_empty() && self.selection.is_empty() && self.held_out.is_empty()
    }

    /// Groups tasks by role: trained, selection, held out; one group without a title when nothing is known.
    pub(crate) fn groups(&self, tasks: &[String]) -> Vec<(String, Vec<String>)> {
        if self.is_unknown() {
            return vec![(String::new(), tasks.to_vec())];
        }
        let with = |role: Role| {
            tasks
                .iter()
                .filter(|task| self.of(task) == role)
                .cloned()
                .collect::<Vec<_>>()
        };
        [Role::Trained, Role::Selection, Role::HeldOut]
            .into_iter()
            .map(|role| (role.title().to_owned(), with(role)))
            .filter(|(_, tasks)| !tasks.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_base_comes_first_and_supervised_before_the_others() {
        let cast = Cast::new(&labels(&["rl", "sft", "dpo", "base"]), None, None);
        assert_eq!(cast.labels(), ["base", "sft", "dpo", "rl"]);
        assert_eq!(
            (cast.base.as_str(), cast.after.as_deref()),
            ("base", Some("rl"))
        );
    }

    #[test]
    fn without_a_base_the_first_label_stands_in() {
        let cast = Cast::new(&labels(&["m1", "m2"]), None, None);
        assert_eq!(
            (cast.base.as_str(), cast.after.as_deref()),
            ("m1", Some("m2"))
        );
        let cast = Cast::new(&labels(&["m1", "m2"]), Some("m2"), None);
        assert_eq!(cast.labels(), ["m2", "m1"]);
    }

    #[test]
    fn tasks_are_grouped_by_role_only_when_roles_are_known() {
        let tasks: Vec<String> = ["add", "par", "rev"].map(str::to_owned).to_vec();
        assert_eq!(
            Roles::default().groups(&tasks),
            [(String::new(), tasks.clone())]
        );
        let roles = Roles {
            trained: labels(&["add"]),
            selection: labels(&["rev"]),
            held_out: labels(&[]),
        };
        let titles: Vec<_> = roles
            .groups(&tasks)
            .into_iter()
            .map(|(title, tasks)| (title, tasks[0].clone()))
            .collect();
        assert_eq!(titles[2], ("held out".to_owned(), "par".to_owned()));
    }
}
