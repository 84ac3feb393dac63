//! Edges as a picture: for Graphviz, or drawn here.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    graph::Graph,
    node::{Source, Target},
};

/// An edge between nodes by name: attention targets become their head.
struct Line {
    from: String,
    to: String,
    /// `q`, `k` or `v`; empty elsewhere.
    part: String,
    score: f64,
}

fn lines(graph: &Graph, scores: &[f64], kept: &[bool]) -> Vec<Line> {
    let line = |(source, target): (usize, usize)| {
        let name = graph.target(target).to_string();
        let (to, part) = match name.split_once('<') {
            Some((head, part)) => (head.to_owned(), part.trim_end_matches('>').to_owned()),
            None => (name, String::new()),
        };
        Line {
            from: graph.source(source).to_string(),
            to,
            part,
            score: scores[source * graph.n_targets() + target],
        }
    };
    let in_circuit = |&(source, target): &(usize, usize)| kept[source * graph.n_targets() + target];
    graph.edges().filter(in_circuit).map(line).collect()
}

/// Largest |score|; 1 when there is none.
fn largest(lines: &[Line]) -> f64 {
    let most = lines
        .iter()
        .fold(0.0, |most, line| f64::max(most, line.score.abs()));
    if most > 0.0 { most } else { 1.0 }
}

/// Orange-red where an edge helps, blue where it hurts: told apart by every eye.
fn colour(score: f64) -> &'static str {
    if score >= 0.0 { "#c4501b" } else { "#2166ac" }
}

/// The kept edges as a graph for Graphviz, from the input up.
pub fn dot(graph: &Graph, scores: &[f64], kept: &[bool]) -> String {
    let lines = lines(graph, scores, kept);
    let most = largest(&lines);
    let mut text = String::from(
        "digraph edges {\n  rankdir=BT; bgcolor=white; nodesep=0.15;\n  \
         node [shape=box, style=rounded, fontname=\"Helvetica\", fontsize=10, height=0.3];\n  \
         edge [fontname=\"Helvetica\", fontsize=8, arrowsize=0.5];\n",
    );
    for line in &lines {
        let label = if line.part.is_empty() {
            String::new()
        } else {
            format!(", label=\"{}\"", line.part)
        };
        let _ = writeln!(
            text,
            "  \"{}\" -> \"{}\" [penwidth={:.2}, color=\"{}\"{label}, tooltip=\"{:.4e}\"];",
            line.from,
            line.to,
            0.4 + 3.6 * line.score.abs() / most,
            colour(line.score),
            line.score
        );
    }
    text.push_str("}\n");
    text
}

/// Height of a rung: input, attention and MLP of every layer, logits.
const RUNG: f64 = 54.0;
/// Room for a node.
const NODE: (f64, f64) = (46.0, 20.0);
/// Space around the drawing.
const MARGIN: f64 = 24.0;

/// A node's rung: 0 the input, then attention and MLP layer by layer, the logits last.
fn rung(graph: &Graph, name: &str) -> usize {
    match name.parse::<Source>() {
        Ok(Source::Input) => 0,
        Ok(Source::Attention { layer, .. }) => 1 + 2 * layer,
        Ok(Source::Mlp { layer }) => 2 + 2 * layer,
        Err(_) => match name.parse::<Target>() {
            Ok(Target::Attention { layer, .. }) => 1 + 2 * layer,
            _ => 1 + 2 * graph.n_layers,
        },
    }
}

/// The kept edges drawn from the input (below) to the logits (above); rungs without nodes are left out.
pub fn svg(graph: &Graph, scores: &[f64], kept: &[bool]) -> String {
    let lines = lines(graph, scores, kept);
    let places = places(graph, &lines);
    let width = places.values().map(|place| place.0).fold(0.0, f64::max) + NODE.0 / 2.0 + MARGIN;
    let height = places.values().map(|place| place.1).fold(0.0, f64::max) + NODE.1 / 2.0 + MARGIN;
    let (most, width) = (largest(&lines), width.max(280.0));
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"10\">\n\
         <title>{} largest edges; orange: ablating the edge raises the loss, blue: lowers it; widest: |score| {most:.3e}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
        lines.len()
    );
    for line in &lines {
        text.push_str(&curve(line, places[&line.from], places[&line.to], most));
    }
    for (name, &(x, y)) in &places {
        let (left, top) = (x - NODE.0 / 2.0, y - NODE.1 / 2.0);
        let _ = writeln!(
            text,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"#f7f7f5\" stroke=\"#555\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#222\">{name}</text>",
            NODE.0,
            NODE.1,
            y + 3.5
        );
    }
    text.push_str("</svg>\n");
    text
}

/// Centres of the nodes that an edge touches.
fn places(graph: &Graph, lines: &[Line]) -> BTreeMap<String, (f64, f64)> {
    let mut rungs: BTreeMap<usize, Vec<&String>> = BTreeMap::new();
    for name in lines.iter().flat_map(|line| [&line.from, &line.to]) {
        let names = rungs.entry(rung(graph, name)).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let widest = rungs.values().map(Vec::len).max().unwrap_or(0);
    let full = widest as f64 * (NODE.0 + 8.0);
    let n = rungs.len();
    let mut places = BTreeMap::new();
    for (height, names) in rungs.values_mut().enumerate() {
        names.sort_by_key(|name| head_of(name));
        let step = full / names.len() as f64;
        for (place, name) in names.iter().enumerate() {
            let x = MARGIN + step * (place as f64 + 0.5);
            let y = MARGIN + NODE.1 / 2.0 + RUNG * (n - 1 - height) as f64;
            places.insert((*name).clone(), (x, y));
        }
    }
    places
}

fn head_of(name: &str) -> usize {
    name.split_once(".h")
        .and_then(|(_, head)| head.parse().ok())
        .unwrap_or(0)
}

fn curve(line: &Line, (x0, y0): (f64, f64), (x1, y1): (f64, f64), most: f64) -> String {
    let (y0, y1) = (y0 - NODE.1 / 2.0, y1 + NODE.1 / 2.0);
    let bend = (y0 - y1) * 0.5;
    let part = if line.part.is_empty() {
        String::new()
    } else {
        format!("<{}>", line.part)
    };
    format!(
        "<path d=\"M{x0:.1} {y0:.1}C{x0:.1} {:.1} {x1:.1} {:.1} {x1:.1} {y1:.1}\" fill=\"none\" stroke=\"{}\" \
         stroke-width=\"{:.2}\" stroke-opacity=\"0.75\"><title>{}-&gt;{}{} {:.4e}</title></path>\n",
        y0 - bend,
        y1 + bend,
        colour(line.score),
        0.5 + 4.5 * line.score.abs() / most,
        line.from,
        line.to,
        part.replace('<', "&lt;").replace('>', "&gt;"),
        line.score
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drawings_show_the_kept_edges_and_their_nodes_alone() {
        let graph = Graph::layers(2);
        let entry = |name: &str| {
            let (source, target) = name.split_once("->").unwrap();
            let source = graph.source_index(source.parse().unwrap()).unwrap();
            source * graph.n_targets() + graph.target_index(target.parse().unwrap()).unwrap()
        };
        let (mut scores, mut kept) = (vec![0.0; graph.n_entries()], vec![false; graph.n_entries()]);
        for (name, score) in [("input->a1<k>", 2.0), ("a1->logits", -1.0)] {
            scores[entry(name)] = score;
            kept[entry(name)] = true;
        }
        let (dot, svg) = (dot(&graph, &scores, &kept), svg(&graph, &scores, &kept));
        assert!(
            dot.contains("\"input\" -> \"a1\" [penwidth=4.00, color=\"#c4501b\", label=\"k\""),
            "{dot}"
        );
        assert!(
            dot.contains("\"a1\" -> \"logits\" [penwidth=2.20, color=\"#2166ac\", tooltip"),
            "{dot}"
        );
        assert!(!dot.contains("m0") && !svg.contains("m0"));
        assert_eq!(svg.matches("<path").count(), 2);
        assert_eq!(svg.matches("<text").count(), 3);
        assert!(svg.contains("input-&gt;a1&lt;k&gt; 2.0000e0"), "{svg}");
        // The input lies below what reads it.
        let height = |name: &str| -> f64 {
            let line = svg
                .lines()
                .find(|line| line.ends_with(&format!(">{name}</text>")))
                .unwrap();
            let y = line
                .split("<text")
                .nth(1)
                .unwrap()
                .split("y=\"")
                .nth(1)
                .unwrap();
            y.split('"').next().unwrap().parse().unwrap()
        };
        assert!(height("input") > height("a1") && height("a1") > height("logits"));
    }
}
