//! Batches of documents through the model.

use anyhow::{Context, Result};
use model::{Model, Sampling, Tokenizer};
use serde::Serialize;
use serde_json::{Map, Value};
use store::tables::Sample;
use tasks::harness::{OutputType, Request, Task};
use tasks::question::stream;

use super::judge::{self, Answer};
use super::score::{self, Plan};
use super::units::{self, Tokens, Unit, Writing};
use super::until::Writer;

/// What the user sets in place of what task files say.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overrides {
    /// Answers per document.
    pub samples: Option<u32>,
    /// Temperature; 0 is greedy.
    pub temperature: Option<f64>,
    /// Share of probability that is kept.
    pub top_p: Option<f64>,
    /// Tokens that are kept.
    pub top_k: Option<usize>,
    /// Longest answer in tokens.
    pub max_new_tokens: Option<usize>,
    /// Stop strings.
    pub until: Option<Vec<String>>,
    /// Seed of the sampling.
    pub seed: u64,
}

impl Overrides {
    /// Answers per document of a task: of a task without generated text always one.
    pub fn samples_of(&self, task: &Task) -> u32 {
        match task.config().output_type {
            OutputType::GenerateUntil => self.samples.or(task.config().repeats).unwrap_or(1).max(1),
            _ => 1,
        }
    }

    /// How a task's answers are drawn.
    pub fn sampling(&self, task: &Task) -> Sampling {
        let own = task.generation();
        let number = |name: &str| own.get(name).and_then(Value::as_f64);
        // As in the harness, a temperature without `do_sample` is no wish to sample.
        let sampled = own.get("do_sample") == Some(&Value::Bool(true));
        let temperature = if sampled {
            number("temperature").unwrap_or(1.0)
        } else {
            0.0
        };
        Sampling {
            max_new_tokens: self.max_new_tokens.unwrap_or_else(|| budget(&own)),
            temperature: self.temperature.unwrap_or(temperature),
            top_p: self.top_p.or_else(|| number("top_p")).unwrap_or(1.0),
            top_k: self
                .top_k
                .or_else(|| number("top_k").map(|k| k as usize))
                .unwrap_or(0),
            seed: self.seed,
        }
    }

    /// A task's stop strings.
    pub fn until_of(&self, task: &Task) -> Vec<String> {
        if let Some(until) = &self.until {
            return until.clone();
        }
        match task.generation().get("until") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(several)) => {
                several.iter().map(tasks::harness::python::text).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A task's generation settings with these in their place, as they are written into results.
    pub fn generation(&self, task: &Task) -> Map<String, Value> {
        let mut settings = task.generation();
        if let Some(until) = &self.until {
            settings.insert(
                "until".to_owned(),
                until
                    .iter()
                    .map(|text| Value::from(text.as_str()))
                    .collect(),
            );
        }
        if let Some(temperature) = self.temperature {
            settings.insert("do_sample".to_owned(), (temperature > 0.0).into());
            settings.insert("temperature".to_owned(), temperature.into());
        }
        let more = [
            ("top_p", self.top_p.map(Value::from)),
            ("top_k", self.top_k.map(Value::from)),
            ("max_gen_toks", self.max_new_tokens.map(Value::from)),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                settings.insert(name.to_owned(), value);
            }
        }
        settings
    }
}

/// Tokens a task allows, under the first of the names it may use.
fn budget(settings: &Map<String, Value>) -> usize {
    let names = [
        "max_gen_toks",
        "max_new_tokens",
        "max_tokens",
        "max_completion_tokens",
    ];
    let found = names
        .iter()
        .find_map(|name| settings.get(*name).and_then(Value::as_u64));
    found.unwrap_or(256) as usize
}

/// Every document of every task among the first `limit`, in tokens; `only` says which of all are asked here.
pub fn units(
    tasks: &[Task],
    writing: Writing,
    overrides: &Overrides,
    (limit, positions): (usize, usize),
) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    for (number, task) in tasks.iter().enumerate() {
        let reserved = match task.config().output_type {
            OutputType::GenerateUntil => overrides.sampling(task).max_new_tokens,
            _ => 0,
        };
        for (document, request) in units::requests(task, writing, limit)?
            .into_iter()
            .enumerate()
        {
            let context = || format!("cannot ask {}/{document}", task.name());
            let tokens = units::tokens(&request, writing.tokenizer, positions, reserved)
                .with_context(context)?;
            units.push(Unit {
                task: number,
                document,
                request,
                tokens,
            });
        }
    }
    Ok(units)
}

/// Documents asked together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of the task.
    pub task: usize,
    /// Numbers of its units.
    pub units: Vec<usize>,
}

/// Batches of a task's documents of like length, task by task. Decided by the documents alone.
pub fn batches(units: &[Unit], size: usize) -> Vec<Batch> {
    let mut numbers: Vec<usize> = (0..units.len()).collect();
    numbers.sort_by_key(|number| (units[*number].task, units[*number].length()));
    let of_task = numbers.chunk_by(|a, b| units[*a].task == units[*b].task);
    let chunks = of_task.flat_map(|numbers| numbers.chunks(size));
    chunks
        .map(|numbers| Batch {
            task: units[numbers[0]].task,
            units: numbers.to_vec(),
        })
        .collect()
}

/// Who answers, and how.
#[derive(Debug)]
pub struct Asker<'a> {
    /// Role of the model.
    pub label: &'a str,
    /// The model.
    pub model: &'a Model,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The tasks.
    pub tasks: &'a [Task],
    /// How the sequences of each task are computed.
    pub plans: &'a [Plan],
    /// What is set in place of what the tasks say.
    pub overrides: &'a Overrides,
    /// The pipeline whose verdict counts.
    pub filter: Option<&'a str>,
    /// Texts under way at a time.
    pub rows: usize,
}

impl Asker<'_> {
    /// Answers to the documents of one batch: document by document, and of each in the order of their numbers.
    pub fn answer(&self, batch: &Batch, units: &[Unit]) -> Result<Vec<Sample>> {
        let task = &self.tasks[batch.task];
        let asked: Vec<&Unit> = batch.units.iter().map(|number| &units[*number]).collect();
        match task.config().output_type {
            OutputType::GenerateUntil => self.write(task, &asked),
            _ => self.score(task, &asked, &self.plans[batch.task]),
        }
    }

    fn write(&self, task: &Task, units: &[&Unit]) -> Result<Vec<Sample>> {
        let sampling = self.overrides.sampling(task);
        let samples = self.overrides.samples_of(task);
        // Greedy answers to one prompt are all the same.
        let drawn = if sampling.temperature > 0.0 {
            samples
        } else {
            1
        };
        let (mut prompts, mut streams) = (Vec::new(), Vec::new());
        for unit in units {
            let Tokens::Prompt(tokens) = &unit.tokens else {
                continue;
            };
            for sample in 0..drawn {
                prompts.push(tokens.clone());
                streams.push(stream(task.name(), &unit.document.to_string(), sample));
            }
        }
        let writer = Writer {
            model: self.model,
            tokenizer: self.tokenizer,
            sampling: &sampling,
            until: &self.overrides.until_of(task),
            rows: self.rows,
        };
        let written = writer.write(&prompts, &streams)?;
        let mut answers = Vec::new();
        for (unit, written) in units.iter().zip(written.chunks(drawn as usize)) {
            for sample in 0..samples {
                let one = &written[(sample % drawn) as usize];
                answers.push(self.sample(task, unit, sample, &Answer::Text(one))?);
            }
        }
        Ok(answers)
    }

    fn score(&self, task: &Task, units: &[&Unit], plan: &Plan) -> Result<Vec<Sample>> {
        let scored = score::score(self.model, units, plan)?;
        let answers = units.iter().zip(&scored);
        answers
            .map(|(unit, scored)| self.sample(task, unit, 0, &Answer::Likelihoods(scored)))
            .collect()
    }

    fn sample(&self, task: &Task, unit: &Unit, sample: u32, answer: &Answer) -> Result<Sample> {
        let blank = Sample {
            model: self.label.to_owned(),
            arm: "none".to_owned(),
            task: task.name().to_owned(),
            doc_id: unit.document.to_string(),
            sample,
            prompt: prompt(&unit.request),
            ..Sample::default()
        };
        let judged = match answer {
            Answer::Text(written) => judge::text(task, unit.document, written, self.filter, blank),
            Answer::Likelihoods(scored) => judge::likelihoods(task, unit, scored, blank),
        };
        judged
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("cannot grade {}/{}", task.name(), unit.document))
    }
}

/// What the model was given; of choices that are different questions, the first.
fn prompt(request: &Request) -> String {
    match request {
        Request::Generate { context } => context.clone(),
        Request::Score { pairs } => pairs.first().map(|pair| pair.0.clone()).unwrap_or_default(),
        Request::Roll { .. } => String::new(),
    }
}
