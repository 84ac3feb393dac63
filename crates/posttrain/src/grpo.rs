//! `posttrain grpo`: reinforcement learning on the outcome (arXiv 2402.03300).
//!
//! Every prompt is answered `rollouts` times; an answer's advantage is its reward against its group's,
//! (r − mean) / (std + 1e-4). The objective is the clipped ratio minus β times the k3 estimate of the KL divergence to
//! the model at the start, averaged over each answer's tokens, then over answers.

use crate::optimizer::{Decay, Optimizer, Schedule, Settings};
use crate::packing;
use crate::sft::prompts;
use crate::training::{self, Method, Plan, Report};
use ::tasks::{Item, grade};
use anyhow::Result;
use model::loss::Scored;
use model::{Batch, DType, Device, Finish, Gradients, Model, Sampling, Tokenizer};
use serde::Serialize;
use std::path::PathBuf;
use store::Provenance;

/// Reinforces answers that turn out right
#[derive(Debug, clap::Args, Serialize)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Model to start from, and to stay close to: a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    model: PathBuf,
    /// Task files
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    #[serde(skip)]
    tasks: Vec<PathBuf>,
    /// Prompts to learn from: the first of a fixed shuffle, the same for `sft`
    #[arg(long, default_value_t = 960)]
    prompts: usize,
    /// Steps: rounds of rollouts
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Prompts per step
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Answers per prompt
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..))]
    rollouts: u32,
    /// Updates per step, each on its share of the answers
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    updates: u32,
    /// Largest learning rate
    #[arg(long, default_value_t = 3e-5)]
    lr: f64,
    /// How far the ratio to the sampling policy may move before it stops counting
    #[arg(long, default_value_t = 0.2)]
    clip: f64,
    /// Weight β of the KL divergence to the starting model
    #[arg(long, default_value_t = 0.02)]
    beta: f64,
    /// Temperature of the rollouts
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Longest answer in tokens
    #[arg(long, default_value_t = 64)]
    max_new_tokens: usize,
    /// Decides the prompts, their order and the rollouts
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Directory to write
    #[arg(short, long, value_name = "DIR")]
    #[serde(skip)]
    output: PathBuf,
}

const EXAMPLE: &str = "Example:
  posttrain grpo --model models/base --tasks 'tasks/arith.train.jsonl' -o models/grpo";

/// Steps of warm-up.
const WARMUP: u32 = 5;
/// Keeps a group in which all rewards are equal from dividing by zero.
const ADVANTAGE_EPSILON: f64 = 1e-4;

/// Trains and writes the model and its checkpoints.
pub fn run(args: &Args) -> Result<()> {
    let plan = plan(args)?;
    if training::is_done(&plan) {
        return Ok(());
    }
    training::prepare(&plan)?;
    let items = prompts(&args.tasks, args.prompts, args.seed)?;
    let reference = Model::load(&args.model, &Device::Cpu, DType::F32)?;
    let model = reference.clone();
    let mut method = Grpo {
        args,
        items,
        reference,
        tokenizer: Tokenizer::load(&args.model)?,
    };
    training::train(&plan, model, &mut method)
}

fn plan(args: &Args) -> Result<Plan> {
    let provenance = Provenance::new("posttrain grpo", args)?
        .seed(args.seed)
        .input(&args.model)?
        .inputs(&args.tasks)?;
    Ok(Plan {
        stage: "grpo",
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

struct Grpo<'a> {
    args: &'a Args,
    items: Vec<Item>,
    reference: Model,
    tokenizer: Tokenizer,
}

/// One answer with what its update needs.
struct Rollout {
    /// Prompt and answer.
    tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    reward: f64,
    advantage: f64,
    /// Log-probabilities of the answer's tokens under the policy that wrote it, and under the reference.
    old: Vec<f64>,
    reference: Vec<f64>,
}

impl Method for Grpo<'_> {
    fn step(&mut self, model: &mut Model, optimizer: &mut Optimizer, step: u32) -> Result<Report> {
        let mut rollouts = self.roll_out(model, step)?;
        self.compare_with_reference(&mut rollouts)?;
        let schedule = Schedule {
            peak: self.args.lr,
            warmup: WARMUP.min(self.args.steps),
            decay: Decay::Constant,
        };
        let learning_rate = schedule.at(step, self.args.steps);
        let n = rollouts.len() as f64;
        let mut report = Report {
            learning_rate,
            ..Report::default()
        };
        let mut kl = 0.0;
        for part in rollouts.chunks(rollouts.len().div_ceil(self.args.updates as usize)) {
            let update = self.update(model, optimizer, part, learning_rate)?;
            report.loss += update.loss * part.len() as f64 / n;
            report.gradient_norm = report.gradient_norm.max(update.norm);
            kl += update.kl * part.len() as f64 / n;
        }
        report.tokens = rollouts
            .iter()
            .map(|rollout| rollout.old.len() as u64)
            .sum();
        report.reward = Some(rollouts.iter().map(|rollout| rollout.reward).sum::<f64>() / n);
        report.length = Some(report.tokens as f64 / n);
        report.kl_nats = Some(kl);
        Ok(report)
    }
}

/// What one update reports.
struct Update {
    loss: f64,
    norm: f64,
    kl: f64,
}

impl Grpo<'_> {
    /// Answers this step's prompts and grades the answers.
    fn roll_out(&self, model: &Model, step: u32) -> Result<Vec<Rollout>> {
        let (args, tokenizer) = (self.args, &self.tokenizer);
        let chosen = packing::draw(self.items.len(), args.batch as usize, step, args.seed + 1);
        let items: Vec<&Item> = chosen
            .iter()
            .flat_map(|&index| vec![&self.items[index]; args.rollouts as usize])
            .collect();
        let prompts = items
            .iter()
            .map(|item| tokenizer.prompt_ids(&item.prompt))
            .collect::<model::Result<Vec<_>>>()?;
        let first = u64::from(step) * items.len() as u64;
        let streams: Vec<u64> = (first..first + items.len() as u64).collect();
        let sampling = Sampling {
            temperature: args.temperature,
            seed: args.seed,
            ..Sampling::greedy(args.max_new_tokens)
        };
        let answers =
            model.generate(&prompts, &streams, &sampling, tokenizer.eos_ids(), &mut ())?;
        let mut rollouts = Vec::with_capacity(items.len());
        for ((item, prompt), answer) in items.iter().zip(prompts).zip(answers) {
            let verdict = grade(
                item.grader,
                &tokenizer.decode(&answer.tokens)?,
                &item.target,
            );
            let right = verdict.correct && answer.finish == Finish::Stop;
            rollouts.push(Rollout {
                prompt: prompt.len(),
                tokens: [prompt, answer.tokens].concat(),
                reward: f64::from(u8::from(right)),
                advantage: 0.0,
                old: answer.logprobs.iter().map(|p| f64::from(*p)).collect(),
                reference: Vec::new(),
            });
        }
        rollouts
            .chunks_mut(args.rollouts as usize)
            .for_each(set_advantages);
        Ok(rollouts)
    }

    fn compare_with_reference(&self, rollouts: &mut [Rollout]) -> Result<()> {
        let sequences: Vec<Vec<u32>> = rollouts
            .iter()
            .map(|rollout| rollout.tokens.clone())
            .collect();
        let logits = self.reference.forward(
            &Batch::right_padded(&sequences, self.tokenizer.pad_id()),
            &mut (),
        )?;
        let all = log_probabilities(&logits, rollouts)?;
        for (rollout, reference) in rollouts.iter_mut().zip(all) {
            rollout.reference = reference;
        }
        Ok(())
    }

    /// One update on some of the answers.
    fn update(
        &self,
        model: &mut Model,
        optimizer: &mut Optimizer,
        rollouts: &[Rollout],
        learning_rate: f64,
    ) -> Result<Update> {
        let sequences: Vec<Vec<u32>> = rollouts
            .iter()
            .map(|rollout| rollout.tokens.clone())
            .collect();
        let (logits, trace) = model.forward_trace(
            &Batch::right_padded(&sequences, self.tokenizer.pad_id()),
            &mut (),
        )?;
        let now = log_probabilities(&logits, rollouts)?;
        let (mut loss, mut kl, mut tokens) = (0.0, 0.0, 0);
        let mut scored = Vec::new();
        for (row, (rollout, now)) in rollouts.iter().zip(&now).enumerate() {
            let share = 1.0 / (rollouts.len() * now.len()) as f64;
            for (index, ((now, old), reference)) in now
                .iter()
                .zip(&rollout.old)
                .zip(&rollout.reference)
                .enumerate()
            {
                let term = Term::new(*now, *old, *reference, rollout.advantage, self.args.clip);
                loss -= share * (term.objective - self.args.beta * term.kl);
                kl += term.kl;
                tokens += 1;
                let position = rollout.prompt - 1 + index;
                let weight = share * (term.slope - self.args.beta * term.kl_slope);
                scored.push(Scored {
                    row,
                    position,
                    token: rollout.tokens[position + 1],
                    weight,
                });
            }
        }
        // The gradient of Σ weight · nll is what the objective's slopes by each log-probability ask for.
        let nll = model::nll(&logits, &scored)?;
        let mut gradients = Gradients::default();
        model.backward(&trace, &nll.d_logits, &mut (), Some(&mut gradients))?;
        let norm = optimizer.update(model, &gradients, learning_rate)?;
        Ok(Update {
            loss,
            norm,
            kl: kl / f64::from(tokens.max(1)),
        })
    }
}

/// Advantages of one group: its rewards, centred and scaled.
fn set_advantages(group: &mut [Rollout]) {
    let n = group.len() as f64;
    let mean = group.iter().map(|rollout| rollout.reward).sum::<f64>() / n;
    let deviation = (group
        .iter()
        .map(|rollout| (rollout.reward - mean).powi(2))
        .sum::<f64>()
        / n)
        .sqrt();
    for rollout in group {
        rollout.advantage = (rollout.reward - mean) / (deviation + ADVANTAGE_EPSILON);
    }
}

/// Log-probabilities of every answer's tokens, in nats.
fn log_probabilities(logits: &model::Tensor, rollouts: &[Rollout]) -> Result<Vec<Vec<f64>>> {
    let mut scored = Vec::new();
    for (row, rollout) in rollouts.iter().enumerate() {
        let positions = rollout.prompt - 1..rollout.tokens.len() - 1;
        scored.extend(positions.map(|position| Scored {
            row,
            position,
            token: rollout.tokens[position + 1],
            weight: 1.0,
        }));
    }
    let mut nll = model::nll(logits, &scored)?.tokens.into_iter();
    Ok(rollouts
        .iter()
        .map(|rollout| {
            nll.by_ref()
                .take(rollout.old.len())
                .map(|nll| -nll)
                .collect()
        })
        .collect())
}

/// One token's part of the objective, and its slope by the token's log-probability.
struct Term {
    objective: f64,
    slope: f64,
    /// k3 estimate of the KL divergence to the reference: e^(r − p) − (r − p) − 1.
    kl: f64,
    kl_slope: f64,
}

impl Term {
    fn new(now: f64, old: f64, reference: f64, advantage: f64, clip: f64) -> Self {
        let ratio = (now - old).exp();
        let clipped = ratio.clamp(1.0 - clip, 1.0 + clip);
        let counts = ratio * advantage <= clipped * advantage;
        let gap = reference - now;
        Self {
            objective: (ratio * advantage).min(clipped * advantage),
            slope: if counts { ratio * advantage } else { 0.0 },
            kl: gap.exp() - gap - 1.0,
            kl_slope: 1.0 - gap.exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_the_slope_of_its_objective() {
        for (now, old, reference, advantage) in [
            (-1.0, -1.1, -0.8, 1.5),
            (-1.0, -0.9, -1.4, -0.7),
            (-0.5, -1.0, -0.6, 2.0),
            (-1.5, -1.0, -1.0, -2.0),
        ] {
            let value = |h: f64| Term::new(now + h, old, reference, advantage, 0.2);
            let slope = (value(1e-6).objective - value(-1e-6).objective) / 2e-6;
            assert!((slope - value(0.0).slope).abs() < 1e-5);
            let slope = (value(1e-6).kl - value(-1e-6).kl) / 2e-6;
            assert!((slope - value(0.0).kl_slope).abs() < 1e-5);
        }
    }

    #[test]
    fn advantages_are_centred_and_a_group_that_agrees_has_none() {
        let rollout = |reward| Rollout {
            tokens: vec![],
            prompt: 0,
            reward,
            advantage: 9.0,
            old: vec![],
            reference: vec![],
        };
        let mut group = [rollout(1.0), rollout(0.0), rollout(0.0), rollout(1.0)];
        set_advantages(&mut group);
        assert!(
            (group[0].advantage - 0.5 / 0.5001).abs() < 1e-9
                && (group[1].advantage + 0.5 / 0.5001).abs() < 1e-9
        );
        let mut same = [rollout(1.0), rollout(1.0)];
        set_advantages(&mut same);
        assert_eq!(same[0].advantage, 0.0);
    }
}
