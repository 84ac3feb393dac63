//! `report`: one HTML file with figures and tables of everything the other programs found.
//!
//! Reads: every table below a folder, recognised by what it holds and not by its name; models, dictionaries, activation
//! stores and `suite.json` for the account of what was run.
//! Writes: one self-contained HTML file (inline styles and SVG, no scripts, no network), the same bytes for the same files.
//!
//! ```text
//! report --dir out/ -o report.html
//! ```
//!
//! # Layout
//! - `find` — files and tables below the folder
//! - `cast` — order and look of the models, roles of the tasks
//! - `answers` — samples by model, arm and split; `paired` — two models on the same documents
//! - `sections` — one file a section of the page
//! - `svg` — the drawing layer
//! - `html`, `text` — the page, numbers and words

mod answers;
mod cast;
mod find;
mod html;
mod paired;
mod sections;
mod svg;
mod text;

use answers::Answers;
use anyhow::{Context, Result};
use cast::{Cast, Roles};
use find::Tables;
use html::Page;
use sections::{Report, is_null};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use store::Provenance;

/// Draws everything found below a folder into one HTML file
///
/// Tables are recognised by what they hold. Paths with the word `null` or `identical` in them are shown as the null of
/// their kind; samples whose documents are called `tune-…`, or whose file has the word `tune` in its name, are those on
/// which a strength was chosen. A section appears when its tables exist.
#[derive(Debug, Clone, clap::Parser, Serialize)]
#[command(
    name = "report",
    before_help = "Example:\n  report --dir out/ -o report.html",
    after_help = "The page opens without a network and needs no JavaScript; it follows the light or dark setting of the reader and prints."
)]
pub struct Args {
    /// Folder to look in, with all folders below it
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub dir: PathBuf,
    /// HTML file to write; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Title of the page [default: made from the model labels]
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Label of the base model [default: `base`, or the first]
    #[arg(long, value_name = "LABEL")]
    pub base: Option<String>,
    /// Label of the model whose gains over the base are the key samples [default: `rl`, or the last]
    #[arg(long, value_name = "LABEL")]
    pub after: Option<String>,
    /// Tasks the models were trained on [default: as suite.json says]
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    pub trained: Vec<String>,
    /// Tasks used neither for training nor for selection [default: as suite.json says, or all others]
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    pub held_out: Vec<String>,
    /// Flags every program shares
    #[command(flatten)]
    #[serde(skip)]
    pub common: cli::Common,
}

/// Reads the folder and writes the page.
pub fn run(args: &Args) -> Result<()> {
    args.common.start()?;
    let tables = Tables::read(&args.dir)?;
    let report = assemble(args, tables)?;
    let html = render(args, &report)?;
    save(&args.output, &html)?;
    let n_files = report.tables.files.len();
    cli::say(&format!(
        "report: {n_files} files of {} in {}",
        args.dir.display(),
        args.output.display()
    ));
    Ok(())
}

/// Gathers answers, models and roles from the tables.
fn assemble(args: &Args, tables: Tables) -> Result<Report> {
    let mut answers = Answers::default();
    for table in &tables.samples {
        answers.add(&table.file, &table.rows);
    }
    let labels = labels(&tables, &answers);
    for wanted in args.base.iter().chain(&args.after) {
        if !labels.contains(wanted) {
            let found: Vec<String> = labels.iter().cloned().collect();
            return Err(cli::Usage(format!(
                "no model is called {wanted}: there are {}",
                text::list(&found)
            ))
            .into());
        }
    }
    let cast = Cast::new(&labels, args.base.as_deref(), args.after.as_deref());
    let roles = roles(args, &tables);
    Ok(Report {
        tables,
        answers,
        cast,
        roles,
    })
}

/// Every model label, of answers and of tables that are no null.
fn labels(tables: &Tables, answers: &Answers) -> BTreeSet<String> {
    let mut labels: BTreeSet<String> = answers.plain_models().into_iter().collect();
    for table in tables.drift.iter().filter(|table| !is_null(&table.file)) {
        labels.extend(
            table
                .rows
                .iter()
                .flat_map(|row| [row.base.clone(), row.tuned.clone()]),
        );
    }
    for table in tables
        .edge_metrics
        .iter()
        .filter(|table| !is_null(&table.file))
    {
        labels.extend(
            table
                .rows
                .iter()
                .flat_map(|row| [row.before_model.clone(), row.after_model.clone()]),
        );
    }
    for table in tables.edges.iter().filter(|table| !is_null(&table.file)) {
        labels.extend(table.rows.iter().map(|row| row.model.clone()));
    }
    let compared = tables.comparisons.iter().flat_map(|table| &table.rows);
    // `rl/disable` names a model and an arm, not a model.
    labels.extend(
        compared
            .flat_map(|row| [row.a.clone(), row.b.clone()])
            .filter(|label| !label.contains('/')),
    );
    labels.extend(
        tables
            .dynamics
            .iter()
            .flat_map(|table| &table.rows)
            .map(|row| row.series.clone()),
    );
    // Without any of the above, at least the models of a dictionary.
    if labels.is_empty() {
        labels.extend(
            tables
                .crosscoder_evals
                .iter()
                .flat_map(|table| &table.rows)
                .map(|row| row.model.clone()),
        );
    }
    labels
}

/// What each task was used for: as the flags say, else the suite, else the scores.
fn roles(args: &Args, tables: &Tables) -> Roles {
    let suite = |field: &str| {
        let names = tables
            .suite
            .iter()
            .filter_map(|suite| suite.get(field)?.as_array());
        names
            .flatten()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect::<BTreeSet<String>>()
    };
    let given = |names: &[String], field: &str| {
        if names.is_empty() {
            suite(field)
        } else {
            names.iter().cloned().collect()
        }
    };
    let mut roles = Roles {
        trained: given(&args.trained, "trained"),
        selection: tables
            .scores
            .iter()
            .flat_map(|table| &table.rows)
            .map(|row| row.task.clone())
            .collect(),
        held_out: given(&args.held_out, "held_out"),
    };
    if roles.selection.is_empty() {
        roles.selection = suite("selection");
    }
    roles
        .selection
        .retain(|task| !roles.held_out.contains(task) && !roles.trained.contains(task));
    roles
}

/// The page as text.
fn render(args: &Args, report: &Report) -> Result<String> {
    let mut page = Page::default();
    report.write(&mut page);
    let mut provenance = Provenance::new("report", args)?;
    provenance.inputs = report
        .tables
        .files
        .iter()
        .map(|file| store::Input {
            path: file.name.clone(),
            ..file.input.clone()
        })
        .collect();
    let title = args.title.clone().unwrap_or_else(|| title(&report.cast));
    let lead = "What post-training did inside the models: accuracy, features, edges, and what happens when features are switched off or turned \
                up. Intervals are 95 %; each figure says over what.";
    Ok(page.finish(&title, lead, &provenance.to_json()))
}

fn title(cast: &Cast) -> String {
    let tuned: Vec<String> = cast.tuned().cloned().collect();
    if tuned.is_empty() {
        format!("Report on {}", cast.base)
    } else {
        format!("From {} to {}", cast.base, text::list(&tuned))
    }
}

fn save(path: &Path, html: &str) -> Result<()> {
    if path == Path::new("-") {
        return cli::data(html);
    }
    store::write_atomic(path, |file| file.write_all(html.as_bytes()))
        .context("cannot save the report")
}
