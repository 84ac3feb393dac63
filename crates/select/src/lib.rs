//! `select`: the compact set of features behind a generalisation, with its nulls.
//!
//! For every task, the key samples are those the model before gets wrong and the model after gets right. A feature's score
//! is how much more it fires there in the model after than in the model before; it passes when the score exceeds a fraction
//! of the task's largest, and the set is what passes in every task (arXiv 2604.25011). On request the mirror image counts too:
//! what training turned down.
//!
//! Reads: sparse features per model (`crosscode encode --readout swap`), the activation stores they were encoded from (for
//! which row is which token), answers of both models, the dictionary (for decoder norms).
//! Writes: a `selection` table, on request a `score` table; the compactness curve goes to stdout.
//!
//! ```text
//! target/release/select --dict dict.safetensors --features 'keys/*.features.parquet' \
//!     --samples base=base.samples.parquet --samples rl=rl.samples.parquet -o selection.parquet
//! ```
//!
//! # Layout
//! - [`keys`] — key samples from two sets of answers
//! - [`readings`] — mean activation per document, feature and model; [`documents`] — over which rows; [`stores`] — of which store
//! - [`scores`] — differences and scores per task
//! - [`choose`] — the set, and the curve of its size
//! - [`shift`] — what distinguishes the models, and how much of it a feature carries
//! - [`matched`] — random sets that look like it
//! - [`nulls`] — q values and intervals
//! - [`rows`] — the tables written

pub mod choose;
pub mod documents;
pub mod keys;
pub mod matched;
pub mod nulls;
pub mod readings;
pub mod rows;
pub mod scores;
pub mod shift;
pub mod stores;

use anyhow::{Context, bail, ensure};
use choose::Chosen;
use cli::Labelled;
use dict::Crosscoder;
use documents::Tokens;
use keys::{Models, TaskKeys};
use matched::{Matched, Traits};
use readings::{Reading, Readings, Text};
use rows::Known;
use scores::{Direction, TaskScores, Weights};
use serde::Serialize;
use shift::Shift;
use std::path::{Path, PathBuf};
use store::Provenance;

/// Example shown first by `--help`.
const EXAMPLE: &str = "\
Example:
  target/release/select --dict dict.safetensors --features 'keys/*.features.parquet' \\
      --samples base=base.samples.parquet --samples rl=rl.samples.parquet -o selection.parquet

  (`select` alone is a reserved word of bash: call it by its path.)
  The features come from the answers of the model after, read by both models:
  capture --model base=… --model sft=… --model rl=… --samples rl.samples.parquet -o keys/
  crosscode encode dict.safetensors keys/ --readout swap -o keys/rl.features.parquet
";

/// Fewer key samples than this are worth a warning.
const FEW: usize = 30;

/// Select the features behind what one model gets right and the other wrong, in every task.
///
/// Prints the compactness curve (tab-separated: how many features pass at which fraction) to stdout.
#[derive(Debug, clap::Parser, Serialize)]
#[command(name = "select", before_help = EXAMPLE)]
pub struct Args {
    /// Dictionary the features were encoded with
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    dict: PathBuf,
    /// Sparse features of both models on the same answers: files, directories or globs
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    #[serde(skip)]
    features: Vec<PathBuf>,
    /// Answers of a model, twice: first the model before, then the model after. An answer is compared with the answer to
    /// the same task, document and repetition
    #[arg(long, value_name = "LABEL=FILE", required = true)]
    #[serde(serialize_with = "labels")]
    samples: Vec<Labelled>,
    /// Activation stores the features were encoded from [default: the folder of each features file, or else the store its
    /// provenance names]; their tokens must be those of the features
    #[arg(long, value_name = "DIR", num_args = 1..)]
    #[serde(skip)]
    acts: Vec<PathBuf>,
    /// Tasks to select on [default: all that both models answered]; leave out those kept to judge the set
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Leave out tasks with fewer key samples than this; 0: a task without any is an error
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_keys: usize,
    /// Where to write the selection (`-`: stdout)
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    output: PathBuf,
    /// Where to write every feature's score in every task, with intervals
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    scores: Option<PathBuf>,
    /// A feature passes above this fraction of the task's largest score
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    fraction: f64,
    /// Which way a feature must have moved; what is done to a lowered one later is the reverse of what is done to a raised
    /// one
    #[arg(long, value_enum, default_value_t = Direction::Raised)]
    direction: Direction,
    /// Tokens a feature is averaged over; special tokens never count
    #[arg(long, value_enum, default_value_t = Tokens::Answer)]
    tokens: Tokens,
    /// Text the models read
    #[arg(long, value_enum, default_value_t = Text::After)]
    text: Text,
    /// Multiply each model's activations by the feature's decoder norm in that model: `f_k·‖d_k^m‖₂`
    #[arg(long)]
    weigh_by_norm: bool,
    /// Random sets matched to the selected one on firing rate × decoder norm × mean activation
    #[arg(long, value_name = "N", default_value_t = 16)]
    random_sets: usize,
    /// Draws of every permutation test and bootstrap
    #[arg(long, value_name = "N", default_value_t = stats::DRAWS)]
    draws: usize,
    /// Seed of the random sets, permutations and bootstraps
    #[arg(long, default_value_t = 0)]
    #[serde(skip)]
    seed: u64,
    /// Say what would be read and how many key samples there are, and stop
    #[arg(long)]
    #[serde(skip)]
    dry_run: bool,
    #[command(flatten)]
    #[serde(skip)]
    common: cli::Common,
}

/// The labels of the answers belong to the settings, their paths to the inputs.
fn labels<S: serde::Serializer>(samples: &[Labelled], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(samples.iter().map(|sample| &sample.label))
}

/// A share from 0 up to, not including, 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("a share from 0 up to, not including, 1 is needed".into()),
    }
}

/// Runs the program.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.common.start()?;
    let (models, keys) = keys::read(&args.samples, &args.tasks)?;
    say_keys(&models, &keys);
    let (keys, left) = keys::enough(keys, args.min_keys)?;
    for task in &left {
        cli::say(&format!("{} is left out", task.task));
    }
    if args.dry_run {
        return dry_run(args);
    }
    let dictionary = Crosscoder::load(&args.dict)?;
    let readings = read_features(args, &dictionary, &models, &keys)?;
    let tasks = score(args, &dictionary, &models, &keys, &readings)?;
    print_curve(args, &tasks)?;
    let chosen = choose(args, &tasks)?;
    let traits = traits(&dictionary, &readings);
    let matched = match_sets(args, &chosen, &traits);
    let q: Vec<_> = tasks
        .iter()
        .map(|task| nulls::q_values(task, args.draws, args.seed))
        .collect();
    let removal = removal(args, &dictionary, &models, &keys, &readings)?;
    say_removal(&models, &chosen, removal.as_deref());
    let known = Known {
        tasks: &tasks,
        q: &q,
        traits: &traits,
        removal: removal.as_deref(),
    };
    let provenance = provenance(args, &readings)?;
    write_scores(args, &tasks, &provenance)?;
    store::write_table(
        &args.output,
        &known.selection(&chosen, &matched),
        &provenance,
    )?;
    Ok(())
}

fn say_keys(models: &Models, keys: &[TaskKeys]) {
    let (before, after) = (&models.before, &models.after);
    for task in keys {
        let n = task.documents.len();
        let few = if n < FEW { " (few)" } else { "" };
        cli::say(&format!(
            "{}: {n} key samples, wrong in {before} and right in {after}{few}",
            task.task
        ));
    }
}

fn dry_run(args: &Args) -> anyhow::Result<()> {
    for path in store::expand(&args.features, "parquet")? {
        cli::say(&format!("would read {}", path.display()));
    }
    cli::say(&format!("would write {}", args.output.display()));
    Ok(())
}

/// Reads the features and refuses those of another dictionary.
fn read_features(
    args: &Args,
    dictionary: &Crosscoder,
    models: &Models,
    keys: &[TaskKeys],
) -> anyhow::Result<Readings> {
    for path in store::expand(&args.features, "parquet")? {
        check_dictionary(&path, &args.dict)?;
    }
    let reading = Reading {
        models,
        tokens: args.tokens,
        text: args.text,
    };
    let readings = Readings::read(&args.features, &args.acts, keys, reading)?;
    ensure!(
        readings.activity.len() == dictionary.n_features,
        "cannot use {} with the features: it has {} features, they have {}",
        args.dict.display(),
        dictionary.n_features,
        readings.activity.len()
    );
    Ok(readings)
}

/// Features name the dictionary they were encoded with by its digest.
fn check_dictionary(features: &Path, dictionary: &Path) -> anyhow::Result<()> {
    let given = store::Input::of(dictionary)?;
    let recorded = store::table_provenance(features)?;
    let known = recorded.inputs.iter().any(|i| i.sha256 == given.sha256);
    ensure!(
        known,
        "cannot use {} with {}: the features were encoded with another dictionary",
        features.display(),
        dictionary.display()
    );
    Ok(())
}

/// Scores every task; a task whose key samples were not captured cannot be used.
fn score(
    args: &Args,
    dictionary: &Crosscoder,
    models: &Models,
    keys: &[TaskKeys],
    readings: &Readings,
) -> anyhow::Result<Vec<TaskScores>> {
    let weights = weights(args, dictionary, models)?;
    let mut tasks = Vec::new();
    for task in keys {
        let scores = TaskScores::of(task, readings, &weights, args.direction);
        ensure!(
            scores.n > 0,
            "none of the {} key samples of task `{}` is in the features: capture them, or leave the task out with --tasks",
            scores.missing,
            scores.task
        );
        if scores.missing > 0 {
            cli::say(&format!(
                "{}: {} key samples are not in the features; {} are used",
                scores.task, scores.missing, scores.n
            ));
        }
        tasks.push(scores);
    }
    Ok(tasks)
}

/// Decoder norms of the two models as factors, where asked for.
fn weights(args: &Args, dictionary: &Crosscoder, models: &Models) -> anyhow::Result<Weights> {
    if !args.weigh_by_norm {
        return Ok(Weights::NONE);
    }
    let norms = |label: &str| -> anyhow::Result<Vec<f64>> {
        let model = dictionary.model(label).with_context(|| {
            format!(
                "{} has no model `{label}` (it has: {})",
                args.dict.display(),
                dictionary.labels.join(", ")
            )
        })?;
        let norm = |feature| f64::from(dictionary.decoder_norms(feature)[model]);
        Ok((0..dictionary.n_features).map(norm).collect())
    };
    Ok(Weights {
        before: Some(norms(&models.before)?),
        after: Some(norms(&models.after)?),
    })
}

fn print_curve(args: &Args, tasks: &[TaskScores]) -> anyhow::Result<()> {
    let curve = choose::curve_text(tasks, args.fraction);
    if args.output == Path::new("-") {
        // Stdout is taken by the table.
        curve.lines().for_each(cli::say);
        return Ok(());
    }
    cli::data(&curve)
}

/// The set; an empty one says what each task would have given.
fn choose(args: &Args, tasks: &[TaskScores]) -> anyhow::Result<Vec<Chosen>> {
    let chosen = choose::choose(tasks, args.fraction);
    if chosen.is_empty() {
        let sizes = tasks.iter().map(|task| {
            let passing = task.passing(args.fraction).len();
            format!("{passing} in {}", task.task)
        });
        bail!(
            "cannot write {}: no feature passes {} of the largest score in every task ({}): lower --fraction or choose \
             fewer tasks with --tasks",
            args.output.display(),
            args.fraction,
            sizes.collect::<Vec<_>>().join(", ")
        );
    }
    cli::say(&format!(
        "{} features ({} lowered) pass {} of the largest score in {} of {} tasks",
        chosen.len(),
        chosen.iter().filter(|chosen| chosen.is_lowered()).count(),
        args.fraction,
        tasks.len(),
        tasks.len()
    ));
    Ok(chosen)
}

/// Traits of every feature, firing pooled over both models' readings of all rows.
fn traits(dictionary: &Crosscoder, readings: &Readings) -> Vec<Traits> {
    let of = |feature: usize| {
        let activity = readings.activity[feature];
        let norms = dictionary.decoder_norms(feature);
        Traits {
            firing_rate: activity.fires as f64 / readings.n_rows.max(1) as f64,
            mean_activation: activity.sum / activity.fires.max(1) as f64,
            decoder_norm: norms.iter().copied().map(f64::from).sum(),
        }
    };
    (0..dictionary.n_features).map(of).collect()
}

/// What disabling each feature takes out of the shift between the models; known where both read the same text.
fn removal(
    args: &Args,
    dictionary: &Crosscoder,
    models: &Models,
    keys: &[TaskKeys],
    readings: &Readings,
) -> anyhow::Result<Option<Vec<f64>>> {
    if args.text == Text::Own {
        return Ok(None);
    }
    let shift = Shift::read(&readings.stores, dictionary, models, keys, args.tokens)?;
    Ok(shift.map(|shift| shift.removal_shares(dictionary, readings)))
}

fn say_removal(models: &Models, chosen: &[Chosen], removal: Option<&[f64]>) {
    if let Some(shares) = removal {
        let share = |chosen: &Chosen| {
            let sign = if chosen.is_lowered() { -1.0 } else { 1.0 };
            sign * shares[chosen.feature as usize]
        };
        cli::say(&format!(
            "undoing the set takes {:.1} % out of what distinguishes {} from {} on these tokens",
            100.0 * chosen.iter().map(share).sum::<f64>(),
            models.after,
            models.before
        ));
    }
}

fn match_sets(args: &Args, chosen: &[Chosen], traits: &[Traits]) -> Matched {
    let selected: Vec<u32> = chosen.iter().map(|chosen| chosen.feature).collect();
    let matched = matched::matched_sets(&selected, traits, args.random_sets, args.seed);
    let live = traits.iter().filter(|feature| feature.is_live()).count();
    if matched.sets.len() < args.random_sets {
        cli::say(&format!(
            "{} random sets instead of {}: only {live} features fire",
            matched.sets.len(),
            args.random_sets
        ));
    }
    if !matched.sets.is_empty() {
        cli::say(&format!(
            "{} random sets, {:.2} standard deviations from the selected features on average ({live} features fire)",
            matched.sets.len(),
            matched.distance
        ));
    }
    matched
}

fn provenance(args: &Args, readings: &Readings) -> anyhow::Result<Provenance> {
    let samples: Vec<PathBuf> = args.samples.iter().map(|s| s.path.clone()).collect();
    Ok(Provenance::new("select", args)?
        .seed(args.seed)
        .input(&args.dict)?
        .inputs(&args.features)?
        .inputs(&readings.stores)?
        .inputs(&samples)?)
}

fn write_scores(args: &Args, tasks: &[TaskScores], provenance: &Provenance) -> anyhow::Result<()> {
    if let Some(path) = &args.scores {
        let rows = rows::scores(tasks, args.fraction, args.draws, args.seed);
        store::write_table(path, &rows, provenance)?;
    }
    Ok(())
}
