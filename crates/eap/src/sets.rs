//! The examples of a run, truncation by truncation.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use model::Tokenizer;
use serde::Serialize;
use store::tables::Sample;

use crate::{
    answers::Answers,
    documents::{Counts, Filter, choose},
    example::Example,
    method::Plan,
    pairs::{self, Metric},
    truncation::{tokenise, truncated},
};

/// Which documents are scored, and how much of their answers.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Choice {
    /// Lengths of the scored answers as shares of T̄: a list such as 0.03,0.1,0.3,0.5
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0.3", value_parser = positive)]
    pub alpha: Vec<f64>,
    /// The filter.
    #[command(flatten)]
    pub filter: Filter,
    /// Tasks to use [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub tasks: Vec<String>,
    /// Arm of the samples to use
    #[arg(long, default_value = "none")]
    pub arm: String,
}

fn positive(text: &str) -> Result<f64, String> {
    let parsed = text
        .parse()
        .ok()
        .filter(|&x: &f64| x > 0.0 && x.is_finite());
    parsed.ok_or_else(|| "a number above 0 is needed".into())
}

/// Examples under one truncation; without one for pairs.
#[derive(Debug, Clone)]
pub struct Set {
    /// Share of T̄ that is scored.
    pub alpha: Option<f64>,
    /// The examples, in order.
    pub examples: Vec<Example>,
}

/// Everything a run scores.
#[derive(Debug, Clone)]
pub struct Work {
    /// One per truncation.
    pub sets: Vec<Set>,
    /// What the filter left; none for pairs.
    pub counts: Option<Counts>,
}

/// The pairs of a file as one set.
pub fn from_pairs(
    path: &Path,
    metric: Metric,
    plan: Plan,
    model_directory: &Path,
) -> anyhow::Result<Work> {
    let examples = pairs::read(path, metric, model_directory)?;
    if plan.needs_corrupted() {
        let lacking = examples
            .iter()
            .position(|example| example.corrupted.is_none());
        ensure!(
            lacking.is_none(),
            "cannot use pair {} of {}: nothing is corrupted",
            lacking.unwrap_or(0),
            path.display()
        );
        let same = examples
            .iter()
            .filter(|example| example.differing().is_empty());
        let (same, n) = (same.count(), examples.len());
        if same > 0 {
            cli::say(&format!(
                "{same} of {n} pairs are the same clean and corrupted: their scores are 0"
            ));
        }
    }
    Ok(Work {
        sets: vec![Set {
            alpha: None,
            examples,
        }],
        counts: None,
    })
}

/// A model's own answers, to the documents that it and the models it is compared to answer correctly: those of `against`,
/// and those of `labels` (the models of this run) that are in `samples`.
pub fn from_samples(
    model: &cli::Labelled,
    labels: &[&str],
    samples: &[PathBuf],
    against: &[PathBuf],
    choice: &Choice,
) -> anyhow::Result<Work> {
    let answers = read(samples, choice)?;
    let mut others: Vec<Answers> = answers
        .iter()
        .filter(|other| labels.len() > 1 && labels.contains(&other.model.as_str()))
        .cloned()
        .collect();
    let own = Answers::of(&model.label, answers).with_context(|| cannot_use(samples))?;
    if !against.is_empty() {
        others.extend(read(against, choice)?);
    }
    others.retain(|other| other.model != own.model);
    let models: Vec<&Answers> = std::iter::once(&own).chain(&others).collect();
    let (chosen, counts) = choose(&models, &choice.filter).with_context(|| cannot_use(samples))?;
    let tokenised = tokenise(&own, &chosen, &Tokenizer::load(&model.path)?)?;
    say_counts(&counts, models.len(), tokenised.unfaithful);
    let set = |&alpha: &f64| Set {
        alpha: Some(alpha),
        examples: truncated(&tokenised.tokens, &chosen, alpha),
    };
    Ok(Work {
        sets: choice.alpha.iter().map(set).collect(),
        counts: Some(counts),
    })
}

fn read(paths: &[PathBuf], choice: &Choice) -> anyhow::Result<Vec<Answers>> {
    let mut samples: Vec<Sample> = store::read_table(paths)?;
    samples.retain(|sample| choice.tasks.is_empty() || choice.tasks.contains(&sample.task));
    Answers::by_model(&samples, &choice.arm).with_context(|| cannot_use(paths))
}

fn cannot_use(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    format!("cannot use {}", paths.join(", "))
}

fn say_counts(counts: &Counts, n_models: usize, unfaithful: usize) {
    let Counts {
        answered,
        correct,
        passed,
        chosen,
    } = counts;
    cli::say(&format!(
        "{answered} documents answered by {n_models} models, {correct} correctly by all, {passed} of comparable length, \
         {chosen} drawn"
    ));
    if unfaithful > 0 {
        cli::say(&format!(
            "{unfaithful} answers re-tokenise to another length than was generated"
        ));
    }
}
