//! `crosscode train`: a dictionary from activations.

use crate::checkpoint::Checkpoint;
use crate::done;
use crate::filter::FilterArgs;
use crate::plan::Plan;
use crate::reader::Reader;
use anyhow::Context;
use dict::{Acts, Moments, StepReport, Subject, Trainer};
use std::path::{Path, PathBuf};
use store::tables::CrosscoderStep;
use store::{Provenance, write_table};

/// Rows whose mean and variance normalise the activations, at most.
const NORMALIZER_ROWS: usize = 1_000_000;
/// Rows of the curve, about at most.
const CURVE_ROWS: u64 = 10_000;

/// Trains a dictionary on the activations of two or more models (one is a sparse autoencoder)
///
/// Every row that the filters leave is seen exactly once per epoch, in an order the seed decides. Activations are
/// normalised per model to mean 0 and one common size; features start alike in every model, so that a difference at the end
/// was learned. Stopped by a signal or killed, the same command goes on from `<output>.state.safetensors` to the same bytes.
#[derive(Debug, Clone, clap::Args)]
#[command(
    before_help = "Example:\n  crosscode train acts/ --features 4096 --k 32 --rule batch-topk --tokens 5M -o dict.safetensors"
)]
pub struct Args {
    /// Activation stores of `capture` (several are one after the other), or safetensors files `[rows, n_models, d_model]`
    #[arg(required = true, value_name = "ACTS")]
    pub acts: Vec<PathBuf>,
    /// Dictionary to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Number of features
    #[arg(long, default_value = "4096", value_name = "N", value_parser = cli::parse_count)]
    pub features: u64,
    /// Features kept per row: each (topk) or on average (batch-topk)
    #[arg(long, default_value = "32", value_name = "N", value_parser = cli::parse_count)]
    pub k: u64,
    /// Sparsity rule
    #[arg(long, value_enum, default_value_t = RuleName::BatchTopk)]
    pub rule: RuleName,
    /// λ of the l1 rule, for activations of size `√d_model`
    #[arg(long, default_value_t = 2.0, value_name = "λ")]
    pub sparsity: f32,
    /// Rows to train on, all epochs together
    #[arg(long, default_value = "5M", value_name = "N", value_parser = cli::parse_count)]
    pub tokens: u64,
    /// Rows of one step
    #[arg(long, default_value = "1024", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub batch: u64,
    /// Learning rate [default: 2e-4/√(features/16384), l1 half of it; times √(20000/steps), at most 8, in shorter runs]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f32>,
    /// Seed of the initial weights and of the order of the rows
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Models to use, in this order [default: all of the store]
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    pub models: Vec<String>,
    /// Hook to use [default: the only one of the store]
    #[arg(long, value_name = "HOOK")]
    pub hook: Option<String>,
    /// Table of the steps [default: beside the dictionary, `.curve.parquet`]
    #[arg(long, value_name = "FILE")]
    pub curve: Option<PathBuf>,
    /// Steps between two saved states [default: a fifth of the run]
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_every: Option<u64>,
    /// Rows without firing after which a feature is dead [default: 10M, at most a tenth of the run]
    #[arg(long, value_name = "N", value_parser = cli::parse_count)]
    pub dead_after: Option<u64>,
    /// Features kept per row at the first step, annealed to k
    #[arg(long, value_name = "N", value_parser = cli::parse_count)]
    pub k_start: Option<u64>,
    /// Steps over which k is annealed [default: a tenth of the run]
    #[arg(long, value_name = "STEPS")]
    pub anneal_steps: Option<u64>,
    /// Steps over which the learning rate rises [default: 1000, at most a twentieth of the run; l1: none]
    #[arg(long, value_name = "STEPS")]
    pub warmup_steps: Option<u64>,
    /// Share of the run over which the learning rate falls to 0 [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    pub decay: Option<f32>,
    /// Distance of the reconstruction: mean norm of the error, or its square [default: norm; l1: squared]
    #[arg(long, value_enum)]
    pub distance: Option<DistanceName>,
    /// Weight of the loss that revives dead features [default: 1/32; l1: 0]
    #[arg(long, value_name = "WEIGHT")]
    pub aux: Option<f32>,
    /// Norm of every decoder row at the start [default: 1; l1: 0.08]
    #[arg(long, value_name = "NORM")]
    pub init_norm: Option<f32>,
    /// Size (root of the total variance) every model is normalised to [default: 1; l1: `√d_model`]
    #[arg(long, value_name = "SIZE")]
    pub input_norm: Option<f32>,
    /// Rows held in memory while they are shuffled
    #[arg(long, default_value = "65536", value_name = "N", value_parser = cli::parse_count)]
    pub buffer_rows: u64,
    /// Which rows to leave out
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Names of the sparsity rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RuleName {
    /// Every positive activation, with an L1 penalty weighted by the decoder's norms
    L1,
    /// The k largest of every row
    Topk,
    /// The k·rows largest of the batch; a learned threshold at inference
    BatchTopk,
}

/// Names of the distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DistanceName {
    /// Mean over rows and models of the error's norm
    Norm,
    /// Mean over rows of the squared errors' sum over models
    Squared,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let acts = Acts::open(&args.acts, &args.models, args.hook.as_deref())?;
    let plan = Plan::new(args, &acts);
    check(args, &plan)?;
    let provenance = plan.provenance(args)?;
    let curve_path = curve_path(args);
    if curve_path.as_ref().is_none_or(|path| path.exists())
        && done::already(&args.output, &provenance)
    {
        return Ok(());
    }
    let kept = plan.filter.apply(&acts)?;
    cli::say(&kept.report());
    let subject = subject(&acts, &kept.rows, &plan)?;
    let mut run = Run::begin(args, &plan, subject, &provenance)?;
    let mut reader = Reader::new(&acts, &kept.rows, args.seed, plan.buffer_rows);
    run.train(&mut reader)?;
    run.write(args, curve_path.as_deref(), &provenance)
}

/// Refuses settings that cannot work before any activation is read.
fn check(args: &Args, plan: &Plan) -> anyhow::Result<()> {
    let usage = |message: String| Err(cli::Usage(message).into());
    let settings = &plan.settings;
    if settings.n_features == 0 || args.k == 0 {
        return usage("--features and --k must be at least 1".into());
    }
    let most = args.k.max(args.k_start.unwrap_or(0));
    if settings.rule.k().is_some() && most > args.features {
        return usage(format!(
            "k {most} is more than the {} features there are",
            args.features
        ));
    }
    let positive = [
        settings.learning_rate,
        settings.init_norm,
        settings.input_norm,
    ]
    .iter()
    .all(|&value| value > 0.0);
    if !positive
        || !(0.0..=1.0).contains(&settings.decay_share)
        || settings.aux_coefficient < 0.0
        || args.sparsity < 0.0
    {
        return usage("--lr, --init-norm and --input-norm are positive, --decay is 0 to 1, --aux and --sparsity are not negative".into());
    }
    Ok(())
}

/// Where the steps go: beside the dictionary unless said, nowhere when that is stdout.
fn curve_path(args: &Args) -> Option<PathBuf> {
    let beside =
        (args.output != Path::new("-")).then(|| args.output.with_extension("curve.parquet"));
    args.curve.clone().or(beside)
}

/// The models with their normalisers, taken from up to a million rows spread over the kept ones.
fn subject(acts: &Acts, rows: &[u32], plan: &Plan) -> anyhow::Result<Subject> {
    let stride = rows.len().div_ceil(NORMALIZER_ROWS);
    let mut moments: Vec<Moments> = acts
        .widths()
        .iter()
        .map(|&width| Moments::new(width))
        .collect();
    let mut x = vec![Vec::new(); acts.n_models()];
    let mut reader = Reader::new(acts, rows, plan.settings.seed, plan.buffer_rows);
    let mut left = rows.len() / stride;
    while left > 0 {
        let n = left.min(4096);
        reader.next(n, &mut x)?;
        moments
            .iter_mut()
            .zip(&x)
            .for_each(|(moments, rows)| moments.add(rows));
        left -= n;
    }
    Ok(Subject {
        labels: acts.labels().to_vec(),
        widths: acts.widths().to_vec(),
        normalizer: moments
            .iter()
            .map(|moments| moments.normalizer(plan.settings.input_norm))
            .collect(),
        hook: acts.hook().to_owned(),
        tokenizer_digest: acts.tokenizer_digest().to_owned(),
    })
}

/// A training run under way.
struct Run {
    trainer: Trainer,
    curve: Vec<CrosscoderStep>,
    checkpoint: Checkpoint,
    batch: usize,
    /// Steps between two states.
    checkpoint_every: u64,
    /// Steps between two rows of the curve.
    curve_every: u64,
}

impl Run {
    /// A new run, or one that goes on from the state an earlier one left.
    fn begin(
        args: &Args,
        plan: &Plan,
        subject: Subject,
        provenance: &Provenance,
    ) -> anyhow::Result<Self> {
        let mut trainer = Trainer::new(plan.settings.clone(), subject);
        let checkpoint = Checkpoint::beside(&args.output, provenance);
        let curve = checkpoint.resume(&mut trainer)?;
        if curve.is_some() {
            cli::say(&format!("going on after step {}", trainer.steps_done()));
        }
        let steps = plan.settings.steps;
        Ok(Self {
            trainer,
            curve: curve.unwrap_or_default(),
            checkpoint,
            batch: plan.batch,
            checkpoint_every: args.checkpoint_every.unwrap_or(steps.div_ceil(5)),
            curve_every: steps.div_ceil(CURVE_ROWS),
        })
    }

    /// Steps until the end, or until a signal.
    fn train(&mut self, reader: &mut Reader) -> anyhow::Result<()> {
        let steps = self.trainer.settings().steps;
        let progress = cli::Progress::start("train", steps * self.batch as u64, "rows");
        progress.skip(self.trainer.rows_seen());
        reader.seek(self.trainer.rows_seen())?;
        let mut x = vec![Vec::new(); self.trainer.subject().widths.len()];
        while self.trainer.steps_done() < steps {
            reader.next(self.batch, &mut x)?;
            let slices: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
            let report = self.trainer.step(&slices);
            self.note(&report)?;
            progress.note(words(&report));
            progress.advance(self.batch as u64);
            self.save_or_stop(steps)?;
        }
        progress.finish();
        Ok(())
    }

    /// Adds a row to the curve; a loss that is no number ends the run.
    fn note(&mut self, report: &StepReport) -> anyhow::Result<()> {
        let step = report.step;
        anyhow::ensure!(
            report.loss.is_finite(),
            "cannot train: the loss of step {step} is {}; lower --lr",
            report.loss
        );
        if step == 1 || step.is_multiple_of(self.curve_every) {
            self.curve.push(row(report));
        }
        Ok(())
    }

    fn save_or_stop(&self, steps: u64) -> anyhow::Result<()> {
        let done = self.trainer.steps_done();
        let stop = cli::stop_requested();
        if done < steps && (stop || done.is_multiple_of(self.checkpoint_every)) {
            self.checkpoint.save(&self.trainer, &self.curve)?;
        }
        if stop && done < steps {
            return Err(cli::Stopped {
                done: format!("{done} of {steps} steps"),
            }
            .into());
        }
        Ok(())
    }

    /// Writes curve and dictionary, and removes the state.
    fn write(
        self,
        args: &Args,
        curve_path: Option<&Path>,
        provenance: &Provenance,
    ) -> anyhow::Result<()> {
        if let Some(path) = curve_path {
            write_table(path, &self.curve, provenance).context("cannot write the curve")?;
        }
        if let Some(last) = self.curve.last() {
            cli::say(&format!(
                "loss {:.4}, explained variance {:.3}, L0 {:.1}, dead {:.1} %",
                last.loss,
                last.explained_variance,
                last.l0,
                100.0 * last.dead
            ));
        }
        self.trainer
            .into_crosscoder()
            .save(&args.output, provenance)?;
        self.checkpoint.remove();
        Ok(())
    }
}

fn words(report: &StepReport) -> String {
    let StepReport {
        loss,
        explained_variance,
        l0,
        dead,
        ..
    } = report;
    format!(
        "loss {loss:.4} EV {explained_variance:.3} L0 {l0:.1} dead {:.1} %",
        100.0 * dead
    )
}

fn row(report: &StepReport) -> CrosscoderStep {
    CrosscoderStep {
        step: report.step as u32,
        tokens: report.rows,
        loss: report.loss,
        explained_variance: report.explained_variance,
        l0: report.l0,
        dead: report.dead,
        learning_rate: report.learning_rate,
        k: report.k,
    }
}
