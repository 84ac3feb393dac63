//! Why taking features out does what it does: what happens past nought, and how much of the models' difference they carry.

use super::changes::{Change, Intervention};
use super::effects::{beside, name};
use super::{Report, group_name, selection, side};
use crate::text;

/// Below this share of the shift between the models, taking features out cannot turn the model back.
const SMALL_SHARE: f64 = 0.25;

/// What turning the features round did, by group of tasks; and what that says about taking them out.
pub(super) fn past_nought(report: &Report, all: &[Intervention]) -> Vec<String> {
    let reversed = reversed(all);
    let Some(first) = reversed.first() else {
        return Vec::new();
    };
    let groups = report.roles.groups(&first.tasks());
    let sentence = |(title, tasks): &(String, Vec<String>)| {
        let change = |one: &Intervention| one.change(tasks, None, one.main_control());
        let parts: Vec<String> = reversed
            .iter()
            .filter_map(|one| Some(format!("{} {}", name(one), beside(&change(one)?))))
            .collect();
        let lowered = |one: &&Intervention| change(one).is_some_and(|change| is_lower(&change));
        let hangs_on_them = reversed.iter().any(lowered);
        let is_missed = removed(all).any(|one| lowered(&one));
        let meaning = if hangs_on_them && !is_missed {
            " At nought nothing is felt, beyond it much: training moved these features further than the answers need."
        } else {
            ""
        };
        (!parts.is_empty()).then(|| {
            format!(
                "Past nought, {}: {}.{meaning}",
                group_name(title),
                parts.join("; ")
            )
        })
    };
    groups.iter().filter_map(sentence).collect()
}

/// Arms of negative strength, from 0 outwards.
fn reversed<'a, 'b>(all: &'b [Intervention<'a>]) -> Vec<&'b Intervention<'a>> {
    let alpha = |one: &&Intervention| one.treated.arm.alpha().unwrap_or(f64::NAN);
    let mut reversed: Vec<_> = all.iter().filter(|one| alpha(one) < 0.0).collect();
    reversed.sort_by(|a, b| alpha(b).total_cmp(&alpha(a)));
    reversed
}

/// Where taking the features out is not felt, the smallest negative strength that is.
pub(super) fn first_felt<'a, 'b>(all: &'b [Intervention<'a>]) -> Option<&'b Intervention<'a>> {
    if removed(all).any(is_felt) {
        return None;
    }
    reversed(all).into_iter().find(|one| is_felt(one))
}

/// Whether the model's accuracy over all tasks falls.
fn is_felt(one: &Intervention) -> bool {
    let change = one.change(&one.tasks(), None, one.main_control());
    change.is_some_and(|change| is_lower(&change))
}

/// Arms that take the selected features out.
fn removed<'a, 'b>(all: &'b [Intervention<'a>]) -> impl Iterator<Item = &'b Intervention<'a>> {
    all.iter()
        .filter(|one| one.treated.arm.operation == "disable")
}

/// Why disabling does nothing, where it does nothing and the set carries little of what distinguishes the models.
pub(super) fn why_not(report: &Report, all: &[Intervention]) -> Option<String> {
    removed(all).next()?;
    let tables = &report.tables.selections;
    let share = tables
        .iter()
        .find_map(|table| selection::removed(&selection::selected(table)))?;
    (share < SMALL_SHARE && !removed(all).any(is_felt)).then(|| {
        format!(
            "Why disabling does nothing here: it undoes {} % of what distinguishes the two models where the features were read. \
             The rest stands in features that fire alike in both models and whose decoder rows differ (rotated features above): \
             no score by activation selects those, and without the others the model stays where it was.",
            text::percent(share)
        )
    })
}

/// Whether accuracy ends lower than before, and than with the controls.
fn is_lower(change: &Change) -> bool {
    let beyond_controls = change
        .control
        .as_ref()
        .is_none_or(|control| side(&control.excess) < 0);
    side(&change.selected) < 0 && beyond_controls
}
