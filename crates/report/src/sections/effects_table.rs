//! Effects in numbers.

use super::changes::{Change, Intervention, Key};
use super::effects::name;
use super::{Report, group_name};
use crate::html::{Page, Table};
use crate::text;
use std::collections::BTreeSet;

/// Every task by itself and every group together: all documents, then key samples.
pub(super) fn tables(
    report: &Report,
    page: &mut Page,
    shown: &[&Intervention],
    keys: &BTreeSet<Key>,
) {
    let all = table(report, shown, None);
    let on_keys = table(report, shown, Some(keys));
    if !all.is_empty() {
        page.table(
            &all,
            "Effects on all documents: accuracy without and with the intervention, the paired change, the same for the matched random sets \
             (mean), and the difference of the two, in percentage points with bootstrap intervals.",
        );
    }
    if !on_keys.is_empty() {
        page.table(&on_keys, "The same on key samples: the base wrong and the model after right, without intervention.");
    }
}

fn table(report: &Report, shown: &[&Intervention], keys: Option<&BTreeSet<Key>>) -> Table {
    let columns = [
        "task",
        "n>",
        "before, %>",
        "after, %>",
        "selected, points>",
        "random, points>",
        "selected − random>",
    ];
    let mut table = Table::new(&columns);
    for one in shown {
        table.group(&name(one));
        for (title, tasks) in report.roles.groups(&one.tasks()) {
            for task in &tasks {
                if let Some(cells) = cells(one, task, std::slice::from_ref(task), keys) {
                    table.row(&cells);
                }
            }
            let together = format!("{}, together", group_name(&title));
            if tasks.len() > 1
                && let Some(cells) = cells(one, &together, &tasks, keys)
            {
                table.strong(&cells);
            }
        }
    }
    table
}

fn cells(
    one: &Intervention,
    label: &str,
    tasks: &[String],
    keys: Option<&BTreeSet<Key>>,
) -> Option<Vec<String>> {
    let change = one.change(tasks, keys, one.main_control())?;
    let mut cells = vec![
        label.to_owned(),
        text::count(change.n),
        text::percent(change.before),
        text::percent(change.after),
    ];
    cells.extend(three(&change));
    Some(cells)
}

/// Selected, random, and their difference.
fn three(change: &Change) -> [String; 3] {
    let none = || text::NONE.to_owned();
    let control = change.control.as_ref();
    [
        text::with_interval(&change.selected, text::points),
        control.map_or_else(none, |control| {
            text::with_interval(&control.mean, text::points)
        }),
        control.map_or_else(none, |control| {
            text::with_interval(&control.excess, text::points)
        }),
    ]
}

/// Controls of other kinds than the one in the figures: random directions, sign flips.
pub(super) fn other_controls(report: &Report, page: &mut Page, shown: &[&Intervention]) {
    let mut table = Table::new(&[
        "intervention",
        "control",
        "tasks",
        "sets>",
        "n>",
        "control, points>",
        "selected − control>",
    ]);
    for one in shown {
        for kind in one
            .controls
            .keys()
            .filter(|kind| Some(kind.as_str()) != one.main_control())
        {
            for (title, tasks) in report.roles.groups(&one.tasks()) {
                let Some((n, control)) = one
                    .change(&tasks, None, Some(kind))
                    .and_then(|change| Some((change.n, change.control?)))
                else {
                    continue;
                };
                table.row(&[
                    name(one),
                    kind.clone(),
                    group_name(&title).to_owned(),
                    control.members.len().to_string(),
                    text::count(n),
                    text::with_interval(&control.mean, text::points),
                    text::with_interval(&control.excess, text::points),
                ]);
            }
        }
    }
    if !table.is_empty() {
        page.table(&table, "Further controls, all documents.");
    }
}
