//! The strength of an intervention: which was chosen, and what the others would have done.

use super::changes::{Change, Intervention};
use super::effects::hundredfold;
use super::{Report, group_name};
use crate::html::Page;
use crate::svg::Style;
use crate::svg::lines::{self, Lines, Series};
use stats::Estimate;
use std::collections::BTreeSet;

/// Where a strength was chosen on a tuning split, only the chosen one is shown, and of strengths past nought only their
/// sweep; otherwise all of them.
pub(super) fn is_shown(one: &Intervention, all: &[Intervention], tuning: &[Intervention]) -> bool {
    if one.treated.arm.alpha().is_some_and(|alpha| alpha < 0.0) {
        return false;
    }
    let siblings = all.iter().filter(|other| same_kind(one, other)).count();
    match chosen(one, tuning) {
        Some(chosen) if siblings > 1 => one.treated.arm.alpha() == Some(chosen),
        _ => true,
    }
}

fn same_kind(a: &Intervention, b: &Intervention) -> bool {
    a.treated.model == b.treated.model && a.treated.arm.operation == b.treated.arm.operation
}

/// The strength with the largest gain on the tuning split (the largest loss, for disabling).
fn chosen(one: &Intervention, tuning: &[Intervention]) -> Option<f64> {
    let sign = if one.treated.arm.operation == "disable" {
        -1.0
    } else {
        1.0
    };
    let candidates = tuning
        .iter()
        .filter(|other| same_kind(one, other) && other.treated.arm.alpha().is_some());
    let gain = |other: &Intervention| {
        other
            .change(&other.tasks(), None, None)
            .map_or(f64::NEG_INFINITY, |c| sign * c.selected.value)
    };
    // Of equal gains, the smaller change.
    let distance = |other: &Intervention| (other.treated.arm.alpha().unwrap_or(1.0) - 1.0).abs();
    let best = candidates.max_by(|a, b| {
        gain(a)
            .total_cmp(&gain(b))
            .then(distance(b).total_cmp(&distance(a)))
    })?;
    best.treated.arm.alpha()
}

/// How much of the feature is left, as a factor: disabling leaves none of it.
fn strength(one: &Intervention) -> Option<f64> {
    let arm = &one.treated.arm;
    if arm.operation == "disable" {
        return Some(0.0);
    }
    arm.alpha()
}

/// Arms of one model that differ in strength alone: disabling is amplifying by nought.
fn family<'a, 'b>(one: &Intervention, arms: &'b [Intervention<'a>]) -> Vec<&'b Intervention<'a>> {
    let scales = |arm: &Intervention| matches!(&*arm.treated.arm.operation, "disable" | "amplify");
    let belongs = |other: &&Intervention| {
        same_kind(one, other)
            || (one.treated.model == other.treated.model && scales(one) && scales(other))
    };
    let of_strength = |other: &&Intervention| strength(other).is_some();
    arms.iter().filter(belongs).filter(of_strength).collect()
}

/// Change over α: on the tuning split where it was chosen, else on the reported one.
pub(super) fn sweeps(
    report: &Report,
    page: &mut Page,
    all: &[Intervention],
    tuning: &[Intervention],
) {
    let mut done: Vec<(String, String)> = Vec::new();
    let mut panels = Vec::new();
    let mut strengths = BTreeSet::new();
    let swept = tuning.iter().chain(all);
    for one in swept.filter(|one| one.treated.arm.alpha().is_some()) {
        let kind = (one.treated.model.clone(), one.treated.arm.operation.clone());
        let tuned = family(one, tuning);
        let (family, split) = if tuned.len() > 1 {
            (tuned, "tuning split")
        } else {
            (family(one, all), "reported documents")
        };
        if family.len() > 1 && !done.contains(&kind) {
            let mark = reported_alpha(one, all).or_else(|| chosen(one, tuning));
            strengths.extend(
                family
                    .iter()
                    .filter_map(|one| strength(one))
                    .map(f64::to_bits),
            );
            let title = format!("{} on {}, {split}: points", kind.1, kind.0);
            panels.push(sweep_panel(report, &family, mark, &title));
            done.push(kind);
        }
    }
    if !panels.is_empty() {
        let legend: Vec<_> = (0..)
            .zip(report.roles.groups(&report.answers.tasks()))
            .map(|(i, (title, _))| (group_name(&title).to_owned(), Style::nth(i + 5)))
            .collect();
        let caption = format!(
            "Change of accuracy over the strength α, by what the tasks were used for, with 95 % bootstrap intervals over documents; dashed: \
             mean of the random sets. 1 leaves the features as they are, 0 takes them out, below 0 they are turned round. The strength \
             used elsewhere in this section is marked. n = {} strengths.",
            strengths.len()
        );
        page.figure(&panels, &legend, &caption);
    }
}

/// The strength of the reported documents, when there is only one.
fn reported_alpha(one: &Intervention, all: &[Intervention]) -> Option<f64> {
    let mut reported = all
        .iter()
        .filter(|other| same_kind(one, other))
        .filter_map(|other| other.treated.arm.alpha());
    let first = reported.next()?;
    reported.next().is_none().then_some(first)
}

fn sweep_panel(
    report: &Report,
    family: &[&Intervention],
    chosen: Option<f64>,
    title: &str,
) -> String {
    let groups = report.roles.groups(&report.answers.tasks());
    let mut series = Vec::new();
    for ((index, (_, tasks)), aside) in groups.iter().enumerate().zip(lines::asides(groups.len())) {
        let style = Style::nth(index + 5);
        let points = |of: fn(Change) -> Option<Estimate>| {
            let point = |one: &&Intervention| {
                let change = one.change(tasks, None, one.main_control())?;
                Some((strength(one)?, hundredfold(&of(change)?)))
            };
            let mut points: Vec<(f64, Estimate)> = family.iter().filter_map(point).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points
        };
        series.push(Series {
            points: points(|change| Some(change.selected)),
            style,
            aside,
            marks: true,
        });
        series.push(Series {
            points: points(|change| {
                Some(Estimate {
                    low: f64::NAN,
                    high: f64::NAN,
                    ..change.control?.mean
                })
            }),
            style: style.dashed(),
            aside,
            marks: false,
        });
    }
    let plot = Lines {
        title: title.to_owned(),
        axis: "α".to_owned(),
        domain: None,
        reference: Some(0.0),
        chosen: chosen.map(|alpha| (alpha, "chosen".to_owned())),
        at_points: true,
        series,
    };
    plot.draw()
}
