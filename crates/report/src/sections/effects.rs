//! What disabling and amplifying the selected features did, beside matched random features.

use super::changes::{self, Change, Intervention, Key};
use super::effects_sweep::{is_shown, sweeps};
use super::effects_table::{other_controls, tables};
use super::{Report, group_name, options, removal, side};
use crate::answers::Split;
use crate::html::Page;
use crate::svg::Style;
use crate::svg::dots::{Dot, DotPlot, Row, WIDE};
use crate::text;
use stats::Estimate;
use std::collections::BTreeSet;

/// Style of the selected set; the controls are grey.
const SELECTED: usize = 4;

/// Effects per task and arm, the sweep over α, and the controls.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let all = changes::interventions(report, Split::Test);
    let tuning = changes::interventions(report, Split::Tuning);
    let orphans = changes::orphans(report);
    if all.is_empty() && tuning.is_empty() && orphans.is_empty() {
        return;
    }
    page.section("effects", "Disabling and amplifying");
    page.warning(&orphan_sentences(&orphans));
    let keys = changes::key_samples(report, Split::Test);
    let shown: Vec<&Intervention> = all
        .iter()
        .filter(|one| is_shown(one, &all, &tuning))
        .collect();
    page.warning(&tuned_on_reported(&shown, &tuning));
    let past_nought = removal::first_felt(&all);
    page.headline(&headline(report, shown.iter().copied().chain(past_nought)));
    let mut sentences: Vec<String> = shown
        .iter()
        .flat_map(|one| reading(report, one, &keys))
        .collect();
    sentences.extend(removal::past_nought(report, &all));
    sentences.extend(removal::why_not(report, &all));
    page.reading(&sentences);
    page.text(
        "Key samples (base wrong, the model after right) are chosen on the outcome: the disabled model starts at 100 % and the amplified \
         one at 0 %, so that any disturbance looks like an effect. What counts is the difference from the matched random sets, and the net \
         change on all documents.",
    );
    for one in &shown {
        figure(report, page, one, &keys);
    }
    sweeps(report, page, &all, &tuning);
    tables(report, page, &shown, &keys);
    other_controls(report, page, &shown);
    let touched = report
        .tables
        .samples
        .iter()
        .filter(|table| table.rows.iter().any(|row| row.arm != "none"));
    options::print(report, page, touched.map(|table| table.file.as_str()));
}

fn orphan_sentences(orphans: &[&crate::answers::AnswerSet]) -> Vec<String> {
    let sentence = |set: &&crate::answers::AnswerSet| {
        format!(
            "{} ({}) is not shown: there are no answers of {} without intervention on the same documents.",
            set.arm.name, set.file, set.model
        )
    };
    orphans.iter().map(sentence).collect()
}

/// Says so when the strength was chosen on the very documents that are reported.
fn tuned_on_reported(shown: &[&Intervention], tuning: &[Intervention]) -> Vec<String> {
    let shares = |one: &&&Intervention| {
        tuning
            .iter()
            .any(|other| other.treated.shares_documents(one.treated))
    };
    let sentence = |one: &&Intervention| {
        format!(
            "{}: the strength was chosen on documents that are also reported here, so its effect is flattered.",
            name(one)
        )
    };
    let with_strength = shown.iter().filter(|one| one.treated.arm.alpha().is_some());
    with_strength.filter(shares).map(sentence).collect()
}

/// An intervention in words.
pub(super) fn name(one: &Intervention) -> String {
    let arm = &one.treated.arm;
    let setting = match arm.alpha() {
        Some(alpha) => format!("{} ×{alpha}", arm.operation).replace("×-", "×−"),
        None => arm.setting.clone(),
    };
    format!("{setting} on {}", one.treated.model)
}

fn headline<'a, 'b: 'a>(
    report: &Report,
    shown: impl Iterator<Item = &'a Intervention<'b>>,
) -> String {
    let parts = shown.filter_map(|one| {
        let (title, tasks) = report.roles.groups(&one.tasks()).pop()?;
        let change = one.change(&tasks, None, one.main_control())?;
        let title = group_name(&title);
        let random = change.control.map_or(String::new(), |c| {
            format!(" (random {})", text::points(c.mean.value))
        });
        Some(format!(
            "{}, {title}: {} points{random}",
            name(one),
            text::points(change.selected.value)
        ))
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn reading(report: &Report, one: &Intervention, keys: &BTreeSet<Key>) -> Vec<String> {
    let groups = report.roles.groups(&one.tasks());
    let sentences = groups.iter().filter_map(|(title, tasks)| {
        let change = one.change(tasks, None, one.main_control())?;
        let on_keys = one.change(tasks, Some(keys), one.main_control());
        let on_keys = on_keys.map_or_else(String::new, |change| {
            format!(
                " On {} ({} % right before): {}.",
                text::plural(change.n, "key sample"),
                text::percent(change.before),
                beside(&change)
            )
        });
        Some(format!(
            "{}, {}: {} % → {} % of {}, {}. {}{on_keys}",
            name(one),
            group_name(title),
            text::percent(change.before),
            text::percent(change.after),
            text::plural(change.n, "document"),
            beside(&change),
            verdict(&change)
        ))
    });
    sentences.collect()
}

/// The change beside that of the controls.
pub(super) fn beside(change: &Change) -> String {
    let selected = text::with_interval(&change.selected, text::points);
    let Some(control) = &change.control else {
        return format!("{selected} points, no control sets");
    };
    let sets = text::plural(control.members.len(), "random set");
    format!(
        "{selected} points against {} under {sets}",
        text::with_interval(&control.mean, text::points)
    )
}

/// What the intervals allow to say.
fn verdict(change: &Change) -> String {
    let Some(control) = &change.control else {
        return "Without controls this says nothing about these features in particular.".to_owned();
    };
    let excess = format!(
        "(selected − random {})",
        text::with_interval(&control.excess, text::points)
    );
    let n = control.members.len();
    let beyond = |sign: f64| {
        control
            .members
            .iter()
            .filter(|member| (change.selected.value - **member) * sign > 0.0)
            .count()
    };
    match (side(&change.selected), side(&control.excess)) {
        (0, 0) => format!("No clear effect {excess}."),
        (_, 0) => format!("Not clearly different from matched random features {excess}."),
        (_, 1) => format!(
            "Accuracy ends higher than with matched random features {excess}, above {} of {n} sets.",
            beyond(1.0)
        ),
        _ => format!(
            "Accuracy ends lower than with matched random features {excess}, below {} of {n} sets.",
            beyond(-1.0)
        ),
    }
}

fn figure(report: &Report, page: &mut Page, one: &Intervention, keys: &BTreeSet<Key>) {
    let panels = [
        panel(report, one, None, "all documents"),
        panel(report, one, Some(keys), "key samples"),
    ];
    let selected = Style::nth(SELECTED);
    let mut legend = vec![("selected features".to_owned(), selected)];
    if let Some(kind) = one.main_control() {
        legend.push((
            format!("{kind} sets: mean, and each set as a stroke"),
            control_style(),
        ));
    }
    let n = one
        .change(&one.tasks(), None, None)
        .map_or(0, |change| change.n);
    let n_keys = one
        .change(&one.tasks(), Some(keys), None)
        .map_or(0, |change| change.n);
    let caption = format!(
        "{}: change of accuracy against the same model without intervention, paired, with 95 % bootstrap intervals over documents. \
         Left: all documents. Right: key samples. n = {} documents, {} key samples.",
        name(one),
        text::count(n),
        text::count(n_keys)
    );
    page.figure(&panels, &legend, &caption);
}

fn control_style() -> Style {
    Style::nth(0).hollow()
}

fn panel(report: &Report, one: &Intervention, keys: Option<&BTreeSet<Key>>, what: &str) -> String {
    let mut rows = Vec::new();
    for (title, tasks) in report.roles.groups(&one.tasks()) {
        if !title.is_empty() {
            rows.push(Row::Group(title));
        }
        rows.extend(
            tasks
                .iter()
                .filter_map(|task| item(one, task, std::slice::from_ref(task), keys)),
        );
        if tasks.len() > 1 {
            rows.extend(item(one, "together", &tasks, keys));
        }
    }
    DotPlot {
        title: format!("{}, {what}: points", name(one)),
        slots: 2,
        domain: None,
        reference: Some(0.0),
        arrows: false,
        width: WIDE,
        rows,
    }
    .draw()
}

fn item(
    one: &Intervention,
    label: &str,
    tasks: &[String],
    keys: Option<&BTreeSet<Key>>,
) -> Option<Row> {
    let change = one.change(tasks, keys, one.main_control())?;
    let title = format!(
        "{label}, n = {}: {}",
        text::count(change.n),
        text::with_interval(&change.selected, text::points)
    );
    let mut dots = vec![Dot {
        estimate: hundredfold(&change.selected),
        style: Style::nth(SELECTED),
        title,
        members: Vec::new(),
    }];
    if let Some(control) = change.control {
        let title = format!(
            "random, mean of {}: {}",
            control.members.len(),
            text::with_interval(&control.mean, text::points)
        );
        let members = control
            .members
            .iter()
            .map(|member| member * 100.0)
            .collect();
        dots.push(Dot {
            estimate: hundredfold(&control.mean),
            style: control_style(),
            title,
            members,
        });
    }
    Some(Row::Item {
        label: label.to_owned(),
        dots,
    })
}

/// Shares as percentage points.
pub(super) fn hundredfold(share: &Estimate) -> Estimate {
    Estimate {
        value: share.value * 100.0,
        low: share.low * 100.0,
        high: share.high * 100.0,
    }
}
