//! `eap score`: every edge of one model, scored on its own answers or on pairs.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::{Context, ensure};
use clap::{ArgGroup, ValueEnum};
use model::{DType, Device, Model, Tokenizer};
use serde::Serialize;
use store::{
    Provenance,
    tables::{Edge, Sample},
};

use crate::{
    answers,
    attribute::{Method, Plan, attribute},
    check,
    documents::{Answers, Counts, Filter, Reference, choose},
    example::Example,
    graph::{Graph, Level},
    pairs::{self, Metric},
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
        eap score --model rl=models/grpo --samples rl.samples.parquet --against base.samples.parquet -o rl.edges.parquet\n  \
        eap score --model m=DIR --pairs pairs.json --method eap-ig-inputs --steps 5 -o edges.parquet",
    group = ArgGroup::new("what").required(true).args(["samples", "pairs"])
)]
pub struct Args {
    /// Model to score, as LABEL=DIRECTORY
    #[arg(long, value_name = "LABEL=DIR")]
    pub model: cli::Labelled,
    /// Its answers: a samples table, a directory of parts or a glob; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub samples: Vec<PathBuf>,
    /// Answers of the models it is compared to; repeat for several
    #[arg(long, value_name = "FILE", requires = "samples")]
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

/// Which documents are scored, and how much of their answers.
#[derive(Debug, Clone, clap::Args, Serialize)]
struct Choice {
    /// Lengths of the scored answers as shares of T̄: a list such as 0.03,0.1,0.3,0.5
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0.3", value_parser = positive)]
    alpha: Vec<f64>,
    /// Shortest answer as a share of T̄
    #[arg(long, value_name = "X", default_value_t = 0.5)]
    beta: f64,
    /// Longest answer as a share of T̄
    #[arg(long, value_name = "X", default_value_t = 1.5)]
    gamma: f64,
    /// Largest difference of the models' lengths as a share of their mean, excluded
    #[arg(long, value_name = "X", default_value_t = 0.5)]
    delta: f64,
    /// T̄ when the models' mean lengths differ: their mean, or the smallest as in the paper's code
    #[arg(long, value_enum, default_value_t = Reference::Mean)]
    reference: Reference,
    /// Documents to draw
    #[arg(short, long = "n", value_name = "N", default_value_t = 100)]
    n: usize,
    /// Seed of the draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tasks to use [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Arm of the samples to use
    #[arg(long, default_value = "none")]
    arm: String,
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

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|&x: &f64| x > 0.0 && x.is_finite())
        .ok_or_else(|| "a number above 0 is needed".into())
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
    let Work { sets, counts } = if args.pairs.is_some() {
        from_pairs(args, plan)?
    } else {
        from_samples(args)?
    };
    let report = tested(args, &model, &graph, plan, &sets)?;
    let rows = score(args, &model, &graph, plan, &sets)?;
    let provenance = provenance(args, plan, counts, report.as_ref())?;
    store::write_table(&args.output, &rows, &provenance)?;
    Ok(())
}

/// Examples under one truncation; none for pairs.
struct Set {
    alpha: Option<f64>,
    examples: Vec<Example>,
}

struct Work {
    sets: Vec<Set>,
    counts: Option<Counts>,
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

fn from_pairs(args: &Args, plan: Plan) -> anyhow::Result<Work> {
    let path = args.pairs.as_ref().context("no pairs were given")?;
    let metric = args.attribution.metric.unwrap_or(Metric::LogitDiff);
    let examples = pairs::read(path, metric, &args.model.path)?;
    let lacking = examples
        .iter()
        .position(|example| plan.needs_corrupted() && example.corrupted.is_none());
    ensure!(
        lacking.is_none(),
        "pair {} of {} has nothing corrupted",
        lacking.unwrap_or(0),
        path.display()
    );
    Ok(Work {
        sets: vec![Set {
            alpha: None,
            examples,
        }],
        counts: None,
    })
}

fn from_samples(args: &Args) -> anyhow::Result<Work> {
    let choice = &args.choice;
    let filter = Filter {
        beta: choice.beta,
        gamma: choice.gamma,
        delta: choice.delta,
        reference: choice.reference,
        n: choice.n,
        seed: choice.seed,
    };
    let own = Answers::of(&args.model.label, read_answers(&args.samples, choice)?)
        .with_context(|| format!("cannot use {}", listed(&args.samples)))?;
    let mut others = if args.against.is_empty() {
        Vec::new()
    } else {
        read_answers(&args.against, choice)?
    };
    others.retain(|other| other.model != own.model);
    let models: Vec<&Answers> = std::iter::once(&own).chain(&others).collect();
    let (chosen, counts) = choose(&models, &filter)
        .with_context(|| format!("cannot choose documents from {}", listed(&args.samples)))?;
    let tokenizer = Tokenizer::load(&args.model.path)?;
    let tokenised = answers::tokenise(&own, &chosen, &tokenizer)?;
    say_counts(&counts, models.len(), tokenised.unfaithful);
    let set = |&alpha: &f64| Set {
        alpha: Some(alpha),
        examples: answers::truncated(&tokenised.tokens, &chosen, alpha),
    };
    Ok(Work {
        sets: choice.alpha.iter().map(set).collect(),
        counts: Some(counts),
    })
}

fn read_answers(paths: &[PathBuf], choice: &Choice) -> anyhow::Result<Vec<Answers>> {
    let mut samples: Vec<Sample> = store::read_table(paths)?;
    samples.retain(|sample| choice.tasks.is_empty() || choice.tasks.contains(&sample.task));
    Answers::by_model(&samples, &choice.arm)
        .with_context(|| format!("cannot use {}", listed(paths)))
}

fn listed(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn say_counts(counts: &Counts, n_models: usize, unfaithful: usize) {
    let Counts {
        answered,
        correct,
        passed,
        chosen,
    } = counts;
    cli::say(&format!(
        "{answered} documents answered by {n_models} models, {correct} correctly by all, {passed} of comparable length, {chosen} drawn"
    ));
    if unfaithful > 0 {
        cli::say(&format!(
            "{unfaithful} answers re-tokenise to another length than was generated"
        ));
    }
}

/// Tests the identities on the first and the last example of the first set.
fn tested(
    args: &Args,
    model: &Model,
    graph: &Graph,
    plan: Plan,
    sets: &[Set],
) -> anyhow::Result<Option<check::Report>> {
    if args.attribution.check == Check::Off {
        return Ok(None);
    }
    let examples = &sets.first().context("there is nothing to score")?.examples;
    let mut tested: Vec<&Example> = examples
        .iter()
        .take(1)
        .chain(examples.iter().skip(1).last())
        .collect();
    tested.truncate(2);
    let report = check::check(model, graph, plan.at_the_clean_point(), &tested)
        .with_context(|| format!("cannot score {}", args.model.path.display()))?;
    cli::say(&report.line());
    Ok(Some(report))
}

/// Every set's rows: example by example, then their average.
fn score(
    args: &Args,
    model: &Model,
    graph: &Graph,
    plan: Plan,
    sets: &[Set],
) -> anyhow::Result<Vec<Edge>> {
    let total = sets.iter().map(|set| set.examples.len()).sum::<usize>();
    let progress = cli::Progress::start("score", total as u64, "examples");
    let mut done = 0;
    let mut rows = Vec::new();
    for set in sets {
        let mut maps: Vec<Vec<f64>> = Vec::new();
        let examples: Vec<&Example> = set.examples.iter().collect();
        for batch in examples.chunks(args.attribution.batch.get()) {
            if cli::stop_requested() {
                return Err(cli::Stopped {
                    done: format!("{done} of {total} examples scored, none kept"),
                }
                .into());
            }
            let scored = attribute(model, graph, plan, batch);
            maps.extend(
                scored.with_context(|| format!("cannot score {}", args.model.path.display()))?,
            );
            done += batch.len();
            progress.advance(batch.len() as u64);
        }
        let with_examples = args.pairs.is_none() || args.attribution.per_example;
        let writer = Rows {
            model: &args.model.label,
            graph,
            set,
        };
        if with_examples {
            rows.extend(
                maps.iter()
                    .enumerate()
                    .flat_map(|(number, map)| writer.of(Some(number), map)),
            );
        }
        rows.extend(writer.of(None, &mean(&maps)));
    }
    progress.finish();
    Ok(rows)
}

fn mean(maps: &[Vec<f64>]) -> Vec<f64> {
    let entries = maps.first().map_or(0, Vec::len);
    (0..entries)
        .map(|entry| maps.iter().map(|map| map[entry]).sum::<f64>() / maps.len() as f64)
        .collect()
}

/// Writes matrices as rows of the table.
struct Rows<'a> {
    model: &'a str,
    graph: &'a Graph,
    set: &'a Set,
}

impl Rows<'_> {
    fn of(&self, example: Option<usize>, map: &[f64]) -> Vec<Edge> {
        let row = |(source, target): (usize, usize)| Edge {
            model: self.model.into(),
            example: example.map(|number| number as u32),
            doc_id: example.and_then(|number| self.set.examples[number].doc_id.clone()),
            alpha: self.set.alpha,
            source: self.graph.source(source).to_string(),
            target: self.graph.target(target).to_string(),
            score: map[source * self.graph.n_targets() + target],
        };
        self.graph.edges().map(row).collect()
    }
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
    let on_pairs = args.pairs.is_some();
    let default = if on_pairs {
        Metric::LogitDiff
    } else {
        Metric::Nll
    };
    let settings = Settings {
        model: &args.model.label,
        sign: "positive: ablating the edge raises the loss",
        method: plan.method,
        metric: args.attribution.metric.unwrap_or(default),
        attribution: &args.attribution,
        choice: (!on_pairs).then_some(&args.choice),
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
    let provenance = Provenance::new("eap score", &settings)?.seed(args.choice.seed);
    Ok(provenance.input(&args.model.path)?.inputs(&tables)?)
}
