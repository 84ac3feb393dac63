//! Effects in numbers.

use super::changes::{Change, Intervention, Key};
use super::effects::name;
use super::{Report, group_name};
use crate::html::{Page, Table};
use crate::text;
use std::collections::BTreeSet;

/// Every task by itself and every group together, all documents beside key samples.
pub(super) fn table(
    report: &Report,
    page: &mut Page,
    shown: &[&Intervention],
    keys: &BTreeSet<Key>,
) {
    let columns = [
        "task",
        "n>",
        "before, %>",
        "after, %>",
        "change, points>",
        "random>",
        "selected − random>",
        "key n>",
        "change>",
        "random>",
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
            if tasks.len() > 1
                && let Some(cells) = cells(
                    one,
                    &format!("{}, together", group_name(&title)),
                    &tasks,
                    keys,
                )
            {
                table.strong(&cells);
            }
        }
    }
    if !table.is_empty() {
        page.table(
            &table,
            "Effects per task: all documents, then key samples, in percentage points with paired bootstrap intervals. Random: mean over the \
             matched random sets.",
        );
    }
}

fn cells(
    one: &Intervention,
    label: &str,
    tasks: &[String],
    keys: &BTreeSet<Key>,
) -> Option<Vec<String>> {
    let all = one.change(tasks, None, one.main_control())?;
    let on_keys = one.change(tasks, Some(keys), one.main_control());
    let mut cells = vec![
        label.to_owned(),
        text::count(all.n),
        text::percent(all.before),
        text::percent(all.after),
    ];
    cells.extend(three(&all));
    cells.push(
        on_keys
            .as_ref()
            .map_or_else(|| "0".to_owned(), |change| text::count(change.n)),
    );
    cells.extend(on_keys.map_or_else(
        || [text::NONE, text::NONE, text::NONE].map(str::to_owned),
        |change| three(&change),
    ));
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
