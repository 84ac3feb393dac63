//! `crosscode encode`: which features fire on which row.

use crate::done;
use anyhow::Context;
use dict::{Acts, Codes, Crosscoder, Readout, Selection};
use serde::Serialize;
use std::path::PathBuf;
use store::{FeatureWriter, FeaturesHeader, Provenance};

/// Rows encoded at a time; with `--select batch-topk` they are the batch that competes.
const CHUNK: usize = 1024;

/// Encodes activations: one line per feature that fires on a row
///
/// Every row of the activations is encoded, special tokens too: the rows are those of the store's tokens.parquet.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[command(
    before_help = "Example:\n  crosscode encode dict.safetensors acts/ --readout swap -o features.parquet"
)]
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
    /// Whose code it is: one for all models, or one per model
    #[arg(long, value_enum, default_value_t = ReadoutName::Joint)]
    pub readout: ReadoutName,
    /// Which features count as active [default: what the dictionary's rule prescribes]
    #[arg(long, value_enum)]
    pub select: Option<SelectionName>,
    /// What the store calls the dictionary's models, in the dictionary's order [default: the same labels]
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    pub models: Vec<String>,
}

/// Names of the readouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadoutName {
    /// One code: every model's activation in its own slot
    Joint,
    /// One code per model: its activation in every slot, but the last (of three and more) keeps its own
    Swap,
    /// One code per model: its own encoder block alone, the other slots at their mean
    #[value(name = "self")]
    #[serde(rename = "self")]
    SelfOnly,
}

/// Names of the selections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelectionName {
    /// Rank values above the learned threshold
    Threshold,
    /// The k·1024 largest of every 1024 rows
    BatchTopk,
}

impl From<Option<SelectionName>> for SelectionOrRule {
    fn from(name: Option<SelectionName>) -> Self {
        Self(match name {
            None => Selection::Rule,
            Some(SelectionName::Threshold) => Selection::Threshold,
            Some(SelectionName::BatchTopk) => Selection::BatchTopK,
        })
    }
}

/// A selection as the library knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectionOrRule(pub Selection);

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let dictionary = Crosscoder::load(&args.dict)?;
    let acts = Acts::of_dictionary(&dictionary, &args.dict, &args.acts, &args.models)?;
    let provenance = Provenance::new("crosscode encode", args)?
        .input(&args.dict)?
        .inputs(&args.acts)?;
    let readouts = readouts(args.readout, &dictionary);
    check(&dictionary, &readouts)
        .with_context(|| format!("cannot encode with {}", args.dict.display()))?;
    if done::already(&args.output, &provenance) {
        return Ok(());
    }
    let header = FeaturesHeader {
        n_rows: acts.n_rows() as u32,
        n_features: dictionary.n_features as u32,
        token_digest: acts.token_digest(),
        models: readouts
            .iter()
            .filter_map(|(model, _)| model.clone())
            .collect(),
    };
    let mut writer = FeatureWriter::create(&args.output, header, &provenance)?;
    let progress = cli::Progress::start("encode", (acts.n_rows() * readouts.len()) as u64, "rows");
    let selection = SelectionOrRule::from(args.select).0;
    for (number, (_, readout)) in readouts.iter().enumerate() {
        encode(&dictionary, &acts, *readout, selection, |start, codes| {
            push(&mut writer, number, start, codes)?;
            progress.advance(codes.n_rows() as u64);
            Ok(())
        })?;
    }
    progress.finish();
    Ok(writer.finish()?)
}

/// The readouts to write, with the model each belongs to.
fn readouts(name: ReadoutName, dictionary: &Crosscoder) -> Vec<(Option<String>, Readout)> {
    let n_models = dictionary.n_models();
    let per_model = |readout: fn(usize, usize) -> Readout| {
        let models = dictionary.labels.iter().enumerate();
        models
            .map(|(model, label)| (Some(label.clone()), readout(model, n_models)))
            .collect()
    };
    match name {
        ReadoutName::Joint => vec![(None, Readout::Joint)],
        ReadoutName::Swap => per_model(Readout::swap),
        ReadoutName::SelfOnly => per_model(|model, _| Readout::SelfOnly { model }),
    }
}

fn check(dictionary: &Crosscoder, readouts: &[(Option<String>, Readout)]) -> anyhow::Result<()> {
    for (_, readout) in readouts {
        anyhow::ensure!(
            dictionary.accepts(*readout),
            "the swap readout puts one model's activation into another's slot, but their widths are {:?}",
            dictionary.widths
        );
    }
    Ok(())
}

/// Encodes all rows in order, chunk by chunk.
pub fn encode(
    dictionary: &Crosscoder,
    acts: &Acts,
    readout: Readout,
    selection: Selection,
    mut each: impl FnMut(usize, &Codes) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for rows in acts.chunks(CHUNK) {
        if cli::stop_requested() {
            return Err(cli::Stopped {
                done: format!(
                    "{} of {} rows, none of them kept",
                    rows.start,
                    acts.n_rows()
                ),
            }
            .into());
        }
        let x = acts.read_all(&rows)?;
        let x: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
        each(
            rows.start,
            &dictionary.encode_as(readout, &x, rows.len(), selection),
        )?;
    }
    Ok(())
}

/// Appends the codes of rows from `start`.
fn push(
    writer: &mut FeatureWriter,
    model: usize,
    start: usize,
    codes: &Codes,
) -> anyhow::Result<()> {
    let numbers = (0..codes.n_rows()).flat_map(|row| {
        let n = codes.starts[row + 1] - codes.starts[row];
        std::iter::repeat_n((start + row) as u32, n)
    });
    let rows: Vec<u32> = numbers.collect();
    Ok(writer.push(model, &rows, &codes.features, &codes.activations)?)
}
