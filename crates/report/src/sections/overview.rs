//! What was run: models, the chain of programs, and whether the mechanism was planted.

use super::Report;
use crate::find::{File, weights};
use crate::html::{Page, Table};
use crate::svg::frame::text_width;
use crate::svg::{Anchor, Canvas};
use crate::text;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Models, sizes, seeds and the provenance chain.
pub(crate) fn write(report: &Report, page: &mut Page) {
    page.section("run", "What was run");
    page.headline(&headline(report));
    if is_planted(report) {
        page.planted(&planted());
    }
    page.text(&tasks(report));
    let models = models(report);
    if !models.is_empty() {
        page.table(&models, "Models found below the folder.");
    }
    let chain = Chain::of(report);
    if chain.nodes.len() > 1 {
        page.figure(
            &[chain.draw()],
            &[],
            &format!(
                "Which program made what from what, as the files themselves say; an arrow is left out where another way leads there. ×: number of files. n = {} files with provenance.",
                text::count(chain.nodes.values().map(|node| node.n_files).sum())
            ),
        );
    }
}

fn headline(report: &Report) -> String {
    let seeds: BTreeSet<u64> = report
        .tables
        .files
        .iter()
        .filter_map(|file| file.provenance.as_ref()?.seed)
        .collect();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let seeds = if seeds.is_empty() {
        String::new()
    } else {
        format!("; seed {}", text::list(&seeds))
    };
    let planted = if is_planted(report) {
        "controlled experiment with a planted mechanism; "
    } else {
        ""
    };
    format!(
        "{planted}models {}{seeds}",
        text::list(report.cast.labels())
    )
}

/// Whether the built-in suite is behind this run.
pub(crate) fn is_planted(report: &Report) -> bool {
    let is_lab = |value: &Value| value.get("suite").and_then(Value::as_str) == Some("lab");
    let provenances = report
        .tables
        .files
        .iter()
        .filter_map(|file| file.provenance.as_ref());
    report.tables.suite.as_ref().is_some_and(is_lab) || provenances.map(|p| &p.settings).any(is_lab)
}

fn planted() -> Vec<String> {
    let sentences = [
        "The mechanism of this experiment is planted. The base model was pretrained on documents by two kinds of invented authors, \
         careful and sloppy, that nothing in the text labels, and reward on one task selects the careful manner that all tasks share. \
         The answer the analysis should find was therefore known before it began.",
        "So this run shows whether the tools find a known answer and how they behave where there is none. It says nothing about large \
         language models.",
    ];
    sentences.map(str::to_owned).to_vec()
}

fn tasks(report: &Report) -> String {
    let parts = report
        .roles
        .groups(&report.answers.tasks())
        .into_iter()
        .map(|(title, tasks)| {
            let title = if title.is_empty() { "tasks" } else { &title };
            format!("{title}: {}", text::list(&tasks))
        });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() || report.answers.tasks().is_empty() {
        String::new()
    } else {
        format!("Tasks — {}.", parts.join("; "))
    }
}

fn models(report: &Report) -> Table {
    let columns = [
        "label",
        "folder",
        "architecture",
        "layers>",
        "d_model>",
        "heads>",
        "d_mlp>",
        "vocab>",
        "parameters>",
        "weights#",
    ];
    let mut table = Table::new(&columns);
    let labels = labels(report);
    let mut files: Vec<&File> = report
        .tables
        .files
        .iter()
        .filter(|file| file.kind == "model")
        .collect();
    files.sort_by_key(|file| {
        labels
            .get(file.name.as_str())
            .map_or(usize::MAX, |label| report.cast.rank(label))
    });
    for file in files {
        let Some(config) = config(file) else { continue };
        let field = |name: &str| {
            config
                .get(name)
                .map_or_else(|| text::NONE.to_owned(), plain)
        };
        table.row(&[
            labels.get(file.name.as_str()).cloned().unwrap_or_default(),
            file.name.clone(),
            config
                .get("model_type")
                .map_or_else(|| text::NONE.to_owned(), plain),
            field("num_hidden_layers"),
            field("hidden_size"),
            field("num_attention_heads"),
            field("intermediate_size"),
            field("vocab_size"),
            parameters(file).map_or_else(|| text::NONE.to_owned(), text::count),
            file.input.sha256.chars().take(12).collect(),
        ]);
    }
    table
}

fn config(file: &File) -> Option<Value> {
    let text = store::read_text(&file.path.join("config.json")).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    config.get("hidden_size")?;
    Some(config)
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Numbers in the tensors of a model of one file; of a sharded model nothing is said.
fn parameters(file: &File) -> Option<usize> {
    if file.path.join("model.safetensors.index.json").exists() {
        return None;
    }
    let tensors = store::TensorFile::open(&weights(&file.path)?).ok()?;
    let names: Vec<String> = tensors.names().iter().map(ToString::to_string).collect();
    Some(
        names
            .iter()
            .filter_map(|name| Some(tensors.shape(name).ok()?.iter().product::<usize>()))
            .sum(),
    )
}

/// Folder of a model → the label it answered under: the samples of that label name the model's digest as an input.
pub(super) fn labels(report: &Report) -> BTreeMap<&str, String> {
    let models: Vec<&File> = report
        .tables
        .files
        .iter()
        .filter(|file| file.kind == "model")
        .collect();
    let mut labels = BTreeMap::new();
    for table in &report.tables.samples {
        let untouched = table.rows.iter().filter(|row| row.arm == "none");
        let answering: BTreeSet<&str> = untouched.map(|row| row.model.as_str()).collect();
        let [label] = answering.into_iter().collect::<Vec<_>>()[..] else {
            continue;
        };
        for made in report.tables.provenance_of(&[&table.file]) {
            let is_input = |model: &&&File| {
                made.inputs
                    .iter()
                    .any(|input| input.sha256 == model.input.sha256)
            };
            labels.extend(
                models
                    .iter()
                    .filter(is_input)
                    .map(|model| (model.name.as_str(), label.to_owned())),
            );
        }
    }
    labels
}

/// Programs and the arrows between them.
struct Chain {
    nodes: BTreeMap<String, Node>,
    arrows: BTreeSet<(String, String)>,
}

/// One program of the chain.
#[derive(Default)]
struct Node {
    n_files: usize,
    /// Longest way from a file without inputs here.
    depth: usize,
}

impl Chain {
    fn of(report: &Report) -> Self {
        let made = report
            .tables
            .files
            .iter()
            .filter_map(|file| Some((file, file.provenance.as_ref()?)));
        // An input is known by its provenance, or, of what carries none, by its digest.
        let by_id = made
            .clone()
            .map(|(_, provenance)| (provenance.id(), &provenance.program));
        let by_digest = made
            .clone()
            .map(|(file, provenance)| (file.input.sha256.clone(), &provenance.program));
        let maker: BTreeMap<String, &String> = by_id.chain(by_digest).collect();
        let mut chain = Self {
            nodes: BTreeMap::new(),
            arrows: BTreeSet::new(),
        };
        for (_, provenance) in made {
            chain
                .nodes
                .entry(provenance.program.clone())
                .or_default()
                .n_files += 1;
            let known = |input: &store::Input| {
                let by_id = input.provenance_id.as_ref().and_then(|id| maker.get(id));
                by_id.or_else(|| maker.get(&input.sha256)).copied()
            };
            let sources = provenance
                .inputs
                .iter()
                .filter_map(known)
                .filter(|source| **source != provenance.program);
            chain
                .arrows
                .extend(sources.map(|source| (source.clone(), provenance.program.clone())));
        }
        chain.settle();
        chain.thin_out();
        chain
    }

    /// Puts every program behind those it reads from; as many rounds as programs, so that a circle cannot go on forever.
    fn settle(&mut self) {
        for _ in 0..self.nodes.len() {
            for (source, target) in &self.arrows {
                let depth = self
                    .nodes
                    .get(source)
                    .map_or(0, |node| node.depth + 1)
                    .min(self.nodes.len());
                if let Some(node) = self.nodes.get_mut(target) {
                    node.depth = node.depth.max(depth);
                }
            }
        }
    }

    /// Leaves out arrows whose end is also reached through another program.
    fn thin_out(&mut self) {
        let all = self.arrows.clone();
        self.arrows.retain(|(source, target)| {
            let mut others = all
                .iter()
                .filter(|(from, to)| from == source && to != target);
            !others.any(|(_, middle)| behind(&all, middle).contains(target.as_str()))
        });
    }

    fn draw(&self) -> String {
        let columns = self.columns();
        let tallest = columns.iter().map(Vec::len).max().unwrap_or(1);
        let label = |name: &str| format!("{name} ×{}", self.nodes[name].n_files);
        let widths: Vec<f64> = columns
            .iter()
            .map(|names| {
                names
                    .iter()
                    .map(|name| text_width(&label(name)))
                    .fold(40.0, f64::max)
                    + 8.0
            })
            .collect();
        let gap = 22.0;
        let width = widths.iter().sum::<f64>() + gap * (columns.len() as f64 - 1.0) + 2.0;
        let height = tallest as f64 * 30.0;
        let mut places = BTreeMap::new();
        let mut x = 1.0;
        for (names, column_width) in columns.iter().zip(&widths) {
            let top = (height - names.len() as f64 * 30.0) / 2.0;
            for (index, name) in names.iter().enumerate() {
                places.insert(
                    (*name).clone(),
                    (x, top + index as f64 * 30.0 + 15.0, *column_width),
                );
            }
            x += column_width + gap;
        }
        let mut canvas = Canvas::new(width, height, "Which program made what from what");
        for (source, target) in &self.arrows {
            let (from, to) = (places[source], places[target]);
            canvas.curve((from.0 + from.2, from.1), (to.0, to.1), "flow");
        }
        for (name, (x, y, width)) in &places {
            canvas.rect((*x, y - 10.0), (*width, 20.0), "node");
            canvas.text(
                (x + width / 2.0, y + 4.0),
                Anchor::Middle,
                "nodename",
                &label(name),
            );
        }
        canvas.finish_fixed()
    }

    fn columns(&self) -> Vec<Vec<&String>> {
        let deepest = self
            .nodes
            .values()
            .map(|node| node.depth)
            .max()
            .unwrap_or(0);
        let at = |depth: usize| {
            self.nodes
                .iter()
                .filter(|(_, node)| node.depth == depth)
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        (0..=deepest)
            .map(at)
            .filter(|names| !names.is_empty())
            .collect()
    }
}

/// Everything one or more arrows away.
fn behind<'a>(arrows: &'a BTreeSet<(String, String)>, start: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(here) = open.pop() {
        let targets = arrows
            .iter()
            .filter(|(source, _)| source == here)
            .map(|(_, target)| target.as_str());
        open.extend(targets.filter(|target| found.insert(*target)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_that_go_a_longer_way_too_are_left_out() {
        let arrow = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let arrows = BTreeSet::from([arrow("a", "b"), arrow("b", "c"), arrow("a", "c")]);
        let nodes = ["a", "b", "c"].map(|name| (name.to_owned(), Node::default()));
        let mut chain = Chain {
            nodes: nodes.into(),
            arrows,
        };
        chain.settle();
        chain.thin_out();
        assert_eq!(
            chain.arrows,
            BTreeSet::from([arrow("a", "b"), arrow("b", "c")])
        );
        assert_eq!(chain.nodes["c"].depth, 2);
    }
}
