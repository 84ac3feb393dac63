//! `eap score`: every edge of one model, scored on its own answers or on pairs.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::{Context, ensure};
use clap::{ArgGroup, ValueEnum};
use model::{DType, Device, Model};
use serde::Serialize;
use store::{Provenance, tables::Edge};

use crate::{
    attribute::{Method, Plan},
    check,
    documents::Counts,
    example::Example,
    graph::{Graph, Level},
    pairs::Metric,
    rows::Scorer,
    sets::{self, Choice, Set, Work},
};

/// Scores the edges of one model: how much its loss depends on what each node passes to each other.
///
/// Reads a Hugging Face model directory and a samples table (or a file of pairs), and writes a row per edge: `score` is
/// Σ ⟨ΔO, ∂L/∂H⟩ over positions and width, ΔO what ablating the source adds to the residual stream and H what the target
/// reads, before its norm. A positive score means that ablating the edge raises the loss: the edge helps. The score does not
/// depend on the batch; averages are means over examples.
///
/// With --samples, the method of arXiv 2509.21044: zero ablation (ΔO = −O), L the mean negative log-likelihood of the first
/// ⌊αT̄⌋ tokens of the model's own answer (at least one), on documents that this model and every model of --against answer
/// correctly and at comparable length. The documents are the same from either side: score the other model with the files
/// exchanged. A row per example and one for their average. T̄ is taken task by task.
///
/// With --pairs, {"pairs": [{"clean": …, "corrupted": …, "label": [right, wrong], "targets": [[position, token], …]}]}:
/// sequences as token ids or text; averages, and a row per example with --per-example.
#[derive(Debug, Clone, clap::Args)]
#[command(
    before_help = "Examples:\n  \
        eap score --model rl=models/grpo --samples rl.samples.parquet \\\n            \
        --against base.samples.parquet -o rl.edges.parquet\n  \
        eap score --model m=DIR --pairs pairs.json --method eap-ig-inputs --steps 5 -o edges.parquet",
    group = ArgGroup::new("what").required(true).args(["samples", "pairs"])
)]
pub struct Args {
    /// Model to score, as LABEL=DIRECTORY
    #[arg(long, value_name = "LABEL=DIR")]
    pub model: cli::Labelled,
    /// Its answers: samples tables, a directory of parts or a glob; `-` is stdin
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub samples: Vec<PathBuf>,
    /// Answers of the models it is compared to, one table or several
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "samples")]
    pub against: Vec<PathBuf>,
    /// Clean and corrupted sequences instead of answers
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Table of edges to write; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    attribution: Attribution,
    #[command(flatten)]
    choice: Choice,
}

/// How edges are scored.
#[derive(Debug, Clone, clap::Args, Serialize)]
struct Attribution {
    /// How finely attention is split
    #[arg(long, value_enum, default_value_t = Level::Layer)]
    level: Level,
    /// Method [default: eap-zero with --samples, eap with --pairs]
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// Interpolations of eap-ig-inputs
    #[arg(long, value_name = "N", default_value = "5")]
    steps: NonZeroUsize,
    /// Loss [default: nll with --samples, logit-diff with --pairs]
    #[arg(long, value_enum)]
    metric: Option<Metric>,
    /// Keep a row per example with --pairs too
    #[arg(long)]
    per_example: bool,
    /// Examples per forward and reverse pass
    #[arg(long, value_name = "N", default_value = "8")]
    batch: NonZeroUsize,
    /// Precision of the computation: f32 or f64
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    dtype: Precision,
    /// Test finite differences, row sums and column sums before scoring; a failing identity is an error
    #[arg(long, value_enum, default_value_t = Check::On)]
    check: Check,
}

/// Precision of the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Precision {
    /// Single
    F32,
    /// Double: slow, for reference
    F64,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F64 => Self::F64,
        }
    }
}

/// Whether the identities are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Check {
    /// Test them
    On,
    /// Skip them
    Off,
}

/// Runs `eap score`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let plan = plan(args)?;
    let model = Model::load(
        &args.model.path,
        &Device::Cpu,
        args.attribution.dtype.into(),
    )?;
    let graph = Graph::layers(model.config.n_layers);
    let Work { sets, counts } = work(args, plan)?;
    let scorer = Scorer {
        model: &model,
        label: &args.model.label,
        graph,
        plan,
    };
    let report = self_check(args, &scorer, &sets).with_context(|| cannot_score(args))?;
    let rows = score(args, &scorer, &sets).with_context(|| cannot_score(args))?;
    let provenance = provenance(args, plan, counts, report.as_ref())?;
    store::write_table(&args.output, &rows, &provenance)?;
    Ok(())
}

fn cannot_score(args: &Args) -> String {
    format!("cannot score {}", args.model.path.display())
}

fn metric(args: &Args) -> Metric {
    let default = if args.pairs.is_some() {
        Metric::LogitDiff
    } else {
        Metric::Nll
    };
    args.attribution.metric.unwrap_or(default)
}

fn work(args: &Args, plan: Plan) -> anyhow::Result<Work> {
    match &args.pairs {
        Some(path) => sets::from_pairs(path, metric(args), plan, &args.model.path),
        None => sets::from_samples(&args.model, &args.samples, &args.against, &args.choice),
    }
}

/// Every set's rows: example by example, then their average.
fn score(args: &Args, scorer: &Scorer, sets: &[Set]) -> anyhow::Result<Vec<Edge>> {
    let total = sets.iter().map(|set| set.examples.len()).sum::<usize>();
    let progress = cli::Progress::start("score", total as u64, "examples");
    let with_examples = args.pairs.is_none() || args.attribution.per_example;
    let mut rows = Vec::new();
    for set in sets {
        rows.extend(scorer.rows(set, args.attribution.batch.get(), with_examples, &progress)?);
    }
    progress.finish();
    Ok(rows)
}

fn plan(args: &Args) -> anyhow::Result<Plan> {
    let default = if args.pairs.is_some() {
        Method::Eap
    } else {
        Method::EapZero
    };
    let plan = Plan {
        method: args.attribution.method.unwrap_or(default),
        steps: args.attribution.steps.get(),
    };
    if args.pairs.is_none() {
        let wrong = |what: &str| {
            cli::Usage(format!(
                "{what} needs --pairs: answers have no corrupted run and no labels"
            ))
        };
        ensure!(!plan.needs_corrupted(), wrong("this --method"));
        ensure!(
            args.attribution.metric != Some(Metric::LogitDiff),
            wrong("--metric logit-diff")
        );
    }
    Ok(plan)
}

/// Tests the identities on the first and the last example of the first set.
fn self_check(args: &Args, scorer: &Scorer, sets: &[Set]) -> anyhow::Result<Option<check::Report>> {
    if args.attribution.check == Check::Off {
        return Ok(None);
    }
    let examples = &sets.first().context("there is nothing to score")?.examples;
    let tested: Vec<&Example> = examples
        .iter()
        .take(1)
        .chain(examples.iter().skip(1).last())
        .collect();
    let report = check::check(
        scorer.model,
        &scorer.graph,
        scorer.plan.at_the_clean_point(),
        &tested,
    )?;
    cli::say(&report.line());
    Ok(Some(report))
}

/// What is stored with the edges: every choice, the sign, what was left of the documents, and the self-check.
#[derive(Serialize)]
struct Settings<'a> {
    model: &'a str,
    sign: &'static str,
    method: Method,
    metric: Metric,
    attribution: &'a Attribution,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<&'a Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_check: Option<&'a check::Report>,
}

fn provenance(
    args: &Args,
    plan: Plan,
    documents: Option<Counts>,
    self_check: Option<&check::Report>,
) -> anyhow::Result<Provenance> {
    let settings = Settings {
        model: &args.model.label,
        sign: "positive: ablating the edge raises the loss",
        method: plan.method,
        metric: metric(args),
        attribution: &args.attribution,
        choice: args.pairs.is_none().then_some(&args.choice),
        documents,
        self_check,
    };
    let tables: Vec<PathBuf> = args
        .samples
        .iter()
        .chain(&args.against)
        .chain(&args.pairs)
        .cloned()
        .collect();
    let provenance = Provenance::new("eap score", &settings)?.seed(args.choice.filter.seed);
    Ok(provenance.input(&args.model.path)?.inputs(&tables)?)
}
