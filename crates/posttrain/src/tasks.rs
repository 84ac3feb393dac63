//! `posttrain tasks`: writes the items, the corpus and the tokenizer of a suite.
//!
//! - `<task>.train.jsonl`, `<task>.tune.jsonl`, `<task>.test.jsonl` — one [`Item`](::tasks::Item) a line
//! - `corpus.jsonl` — one [`Document`] a line
//! - `tokenizer.json`, `tokenizer_config.json` — as `transformers` reads them
//! - `suite.json` — which task may be used for what, and the settings; written last

mod tokenizer;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ::tasks::lab::{self, Document, Settings, Split, Suite, Task};
use anyhow::{Context, Result};
use serde::Serialize;
use store::Provenance;

/// Writes the items, the corpus and the tokenizer of a suite
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLE)]
pub struct Args {
    /// Which suite to write
    #[arg(long, value_enum, default_value_t = Kind::Lab)]
    suite: Kind,
    /// Documents of the corpus
    #[arg(long, default_value_t = Settings::default().documents, value_parser = clap::value_parser!(u32).range(1..))]
    documents: u32,
    /// Share of the documents that have a sloppy author, 0 to 1
    #[arg(long, default_value_t = Settings::default().sloppy, value_parser = share)]
    sloppy: f64,
    /// Items per task for training
    #[arg(long, default_value_t = Settings::default().train)]
    train: usize,
    /// Items per task for choosing settings
    #[arg(long, default_value_t = Settings::default().tune)]
    tune: usize,
    /// Items per task for reporting
    #[arg(long, default_value_t = Settings::default().test)]
    test: usize,
    /// Decides the corpus and the training items; tune and test items are the same for every seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Directory to write
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

const EXAMPLE: &str = "Example:
  posttrain tasks --suite lab --seed 0 -o tasks/";

/// The suites there are.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// Eight text tasks written by careful and sloppy authors: the known answer is planted
    Lab,
}

/// What `suite.json` holds.
#[derive(Serialize)]
struct Description {
    #[serde(flatten)]
    suite: Suite,
    provenance: Provenance,
}

/// Writes every file of the suite, `suite.json` last.
pub fn run(args: &Args) -> Result<()> {
    let settings = args.settings();
    let description = describe(&settings)?;
    let manifest = args.output.join("suite.json");
    if is_complete(&args.output, &description) {
        cli::say(&format!(
            "{} is complete: nothing to do",
            args.output.display()
        ));
        renew(&manifest);
        return Ok(());
    }
    prepare(&args.output, &manifest)?;
    write_items(&args.output, &settings)?;
    let corpus: Vec<Document> = lab::documents(&settings).collect();
    write_lines(&args.output.join("corpus.jsonl"), &corpus)?;
    tokenizer::write(&args.output, &corpus)?;
    write_text(&manifest, &description)?;
    cli::say(&summary(&args.output, &corpus));
    Ok(())
}

impl Args {
    fn settings(&self) -> Settings {
        let Kind::Lab = self.suite;
        Settings {
            seed: self.seed,
            documents: self.documents,
            sloppy: self.sloppy,
            train: self.train,
            tune: self.tune,
            test: self.test,
        }
    }
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a share from 0 to 1".to_owned()),
    }
}

/// The text of `suite.json`.
fn describe(settings: &Settings) -> Result<String> {
    let suite = Suite::new(settings);
    let provenance = Provenance::new("posttrain tasks", settings)?.seed(settings.seed);
    let mut text = serde_json::to_string_pretty(&Description { suite, provenance })?;
    text.push('\n');
    Ok(text)
}

/// Whether an earlier run wrote exactly this suite to the end.
fn is_complete(output: &Path, description: &str) -> bool {
    let written = fs::read_to_string(output.join("suite.json"));
    written.is_ok_and(|text| text == description) && files().all(|name| output.join(name).is_file())
}

/// Gives a file a new time, so that `make`, which sees nothing else, is content. Where that cannot be, nothing is lost but
/// another rerun that does nothing.
fn renew(path: &Path) {
    let opened = File::options().append(true).open(path);
    opened
        .and_then(|file| file.set_modified(SystemTime::now()))
        .ok();
}

/// Every file of the suite but `suite.json`.
fn files() -> impl Iterator<Item = String> {
    let names = ["corpus.jsonl", tokenizer::TOKENIZER, tokenizer::CONFIG].map(str::to_owned);
    splits()
        .map(|(task, split)| file_name(task, split))
        .chain(names)
}

fn splits() -> impl Iterator<Item = (Task, Split)> {
    Task::ALL
        .into_iter()
        .flat_map(|task| Split::ALL.map(|split| (task, split)))
}

fn file_name(task: Task, split: Split) -> String {
    format!("{}.{}.jsonl", task.name(), split.name())
}

/// Makes the directory, and takes away an older `suite.json`: it must not vouch for files half replaced.
fn prepare(output: &Path, manifest: &Path) -> Result<()> {
    fs::create_dir_all(output).with_context(|| format!("cannot create {}", output.display()))?;
    match fs::remove_file(manifest) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", manifest.display()))
        }
        _ => Ok(()),
    }
}

fn write_items(output: &Path, settings: &Settings) -> Result<()> {
    for (task, split) in splits() {
        let items = lab::items(task, split, settings)?;
        write_lines(&output.join(file_name(task, split)), &items)?;
    }
    Ok(())
}

/// Writes one JSON line per row.
fn write_lines(path: &Path, rows: &[impl Serialize]) -> Result<()> {
    store::write_atomic(path, |file| {
        let mut writer = BufWriter::new(file);
        for row in rows {
            serde_json::to_writer(&mut writer, row)?;
            writer.write_all(b"\n")?;
        }
        writer.flush()
    })?;
    Ok(())
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    store::write_atomic(path, |file| file.write_all(text.as_bytes()))?;
    Ok(())
}

fn summary(output: &Path, corpus: &[Document]) -> String {
    let characters: usize = corpus.iter().map(|document| document.text.len()).sum();
    format!(
        "{}: {} tasks, {} documents of {characters} characters in all",
        output.display(),
        Task::ALL.len(),
        corpus.len()
    )
}
