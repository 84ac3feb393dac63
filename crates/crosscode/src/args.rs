//! What `crosscode train` can be told.

use crate::filter::FilterArgs;
use crate::partition::Claim;
use crate::preset::Preset;
use cli::Labelled;
use std::path::PathBuf;

/// Trains a dictionary on the activations of two or more models (one is a sparse autoencoder)
///
/// Every row that the filters leave is seen exactly once per epoch, in an order the seed decides. Activations are
/// normalised per model to mean 0 and one common size; features start alike in every model, so that a difference at the end
/// was learned. Stopped by a signal or killed, the same command goes on from `<output>.state.safetensors` to the same bytes.
///
/// Several values of --k, --features or --seed train one dictionary for each combination in one pass over the activations;
/// the output then names them: `-o 'dict-k{k}-f{features}-s{seed}.safetensors'`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    before_help = "Example:\n  crosscode train acts/ --features 4096 --k 32 --rule batch-topk --tokens 5M -o dict.safetensors"
)]
pub struct Args {
    /// Activation stores of `capture` (several are one after the other), or safetensors files `[rows, n_models, d_model]`
    #[arg(
        required_unless_present = "from_models",
        conflicts_with = "from_models",
        value_name = "ACTS"
    )]
    pub acts: Vec<PathBuf>,
    /// Dictionary to write; with several dictionaries, a name with `{k}`, `{features}`, `{seed}` in it
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Published recipe that every other flag changes
    #[arg(long, value_enum, value_name = "NAME")]
    pub preset: Option<Preset>,
    /// Number of features, or several [default: 4096]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = cli::parse_count)]
    pub features: Vec<u64>,
    /// Features kept per row: each (topk), on average (batch-topk, matryoshka), or aimed at (jumprelu); or several [default: 32]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = cli::parse_count)]
    pub k: Vec<u64>,
    /// Sparsity rule [default: batch-topk]
    #[arg(long, value_enum)]
    pub rule: Option<RuleName>,
    /// λ of l1 (for activations of size `√d_model`) and of jumprelu [default: l1 2, jumprelu 1]
    #[arg(long, value_name = "λ")]
    pub sparsity: Option<f32>,
    /// Rows to train on, all epochs together [default: 5M]
    #[arg(long, value_name = "N", value_parser = cli::parse_count)]
    pub tokens: Option<u64>,
    /// Rows of one step; the last may have fewer [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub batch: Option<u64>,
    /// Learning rate [default: 2e-4/√(features/16384), l1 1e-4, jumprelu 7e-5; times √(20000/steps), at most 8, in shorter runs]
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f32>,
    /// Seed of the initial weights, or several [default: 0]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub seed: Vec<u64>,
    /// Seed of the order of the rows [default: the first --seed]
    #[arg(long, value_name = "N")]
    pub order_seed: Option<u64>,
    /// Models to use, in this order [default: all of the store]
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    pub models: Vec<String>,
    /// Hook to use [default: the only one of the store; with --from-models `resid_post.0.5`]
    #[arg(long, value_name = "HOOK")]
    pub hook: Option<String>,
    /// Model to take activations from as training needs them, as often as there are models: no store, nothing on disk
    #[arg(long, value_name = "LABEL=DIR", requires = "text_source")]
    pub from_models: Vec<Labelled>,
    /// Texts the models read: JSON lines with `text`
    #[arg(long, value_name = "FILE", num_args = 1.., group = "text_source")]
    pub texts: Vec<PathBuf>,
    /// Token ids the models read: JSON lines with `input_ids`
    #[arg(long, value_name = "FILE", num_args = 1.., group = "text_source", conflicts_with = "texts")]
    pub token_ids: Vec<PathBuf>,
    /// Tokens of each document that the models read at most [default: what they can]
    #[arg(long, value_name = "N", requires = "from_models")]
    pub max_tokens: Option<usize>,
    /// Where dictionaries, and the models of --from-models, are computed: cpu, cuda, cuda:1, metal; or `plain`, the tensors
    /// of a GPU on the CPU (slow, to compare)
    #[arg(long, default_value = "cpu", value_name = "NAME")]
    pub device: String,
    /// Table of the steps [default: beside the dictionary, `.curve.parquet`]
    #[arg(long, value_name = "FILE")]
    pub curve: Option<PathBuf>,
    /// Write rows per second into the curve, which is then another file in every run
    #[arg(long)]
    pub timed: bool,
    /// Steps between two saved states [default: a fifth of the run]
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_every: Option<u64>,
    /// Rows held in memory while they are shuffled
    #[arg(long, default_value = "65536", value_name = "N", value_parser = cli::parse_count)]
    pub buffer_rows: u64,
    /// How it learns
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Which rows to leave out
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// How a dictionary learns.
#[derive(Debug, Clone, clap::Args)]
pub struct RecipeArgs {
    /// What the encoder's product is computed in; everything else is f32 [default: f32]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
    /// How the decoder's norms weigh an activation before it is ranked [default: crosscoder]
    #[arg(long, value_enum)]
    pub code_norm: Option<CodeNormName>,
    /// Features that belong to some models only, as `base=5%` or `sft+rl=100`; `tied=20%` shares one decoder row among all
    #[arg(long, value_delimiter = ',', value_name = "MODELS=SIZE")]
    pub partition: Vec<Claim>,
    /// Factor of the penalty of tied features (l1)
    #[arg(long, default_value_t = 0.15, value_name = "FACTOR")]
    pub tied_penalty: f32,
    /// What the penalty of l1 charges: the activation, or the tanh of c times it
    #[arg(long, value_name = "C")]
    pub tanh: Option<f32>,
    /// Ends of matryoshka's nested dictionaries, the last of all features [default: 1/32, 3/32, 7/32, 15/32, all]
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub groups: Vec<usize>,
    /// Window of rank values in which a threshold of jumprelu learns
    #[arg(long, default_value_t = 1e-3, value_name = "WIDTH")]
    pub bandwidth: f32,
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
    /// Distance of the reconstruction: mean norm of the error, or its square [default: norm; l1, jumprelu: squared]
    #[arg(long, value_enum)]
    pub distance: Option<DistanceName>,
    /// Weight of the loss that revives dead features [default: 1/32; l1, jumprelu: 0]
    #[arg(long, value_name = "WEIGHT")]
    pub aux: Option<f32>,
    /// Norm of every decoder row at the start [default: 1; l1: 0.08]
    #[arg(long, value_name = "NORM")]
    pub init_norm: Option<f32>,
    /// What is brought to one size: the root of the total variance, the mean norm (without centring), or nothing [default: variance]
    #[arg(long, value_enum)]
    pub normalize: Option<NormalizeName>,
    /// The size every model is normalised to [default: 1; l1: `√d_model`]
    #[arg(long, value_name = "SIZE")]
    pub input_norm: Option<f32>,
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
    /// Everything above a learned threshold of each feature, k on average
    Jumprelu,
    /// batch-topk whose first features must reconstruct alone as well
    Matryoshka,
}

/// Names of the distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DistanceName {
    /// Mean over rows and models of the error's norm
    Norm,
    /// Mean over rows of the squared errors' sum over models
    Squared,
}

/// Names of the precisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PrecisionName {
    /// 32 bits
    F32,
    /// 32 bits from pairs of 16, where the machine has matrix tiles that are faster
    Bf16x3,
    /// 16 bits, summed in 32
    Bf16,
}

/// Names of the code normalisations, as the standard format has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CodeNormName {
    /// Sum of the models' decoder norms
    Crosscoder,
    /// Norm of all models' decoder rows together
    Sae,
    /// The joint norm and a tenth of the sum
    Mixed,
    /// None
    None,
    /// Each model's own norm: one selection per model
    Decoupled,
}

/// What is brought to one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NormalizeName {
    /// Mean 0, and the root of the total variance
    Variance,
    /// The mean norm; the mean stays
    Norm,
    /// Nothing
    None,
}
