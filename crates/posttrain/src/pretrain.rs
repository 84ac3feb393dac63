//! `posttrain pretrain`: a base model from a corpus.
//!
//! Next-token prediction on packed rows, `AdamW` with warm-up and cosine decay. The tokens of a question are noise to
//! predict and count a tenth: the same steps then teach more of what the answers need.

use crate::directory::{self, Size};
use crate::optimizer::{Decay, Optimizer, Schedule, Settings};
use crate::packing::{self, Weighted};
use crate::training::{self, Method, Plan, Report};
use anyhow::{Context, Result};
use model::loss::Scored;
use model::{Batch, Device, Gradients, Model, Tokenizer};
use serde::Serialize;
use std::path::{Path, PathBuf};
use store::Provenance;

/// Trains a base model from nothing on a corpus
#[derive(Debug, clap::Args, Serialize)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Corpus: JSONL with a `text` per line; `tokenizer.json` is looked for beside it
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    corpus: PathBuf,
    /// Shape of the model
    #[arg(long, value_enum, default_value_t = Size::Small)]
    size: Size,
    /// Optimizer steps [default: 2000, tiny 400]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Rows per step
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Tokens per row
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=512))]
    seq: u32,
    /// Largest learning rate
    #[arg(long, default_value_t = 3e-3)]
    lr: f64,
    /// Weight of a question's tokens in the loss, where an answer's count 1
    #[arg(long, default_value_t = 0.1)]
    question_weight: f32,
    /// Decides the initial weights and the order of the rows
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Directory to write
    #[arg(short, long, value_name = "DIR")]
    #[serde(skip)]
    output: PathBuf,
}

const EXAMPLE: &str = "Example:
  posttrain pretrain --corpus tasks/corpus.jsonl --size small -o models/base";

/// Steps of warm-up.
const WARMUP: u32 = 60;

/// Trains and writes the model.
pub fn run(args: &Args) -> Result<()> {
    let plan = plan(args)?;
    if training::is_done(&plan) {
        return Ok(());
    }
    training::prepare(&plan)?;
    let tokenizer = Tokenizer::load(&plan.tokenizer)?;
    let rows = rows(args, &tokenizer)?;
    let vocab = tokenizer.vocab();
    let model = Model::random(
        directory::controlled(vocab, args.size),
        args.seed,
        &Device::Cpu,
    )?;
    let mut method = Pretrain {
        args,
        rows,
        pad: tokenizer.pad_id(),
        steps: plan.steps,
    };
    training::train(&plan, model, &mut method)
}

fn plan(args: &Args) -> Result<Plan> {
    let default = if args.size == Size::Tiny { 400 } else { 2000 };
    let tokenizer = args
        .corpus
        .parent()
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok(Plan {
        stage: "pretrain",
        output: args.output.clone(),
        tokenizer: tokenizer.to_owned(),
        steps: args.steps.unwrap_or(default),
        optimizer: Settings {
            beta1: 0.9,
            beta2: 0.95,
            weight_decay: 0.1,
            clip: 1.0,
        },
        provenance: Provenance::new("posttrain pretrain", args)?
            .seed(args.seed)
            .input(&args.corpus)?,
    })
}

fn rows(args: &Args, tokenizer: &Tokenizer) -> Result<Vec<Vec<Weighted>>> {
    let texts = packing::read_corpus(&args.corpus)?;
    let weigh = |text: &String| packing::weigh(text, tokenizer, args.question_weight);
    let documents = texts
        .iter()
        .map(weigh)
        .collect::<Result<Vec<_>>>()
        .with_context(|| format!("cannot read {}", args.corpus.display()))?;
    Ok(packing::pack(documents, args.seq as usize, args.seed))
}

struct Pretrain<'a> {
    args: &'a Args,
    rows: Vec<Vec<Weighted>>,
    pad: u32,
    steps: u32,
}

impl Method for Pretrain<'_> {
    fn step(&mut self, model: &mut Model, optimizer: &mut Optimizer, step: u32) -> Result<Report> {
        let chosen = packing::draw(
            self.rows.len(),
            self.args.batch as usize,
            step,
            self.args.seed,
        );
        let rows: Vec<&Vec<Weighted>> = chosen.iter().map(|&row| &self.rows[row]).collect();
        let schedule = Schedule {
            peak: self.args.lr,
            warmup: WARMUP.min(self.steps / 4).max(1),
            decay: Decay::Cosine,
        };
        supervised_step(
            model,
            optimizer,
            &rows,
            self.pad,
            schedule.at(step, self.steps),
        )
    }
}

/// One update towards the next tokens of `rows`, each counted by its weight: the step of pretraining and of SFT.
pub fn supervised_step(
    model: &mut Model,
    optimizer: &mut Optimizer,
    rows: &[&Vec<Weighted>],
    pad: u32,
    learning_rate: f64,
) -> Result<Report> {
    let ids: Vec<Vec<u32>> = rows
        .iter()
        .map(|row| row.iter().map(|token| token.0).collect())
        .collect();
    let batch = Batch::right_padded(&ids, pad);
    let total: f64 = rows
        .iter()
        .flat_map(|row| &row[1..])
        .map(|token| f64::from(token.1))
        .sum();
    let score = |(index, row): (usize, &&Vec<Weighted>)| {
        let next = row[1..].iter().enumerate();
        next.map(|(position, token)| Scored {
            row: index,
            position,
            token: token.0,
            weight: f64::from(token.1) / total,
        })
        .collect::<Vec<_>>()
    };
    let scored: Vec<Scored> = rows.iter().enumerate().flat_map(score).collect();
    let (logits, trace) = model.forward_trace(&batch, &mut ())?;
    let loss = model::nll(&logits, &scored)?;
    let mut gradients = Gradients::default();
    model.backward(&trace, &loss.d_logits, &mut (), Some(&mut gradients))?;
    let gradient_norm = optimizer.update(model, &gradients, learning_rate)?;
    Ok(Report {
        loss: loss.total,
        tokens: scored.len() as u64,
        learning_rate,
        gradient_norm,
        ..Report::default()
    })
}
