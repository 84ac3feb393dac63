//! Single edges: where in the graph the scores changed.

use super::edge_map::{Map, block};
use super::{Report, is_null};
use crate::html::{Page, Table};
use crate::paired::SEED;
use crate::text;
use std::collections::BTreeMap;
use store::tables::Edge;

/// Edges listed per pair.
const TOP: usize = 12;

/// An edge by its two nodes.
pub(super) type Name<'a> = (&'a str, &'a str);

/// |score| of every edge of one model in one file, by example.
pub(super) struct Scores<'a> {
    file: &'a str,
    model: &'a str,
    pub edges: BTreeMap<Name<'a>, BTreeMap<String, f64>>,
}

/// Two models scored on the same examples, cut down to those they have in common.
struct Pair<'a> {
    before: Scores<'a>,
    after: Scores<'a>,
}

/// Maps of mean |score| and the edges that changed most.
pub(crate) fn write(report: &Report, page: &mut Page) {
    let scores = scores(report);
    let pairs = pairs(report, &scores);
    let Some(first) = scores.first() else { return };
    page.heading("Where the edges changed");
    let maps = maps(first, &pairs);
    let of_pairs = pairs
        .iter()
        .map(|pair| (pair.title(), pair.after.n_examples()));
    let alone = pairs
        .is_empty()
        .then(|| (first.model.to_owned(), first.n_examples()));
    let n = text::sizes(of_pairs.chain(alone), "example");
    let caption = format!(
        "Mean |score| of the edges from a source (row) into a block (column; q, k, v and heads of an attention block together), and its \
         change on the same examples. Empty: no such edge. n = {n}."
    );
    page.figure(&maps, &[], &caption);
    let table = table(&pairs);
    if !table.is_empty() {
        page.table(
            &table,
            &format!(
                "The {TOP} edges whose mean |score| changed most, with paired bootstrap intervals over the common examples. They were \
                 picked for being the largest of all edges, so their intervals flatter them. Rank: by mean |score| in its own model, from 1."
            ),
        );
    }
}

/// Scores of every file and model that is no null, at the longest truncation.
fn scores(report: &Report) -> Vec<Scores<'_>> {
    let tables = || {
        report
            .tables
            .edges
            .iter()
            .filter(|table| !is_null(&table.file))
    };
    let length = |edge: &Edge| edge.alpha.unwrap_or(f64::INFINITY);
    let longest = tables()
        .flat_map(|table| &table.rows)
        .map(length)
        .fold(f64::NEG_INFINITY, f64::max);
    let mut by_model: BTreeMap<(&str, &str), Scores> = BTreeMap::new();
    for table in tables() {
        for edge in table.rows.iter().filter(|edge| length(edge) >= longest) {
            let scores = by_model
                .entry((&table.file, &edge.model))
                .or_insert_with(|| Scores {
                    file: &table.file,
                    model: &edge.model,
                    edges: BTreeMap::new(),
                });
            let examples = scores
                .edges
                .entry((&edge.source, &edge.target))
                .or_default();
            examples.insert(example(edge), edge.score.abs());
        }
    }
    let mut all: Vec<Scores> = by_model
        .into_values()
        .map(Scores::without_average)
        .collect();
    all.sort_by_key(|scores| report.cast.rank(scores.model));
    all
}

/// Each tuned model with the scores of the base made for it: those with the most examples in common, and among equals
/// those whose file name begins alike (`rl.base.edges`, `rl.tuned.edges`).
fn pairs<'a>(report: &Report, scores: &[Scores<'a>]) -> Vec<Pair<'a>> {
    let (bases, others): (Vec<&Scores>, Vec<&Scores>) = scores
        .iter()
        .partition(|scores| scores.model == report.cast.base);
    let closest = |other: &Scores| {
        let likeness = |base: &Scores| (base.n_common(other), common_prefix(base.file, other.file));
        bases
            .iter()
            .copied()
            .max_by_key(|base| likeness(base))
            .filter(|base| base.n_common(other) > 0)
    };
    others
        .iter()
        .filter_map(|other| Some(Pair::new(closest(other)?, other)))
        .collect()
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count()
}

impl<'a> Pair<'a> {
    fn new(before: &Scores<'a>, after: &Scores<'a>) -> Self {
        Self {
            before: before.cut_to(after),
            after: after.cut_to(before),
        }
    }

    fn title(&self) -> String {
        format!("{} → {}", self.before.model, self.after.model)
    }

    /// Change of mean |score| between blocks.
    fn change(&self) -> Map {
        Map::of(&self.before, |source, target| {
            Some(self.after.cell(source, target)? - self.before.cell(source, target)?)
        })
    }

    /// The edges with the largest change: the edge, |scores| before, |scores| after.
    fn largest_changes(&self) -> Vec<(Name<'a>, Vec<f64>, Vec<f64>)> {
        let values =
            |examples: &BTreeMap<String, f64>| examples.values().copied().collect::<Vec<f64>>();
        let paired = self
            .before
            .edges
            .iter()
            .map(|(edge, before)| (*edge, values(before), values(&self.after.edges[edge])));
        let mut all: Vec<_> = paired.collect();
        let change = |(_, before, after): &(Name, Vec<f64>, Vec<f64>)| {
            (stats::mean(after) - stats::mean(before)).abs()
        };
        all.sort_by(|a, b| change(b).total_cmp(&change(a)));
        all.truncate(TOP);
        all
    }
}

/// What an example has in common between models: its document, or its number.
fn example(edge: &Edge) -> String {
    match (&edge.doc_id, edge.example) {
        (Some(document), _) => document.clone(),
        (None, Some(number)) => number.to_string(),
        (None, None) => AVERAGE.to_owned(),
    }
}

/// Stands for the example of rows that are averages already.
const AVERAGE: &str = "";

impl<'a> Scores<'a> {
    /// Averages are no further example: they go where there are examples.
    fn without_average(mut self) -> Self {
        for examples in self
            .edges
            .values_mut()
            .filter(|examples| examples.len() > 1)
        {
            examples.remove(AVERAGE);
        }
        self
    }

    fn n_examples(&self) -> usize {
        self.edges.values().map(BTreeMap::len).max().unwrap_or(0)
    }

    /// Examples of which both have scores.
    fn n_common(&self, other: &Scores) -> usize {
        let Some((edge, examples)) = self.edges.first_key_value() else {
            return 0;
        };
        other.edges.get(edge).map_or(0, |others| {
            examples
                .keys()
                .filter(|name| others.contains_key(*name))
                .count()
        })
    }

    /// The edges and examples that the other has as well.
    fn cut_to(&self, other: &Scores) -> Self {
        let cut = |(edge, examples): (&Name<'a>, &BTreeMap<String, f64>)| {
            let others = other.edges.get(edge)?;
            let kept = examples
                .iter()
                .filter(|(name, _)| others.contains_key(*name));
            let kept: BTreeMap<String, f64> =
                kept.map(|(name, value)| (name.clone(), *value)).collect();
            (!kept.is_empty()).then_some((*edge, kept))
        };
        Self {
            file: self.file,
            model: self.model,
            edges: self.edges.iter().filter_map(cut).collect(),
        }
    }

    fn mean(&self, edge: Name) -> Option<f64> {
        let values = self.edges.get(&edge)?;
        Some(values.values().sum::<f64>() / values.len() as f64)
    }

    /// Edges by falling mean |score|.
    fn ranking(&self) -> BTreeMap<Name<'a>, usize> {
        let mut ranked: Vec<(Name, f64)> = self
            .edges
            .keys()
            .map(|edge| (*edge, self.mean(*edge).unwrap_or(0.0)))
            .collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
            .into_iter()
            .enumerate()
            .map(|(place, (edge, _))| (edge, place + 1))
            .collect()
    }

    /// Mean |score| of the edges between two blocks.
    fn cell(&self, source: &str, target: &str) -> Option<f64> {
        let between = self
            .edges
            .keys()
            .filter(|edge| block(edge.0) == source && block(edge.1) == target);
        let means: Vec<f64> = between.filter_map(|edge| self.mean(*edge)).collect();
        (!means.is_empty()).then(|| stats::mean(&means))
    }
}

/// The base's scores, once for every set of examples, each followed by the changes on it; all changes on one scale.
fn maps(first: &Scores, pairs: &[Pair]) -> Vec<String> {
    let base = |base: &Scores| {
        Map::of(base, |source, target| base.cell(source, target))
            .draw(&format!("{}: mean |score|", base.model), None)
    };
    if pairs.is_empty() {
        return vec![base(first)];
    }
    let changes: Vec<Map> = pairs.iter().map(Pair::change).collect();
    let full = changes.iter().map(Map::largest).fold(0.0, f64::max);
    let mut drawn = Vec::new();
    let mut last = None;
    for (pair, change) in pairs.iter().zip(&changes) {
        let examples = (pair.before.file, pair.before.n_examples());
        if last != Some(examples) {
            drawn.push(base(&pair.before));
            last = Some(examples);
        }
        drawn.push(change.draw(
            &format!("{} − {}: change", pair.after.model, pair.before.model),
            Some(full),
        ));
    }
    drawn
}

fn table(pairs: &[Pair]) -> Table {
    let columns = [
        "edge#",
        "before>",
        "after>",
        "after − before>",
        "n>",
        "rank before>",
        "rank after>",
    ];
    let mut table = Table::new(&columns);
    for pair in pairs {
        let (before_ranks, after_ranks) = (pair.before.ranking(), pair.after.ranking());
        table.group(&pair.title());
        for (edge, before, after) in pair.largest_changes() {
            let difference = stats::bootstrap_difference(&before, &after, stats::DRAWS, SEED);
            let shown = if after.len() > 1 {
                text::signed_estimate(&difference)
            } else {
                text::signed(difference.value)
            };
            table.row(&[
                format!("{}→{}", edge.0, edge.1),
                text::number(stats::mean(&before)),
                text::number(stats::mean(&after)),
                shown,
                after.len().to_string(),
                before_ranks[&edge].to_string(),
                after_ranks[&edge].to_string(),
            ]);
        }
    }
    table
}
