//! `crosscode train`: dictionaries from activations.

use crate::args::Args;
use crate::checkpoint::Checkpoint;
use crate::curve::{Curve, models_path, words};
use crate::device;
use crate::done;
use crate::plan::{Job, Plan, jobs};
use crate::reader::{Order, Position, Reader};
use crate::sample::Sampled;
use crate::source::Source;
use crate::source::live::{Live, Reading};
use anyhow::Context;
use dict::{Acts, Subject, Trainer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::Provenance;

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    // A device that is not there is found out before anything is read.
    device::open_or_plain(&args.device)?;
    let source = Arc::new(source(args)?);
    let mut left = Vec::new();
    for job in jobs(args, &source)? {
        let provenance = job.plan.provenance(args)?;
        if !is_done(args, &job, &provenance) {
            left.push((job, provenance));
        }
    }
    let Some((first, _)) = left.first() else {
        return Ok(());
    };
    let plan = first.plan.clone();
    let sampled = Arc::new(Sampled::new(&source, plan.filter)?);
    cli::say(&sampled.report());
    let runs = left
        .into_iter()
        .map(|(job, provenance)| Run::begin(args, job, provenance, (&source, &sampled)));
    let mut runs = runs.collect::<anyhow::Result<Vec<Run>>>()?;
    let order = Order::new(
        Arc::clone(&source),
        Arc::clone(&sampled),
        plan.order_seed,
        plan.buffer_rows,
    );
    let outliers = train(&mut runs, order, &plan)?;
    if outliers > 0 {
        cli::say(&format!("{outliers} rows of outlying norm were left out"));
    }
    runs.into_iter().try_for_each(Run::write)
}

/// Opens the stores, or the models.
fn source(args: &Args) -> anyhow::Result<Source> {
    if args.from_models.is_empty() {
        return Ok(Source::Store(Acts::open(
            &args.acts,
            &args.models,
            args.hook.as_deref(),
        )?));
    }
    let mut models = args.from_models.clone();
    if !args.models.is_empty() {
        let chosen = args.models.iter().map(|label| {
            let found = models.iter().find(|model| &model.label == label).cloned();
            found.ok_or_else(|| cli::Usage(format!("--models: there is no model {label}")))
        });
        models = chosen.collect::<Result<_, _>>()?;
    }
    let reading = Reading {
        texts: &args.texts,
        token_ids: &args.token_ids,
        max_tokens: args.max_tokens,
    };
    Ok(Source::Models(Box::new(Live::open(
        &models,
        args.hook.as_deref(),
        reading,
        &device::open_or_plain(&args.device)?,
    )?)))
}

/// Whether dictionary and curve are already what this run would make.
fn is_done(args: &Args, job: &Job, provenance: &Provenance) -> bool {
    let curve = curve_path(args, &job.output);
    let whole = curve.is_none_or(|path| path.exists() && models_path(&path).exists());
    whole && done::already(&job.output, provenance)
}

/// Where the steps go: beside the dictionary unless said, nowhere when that is stdout.
fn curve_path(args: &Args, output: &Path) -> Option<PathBuf> {
    let beside = (output != Path::new("-")).then(|| output.with_extension("curve.parquet"));
    args.curve.clone().or(beside)
}

/// Steps of all runs until the end, or until a signal; returns the rows left out for their norm.
fn train(runs: &mut [Run], order: Order, plan: &Plan) -> anyhow::Result<usize> {
    let behind = runs.iter().min_by_key(|run| run.trainer.rows_seen());
    let (mut rows, start) = behind.map_or((0, Position::default()), |run| {
        (run.trainer.rows_seen(), run.position)
    });
    let n_runs = runs.len();
    let progress = cli::Progress::start("train", plan.tokens, "rows");
    progress.skip(rows);
    let mut reader = order.read_from(start);
    let mut x = vec![Vec::new(); plan.models.len()];
    while rows < plan.tokens {
        let n = (plan.batch as u64).min(plan.tokens - rows);
        reader.next(n as usize, &mut x)?;
        let slices: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
        for (number, run) in runs.iter_mut().enumerate() {
            // A run that saved its state later than another waits for it.
            if run.trainer.rows_seen() <= rows {
                let line = run.step(&slices)?;
                let which = if n_runs > 1 {
                    format!("{} of {n_runs}: ", number + 1)
                } else {
                    String::new()
                };
                progress.note(format!("{which}{line}"));
            }
        }
        rows += n;
        progress.advance(n);
        save_or_stop(runs, &reader, rows == plan.tokens)?;
    }
    progress.finish();
    Ok(reader.outliers())
}

fn save_or_stop(runs: &mut [Run], reader: &Reader, finished: bool) -> anyhow::Result<()> {
    let stop = cli::stop_requested();
    for run in runs.iter_mut().filter(|_| !finished) {
        run.position = reader.position();
        let done = run.trainer.steps_done();
        if stop || done.is_multiple_of(run.checkpoint_every) {
            run.checkpoint
                .save(&mut run.trainer, &run.curve, run.position)?;
        }
    }
    if stop && !finished {
        let done = runs
            .iter()
            .map(|run| run.trainer.steps_done())
            .min()
            .unwrap_or(0);
        let steps = runs.first().map_or(0, |run| run.trainer.settings().steps);
        return Err(cli::Stopped {
            done: format!("{done} of {steps} steps"),
        }
        .into());
    }
    Ok(())
}

/// One dictionary in training.
struct Run {
    trainer: Trainer,
    curve: Curve,
    checkpoint: Checkpoint,
    provenance: Provenance,
    output: PathBuf,
    curve_path: Option<PathBuf>,
    /// Where its next row comes from.
    position: Position,
    /// Steps between two states.
    checkpoint_every: u64,
}

impl Run {
    /// A new run, or one that goes on from the state an earlier one left.
    fn begin(
        args: &Args,
        job: Job,
        provenance: Provenance,
        (source, sampled): (&Source, &Sampled),
    ) -> anyhow::Result<Self> {
        let Job { plan, output } = job;
        let steps = plan.settings.steps;
        let subject = Subject {
            labels: source.labels().to_vec(),
            widths: source.widths().to_vec(),
            normalizer: sampled.normalizers(plan.normalize, plan.settings.input_norm),
            hook: source.hook().to_owned(),
            tokenizer_digest: source.tokenizer_digest().to_owned(),
        };
        let mut trainer = device::trainer(&plan.device, plan.settings, subject)?;
        let mut curve = Curve::new(source.labels(), steps, args.timed);
        let checkpoint = Checkpoint::beside(&output, &provenance);
        let resumed = checkpoint.resume(&mut trainer, &mut curve)?;
        if resumed.is_some() {
            cli::say(&format!("going on after step {}", trainer.steps_done()));
        }
        Ok(Self {
            trainer,
            curve,
            checkpoint,
            provenance,
            curve_path: curve_path(args, &output),
            output,
            position: resumed.unwrap_or_default(),
            checkpoint_every: args.checkpoint_every.unwrap_or(steps.div_ceil(5)),
        })
    }

    /// One step; a loss that is no number ends the run.
    fn step(&mut self, x: &[&[f32]]) -> anyhow::Result<String> {
        let report = self.trainer.step(x)?;
        anyhow::ensure!(
            report.loss.is_finite(),
            "cannot train: the loss of step {} is {}; lower --lr",
            report.step,
            report.loss
        );
        self.curve.add(&report);
        Ok(words(&report, &self.trainer.subject().labels))
    }

    /// Writes curves and dictionary, and removes the state.
    fn write(self) -> anyhow::Result<()> {
        if let Some(path) = &self.curve_path {
            self.curve
                .write(path, &self.provenance)
                .context("cannot write the curve")?;
        }
        if let Some(last) = self.curve.last() {
            cli::say(&format!("{}: {last}", self.output.display()));
        }
        self.trainer
            .into_crosscoder()?
            .save(&self.output, &self.provenance)?;
        self.checkpoint.remove();
        Ok(())
    }
}
