//! `eap export`: edges as files of other programs, or as a drawing.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde_json::{Map, Value as Json, json};

use crate::{
    circuit::{self, Choice, Ranking, Selection},
    draw,
    edges::EdgeMaps,
    graph::Graph,
    torch::{self, Value},
};

/// Format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// EAP-IG's graph: .json, or .pt when the output is called so
    EapIg,
    /// A folder with importances.json, as MIB takes it
    Mib,
    /// A graph for Graphviz
    Dot,
    /// A drawing
    Svg,
}

/// Writes edges for other programs: EAP-IG, MIB, Graphviz, or as a drawing.
///
/// Reads the averages of a table of edges. `in_graph` marks the edges of the circuit of --top edges, or all of them; drawings
/// show the --top largest edges (50 unless given) with the nodes they join, width by score, colour by sign.
#[derive(Debug, Clone, clap::Args)]
#[command(
    before_help = "Examples:\n  eap export --to eap-ig edges.parquet -o graph.json\n  \
        eap export --to svg --top 40 edges.parquet -o graph.svg"
)]
pub struct Args {
    /// Edges: a file, a directory of parts or a glob
    #[arg(value_name = "EDGES")]
    pub edges: PathBuf,
    /// Format
    #[arg(long, value_enum)]
    pub to: Format,
    /// File to write, or folder for mib
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Edges of the circuit, or of the drawing
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// How the edges of the circuit are found
    #[arg(long, value_enum, default_value_t = Selection::TopN)]
    pub select: Selection,
    /// What edges are ranked by
    #[arg(long, value_enum, default_value_t = Ranking::Absolute)]
    pub rank: Ranking,
    /// Truncation, when the table has several
    #[arg(long, value_name = "A")]
    pub alpha: Option<f64>,
    /// Width of the model, when the table does not say
    #[arg(long, value_name = "N")]
    pub d_model: Option<usize>,
}

/// Edges a drawing shows unless told otherwise.
const DRAWN: usize = 50;

/// Runs `eap export`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let edges = EdgeMaps::read(std::slice::from_ref(&args.edges));
    let edges = edges.with_context(|| format!("cannot use {}", args.edges.display()))?;
    let scores = edges.average(args.alpha)?;
    let choice = Choice {
        selection: args.select,
        ranking: args.rank,
        prune: matches!(args.to, Format::EapIg | Format::Mib),
    };
    let top = match args.to {
        Format::Dot | Format::Svg => Some(args.top.unwrap_or(DRAWN)),
        Format::EapIg | Format::Mib => args.top,
    };
    let kept = match top {
        Some(n) => circuit::select(&edges.graph, &scores, n, choice),
        None => vec![true; edges.graph.n_entries()],
    };
    match args.to {
        Format::Dot => write(
            &args.output,
            draw::dot(&edges.graph, &scores, &kept).as_bytes(),
        ),
        Format::Svg => write(
            &args.output,
            draw::svg(&edges.graph, &scores, &kept).as_bytes(),
        ),
        Format::EapIg | Format::Mib => {
            let graphs = Graphs {
                graph: &edges.graph,
                d_model: d_model(args)?,
            };
            graphs.write(args, &scores, &kept)
        }
    }
}

fn d_model(args: &Args) -> anyhow::Result<usize> {
    if let Some(d_model) = args.d_model {
        return Ok(d_model);
    }
    let recorded = store::table_provenance(&args.edges).ok();
    let recorded = recorded.and_then(|provenance| provenance.settings["d_model"].as_u64());
    let recorded =
        recorded.context("the table does not say how wide the model is: give --d-model")?;
    Ok(recorded as usize)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(store::write_atomic(path, |file| file.write_all(bytes))?)
}

/// Graphs in EAP-IG's formats.
#[derive(Debug, Clone, Copy)]
pub struct Graphs<'a> {
    /// A head graph with a key and a value per query head.
    pub graph: &'a Graph,
    /// Width of the model.
    pub d_model: usize,
}

impl Graphs<'_> {
    fn write(&self, args: &Args, scores: &[f64], kept: &[bool]) -> anyhow::Result<()> {
        if args.to == Format::Mib {
            std::fs::create_dir_all(&args.output)
                .with_context(|| format!("cannot create {}", args.output.display()))?;
            return self.write_json(&args.output.join("importances.json"), scores, kept);
        }
        if args
            .output
            .extension()
            .is_some_and(|extension| extension == "pt")
        {
            return write(&args.output, &torch::write(&self.torch(scores, kept)?));
        }
        self.write_json(&args.output, scores, kept)
    }

    /// Writes the `.json` form.
    pub fn write_json(&self, path: &Path, scores: &[f64], kept: &[bool]) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(&self.json(scores, kept)?)?;
        text.push('\n');
        write(path, text.as_bytes())
    }

    fn n_heads(&self) -> anyhow::Result<usize> {
        let heads = self
            .graph
            .heads
            .context("EAP-IG's graphs have heads: score with --level head")?;
        ensure!(
            heads.n_kv_heads == heads.n_heads,
            "EAP-IG's graphs have a key and a value per query head: score with --gqa ungrouped"
        );
        Ok(heads.n_heads)
    }

    fn json(&self, scores: &[f64], kept: &[bool]) -> anyhow::Result<Json> {
        let graph = self.graph;
        let n_heads = self.n_heads()?;
        let mut nodes = Map::new();
        for (source, in_graph) in circuit::nodes(graph, kept).into_iter().enumerate() {
            nodes.insert(
                graph.source(source).to_string(),
                json!({"in_graph": in_graph}),
            );
        }
        nodes.insert("logits".into(), json!({"in_graph": true}));
        let mut edges = Map::new();
        for (source, target) in in_their_order(graph, n_heads) {
            let entry = source * graph.n_targets() + target;
            let name = format!("{}->{}", graph.source(source), graph.target(target));
            edges.insert(
                name,
                json!({"score": scores[entry], "in_graph": kept[entry]}),
            );
        }
        Ok(json!({
            "cfg": {
                "n_layers": graph.n_layers, "n_heads": n_heads, "parallel_attn_mlp": false, "d_model": self.d_model,
            },
            "nodes": nodes,
            "edges": edges,
        }))
    }

    fn torch(&self, scores: &[f64], kept: &[bool]) -> anyhow::Result<Vec<(String, Value)>> {
        let graph = self.graph;
        let int = |n: usize| Value::Int(n as i64);
        let cfg = [
            ("n_layers", int(graph.n_layers)),
            ("n_heads", int(self.n_heads()?)),
            ("parallel_attn_mlp", Value::Bool(false)),
            ("d_model", int(self.d_model)),
        ];
        let shape = vec![graph.n_sources(), graph.n_targets()];
        let sources = (0..graph.n_sources()).map(|index| graph.source(index).to_string());
        let targets = (0..graph.n_targets()).map(|index| graph.target(index).to_string());
        let real =
            |entry: usize| graph.is_real(entry / graph.n_targets(), entry % graph.n_targets());
        let in_graph = (0..graph.n_entries())
            .map(|entry| kept[entry] && real(entry))
            .collect();
        let values = [
            (
                "cfg",
                Value::Dict(cfg.map(|(key, value)| (key.to_owned(), value)).into()),
            ),
            ("src_nodes", Value::Names(sources.collect())),
            ("dst_nodes", Value::Names(targets.collect())),
            (
                "edges_scores",
                Value::Floats(shape.clone(), scores.iter().map(|&x| x as f32).collect()),
            ),
            ("edges_in_graph", Value::Bools(shape, in_graph)),
            (
                "nodes_in_graph",
                Value::Bools(vec![graph.n_sources()], circuit::nodes(graph, kept)),
            ),
        ];
        Ok(values.map(|(key, value)| (key.to_owned(), value)).into())
    }
}

/// Edges as EAP-IG iterates over them: by layer, by source, by head, query before key before value; then its MLP.
fn in_their_order(graph: &Graph, n_heads: usize) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    for layer in 0..graph.n_layers {
        let parts: Vec<usize> = (0..3)
            .map(|part| graph.part_columns(layer, part).start)
            .collect();
        for source in 0..graph.n_sources_before(parts[0]) {
            for head in 0..n_heads {
                edges.extend(parts.iter().map(|first| (source, first + head)));
            }
        }
        let mlp = parts[2] + n_heads;
        edges.extend((0..graph.n_sources_before(mlp)).map(|source| (source, mlp)));
    }
    let logits = graph.n_targets() - 1;
    edges.extend((0..graph.n_sources()).map(|source| (source, logits)));
    edges
}
