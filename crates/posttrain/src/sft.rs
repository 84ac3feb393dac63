//! `posttrain sft`: supervised fine-tuning on demonstrations.
//!
//! Cross-entropy on the demonstration's tokens only, over the same prompts that `posttrain grpo` draws from. A share of every
//! batch may be texts of the pretraining corpus: general data among the demonstrations, as real fine-tuning sets have it.

use crate::optimizer::{Decay, Optimizer, Schedule, Settings};
use crate::packing::{self, Weighted};
use crate::pretrain::supervised_step;
use crate::training::{self, Method, Plan, Report};
use ::tasks::{Item, read_items};
use anyhow::{Context, Result, ensure};
use model::{DType, Device, Model, Tokenizer};
use serde::Serialize;
use std::path::{Path, PathBuf};
use store::Provenance;

/// Fine-tunes a model on demonstrations
#[derive(Debug, clap::Args, Serialize)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Model to start from: a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    model: PathBuf,
    /// Task files whose lines have a `solution`
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    #[serde(skip)]
    tasks: Vec<PathBuf>,
    /// Prompts to learn from: the first of a fixed shuffle, the same for `grpo`
    #[arg(long, default_value_t = 960)]
    prompts: usize,
    /// Optimizer steps
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Demonstrations per step
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Largest learning rate
    #[arg(long, default_value_t = 8e-4)]
    lr: f64,
    /// Corpus to replay among the demonstrations: JSONL with a `text` per line
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    replay: Option<PathBuf>,
    /// Share of a batch that is replayed, with --replay
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    replay_share: f64,
    /// Decides the prompts and their order
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Directory to write
    #[arg(short, long, value_name = "DIR")]
    #[serde(skip)]
    output: PathBuf,
}

const EXAMPLE: &str = "Example:
  posttrain sft --model models/base --tasks 'tasks/arith.train.jsonl' -o models/sft";

/// Weight of a replayed question's tokens in the loss, as in pretraining.
const QUESTION_WEIGHT: f32 = 0.1;

/// Steps of warm-up.
const WARMUP: u32 = 10;

/// Trains and writes the model and its checkpoints.
pub fn run(args: &Args) -> Result<()> {
    let plan = plan(args)?;
    if training::is_done(&plan) {
        return Ok(());
    }
    training::prepare(&plan)?;
    let tokenizer = Tokenizer::load(&args.model)?;
    let items = prompts(&args.tasks, args.prompts, args.seed)?;
    let rows = items
        .iter()
        .map(|item| demonstration(item, &tokenizer))
        .collect::<Result<Vec<_>>>()?;
    let model = Model::load(&args.model, &Device::Cpu, DType::F32)?;
    training::train(
        &plan,
        model,
        &mut Sft {
            args,
            replayed: replayed(args, &tokenizer)?,
            rows,
            pad: tokenizer.pad_id(),
        },
    )
}

fn plan(args: &Args) -> Result<Plan> {
    let provenance = Provenance::new("posttrain sft", args)?
        .seed(args.seed)
        .input(&args.model)?
        .inputs(&args.tasks)?
        .inputs(args.replay.as_slice())?;
    Ok(Plan {
        stage: "sft",
        output: args.output.clone(),
        tokenizer: args.model.clone(),
        steps: args.steps,
        optimizer: Settings {
            beta1: 0.9,
            beta2: 0.98,
            weight_decay: 0.0,
            clip: 1.0,
        },
        provenance,
    })
}

/// The first `count` items of a shuffle that depends on the seed alone: SFT and reinforcement learning see the same.
pub fn prompts(files: &[PathBuf], count: usize, seed: u64) -> Result<Vec<Item>> {
    let files = store::expand(files, "jsonl")?;
    let items: Vec<Vec<Item>> = files
        .iter()
        .map(|path: &PathBuf| Ok(read_items(path as &Path)?))
        .collect::<Result<_>>()?;
    let items = items.concat();
    ensure!(count > 0, "at least one prompt is needed");
    let order = packing::draw(items.len(), count.min(items.len()), 1, seed);
    Ok(order
        .into_iter()
        .map(|index| items[index].clone())
        .collect())
}

/// Prompt and demonstration as tokens; only the demonstration, with the end token, counts.
fn demonstration(item: &Item, tokenizer: &Tokenizer) -> Result<Vec<Weighted>> {
    let solution = item.solution.as_ref().with_context(|| {
        format!(
            "item {} of {} has no `solution` to learn from",
            item.id, item.task
        )
    })?;
    let mut tokens: Vec<Weighted> = tokenizer
        .prompt_ids(&item.prompt)?
        .into_iter()
        .map(|id| (id, 0.0))
        .collect();
    tokens.extend(
        tokenizer
            .encode(solution, false)?
            .into_iter()
            .map(|id| (id, 1.0)),
    );
    tokens.extend(tokenizer.eos_ids().first().map(|&id| (id, 1.0)));
    Ok(tokens)
}

/// The documents to replay; none without --replay.
fn replayed(args: &Args, tokenizer: &Tokenizer) -> Result<Vec<Vec<Weighted>>> {
    let Some(corpus) = &args.replay else {
        return Ok(Vec::new());
    };
    let texts = packing::read_corpus(corpus)?;
    let weigh = |text: &String| packing::weigh(text, tokenizer, QUESTION_WEIGHT);
    texts.iter().map(weigh).collect()
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("expected a share from 0, below 1".to_owned()),
    }
}

struct Sft<'a> {
    args: &'a Args,
    rows: Vec<Vec<Weighted>>,
    /// Texts of the corpus, or none.
    replayed: Vec<Vec<Weighted>>,
    pad: u32,
}

impl Sft<'_> {
    /// Which texts step `step` (from 1) replays: over the run, the share of all rows that was asked for.
    fn replayed(&self, step: u32) -> Vec<usize> {
        let n = self.replayed.len();
        let share = if n == 0 { 0.0 } else { self.args.replay_share };
        let until = |step: u32| (f64::from(step) * f64::from(self.args.batch) * share) as u32;
        let draw = |row| packing::draw(n, 1, row + 1, self.args.seed + 2);
        (until(step - 1)..until(step)).flat_map(draw).collect()
    }
}

impl Method for Sft<'_> {
    fn step(&mut self, model: &mut Model, optimizer: &mut Optimizer, step: u32) -> Result<Report> {
        let args = self.args;
        let replayed = self.replayed(step);
        let batch = args.batch as usize;
        let shown = packing::draw(self.rows.len(), batch, step, args.seed + 1);
        let shown = shown
            .iter()
            .skip(replayed.len())
            .map(|&row| &self.rows[row]);
        let rows: Vec<&Vec<Weighted>> = shown
            .chain(replayed.iter().map(|&row| &self.replayed[row]))
            .collect();
        let schedule = Schedule {
            peak: args.lr,
            warmup: WARMUP.min(args.steps),
            decay: Decay::Linear,
        };
        supervised_step(
            model,
            optimizer,
            &rows,
            self.pad,
            schedule.at(step, args.steps),
        )
    }
}
