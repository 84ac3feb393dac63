//! What every training method shares: steps, checkpoints, resuming, the metrics table.

use crate::directory;
use crate::optimizer::{Optimizer, Settings};
use anyhow::{Context, Result, bail};
use cli::Progress;
use model::{DType, Device, Model, Tensor};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use store::tables::TrainingStep;
use store::{Provenance, TensorData, TensorFile};

/// Checkpoints a run leaves: one every fifth.
pub const CHECKPOINTS: u32 = 5;

/// Where and how a run trains.
#[derive(Debug)]
pub struct Plan {
    /// `pretrain`, `sft`, `grpo`, …
    pub stage: &'static str,
    /// Directory of the final model, its checkpoints, its metrics.
    pub output: PathBuf,
    /// Where the tokenizer comes from.
    pub tokenizer: PathBuf,
    /// Steps in all.
    pub steps: u32,
    /// Constants of the optimizer.
    pub optimizer: Settings,
    /// What decides the result.
    pub provenance: Provenance,
}

/// What one step reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Loss in nats per token, or the policy objective.
    pub loss: f64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Mean outcome reward, 0 to 1.
    pub reward: Option<f64>,
    /// Mean KL divergence to the reference in nats per token.
    pub kl_nats: Option<f64>,
    /// Mean length of the rollouts in tokens.
    pub length: Option<f64>,
}

/// One training method: what a step computes. Everything random in it depends on the step's number alone, so that a
/// resumed run goes on as if nothing had happened.
pub trait Method {
    /// Makes step `step`, from 1, with as many updates as it takes.
    fn step(&mut self, model: &mut Model, optimizer: &mut Optimizer, step: u32) -> Result<Report>;
}

/// A run in progress.
struct Run {
    model: Model,
    optimizer: Optimizer,
    metrics: Vec<TrainingStep>,
}

/// Trains `model` to the end of the plan, from the last state an interrupted run left, and writes the result.
pub fn train(plan: &Plan, model: Model, method: &mut dyn Method) -> Result<()> {
    let mut run = Run::resume(plan, model)?;
    let progress = Progress::start(plan.stage, u64::from(plan.steps), "steps");
    let first = run.metrics.len() as u32 + 1;
    progress.skip(u64::from(first - 1));
    let (started, before) = (Instant::now(), run.tokens());
    for step in first..=plan.steps {
        let report = method
            .step(&mut run.model, &mut run.optimizer, step)
            .with_context(|| format!("cannot make step {step} of {}", plan.stage))?;
        run.record(plan.stage, step, &report);
        let rate = (run.tokens() - before) as f64 / started.elapsed().as_secs_f64();
        progress.note(describe(&report, rate));
        progress.advance(1);
        let checkpoint = (1..=CHECKPOINTS).find(|n| step == (plan.steps * n).div_ceil(CHECKPOINTS));
        if let Some(number) = checkpoint {
            directory::write(
                &plan.output.join(format!("checkpoint-{number}")),
                &run.model,
                &plan.tokenizer,
                &plan.provenance,
            )?;
        }
        let stopping = cli::stop_requested();
        if (checkpoint.is_some() || stopping) && step < plan.steps {
            run.save_state(plan)?;
        }
        if stopping && step < plan.steps {
            return Err(cli::Stopped {
                done: format!(
                    "{step} of {} steps of {}",
                    plan.steps,
                    plan.output.display()
                ),
            }
            .into());
        }
    }
    progress.finish();
    store::write_table(
        &plan.output.join("metrics.parquet"),
        &run.metrics,
        &plan.provenance,
    )?;
    directory::write(&plan.output, &run.model, &plan.tokenizer, &plan.provenance)?;
    remove(&state_path(plan))
}

/// Whether the plan was carried out before; says so.
pub fn is_done(plan: &Plan) -> bool {
    let done = directory::is_complete(&plan.output, &plan.provenance);
    if done {
        cli::say(&format!(
            "{} is complete: nothing to do",
            plan.output.display()
        ));
    }
    done
}

/// Prepares the output directory: what a different run left there is not this run's.
pub fn prepare(plan: &Plan) -> Result<()> {
    fs::create_dir_all(&plan.output)
        .with_context(|| format!("cannot create {}", plan.output.display()))?;
    remove(&plan.output.join("config.json"))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn state_path(plan: &Plan) -> PathBuf {
    plan.output.join("state.safetensors")
}

fn describe(report: &Report, rate: f64) -> String {
    let score = match report.reward {
        Some(reward) => format!(
            "reward {reward:.3}, KL {:.4}",
            report.kl_nats.unwrap_or_default()
        ),
        None => format!("loss {:.4}", report.loss),
    };
    format!("{score}, {rate:.0} tokens/s")
}

impl Run {
    /// Begins, or goes on from the state a run of the same plan left.
    fn resume(plan: &Plan, mut model: Model) -> Result<Self> {
        let mut optimizer = Optimizer::new(&model, plan.optimizer);
        let path = state_path(plan);
        if !path.exists() {
            return Ok(Self {
                model,
                optimizer,
                metrics: Vec::new(),
            });
        }
        let file = TensorFile::open(&path)?;
        if file.provenance() != Some(&plan.provenance) {
            bail!(
                "cannot go on from {}: it belongs to a run with other settings or inputs; remove it to start anew",
                path.display()
            );
        }
        for ((name, weight), (first, second)) in model
            .parameters_mut()
            .into_iter()
            .zip(&mut optimizer.moments)
        {
            *weight = Tensor::from_vec(
                file.f32(&format!("weight.{name}"))?,
                weight.dims(),
                &Device::Cpu,
            )?;
            *first = file.f32(&format!("first.{name}"))?;
            *second = file.f32(&format!("second.{name}"))?;
        }
        let value = |key: &str| {
            file.metadata()
                .get(key)
                .with_context(|| format!("cannot go on from {}: no `{key}`", path.display()))
        };
        optimizer.updates = value("updates")?.parse()?;
        let metrics = serde_json::from_str(value("metrics")?)?;
        Ok(Self {
            model,
            optimizer,
            metrics,
        })
    }

    /// Everything the next step depends on.
    fn save_state(&self, plan: &Plan) -> Result<()> {
        let mut tensors = Vec::new();
        for ((name, weight), (first, second)) in self
            .model
            .parameters()
            .into_iter()
            .zip(&self.optimizer.moments)
        {
            let shape = weight.dims().to_vec();
            let values = weight
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            tensors.push((
                format!("weight.{name}"),
                TensorData::F32 {
                    shape: shape.clone(),
                    values,
                },
            ));
            tensors.push((
                format!("first.{name}"),
                TensorData::F32 {
                    shape: shape.clone(),
                    values: first.clone(),
                },
            ));
            tensors.push((
                format!("second.{name}"),
                TensorData::F32 {
                    shape,
                    values: second.clone(),
                },
            ));
        }
        let metadata = BTreeMap::from([
            ("updates".to_owned(), self.optimizer.updates.to_string()),
            ("metrics".to_owned(), serde_json::to_string(&self.metrics)?),
        ]);
        Ok(store::write_tensors(
            &state_path(plan),
            &tensors,
            &metadata,
            &plan.provenance,
        )?)
    }

    fn tokens(&self) -> u64 {
        self.metrics.last().map_or(0, |step| step.tokens)
    }

    fn record(&mut self, stage: &str, step: u32, report: &Report) {
        self.metrics.push(TrainingStep {
            stage: stage.to_owned(),
            step,
            tokens: self.tokens() + report.tokens,
            loss: report.loss,
            learning_rate: report.learning_rate,
            gradient_norm: report.gradient_norm,
            reward: report.reward,
            kl_nats: report.kl_nats,
            length: report.length,
        });
    }
}
