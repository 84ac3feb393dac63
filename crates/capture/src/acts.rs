//! The capture itself: what is read, cut into parts, computed model by model, written.

use crate::documents::{self, Document, Reader};
use crate::filter::Filter;
use crate::models::Source;
use crate::plan::Plan;
use crate::{forward, models};
use anyhow::{Context, ensure};
use cli::{Labelled, Progress, Shard, Stopped};
use model::{Hook, Names, Place};
use serde::Serialize;
use std::path::PathBuf;
use store::{ActivationWriter, Dtype, Provenance, Spec};

/// Which tokens become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// All but special tokens: BOS, EOS, padding, chat markers
    Text,
    /// Every token
    All,
}

/// What to capture, and where.
#[derive(Debug, clap::Args)]
#[group(id = "acts")]
pub struct Args {
    /// Model to run, as often as there are models; all must share one tokenizer
    #[arg(long = "model", value_name = "LABEL=DIR", required = true)]
    models: Vec<Labelled>,
    /// Hook to capture: `resid_post.12`, `resid_post.0.5` (a share of the depth), `attn_out.3`, `embed`, `logits`, …
    #[arg(
        long = "hook",
        value_name = "HOOK",
        value_delimiter = ',',
        default_value = "resid_post.0.5"
    )]
    hooks: Vec<String>,
    /// Texts to read: JSON lines with `text` and, if you like, `id`
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present_any = ["samples", "token_ids"])]
    texts: Vec<PathBuf>,
    /// Answers to read (prompt and completion), as `evaluate run` writes them
    #[arg(long, value_name = "FILE", num_args = 1..)]
    samples: Vec<PathBuf>,
    /// Token ids to read as they are: JSON lines with `input_ids` and, if you like, `id`
    #[arg(long, value_name = "FILE", num_args = 1..)]
    token_ids: Vec<PathBuf>,
    /// Activation store to write, a directory
    #[arg(short, long, value_name = "DIR", required = true)]
    output: PathBuf,
    /// Format of the stored values: f32, f16, bf16 or int8 (a factor for each row; `capture info` shows its error)
    #[arg(long, value_name = "DTYPE", default_value = "bf16")]
    dtype: Dtype,
    /// What the models are computed in: f32, f16 or bf16
    #[arg(long, value_name = "DTYPE", default_value = "f32", value_parser = ["f32", "f16", "bf16"], hide_possible_values = true)]
    compute: String,
    // The flags of `cli::Compute`, one by one: clap takes an optional group of flags that flattens another for absent.
    /// Where models are computed: cpu, cuda, cuda:1, metal
    #[arg(long, default_value = "cpu")]
    device: String,
    /// How weights are kept in memory: stored (bf16 where the file holds that, which loses nothing) or int8 (a factor for each
    /// row; on the CPU)
    #[arg(long, default_value = "stored", value_parser = ["stored", "int8"], hide_possible_values = true)]
    weights: String,
    /// What linear layers multiply on the CPU: f32, bf16x3 (as accurate, where the machine has units for it) or bf16 (rounded,
    /// summed in f32)
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16x3", "bf16"], hide_possible_values = true)]
    precision: String,
    /// Which tokens become rows; all of them are read either way
    #[arg(long, value_enum, default_value_t = Keep::Text)]
    keep: Keep,
    /// Read at most this many tokens of each document [default: what the models can]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_tokens: Option<u64>,
    /// Read at most this many documents
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Read only the answers to these tasks
    #[arg(long = "task", value_name = "TASK", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Read only the answers of this arm of an intervention
    #[arg(long, value_name = "ARM", default_value = "none")]
    arm: String,
    /// Read only answers whose counterpart (same task, document, repetition) in these answers of LABEL is correct
    #[arg(long, value_name = "LABEL=FILE")]
    where_correct: Vec<Labelled>,
    /// Read only answers whose counterpart is wrong; with `--where-correct`: the key samples
    #[arg(long, value_name = "LABEL=FILE")]
    where_wrong: Vec<Labelled>,
    /// Compute only these parts: piece I of N, from 0. The last piece to finish completes the store
    #[arg(long, value_name = "I/N", default_value_t = Shard::default())]
    shard: Shard,
    /// Rows in a part: what a kill can cost, and what is held in memory
    #[arg(long, value_name = "N", default_value = "16384", value_parser = clap::value_parser!(u32).range(1..))]
    rows_per_part: u32,
    /// Tokens in a batch, padding included
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..))]
    batch_tokens: u32,
    /// Say what would be read and written, how much memory and disk it takes, and stop
    #[arg(long)]
    dry_run: bool,
}

/// Everything that decides the bytes of a store, besides its inputs.
#[derive(Serialize)]
struct Settings<'a> {
    models: Vec<&'a str>,
    hooks: &'a [String],
    dtype: Dtype,
    compute: &'a str,
    device: &'a str,
    weights: &'a str,
    precision: &'a str,
    keep: Keep,
    max_tokens: Option<u64>,
    limit: Option<usize>,
    tasks: &'a [String],
    arm: &'a str,
    where_correct: Vec<&'a str>,
    where_wrong: Vec<&'a str>,
    rows_per_part: u32,
    batch_tokens: u32,
}

/// Captures.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.place()?;
    let sources = models::open(&args.models)?;
    let hooks = models::hooks(&sources, &args.hooks)?;
    let plan = plan(args, &sources)?;
    models::check_ids(&sources, &plan)?;
    if args.dry_run {
        return cli::data(&crate::estimate::text(args, &sources, &hooks, &plan));
    }
    let mut writer = ActivationWriter::create(&args.output, spec(args, &sources, &hooks, &plan)?)?;
    let output = args.output.display();
    if writer.is_complete() {
        let rows = plan.n_rows();
        cli::say(&format!(
            "{output} is complete ({rows} rows): nothing to do"
        ));
        return Ok(());
    }
    for source in &sources {
        capture_model(args, source, &hooks, &plan, &mut writer)?;
    }
    finish(args, &sources, &plan, writer)
}

/// Documents in the order texts, answers, token ids.
fn plan(args: &Args, sources: &[Source]) -> anyhow::Result<Plan> {
    let mut documents = read(args, sources)?;
    documents.truncate(args.limit.unwrap_or(usize::MAX));
    shorten(args, sources, &mut documents);
    let tokenizer = &sources[0].tokenizer;
    let plan = match args.keep {
        Keep::All => Plan::new(documents, |_| true),
        Keep::Text => Plan::new(documents, |id| !tokenizer.is_special(id)),
    };
    ensure!(
        plan.n_rows() > 0,
        "cannot write {}: there is no token to keep among {} documents",
        args.output.display(),
        plan.n_documents()
    );
    ensure!(
        u32::try_from(plan.n_rows()).is_ok(),
        "cannot write {}: {} rows are more than a store can number",
        args.output.display(),
        plan.n_rows()
    );
    Ok(plan)
}

fn read(args: &Args, sources: &[Source]) -> anyhow::Result<Vec<Document>> {
    let readers: Vec<Reader> = sources.iter().map(|s| Reader::new(&s.tokenizer)).collect();
    let mut documents = Vec::new();
    if !args.texts.is_empty() {
        documents.extend(documents::texts(&args.texts, &readers[0])?);
    }
    if !args.samples.is_empty() {
        let writer = |label: &str| sources.iter().position(|source| source.label == label);
        let reader = |label: &str| &readers[writer(label).unwrap_or(0)];
        documents.extend(read_answers(args, reader)?);
    }
    if !args.token_ids.is_empty() {
        documents.extend(documents::token_ids(&args.token_ids)?);
    }
    Ok(documents)
}

fn read_answers<'a>(
    args: &Args,
    reader: impl Fn(&str) -> &'a Reader<'a> + Sync,
) -> anyhow::Result<Vec<Document>> {
    let mut filter = Filter::new(&args.tasks, &args.arm);
    for answers in &args.where_correct {
        filter.require(answers, true)?;
    }
    for answers in &args.where_wrong {
        filter.require(answers, false)?;
    }
    let answers = documents::answers(&args.samples, &filter, reader)?;
    let (n_kept, n_read) = (answers.documents.len(), answers.n_read);
    cli::say(&format!("{n_kept} of {n_read} answers pass the filters"));
    if answers.retokenised > 0 {
        cli::say(&format!(
            "{} answers come back from their text with other tokens than were generated",
            answers.retokenised
        ));
    }
    Ok(answers.documents)
}

/// Cuts documents to what was asked for or what the models can read, and says so.
fn shorten(args: &Args, sources: &[Source], documents: &mut [Document]) {
    let contexts = sources.iter().map(|source| source.config.max_positions);
    let context = contexts.min().unwrap_or(usize::MAX);
    let most = args
        .max_tokens
        .map_or(context, |most| context.min(most as usize));
    let mut cut = 0;
    for document in documents {
        if document.token_ids.len() > most {
            document.token_ids.truncate(most);
            cut += 1;
        }
    }
    if cut > 0 {
        cli::say(&format!("{cut} documents are cut to {most} tokens"));
    }
}

fn spec(args: &Args, sources: &[Source], hooks: &[Hook], plan: &Plan) -> anyhow::Result<Spec> {
    let names: Vec<String> = hooks.iter().map(Hook::to_string).collect();
    Ok(Spec {
        labels: sources.iter().map(|source| source.label.clone()).collect(),
        paths: sources.iter().map(|source| source.path.clone()).collect(),
        widths: sources
            .iter()
            .map(|source| forward::width_of(&source.config, hooks[0]))
            .collect(),
        dtype: args.dtype,
        n_rows: plan.n_rows(),
        rows_per_part: args.rows_per_part as usize,
        tokenizer_digest: sources[0].tokenizer.digest().into(),
        provenance: provenance(args, &names)?,
        hooks: names,
    })
}

fn provenance(args: &Args, hooks: &[String]) -> anyhow::Result<Provenance> {
    let labels = |list: &'_ [Labelled]| -> Vec<String> {
        list.iter().map(|one| one.label.clone()).collect()
    };
    let (models, correct, wrong) = (
        labels(&args.models),
        labels(&args.where_correct),
        labels(&args.where_wrong),
    );
    let settings = Settings {
        models: models.iter().map(String::as_str).collect(),
        hooks,
        dtype: args.dtype,
        compute: &args.compute,
        device: &args.device,
        weights: &args.weights,
        precision: &args.precision,
        keep: args.keep,
        max_tokens: args.max_tokens,
        limit: args.limit,
        tasks: &args.tasks,
        arm: &args.arm,
        where_correct: correct.iter().map(String::as_str).collect(),
        where_wrong: wrong.iter().map(String::as_str).collect(),
        rows_per_part: args.rows_per_part,
        batch_tokens: args.batch_tokens,
    };
    let mut provenance = Provenance::new("capture", &settings)?;
    let conditions = args.where_correct.iter().chain(&args.where_wrong);
    for named in args.models.iter().chain(conditions) {
        provenance = provenance.input(&named.path)?;
    }
    Ok(provenance
        .inputs(&args.texts)?
        .inputs(&args.samples)?
        .inputs(&args.token_ids)?)
}

/// Computes the parts of one model that are missing. The weights are read only if there are any.
fn capture_model(
    args: &Args,
    source: &Source,
    hooks: &[Hook],
    plan: &Plan,
    writer: &mut ActivationWriter,
) -> anyhow::Result<()> {
    let ours = args.shard.range(writer.n_parts());
    let missing = writer.missing_parts(&source.label)?;
    let missing: Vec<usize> = missing.into_iter().filter(|p| ours.contains(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let place = args.place()?;
    let model = place.load_until(&source.path, &place.open()?, forward::last(hooks))?;
    let rows = |part: usize| writer.part_rows(part).len() as u64;
    let progress = Progress::start(&source.label, ours.clone().map(rows).sum(), "rows");
    let kept = ours.filter(|part| !missing.contains(part));
    progress.skip(kept.map(rows).sum());
    for part in missing {
        let range = writer.part_rows(part);
        let pieces = plan.pieces(range.clone());
        let pad = source.tokenizer.pad_id();
        let values = forward::part(&model, hooks, &pieces, args.batch_tokens as usize, pad)
            .with_context(|| format!("cannot run {}", source.path.display()))?;
        let Some(values) = values else {
            return Err(stopped(args, &source.label, (part, writer.n_parts())));
        };
        for (hook, values) in hooks.iter().zip(&values) {
            writer.write_part(part, &source.label, &hook.to_string(), values)?;
        }
        progress.advance(range.len() as u64);
    }
    progress.finish();
    Ok(())
}

fn stopped(args: &Args, label: &str, parts: (usize, usize)) -> anyhow::Error {
    let (done, all) = parts;
    let output = args.output.display();
    Stopped {
        done: format!("{done} of {all} parts of {label} in {output}"),
    }
    .into()
}

/// Completes the store when every part of every model is there; with `--shard`, others may still be at work.
fn finish(
    args: &Args,
    sources: &[Source],
    plan: &Plan,
    writer: ActivationWriter,
) -> anyhow::Result<()> {
    let mut missing = 0;
    for source in sources {
        missing += writer.missing_parts(&source.label)?.len();
    }
    let output = args.output.display();
    if missing > 0 {
        let shard = args.shard;
        cli::say(&format!(
            "shard {shard} of {output} is done; {missing} parts of other shards are missing"
        ));
        return Ok(());
    }
    let tokenizer = &sources[0].tokenizer;
    writer.finish(&plan.tokens(|id| tokenizer.is_special(id)))?;
    let (rows, documents) = (plan.n_rows(), plan.n_documents());
    cli::say(&format!("{output}: {rows} rows of {documents} documents"));
    Ok(())
}

impl Args {
    /// Bytes on disk of the activations of one model and hook.
    pub(crate) fn stored(&self, plan: &Plan, width: usize) -> u64 {
        (plan.n_rows() * self.dtype.row_bytes(width)) as u64
    }

    /// Rows held at a time.
    pub(crate) fn rows_held(&self, plan: &Plan) -> usize {
        plan.n_rows().min(self.rows_per_part as usize)
    }

    /// Tokens of the largest batch.
    pub(crate) fn batch_held(&self, plan: &Plan) -> usize {
        plan.longest()
            .max(plan.n_tokens().min(self.batch_tokens as usize))
    }

    /// What the output is called.
    pub(crate) fn describe(&self, plan: &Plan) -> String {
        let parts = plan.n_rows().div_ceil(self.rows_per_part as usize);
        format!(
            "{} rows of {} tokens in {} documents, {parts} parts a model and hook, into {}",
            plan.n_rows(),
            plan.n_tokens(),
            plan.n_documents(),
            self.output.display()
        )
    }

    /// Where and how models are computed.
    fn place(&self) -> anyhow::Result<Place> {
        let names = Names {
            device: &self.device,
            dtype: &self.compute,
            weights: &self.weights,
            precision: &self.precision,
        };
        Place::named(names).map_err(|error| cli::Usage(error.to_string()).into())
    }

    /// Bytes of a number while it is computed with.
    pub(crate) fn compute_size(&self) -> u64 {
        if self.compute == "f32" { 4 } else { 2 }
    }
}
