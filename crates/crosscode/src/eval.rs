//! `crosscode eval`: the quality of a dictionary on activations.

use crate::done;
use crate::encode::{SelectionName, SelectionOrRule};
use crate::filter::FilterArgs;
use crate::measure::{Data, measure};
use crate::source::live::{Reading, documents};
use crate::splice::Bench;
use cli::Labelled;
use dict::{Acts, Crosscoder};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use store::tables::CrosscoderEval;
use store::{Provenance, read_table, write_table};

/// Measures how well a dictionary reconstructs each model: explained variance, error, cosine, L0, dead features
///
/// Explained variance comes in the three definitions in use, named in the table; the interval resamples documents (blocks
/// of 128 rows where a bare file does not know them). With --model for each of its models, also what the next token's
/// prediction loses when the reconstruction takes the place of the activations. A short form is printed.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[command(before_help = "Example:\n  crosscode eval dict.safetensors acts/ -o eval.parquet")]
pub struct Args {
    /// Dictionary
    #[serde(skip)]
    pub dict: PathBuf,
    /// Activation stores, or safetensors files `[rows, n_models, d_model]`
    #[arg(required = true, value_name = "ACTS")]
    #[serde(skip)]
    pub acts: Vec<PathBuf>,
    /// Table to write
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Which features count as active [default: what the dictionary's rule prescribes]
    #[arg(long, value_enum)]
    pub select: Option<SelectionName>,
    /// What the store calls the dictionary's models, in the dictionary's order [default: the same labels]
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    pub models: Vec<String>,
    /// Model of the dictionary to splice the reconstruction into, one for each label
    #[arg(long = "model", value_name = "LABEL=DIR")]
    #[serde(skip)]
    pub splice: Vec<Labelled>,
    /// Texts to splice on: JSON lines with `text` [default: the documents of the store, where it holds whole ones]
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "splice")]
    #[serde(skip)]
    pub texts: Vec<PathBuf>,
    /// Token ids to splice on: JSON lines with `input_ids`
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "splice", conflicts_with = "texts")]
    #[serde(skip)]
    pub token_ids: Vec<PathBuf>,
    /// Documents to splice on, at most
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub documents: usize,
    /// Where the models are computed: cpu, cuda, cuda:1, metal
    #[arg(long, default_value = "cpu", value_name = "NAME", requires = "splice")]
    pub device: String,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Which rows to leave out
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let dictionary = Crosscoder::load(&args.dict)?;
    let acts = Acts::of_dictionary(&dictionary, &args.dict, &args.acts, &args.models)?;
    let provenance = Provenance::new("crosscode eval", args)?.seed(args.seed);
    let provenance = provenance.input(&args.dict)?.inputs(&args.acts)?;
    let models: Vec<PathBuf> = args.splice.iter().map(|model| model.path.clone()).collect();
    let provenance = [&models, &args.texts, &args.token_ids]
        .into_iter()
        .try_fold(provenance, |all, paths| all.inputs(paths))?;
    if done::already(&args.output, &provenance) {
        return cli::data(&shown(&read_table(std::slice::from_ref(&args.output))?));
    }
    let kept = args.filter.filter(0).apply(&acts)?;
    cli::say(&kept.report());
    let data = Data {
        dictionary: &dictionary,
        acts: &acts,
        kept: &kept,
        selection: SelectionOrRule::from(args.select).0,
    };
    let mut rows = measure(&data, args.seed)?;
    if !args.splice.is_empty() {
        splice(args, &data, &mut rows)?;
    }
    write_table(&args.output, &rows, &provenance)?;
    if args.output == Path::new("-") {
        Ok(())
    } else {
        cli::data(&shown(&rows))
    }
}

/// Adds what the splice costs each model.
fn splice(args: &Args, data: &Data<'_>, rows: &mut [CrosscoderEval]) -> anyhow::Result<()> {
    let mut bench = Bench::open(
        data.dictionary,
        &args.splice,
        &crate::device::open(&args.device)?,
    )?;
    let documents = if args.texts.is_empty() && args.token_ids.is_empty() {
        bench.documents_of(data.acts)?
    } else {
        let reading = Reading {
            texts: &args.texts,
            token_ids: &args.token_ids,
            max_tokens: None,
        };
        let read = documents(bench.tokenizer(), reading, bench.longest())?;
        read.into_iter()
            .map(|document| document.token_ids)
            .collect()
    };
    bench.read(documents, args.documents)?;
    bench.measure(data.dictionary, data.selection, args.seed, rows)
}

/// The table as text.
fn shown(rows: &[CrosscoderEval]) -> String {
    let mut text = format!(
        "{:12} {:>26} {:>10} {:>8} {:>7} {:>8}\n",
        "model", "explained variance", "mse", "cosine", "L0", "dead"
    );
    for row in rows {
        let variance = format!(
            "{:.4} [{:.4}, {:.4}]",
            row.explained_variance, row.explained_variance_low, row.explained_variance_high
        );
        let dead = format!("{:.1} %", 100.0 * row.dead);
        writeln!(
            text,
            "{:12} {variance:>26} {:>10.4} {:>8.4} {:>7.1} {dead:>8}",
            row.model, row.mse, row.cosine, row.l0
        )
        .expect("a String takes any text");
    }
    for row in rows {
        if let (Some(recovered), Some(clean), Some(spliced), Some(kl)) = (
            row.ce_recovered,
            row.ce_clean_nats,
            row.ce_spliced_nats,
            row.kl_nats,
        ) {
            writeln!(
                text,
                "{:12} cross-entropy {clean:.4} -> {spliced:.4} nats spliced in, recovered {recovered:.4}, KL {kl:.4} nats",
                row.model
            )
            .expect("a String takes any text");
        }
    }
    text.pop();
    text
}
