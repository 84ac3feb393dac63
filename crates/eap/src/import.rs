//! `eap import`: graphs of EAP-IG and MIB as a table of edges.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use store::{Provenance, tables::Edge};

use crate::{
    graph::{Graph, Heads},
    rows::Rows,
    torch::{self, Value},
};

/// Format of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// EAP-IG's graph, .json or .pt
    EapIg,
    /// A MIB folder: its importances.json or importances.pt
    Mib,
}

/// Reads a graph of another program as a table of edges.
///
/// EAP-IG writes .json and .pt (which is read as data: nothing in it is ever executed), MIB takes folders of them. Their
/// scores become averages; an edge without a score, as in MIB's circuits, has 1 when it is in the graph and 0 when it is not.
/// Raw scores of EAP-IG depend on its batch size: they are those on the scale of `eap score` only when it was 1.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[command(before_help = "Example:\n  eap import graph.pt -o edges.parquet")]
pub struct Args {
    /// File, or folder for mib
    #[arg(value_name = "GRAPH")]
    #[serde(skip)]
    pub graph: PathBuf,
    /// Format [default: mib for a folder, eap-ig for a file]
    #[arg(long, value_enum)]
    pub from: Option<Format>,
    /// Table of edges to write; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Label of the model in the table
    #[arg(long, default_value = "imported")]
    pub label: String,
}

/// What is stored with the edges.
#[derive(Serialize)]
struct Recorded<'a> {
    #[serde(flatten)]
    args: &'a Args,
    d_model: usize,
}

/// Runs `eap import`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let path = file(args);
    let read = read(&path).with_context(|| format!("cannot use {}", path.display()))?;
    let recorded = Recorded {
        args,
        d_model: read.d_model,
    };
    let provenance = Provenance::new("eap import", &recorded)?.input(&path)?;
    store::write_table(&args.output, &read.rows(&args.label), &provenance)?;
    Ok(())
}

fn file(args: &Args) -> PathBuf {
    let usual = if args.graph.is_dir() {
        Format::Mib
    } else {
        Format::EapIg
    };
    if args.from.unwrap_or(usual) == Format::EapIg {
        return args.graph.clone();
    }
    let json = args.graph.join("importances.json");
    if json.exists() {
        json
    } else {
        args.graph.join("importances.pt")
    }
}

/// A graph that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Its graph.
    pub graph: Graph,
    /// Width of its model; 0 when it does not say.
    pub d_model: usize,
    /// `[n_sources, n_targets]`
    pub scores: Vec<f64>,
    /// Edges of its circuit.
    pub in_graph: Vec<bool>,
}

impl Imported {
    fn rows(&self, label: &str) -> Vec<Edge> {
        let rows = Rows {
            model: label,
            graph: &self.graph,
            alpha: None,
            edges: None,
        };
        rows.of(None, &self.scores)
    }
}

/// Reads a file of EAP-IG: a zip is a `.pt`, everything else a `.json`.
pub fn read(path: &Path) -> anyhow::Result<Imported> {
    let bytes = std::fs::read(path)?;
    if bytes.starts_with(b"PK") {
        from_torch(&bytes)
    } else {
        from_json(&bytes)
    }
}

#[derive(Deserialize)]
struct File {
    cfg: Config,
    edges: serde_json::Map<String, Json>,
}

#[derive(Deserialize)]
struct Config {
    n_layers: usize,
    n_heads: usize,
    #[serde(default)]
    d_model: usize,
    #[serde(default)]
    parallel_attn_mlp: bool,
}

impl Config {
    fn graph(&self) -> anyhow::Result<Graph> {
        ensure!(
            !self.parallel_attn_mlp,
            "attention and MLP run side by side in its model, which no model here does"
        );
        let sane = (1..1 << 12).contains(&self.n_layers) && (1..1 << 12).contains(&self.n_heads);
        ensure!(
            sane,
            "it claims {} layers of {} heads",
            self.n_layers,
            self.n_heads
        );
        Ok(Graph::heads(
            self.n_layers,
            Heads {
                n_heads: self.n_heads,
                n_kv_heads: self.n_heads,
            },
        ))
    }
}

fn from_json(bytes: &[u8]) -> anyhow::Result<Imported> {
    let file: File = serde_json::from_slice(bytes)?;
    let graph = file.cfg.graph()?;
    let mut scores = vec![f64::NAN; graph.n_entries()];
    let mut in_graph = vec![false; graph.n_entries()];
    for (name, edge) in &file.edges {
        let entry =
            entry(&graph, name).with_context(|| format!("{name} is not an edge of its graph"))?;
        in_graph[entry] = match edge {
            Json::Bool(value) => *value,
            _ => edge["in_graph"].as_bool().unwrap_or(false),
        };
        scores[entry] = match &edge["score"] {
            Json::Number(score) => score.as_f64().unwrap_or(f64::NAN),
            _ => f64::from(u8::from(in_graph[entry])),
        };
        ensure!(scores[entry].is_finite(), "{name} has no finite score");
    }
    let missing = graph
        .edges()
        .find(|&(s, t)| scores[s * graph.n_targets() + t].is_nan());
    if let Some((source, target)) = missing {
        bail!(
            "{}->{} is missing",
            graph.source(source),
            graph.target(target)
        );
    }
    scores
        .iter_mut()
        .filter(|score| score.is_nan())
        .for_each(|score| *score = 0.0);
    Ok(Imported {
        graph,
        d_model: file.cfg.d_model,
        scores,
        in_graph,
    })
}

fn entry(graph: &Graph, name: &str) -> Option<usize> {
    let (source, target) = name.split_once("->")?;
    let source = graph.source_index(source.parse().ok()?)?;
    let target = graph.target_index(target.parse().ok()?)?;
    graph
        .is_real(source, target)
        .then_some(source * graph.n_targets() + target)
}

fn from_torch(bytes: &[u8]) -> anyhow::Result<Imported> {
    let values = torch::read(bytes)?;
    let value = |key: &str| {
        values
            .get(key)
            .with_context(|| format!("there is no {key}"))
    };
    let Value::Dict(cfg) = value("cfg")? else {
        bail!("its cfg is no dictionary");
    };
    let int = |key: &str| match cfg.iter().find(|(name, _)| name == key) {
        Some((_, Value::Int(number))) => usize::try_from(*number).ok(),
        _ => None,
    };
    let parallel = cfg
        .iter()
        .any(|(key, value)| key == "parallel_attn_mlp" && *value == Value::Bool(true));
    let config = Config {
        n_layers: int("n_layers").context("there is no n_layers")?,
        n_heads: int("n_heads").context("there is no n_heads")?,
        d_model: int("d_model").unwrap_or(0),
        parallel_attn_mlp: parallel,
    };
    let graph = config.graph()?;
    check_names(&graph, value("src_nodes")?, value("dst_nodes")?)?;
    let shape = [graph.n_sources(), graph.n_targets()];
    let Value::Floats(found, scores) = value("edges_scores")? else {
        bail!("its edges_scores are no floats");
    };
    ensure!(
        *found == shape,
        "its scores are {found:?}, its graph is {shape:?}"
    );
    let in_graph = match values.get("edges_in_graph") {
        Some(Value::Bools(found, kept)) if *found == shape => kept.clone(),
        _ => vec![false; graph.n_entries()],
    };
    let mut scores: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
    for (entry, score) in scores.iter_mut().enumerate() {
        let (source, target) = (entry / graph.n_targets(), entry % graph.n_targets());
        if !graph.is_real(source, target) {
            *score = 0.0;
        }
        ensure!(
            score.is_finite(),
            "{}->{} has no finite score",
            graph.source(source),
            graph.target(target)
        );
    }
    Ok(Imported {
        graph,
        d_model: config.d_model,
        scores,
        in_graph,
    })
}

/// Refuses a file whose nodes come in another order.
fn check_names(graph: &Graph, sources: &Value, targets: &Value) -> anyhow::Result<()> {
    let ours = (0..graph.n_sources()).map(|index| graph.source(index).to_string());
    let theirs = Value::Names(ours.collect());
    ensure!(
        *sources == theirs,
        "its source nodes are not those of its configuration"
    );
    let ours = (0..graph.n_targets()).map(|index| graph.target(index).to_string());
    let theirs = Value::Names(ours.collect());
    ensure!(
        *targets == theirs,
        "its target nodes are not those of its configuration"
    );
    Ok(())
}
