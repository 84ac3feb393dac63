//! Crosscoders: one sparse dictionary for the activations of several models.
//!
//! Reads activation stores (`capture`), or bare safetensors files with one tensor `[rows, n_models, d_model]`; writes a
//! dictionary (`train`, `import`), its codes (`encode`) or its quality (`eval`).
//!
//! ```text
//! crosscode train  acts/ --features 4096 --k 32 --rule batch-topk --tokens 5M -o dict.safetensors
//! crosscode eval   dict.safetensors acts/ -o eval.parquet
//! crosscode encode dict.safetensors acts/ --readout swap -o features.parquet
//! ```
//!
//! # Layout
//! - [`train`], [`encode`], [`eval`], [`import`], [`export`]: the subcommands; [`formats`]: other programs' formats
//! - [`device`]: where models and dictionaries are computed; [`filter`]: the flags that leave rows out; [`partition`]: which features belong to which models
//! - [`args`], [`preset`], [`plan`]: what a training run is told, and what that means
//! - [`source`]: stores, or models that compute activations as they are needed; [`sample`]: what is decided beforehand
//! - [`reader`]: shuffled batches; [`checkpoint`]: how a run continues; [`curve`]: what it did
//! - [`measure`], [`splice`]: what `eval` computes

pub mod args;
pub mod checkpoint;
pub mod curve;
pub mod device;
pub mod encode;
pub mod eval;
pub mod export;
pub mod filter;
pub mod formats;
pub mod import;
pub mod measure;
pub mod partition;
pub mod plan;
pub mod preset;
pub mod reader;
pub mod sample;
pub mod source;
pub mod splice;
pub mod train;

mod activations;
mod done;

/// Trains, applies and evaluates crosscoders: one sparse dictionary for the activations of several models.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "crosscode",
    before_help = "Example:\n  \
        crosscode train acts/ --features 4096 --k 32 --tokens 5M -o dict.safetensors\n  \
        crosscode eval dict.safetensors acts/ -o eval.parquet\n  \
        crosscode encode dict.safetensors acts/ --readout swap -o features.parquet"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: cli::Common,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    Train(Box<args::Args>),
    Encode(encode::Args),
    Eval(eval::Args),
    Import(Box<import::Args>),
    Export(export::Args),
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    match &args.command {
        Command::Train(args) => train::run(args),
        Command::Encode(args) => encode::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
    }
}
