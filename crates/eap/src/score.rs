//! `eap score`: every edge of a model, scored on its own answers or on pairs.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use clap::{ArgGroup, ValueEnum};
use model::{Config, DType};
use serde::Serialize;
use store::Provenance;

use crate::{
    attribute::Scorer,
    check,
    documents::Counts,
    estimate::{self, Estimate},
    example::Example,
    graph::{Gqa, Graph, Level},
    method::{Ablation, Endpoints, Method, Plan},
    pairs::Metric,
    parts::{Parts, stands},
    precision::{Computer, Precision},
    sets::{self, Choice, Set, Work},
    table::Table,
    tested,
};

/// Scores the edges of a model: how much its loss depends on what each node passes to each other.
///
/// Reads a Hugging Face model directory and a samples table (or a file of pairs), and writes a row per edge: `score` is
/// Σ ⟨ΔO, ∂L/∂H⟩ over positions and width, ΔO what ablating the source adds to the residual stream and H what the target
/// reads, before its norm. A positive score means that ablating the edge raises the loss: the edge helps. The score does not
/// depend on the batch; averages are means over examples.
///
/// With --samples, the method of arXiv 2509.21044: zero ablation (ΔO = −O), L the mean negative log-likelihood of the first
/// ⌊αT̄⌋ tokens of the model's own answer (at least one), on documents that this model and every model of --against answer
/// correctly and at comparable length. The documents are the same from either side: score the other model with the files
/// exchanged, or both in one call. A row per example and one for their average. T̄ is taken task by task.
///
/// With --pairs, {"pairs": [{"clean": …, "corrupted": …, "label": [right, wrong], "targets": [[position, token], …]}]}:
/// sequences as token ids or text; averages, and a row per example with --per-example.
///
/// Stopped by a signal it leaves the finished batches beside the output and exits with 3; the same command goes on from
/// there. --shard I/N scores the I-th of N pieces into the same folder; whoever finishes last writes the table.
#[derive(Debug, Clone, clap::Args)]
#[command(
    before_help = "Examples:\n  \
        eap score --model rl=models/grpo --samples rl.samples.parquet \\\n            \
        --against base.samples.parquet -o rl.edges.parquet\n  \
        eap score --model base=models/base --model rl=models/grpo \\\n            \
        --samples base.samples.parquet rl.samples.parquet -o '{model}.edges.parquet'\n  \
        eap score --model m=DIR --pairs pairs.json --method eap-ig-inputs --steps 5 --level head -o edges.parquet",
    group = ArgGroup::new("what").required(true).args(["samples", "pairs"])
)]
pub struct Args {
    /// Model to score, as LABEL=DIRECTORY; several are scored one after the other on the same documents
    #[arg(long, value_name = "LABEL=DIR", required = true)]
    pub model: Vec<cli::Labelled>,
    /// Answers of the models: samples tables, a directory of parts or a glob; `-` is stdin
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub samples: Vec<PathBuf>,
    /// Answers of the models it is compared to, one table or several
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "samples")]
    pub against: Vec<PathBuf>,
    /// Clean and corrupted sequences instead of answers
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Table of edges to write; `-` is stdout, `{model}` in it becomes the label of each of several models
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Second table: every example's scores position by position; `{model}` as in the output
    #[arg(long, value_name = "FILE")]
    pub per_position: Option<PathBuf>,
    /// Only this piece of the work, counted from 0
    #[arg(long, value_name = "I/N", default_value_t)]
    pub shard: cli::Shard,
    /// Say what would be scored and what memory that takes, and do nothing
    #[arg(long)]
    pub dry_run: bool,
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
    /// Key and value targets of heads that share them, with --level head [default: ungrouped]
    #[arg(long, value_enum)]
    gqa: Option<Gqa>,
    /// Method [default: eap-zero with --samples, eap with --pairs]
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// What an ablated source writes [default: zero for eap-zero and ifr, corrupted for the others]
    #[arg(long, value_enum)]
    ablation: Option<Ablation>,
    /// Interpolations of eap-ig-inputs and eap-ig-activations [default: 5]
    #[arg(long, value_name = "N")]
    steps: Option<NonZeroUsize>,
    /// Which interpolations are averaged [default: as EAP-IG, left for eap-ig-inputs and right for eap-ig-activations]
    #[arg(long, value_enum)]
    endpoints: Option<Endpoints>,
    /// Take attention patterns for constant in relp as well
    #[arg(long)]
    constant_attention: bool,
    /// Patch only this many edges in exact, drawn at random
    #[arg(long, value_name = "N")]
    edges: Option<NonZeroUsize>,
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
    #[command(flatten)]
    compute: cli::Compute,
    /// Test finite differences, row sums and column sums before scoring, and patch some edges exactly; a failing identity is
    /// an error
    #[arg(long, value_enum, default_value_t = Check::On)]
    check: Check,
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
    refuse_collisions(args)?;
    let own = &args.attribution;
    let computer = Computer::open(&own.compute, own.dtype)?;
    let mut unfinished = 0;
    for model in &args.model {
        let config = Config::load(&model.path)?;
        let Work { sets, counts } = work(args, model, plan)?;
        within_vocabulary(&sets, config.vocab)?;
        let job = Job {
            args,
            model,
            config,
            computer: &computer,
            plan,
            sets,
            counts,
        };
        if args.dry_run {
            cli::data(&job.estimate())?;
        } else if !job.run().with_context(|| cannot_score(model))? {
            unfinished += 1;
        }
    }
    if unfinished > 0 {
        cli::say("this shard is done; the table is written when all of them are");
    }
    Ok(())
}

/// Several models need names of their own, for themselves and for what is written of them.
fn refuse_collisions(args: &Args) -> anyhow::Result<()> {
    let several = args.model.len() > 1;
    let outputs = std::iter::once(&args.output).chain(&args.per_position);
    for output in outputs {
        ensure!(
            !several || names_models(output),
            cli::Usage(format!(
                "several models need {{model}} in the name of the output: {}",
                output.display()
            ))
        );
    }
    for (number, model) in args.model.iter().enumerate() {
        let before = &args.model[..number];
        ensure!(
            before.iter().all(|other| other.label != model.label),
            cli::Usage(format!("two models are called {}", model.label))
        );
    }
    Ok(())
}

fn names_models(output: &Path) -> bool {
    output.to_string_lossy().contains("{model}")
}

fn of_model(output: &Path, model: &cli::Labelled) -> PathBuf {
    output
        .to_string_lossy()
        .replace("{model}", &model.label)
        .into()
}

fn cannot_score(model: &cli::Labelled) -> String {
    format!("cannot score {}", model.path.display())
}

fn metric(args: &Args) -> Metric {
    let default = if args.pairs.is_some() {
        Metric::LogitDiff
    } else {
        Metric::Nll
    };
    args.attribution.metric.unwrap_or(default)
}

fn work(args: &Args, model: &cli::Labelled, plan: Plan) -> anyhow::Result<Work> {
    if let Some(path) = &args.pairs {
        sets::from_pairs(path, metric(args), plan, &model.path)
    } else {
        let others: Vec<&str> = args
            .model
            .iter()
            .map(|other| other.label.as_str())
            .collect();
        sets::from_samples(model, &others, &args.samples, &args.against, &args.choice)
    }
}

/// Refuses tokens that the model has not got before anything is loaded.
fn within_vocabulary(sets: &[Set], vocab: usize) -> anyhow::Result<()> {
    for (number, example) in sets.iter().flat_map(|set| &set.examples).enumerate() {
        let outside = example
            .tokens_named()
            .find(|&token| token as usize >= vocab);
        let name = example.doc_id.clone().unwrap_or(format!("pair {number}"));
        ensure!(
            outside.is_none(),
            "cannot use {name}: token {} is outside the vocabulary of {vocab}",
            outside.unwrap_or(0)
        );
    }
    Ok(())
}

fn plan(args: &Args) -> anyhow::Result<Plan> {
    let own = &args.attribution;
    let default = if args.pairs.is_some() {
        Method::Eap
    } else {
        Method::EapZero
    };
    let usual = Plan::new(own.method.unwrap_or(default));
    let plan = Plan {
        ablation: own.ablation.unwrap_or(usual.ablation),
        steps: own.steps.map_or(usual.steps, NonZeroUsize::get),
        endpoints: own.endpoints.unwrap_or(usual.endpoints),
        constant_attention: own.constant_attention,
        ..usual
    };
    refuse_contradictions(args, plan)?;
    Ok(plan)
}

fn refuse_contradictions(args: &Args, plan: Plan) -> anyhow::Result<()> {
    let own = &args.attribution;
    let usage = |what: &str| cli::Usage(what.to_owned());
    ensure!(
        plan.method != Method::EapZero || plan.ablation == Ablation::Zero,
        usage("--method eap-zero is --method eap with --ablation zero: it has no other")
    );
    ensure!(
        own.edges.is_none() || plan.method == Method::Exact,
        usage("--edges is for --method exact: the other methods score every edge at once")
    );
    ensure!(
        !own.constant_attention || plan.method == Method::Relp,
        usage("--constant-attention is a rule of --method relp")
    );
    ensure!(
        own.gqa.is_none() || own.level == Level::Head,
        usage("--gqa is for --level head: a layer has one key and one value")
    );
    ensure!(
        (own.endpoints.is_none() && own.steps.is_none()) || plan.interpolates(),
        usage(
            "--steps and --endpoints are for --method eap-ig-inputs, eap-ig-activations and eap-ig-activations-own"
        )
    );
    ensure!(
        args.per_position.is_none() || plan.method != Method::Exact,
        usage("--method exact patches an edge at all positions: there is no --per-position")
    );
    ensure!(
        metric(args) != Metric::Kl || !plan.is_flat_for_divergence(),
        usage(
            "--metric kl has no slope on the clean run itself: every score would be 0. Use eap-ig-inputs, clean-corrupted, \
             eap-ig-activations or exact"
        )
    );
    if args.pairs.is_none() {
        ensure!(
            !plan.needs_corrupted(),
            usage(
                "answers have no corrupted run: this --method needs --pairs, or --ablation zero or mean"
            )
        );
        ensure!(
            metric(args) == Metric::Nll,
            usage("this --metric needs --pairs: answers have no labels")
        );
    }
    Ok(())
}

/// One model with what is scored of it.
struct Job<'a> {
    args: &'a Args,
    model: &'a cli::Labelled,
    config: Config,
    computer: &'a Computer,
    plan: Plan,
    sets: Vec<Set>,
    counts: Option<Counts>,
}

impl Job<'_> {
    fn output(&self) -> PathBuf {
        of_model(&self.args.output, self.model)
    }

    fn graph(&self, config: &Config) -> Graph {
        let own = &self.args.attribution;
        Graph::of(config, own.level, own.gqa.unwrap_or(Gqa::Ungrouped))
    }

    fn estimate(&self) -> String {
        let own = &self.args.attribution;
        let estimate = Estimate {
            config: &self.config,
            stored: estimate::stored(&self.model.path),
            graph: &self.graph(&self.config),
            plan: self.plan,
            batch: own.batch.get(),
            width: DType::from(own.dtype).size_in_bytes(),
            int8: own.compute.weights == "int8",
        };
        estimate.text(&self.sets, &self.output())
    }

    /// Scores the shard; whether the table stands.
    fn run(&self) -> anyhow::Result<bool> {
        let made_from = self.provenance(None)?;
        let output = self.output();
        if stands(&output, &made_from) {
            cli::say(&format!("{} is complete already", output.display()));
            return Ok(true);
        }
        let parts = Parts::beside(&output, &made_from);
        ensure!(
            parts.are_kept() || self.args.shard.count == 1,
            cli::Usage("shards share a folder beside the output: it must be a file".into())
        );
        let own = &self.args.attribution;
        let model = self.computer.load(&self.model.path)?;
        let examples: Vec<&Example> = self.sets.iter().flat_map(|set| &set.examples).collect();
        let mut scorer = Scorer::new(&model, self.graph(&model.config), self.plan, &examples)?;
        let report = self.self_check(&scorer)?;
        scorer.by_position = self.args.per_position.is_some();
        if let Some(n) = own.edges {
            scorer.edges = Some(tested::draw(
                &scorer.graph,
                n.get(),
                self.args.choice.filter.seed,
            ));
        }
        let table = Table {
            label: &self.model.label,
            scorer: &scorer,
            sets: &self.sets,
            batch: own.batch.get(),
            with_examples: self.args.pairs.is_none() || own.per_example,
            output: &output,
            per_position: self.per_position(),
        };
        let provenance = self.provenance(report.as_ref())?;
        table.write(&parts, self.args.shard, &provenance)
    }

    fn per_position(&self) -> Option<PathBuf> {
        let path = self.args.per_position.as_ref()?;
        Some(of_model(path, self.model))
    }

    /// Tests the identities on the first and the last example of the first set.
    fn self_check(&self, scorer: &Scorer<'_>) -> anyhow::Result<Option<check::Report>> {
        if self.args.attribution.check == Check::Off {
            return Ok(None);
        }
        let set = self.sets.first().context("there is nothing to score")?;
        let last = set.examples.iter().skip(1).last();
        let tested: Vec<&Example> = set.examples.iter().take(1).chain(last).collect();
        let report = check::check(scorer, &tested, self.args.choice.filter.seed);
        let own = &self.args.attribution.compute;
        let report = report.map_err(|error| match own.precision.as_str() {
            "bf16" => anyhow::anyhow!(
                "{error}; --precision bf16 rounds more than a finite difference may: f32 does not"
            ),
            _ => error,
        })?;
        cli::say(&report.line());
        Ok(Some(report))
    }

    fn provenance(&self, self_check: Option<&check::Report>) -> anyhow::Result<Provenance> {
        let args = self.args;
        let settings = Settings {
            model: &self.model.label,
            d_model: self.config.d_model,
            sign: "positive: ablating the edge raises the loss",
            scale: "one example's score; averages are means over examples",
            method: self.plan.method,
            ablation: self.plan.ablation,
            metric: metric(args),
            attribution: &args.attribution,
            choice: args.pairs.is_none().then_some(&args.choice),
            documents: self.counts,
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
        Ok(provenance.input(&self.model.path)?.inputs(&tables)?)
    }
}

/// What is stored with the edges: every choice, the sign, what was left of the documents, and the self-check.
#[derive(Serialize)]
struct Settings<'a> {
    model: &'a str,
    d_model: usize,
    sign: &'static str,
    scale: &'static str,
    method: Method,
    ablation: Ablation,
    metric: Metric,
    attribution: &'a Attribution,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<&'a Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_check: Option<&'a check::Report>,
}
