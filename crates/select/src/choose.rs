//! The compact set: features that pass in every task, and how its size moves with the threshold.

use crate::scores::{Passing, TaskScores};
use std::collections::BTreeSet;

/// Fractions of the largest score at which the curve is drawn.
const FRACTIONS: [f64; 11] = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

/// A selected feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chosen {
    /// Feature.
    pub feature: u32,
    /// Mean over the tasks of score / largest score; negative for a feature that fires less in the model after.
    pub relative: f64,
    /// The one nearest to 0 over the tasks, or beyond it.
    pub relative_min: f64,
}

impl Chosen {
    /// A feature with its relative scores in all tasks.
    pub fn of(feature: u32, tasks: &[TaskScores]) -> Self {
        let scores = tasks.iter().map(|task| task.relative(feature));
        let relative = scores.clone().sum::<f64>() / tasks.len() as f64;
        let sign = if relative < 0.0 { -1.0 } else { 1.0 };
        Self {
            feature,
            relative,
            relative_min: sign
                * scores
                    .map(|score| sign * score)
                    .fold(f64::INFINITY, f64::min),
        }
    }

    /// Whether it fires less in the model after.
    pub fn is_lowered(&self) -> bool {
        self.relative < 0.0
    }
}

/// Features that exceed `fraction` of the largest score in every task, the strongest first.
pub fn choose(tasks: &[TaskScores], fraction: f64) -> Vec<Chosen> {
    let common = intersection(tasks, fraction);
    let features = common.iter().map(|passing| passing.feature);
    let mut chosen: Vec<Chosen> = features.map(|k| Chosen::of(k, tasks)).collect();
    chosen.sort_by(|a, b| {
        let size = |chosen: &Chosen| chosen.relative.abs();
        size(b).total_cmp(&size(a)).then(a.feature.cmp(&b.feature))
    });
    chosen
}

fn intersection(tasks: &[TaskScores], fraction: f64) -> BTreeSet<Passing> {
    tasks
        .iter()
        .map(|task| task.passing(fraction))
        .reduce(|a, b| &a & &b)
        .unwrap_or_default()
}

/// The set at one threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Fraction of the largest score.
    pub fraction: f64,
    /// Features that pass, per task.
    pub passing: Vec<usize>,
    /// Features that pass in every task.
    pub size: usize,
    /// Mean over pairs of tasks of |A ∩ B| / |A ∪ B|; 1 for a single task.
    pub jaccard: f64,
    /// Mean over the tasks of the set's share of all score in the direction that counts, 0 to 1.
    pub share: f64,
}

impl Point {
    /// The set at `fraction`.
    pub fn at(tasks: &[TaskScores], fraction: f64) -> Self {
        let sets: Vec<BTreeSet<Passing>> =
            tasks.iter().map(|task| task.passing(fraction)).collect();
        let common = intersection(tasks, fraction);
        let shares = tasks.iter().map(|task| share(task, &common));
        Self {
            fraction,
            passing: sets.iter().map(BTreeSet::len).collect(),
            size: common.len(),
            jaccard: mean_jaccard(&sets),
            share: shares.sum::<f64>() / tasks.len() as f64,
        }
    }
}

/// Share of a task's score, in the direction that counts, that a set carries.
fn share(task: &TaskScores, set: &BTreeSet<Passing>) -> f64 {
    let strength = |score: &f64| task.direction.strength(*score).max(0.0);
    let all: f64 = task.scores.values().map(strength).sum();
    let carried = set.iter().filter_map(|k| task.scores.get(&k.feature));
    // The sum of nothing is −0.0.
    let carried = carried.map(strength).sum::<f64>() + 0.0;
    if all > 0.0 { carried / all } else { 0.0 }
}

fn mean_jaccard(sets: &[BTreeSet<Passing>]) -> f64 {
    let mut pairs = Vec::new();
    for (i, a) in sets.iter().enumerate() {
        for b in &sets[..i] {
            let union = a.union(b).count().max(1);
            pairs.push(a.intersection(b).count() as f64 / union as f64);
        }
    }
    if pairs.is_empty() {
        return 1.0;
    }
    pairs.iter().sum::<f64>() / pairs.len() as f64
}

/// The compactness curve, the chosen fraction among its points.
pub fn curve(tasks: &[TaskScores], chosen: f64) -> Vec<Point> {
    let mut fractions = FRACTIONS.to_vec();
    if !fractions.contains(&chosen) {
        fractions.push(chosen);
        fractions.sort_by(f64::total_cmp);
    }
    fractions
        .into_iter()
        .map(|fraction| Point::at(tasks, fraction))
        .collect()
}

/// The curve as tab-separated text: one line per fraction, one column per task, then the set.
pub fn curve_text(tasks: &[TaskScores], chosen: f64) -> String {
    let names = tasks.iter().map(|task| format!("passing_{}", task.task));
    let names = names.collect::<Vec<_>>().join("\t");
    let mut lines = vec![format!("fraction\t{names}\tset\tjaccard\tscore_share")];
    for point in curve(tasks, chosen) {
        let passing = point.passing.iter().map(usize::to_string);
        let passing = passing.collect::<Vec<_>>().join("\t");
        lines.push(format!(
            "{}\t{passing}\t{}\t{:.3}\t{:.3}",
            point.fraction, point.size, point.jaccard, point.share
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::tests::task;

    fn tasks() -> Vec<TaskScores> {
        vec![
            task(&[(0, &[10.0]), (1, &[5.0]), (2, &[3.0]), (3, &[1.0])]),
            task(&[(0, &[4.0]), (1, &[8.0]), (2, &[1.0])]),
        ]
    }

    #[test]
    fn the_set_passes_everywhere_and_is_ranked_by_mean_relative_score() {
        let chosen = choose(&tasks(), 0.2);
        // Task one passes 0, 1, 2; task two 0, 1. Feature 1: (0.5 + 1)/2, feature 0: (1 + 0.5)/2: a tie goes to the smaller.
        assert_eq!(chosen.iter().map(|c| c.feature).collect::<Vec<_>>(), [0, 1]);
        let first = Chosen {
            feature: 0,
            relative: 0.75,
            relative_min: 0.5,
        };
        assert_eq!(chosen[0], first);
    }

    #[test]
    fn a_point_of_the_curve_is_what_its_definition_says() {
        let point = Point::at(&tasks(), 0.2);
        assert_eq!((point.passing, point.size), (vec![3, 2], 2));
        assert!((point.jaccard - 2.0 / 3.0).abs() < 1e-12);
        assert!((point.share - f64::midpoint(15.0 / 19.0, 12.0 / 13.0)).abs() < 1e-12);
    }

    #[test]
    fn the_curve_never_grows_with_the_fraction_and_holds_the_chosen_one() {
        let points = curve(&tasks(), 0.33);
        assert!(points.windows(2).all(|pair| pair[0].size >= pair[1].size));
        assert!(
            points
                .iter()
                .any(|point| (point.fraction - 0.33).abs() < 1e-12)
        );
        assert_eq!(curve_text(&tasks(), 0.2).lines().count(), 12);
    }
}
