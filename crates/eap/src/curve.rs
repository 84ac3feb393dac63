//! `eap circuit`: how much of what a model does its largest edges do alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::ArgGroup;
use model::Model;
use serde::Serialize;
use stats::Estimate;
use store::{Provenance, tables::CircuitPoint};

use crate::{
    attribute::Scorer,
    circuit::{self, Ranking, Selection},
    edges::EdgeMaps,
    example::Example,
    export,
    graph::Graph,
    masked::Masked,
    method::{Ablation, Method, Plan},
    pairs::Metric,
    precision::{Computer, Precision},
    sets::{self, Choice},
    show,
};

/// Shares of the edges at which MIB measures circuits.
const SIZES: &str = "0.001,0.002,0.005,0.01,0.02,0.05,0.1,0.2,0.5,1";

/// Runs a model on its best edges alone: the faithfulness curve and the areas above and below it.
///
/// Reads the averages of a table of edges, ranks them, and for each size keeps that share of the edges, takes away nodes
/// that nothing reaches or that reach nothing, and runs the model with every other edge ablated. `performance` is minus the
/// loss, mean over examples; `faithfulness` is its place between no edge (0) and all edges (1); `cpr` is the area under the
/// faithfulness over the share of edges, `cmd` the area between it and 1 (0 is best), both by trapezoids from the smallest
/// size to the largest, as in MIB. Intervals are bootstrapped over examples.
///
/// Metric and ablation are those the edges were scored with, unless given.
#[derive(Debug, Clone, clap::Args)]
#[command(
    before_help = "Example:\n  eap circuit --model m=DIR --pairs pairs.json --edges edges.parquet -o circuit.parquet",
    group = ArgGroup::new("what").required(true).args(["samples", "pairs"])
)]
pub struct Args {
    /// The model that was scored, as LABEL=DIRECTORY
    #[arg(long, value_name = "LABEL=DIR")]
    pub model: cli::Labelled,
    /// Its edges, as `eap score` or `eap import` wrote them
    #[arg(long, value_name = "FILE")]
    pub edges: PathBuf,
    /// Clean and corrupted sequences
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// The model's own answers instead of pairs: samples tables
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub samples: Vec<PathBuf>,
    /// Answers of the models it was compared to
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "samples")]
    pub against: Vec<PathBuf>,
    /// Table of figures to write; `-` is stdout, then nothing else is printed there
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Folder for the circuits as EAP-IG files, one a size, with all scores in importances.json: a MIB submission
    #[arg(long, value_name = "DIR")]
    pub circuits: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    choice: Choice,
}

/// What decides the numbers.
#[derive(Debug, Clone, clap::Args, Serialize)]
struct Settings {
    /// How the edges of a circuit are found
    #[arg(long, value_enum, default_value_t = Selection::TopN)]
    select: Selection,
    /// What edges are ranked by: MIB takes signed for CPR, absolute for CMD
    #[arg(long, value_enum, default_value_t = Ranking::Absolute)]
    rank: Ranking,
    /// Leave nodes without an edge in or out where they are
    #[arg(long)]
    no_prune: bool,
    /// Shares of the edges
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = SIZES, value_parser = share)]
    sizes: Vec<f64>,
    /// Loss [default: that of the edges]
    #[arg(long, value_enum)]
    metric: Option<Metric>,
    /// What an ablated source writes [default: as for the edges]
    #[arg(long, value_enum)]
    ablation: Option<Ablation>,
    /// Precision of the computation: f32 or f64
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    dtype: Precision,
    #[command(flatten)]
    compute: cli::Compute,
    /// Bootstrap draws
    #[arg(long, value_name = "N", default_value_t = stats::DRAWS)]
    draws: usize,
}

fn share(text: &str) -> Result<f64, String> {
    let parsed = text
        .parse()
        .ok()
        .filter(|&x: &f64| (0.0..=1.0).contains(&x));
    parsed.ok_or_else(|| "a share from 0 to 1 is needed".into())
}

/// Runs `eap circuit`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let edges = EdgeMaps::read(std::slice::from_ref(&args.edges));
    let edges = edges.with_context(|| format!("cannot use {}", args.edges.display()))?;
    let computer = Computer::open(&args.settings.compute, args.settings.dtype)?;
    let (metric, plan) = plan(args)?;
    let examples = examples(args, metric, plan)?;
    let model = computer.load(&args.model.path)?;
    refuse_other_graph(&edges.graph, &model, args)?;
    let scores = edges.average(alpha(args))?;
    let references: Vec<&Example> = examples.iter().collect();
    let scorer = Scorer::new(&model, edges.graph, plan, &references)?;
    let circuits = circuits(args, &edges.graph, &scores);
    say_empty(&circuits);
    let losses = losses(&scorer, &references, &circuits)
        .with_context(|| format!("cannot run {}", args.model.path.display()))?;
    let rows = figures(args, &edges, &circuits, &losses);
    let provenance = provenance(args, metric, plan)?;
    if let Some(folder) = &args.circuits {
        write_circuits(folder, &edges.graph, &model, &scores, &circuits)?;
    }
    store::write_table(&args.output, &rows, &provenance)?;
    if args.output == Path::new("-") {
        return Ok(());
    }
    cli::data(&show::curve(&rows))
}

/// A circuit of one size.
struct Circuit {
    share: f64,
    edges: usize,
    kept: Vec<bool>,
}

impl Circuit {
    fn n_kept(&self) -> usize {
        self.kept.iter().filter(|&&kept| kept).count()
    }
}

/// Small circuits may have no way from the input to the logits: then nothing of them is left.
fn say_empty(circuits: &[Circuit]) {
    let chosen = circuits.iter().filter(|circuit| circuit.edges > 0);
    let empty = chosen.clone().filter(|circuit| circuit.n_kept() == 0);
    let (empty, n) = (empty.count(), chosen.count());
    if empty > 0 {
        cli::say(&format!(
            "{empty} of {n} circuits have no way from the input to the logits and are pruned away (--select greedy grows them \
             from the logits, --no-prune keeps them)"
        ));
    }
}

/// Metric and ablation of the edges where they say so.
fn plan(args: &Args) -> anyhow::Result<(Metric, Plan)> {
    let recorded = store::table_provenance(&args.edges)
        .ok()
        .map(|provenance| provenance.settings);
    let named = |key: &str| {
        recorded
            .as_ref()
            .and_then(|settings| settings[key].as_str().map(String::from))
    };
    let parse = |key: &str| named(key).filter(|_| args.pairs.is_some() || key == "ablation");
    let metric = match (args.settings.metric, parse("metric")) {
        (Some(metric), _) => metric,
        (None, Some(name)) => clap::ValueEnum::from_str(&name, false)
            .map_err(|_| anyhow::anyhow!("unknown metric {name}"))?,
        (None, None) if args.pairs.is_some() => Metric::LogitDiff,
        (None, None) => Metric::Nll,
    };
    let usual = if args.pairs.is_some() {
        Ablation::Corrupted
    } else {
        Ablation::Zero
    };
    let ablation = match (args.settings.ablation, parse("ablation")) {
        (Some(ablation), _) => ablation,
        (None, Some(name)) => clap::ValueEnum::from_str(&name, false).unwrap_or(usual),
        (None, None) => usual,
    };
    let plan = Plan {
        ablation,
        ..Plan::new(Method::Exact)
    };
    ensure!(
        args.pairs.is_some() || (ablation != Ablation::Corrupted && metric == Metric::Nll),
        cli::Usage("answers have no corrupted run and no labels: --samples needs --metric nll and --ablation zero or mean".into())
    );
    Ok((metric, plan))
}

fn alpha(args: &Args) -> Option<f64> {
    match args.choice.alpha.as_slice() {
        [alpha] if args.pairs.is_none() => Some(*alpha),
        _ => None,
    }
}

fn examples(args: &Args, metric: Metric, plan: Plan) -> anyhow::Result<Vec<Example>> {
    let work = match &args.pairs {
        Some(path) => sets::from_pairs(path, metric, plan, &args.model.path)?,
        None => sets::from_samples(
            &args.model,
            &[&args.model.label],
            &args.samples,
            &args.against,
            &args.choice,
        )?,
    };
    ensure!(
        work.sets.len() == 1,
        cli::Usage("a circuit is run under one truncation: give one --alpha".into())
    );
    Ok(work.sets.into_iter().flat_map(|set| set.examples).collect())
}

fn refuse_other_graph(graph: &Graph, model: &Model, args: &Args) -> anyhow::Result<()> {
    let config = &model.config;
    let heads = graph.heads.is_none_or(|heads| {
        heads.n_heads == config.n_heads
            && [config.n_heads, config.n_kv_heads].contains(&heads.n_kv_heads)
    });
    ensure!(
        heads && graph.n_layers == config.n_layers,
        "{} holds edges of another model than {}: {graph}",
        args.edges.display(),
        args.model.path.display()
    );
    Ok(())
}

fn circuits(args: &Args, graph: &Graph, scores: &[f64]) -> Vec<Circuit> {
    let settings = &args.settings;
    let choice = circuit::Choice {
        selection: settings.select,
        ranking: settings.rank,
        prune: !settings.no_prune,
    };
    let of_size = |&share: &f64| {
        let edges = (share * graph.n_edges() as f64) as usize;
        Circuit {
            share,
            edges,
            kept: circuit::select(graph, scores, edges, choice),
        }
    };
    settings.sizes.iter().map(of_size).collect()
}

/// Losses `[circuits + 2][examples]`: of every circuit, of no edge, of all edges.
fn losses(
    scorer: &Scorer<'_>,
    examples: &[&Example],
    circuits: &[Circuit],
) -> anyhow::Result<Vec<Vec<f64>>> {
    let n_entries = scorer.graph.n_entries();
    let (none, all) = (vec![false; n_entries], vec![true; n_entries]);
    let masks: Vec<&Vec<bool>> = circuits
        .iter()
        .map(|circuit| &circuit.kept)
        .chain([&none, &all])
        .collect();
    let mut losses = vec![Vec::new(); masks.len()];
    let progress = cli::Progress::start("circuit", examples.len() as u64, "examples");
    for example in examples {
        if cli::stop_requested() {
            let done = "nothing is kept of a curve that is not complete".to_owned();
            return Err(cli::Stopped { done }.into());
        }
        let masked = Masked::new(scorer, example)?;
        for (losses, mask) in losses.iter_mut().zip(&masks) {
            losses.push(masked.loss(mask)?);
        }
        progress.advance(1);
    }
    progress.finish();
    Ok(losses)
}

/// Mean performance and place between no edge and all, circuit by circuit, over some examples.
struct Curve<'a> {
    losses: &'a [Vec<f64>],
    shares: Vec<f64>,
}

impl Curve<'_> {
    fn performance(&self, circuit: usize, examples: &[usize]) -> f64 {
        let sum: f64 = examples
            .iter()
            .map(|&example| -self.losses[circuit][example])
            .sum();
        sum / examples.len() as f64
    }

    fn faithfulness(&self, circuit: usize, examples: &[usize]) -> f64 {
        let n = self.losses.len();
        let [own, none, all] =
            [circuit, n - 2, n - 1].map(|circuit| self.performance(circuit, examples));
        (own - none) / (all - none)
    }

    /// ∫ `of`(faithfulness) over the share of edges, by trapezoids.
    fn area(&self, examples: &[usize], of: fn(f64) -> f64) -> f64 {
        let heights: Vec<f64> = (0..self.shares.len())
            .map(|circuit| of(self.faithfulness(circuit, examples)))
            .collect();
        let widths = self.shares.windows(2).map(|pair| pair[1] - pair[0]);
        widths
            .zip(heights.windows(2))
            .map(|(width, pair)| width * 0.5 * (pair[0] + pair[1]))
            .sum()
    }
}

fn figures(
    args: &Args,
    edges: &EdgeMaps,
    circuits: &[Circuit],
    losses: &[Vec<f64>],
) -> Vec<CircuitPoint> {
    let curve = Curve {
        losses,
        shares: circuits.iter().map(|circuit| circuit.share).collect(),
    };
    let n = losses[0].len();
    let bootstrap = |statistic: &(dyn Fn(&[usize]) -> f64 + Sync)| {
        stats::bootstrap(n, args.settings.draws, args.choice.filter.seed, statistic)
    };
    let row = |measure: &str, circuit: Option<&Circuit>, estimate: Estimate| CircuitPoint {
        model: edges.model.clone(),
        measure: measure.into(),
        share: circuit.map(|circuit| circuit.share),
        edges: circuit.map(|circuit| circuit.edges as u32),
        kept: circuit.map(|circuit| circuit.n_kept() as u32),
        n: n as u32,
        value: estimate.value,
        value_low: estimate.low,
        value_high: estimate.high,
    };
    let mut rows = Vec::new();
    for (place, circuit) in circuits.iter().enumerate() {
        let performance = bootstrap(&|examples| curve.performance(place, examples));
        rows.push(row("performance", Some(circuit), performance));
        let faithfulness = bootstrap(&|examples| curve.faithfulness(place, examples));
        rows.push(row("faithfulness", Some(circuit), faithfulness));
    }
    let cpr = bootstrap(&|examples| curve.area(examples, |f| f));
    let cmd = bootstrap(&|examples| curve.area(examples, |f| (1.0 - f).abs()));
    rows.extend([row("cpr", None, cpr), row("cmd", None, cmd)]);
    rows
}

/// All scores in `importances.json`, and a file per size below 1 with its circuit.
fn write_circuits(
    folder: &Path,
    graph: &Graph,
    model: &Model,
    scores: &[f64],
    circuits: &[Circuit],
) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let file = export::Graphs {
        graph,
        d_model: model.config.d_model,
    };
    let all = vec![true; graph.n_entries()];
    file.write_json(&folder.join("importances.json"), scores, &all)?;
    for circuit in circuits.iter().filter(|circuit| circuit.share < 1.0) {
        let path = folder.join(format!("circuit-{}.json", circuit.share));
        file.write_json(&path, scores, &circuit.kept)?;
    }
    Ok(())
}

fn provenance(args: &Args, metric: Metric, plan: Plan) -> anyhow::Result<Provenance> {
    #[derive(Serialize)]
    struct Recorded<'a> {
        settings: &'a Settings,
        metric: Metric,
        ablation: Ablation,
        #[serde(skip_serializing_if = "Option::is_none")]
        choice: Option<&'a Choice>,
    }
    let recorded = Recorded {
        settings: &args.settings,
        metric,
        ablation: plan.ablation,
        choice: args.pairs.is_none().then_some(&args.choice),
    };
    let files: Vec<PathBuf> = std::iter::once(&args.edges)
        .chain(&args.pairs)
        .chain(&args.samples)
        .chain(&args.against)
        .cloned()
        .collect();
    let provenance = Provenance::new("eap circuit", &recorded)?.seed(args.choice.filter.seed);
    Ok(provenance.input(&args.model.path)?.inputs(&files)?)
}
