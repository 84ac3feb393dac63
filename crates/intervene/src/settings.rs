//! The flags of `intervene run`, and what they amount to.

use crate::arms::{Controls, Operation};
use crate::tap::Positions;
use anyhow::bail;
use cli::{Labelled, Shard};
use model::{Names, Place, Sampling};
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLE: &str = "\
Example:
  intervene run --model rl=models/grpo --dict dict.safetensors --selection selection.parquet \\
                --op disable --tasks 'tasks/*.test.jsonl' -o disable.samples.parquet
  intervene run --model base=models/base --companion rl=models/grpo --dict dict.safetensors \\
                --selection selection.parquet --op amplify --alpha 1.5,2,3,5 \\
                --tasks 'tasks/*.test.jsonl' -o amplify.samples.parquet
";

/// What is done to the selected features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Undo them, α = 0: `h + Σ (0−1)·f_k·d_k`; features that training lowered are doubled instead
    Disable,
    /// Turn them up: `h + Σ (α−1)·f_k·d_k`, for every --alpha
    Amplify,
    /// Add them whether they are active or not: `h + Σ c·d_k`, for every --strength c
    Steer,
}

/// Where the activation `f_k` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The crosscoder's code with every model in its own slot: all others run in step (--companion)
    Joint,
    /// The model's activation in every slot but the last, which keeps that of the last model when it runs in step
    /// (--companion): the readout features are selected with
    Swap,
    /// The model's own encoder block alone
    #[value(name = "self")]
    #[serde(rename = "self")]
    Own,
    /// How far the residual stream reaches along the model's decoder row
    Projection,
    /// The mean over the rows on which the feature fires, from the selection: the same at every position
    Constant,
}

/// Answer tasks while some features of the model are changed, beside controls that should change nothing
///
/// Writes the table `evaluate run` writes, one arm after the other: `disable`, `disable/random-00`, `amplify-1.5`, … The
/// residual stream at the dictionary's hook is edited while the prompt is read and at every decoding step; what the dictionary
/// does not explain stays as it is. A run that is stopped or killed goes on where it was when started again. Accuracies go
/// to stdout.
#[derive(Debug, Serialize, clap::Args)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Model directory with its role: LABEL=DIR
    #[arg(long, value_name = "LABEL=DIR")]
    #[serde(serialize_with = "label")]
    pub(crate) model: Labelled,
    /// Label of the model's slot in the dictionary, when it is not its own (a checkpoint, say)
    #[arg(long, value_name = "LABEL")]
    pub(crate) slot: Option<String>,
    /// Dictionary of the features
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) dict: PathBuf,
    /// Hook the dictionary was trained on, when it does not say: `resid_post.12`
    #[arg(long, value_name = "HOOK")]
    pub(crate) hook: Option<String>,
    /// Selected features and their matched random sets
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) selection: PathBuf,
    /// Set of the selection to work on
    #[arg(long, value_name = "SET", default_value = "selected")]
    pub(crate) set: String,
    /// What to do
    #[arg(long, value_enum)]
    pub(crate) op: Op,
    /// Factors of the activations, with --op amplify [default: 1.5,2,3,5]
    #[arg(
        long,
        value_name = "A",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) alpha: Vec<f64>,
    /// Multiples of the decoder rows, with --op steer, in the dictionary's units of activation
    #[arg(
        long,
        value_name = "C",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) strength: Vec<f64>,
    /// Of the strengths, run only the one with the highest accuracy among these answers (of this program, on other documents)
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) chosen_on: Option<PathBuf>,
    /// Where activations come from
    #[arg(long, value_enum, default_value_t = Origin::Swap)]
    pub(crate) source: Origin,
    /// Another model of the dictionary, to run in step over the same text: LABEL=DIR
    #[arg(long = "companion", value_name = "LABEL=DIR")]
    #[serde(serialize_with = "labels")]
    pub(crate) companions: Vec<Labelled>,
    /// Positions to edit
    #[arg(long, value_enum, default_value_t = Positions::All)]
    pub(crate) positions: Positions,
    /// Matched random sets beside every operation
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) random_arms: usize,
    /// Random directions of the same length beside every operation
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) random_directions: usize,
    /// The edit with its sign turned round beside every operation
    #[arg(long)]
    pub(crate) sign_flip: bool,
    /// Task files: .jsonl files, directories, globs
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    #[serde(skip)]
    pub(crate) tasks: Vec<PathBuf>,
    /// The samples table to write (`-`: stdout)
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) output: PathBuf,
    /// Answers per document
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) samples_per_document: u32,
    /// 0 takes the likeliest token every time; 1 samples from the model's distribution
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    pub(crate) temperature: f64,
    /// Samples among the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    pub(crate) top_p: f64,
    /// Samples among this many of the likeliest tokens; 0 means all
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Longest answer in tokens, the end token included
    #[arg(long, default_value_t = 256, value_parser = at_least_one)]
    pub(crate) max_new_tokens: usize,
    /// Prompts answered together
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// Ask the first N documents of each task only
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) limit: Option<usize>,
    /// Seed of the sampling and of random directions
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Ask one of N contiguous ranges of the documents: I/N, I from 0
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
    /// Precision of the models' arithmetic: f32, f16, bf16
    #[arg(long, default_value = "f32", value_parser = ["f32", "f16", "bf16"], hide_possible_values = true)]
    pub(crate) dtype: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) compute: cli::Compute,
    /// Say which arms would be run on how many documents, and stop
    #[arg(long)]
    #[serde(skip)]
    pub(crate) dry_run: bool,
}

fn label<S: serde::Serializer>(model: &Labelled, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&model.label)
}

fn labels<S: serde::Serializer>(models: &[Labelled], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(models.iter().map(|model| &model.label))
}

fn temperature(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("expected a temperature from 0 to 100".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a share above 0, at most 1".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("expected a whole number".to_owned()),
    }
}

impl Args {
    /// The operations asked for; a flag that belongs to another is refused.
    pub fn operations(&self) -> anyhow::Result<Vec<Operation>> {
        let refuse = |flag: &str, values: &[f64], op: Op| {
            if !values.is_empty() && self.op != op {
                bail!(cli::Usage(format!("{flag} does not belong to this --op")));
            }
            if values.iter().any(|value| !value.is_finite()) {
                bail!(cli::Usage(format!("{flag} takes finite numbers")));
            }
            Ok(())
        };
        refuse("--alpha", &self.alpha, Op::Amplify)?;
        refuse("--strength", &self.strength, Op::Steer)?;
        let operations = match self.op {
            Op::Disable => vec![Operation::Disable],
            Op::Amplify if self.alpha.is_empty() => {
                [1.5, 2.0, 3.0, 5.0].map(Operation::Amplify).into()
            }
            Op::Amplify => self.alpha.iter().copied().map(Operation::Amplify).collect(),
            Op::Steer => self
                .strength
                .iter()
                .copied()
                .map(Operation::Steer)
                .collect(),
        };
        if operations.is_empty() {
            bail!(cli::Usage("--op steer needs --strength".into()));
        }
        Ok(operations)
    }

    /// Where and how models are computed.
    pub fn place(&self) -> anyhow::Result<Place> {
        let names = Names {
            device: &self.compute.device,
            dtype: &self.dtype,
            weights: &self.compute.weights,
            precision: &self.compute.precision,
        };
        Place::named(names).map_err(|error| cli::Usage(error.to_string()).into())
    }

    /// How the next token is chosen.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            max_new_tokens: self.max_new_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
        }
    }

    /// How many control arms there are.
    pub fn controls(&self) -> Controls {
        Controls {
            random_sets: self.random_arms,
            random_directions: self.random_directions,
            flip: self.sign_flip,
            seed: self.seed,
        }
    }
}
