//! The answers of a run: batch by batch, those of an earlier sitting kept.

use anyhow::{Result, ensure};
use cli::{Progress, Stopped};
use model::{Model, Tokenizer};
use store::Parts;
use store::tables::Sample;
use tasks::{Item, Question};

use crate::batches::Answerer;
use crate::harness::ask::{self, Asker, Batch};
use crate::harness::open::Opened;
use crate::harness::score::Plan;
use crate::harness::units::{Unit, Writing};
use crate::questions;
use crate::run::Args;

/// What is asked together.
enum Job {
    /// Questions of item files, by number.
    Items(Vec<usize>),
    /// Documents of a task file.
    Documents(Batch),
}

/// All that is asked in this run.
struct Work {
    questions: Vec<Question>,
    units: Vec<Unit>,
    jobs: Vec<Job>,
}

/// The answers to every question of this shard, in the order of the documents.
pub fn all(
    args: &Args,
    (opened, items): (&Opened, &[Item]),
    model: &Model,
    parts: &Parts,
) -> Result<Vec<Sample>> {
    let tokenizer = Tokenizer::load(&args.model.path)?;
    let positions = model::Config::load(&args.model.path)?.max_positions;
    let overrides = args.overrides();
    let limit = args.limit.unwrap_or(usize::MAX);
    let writing = args.writing(&tokenizer);
    let units = ask::units(&opened.tasks, writing, &overrides, (limit, positions))?;
    let of_task = |task: usize| {
        units
            .iter()
            .filter(|unit| unit.task == task)
            .collect::<Vec<_>>()
    };
    let plans: Vec<Plan> = (0..opened.tasks.len())
        .map(|task| Plan::of(&of_task(task)))
        .collect();
    let work = Work::new(args, items, &units, writing)?;
    let answerer = Answerer {
        label: &args.model.label,
        model,
        tokenizer: &tokenizer,
        sampling: &args.sampling(),
        rows: args.batch,
    };
    let asker = Asker {
        label: &args.model.label,
        model,
        tokenizer: &tokenizer,
        tasks: &opened.tasks,
        plans: &plans,
        overrides: &overrides,
        filter: args.filter.as_deref(),
        rows: args.batch,
    };
    work.ask(args, (&answerer, &asker), parts)
}

impl Work {
    fn new(args: &Args, items: &[Item], units: &[Unit], writing: Writing) -> Result<Self> {
        let shard = args.shard.unwrap_or_default();
        let items = &items[shard.range(items.len())];
        let questions = questions::prepare(items, args.samples(), writing.tokenizer)?;
        let units = units[shard.range(units.len())].to_vec();
        ensure!(
            !(questions.is_empty() && units.is_empty()),
            "cannot ask anything: shard {shard} has no document"
        );
        let of_items = tasks::question::batches(&questions, args.batch)
            .into_iter()
            .map(Job::Items);
        let of_tasks = ask::batches(&units, args.batch)
            .into_iter()
            .map(Job::Documents);
        let jobs = of_items.chain(of_tasks).collect();
        Ok(Self {
            questions,
            units,
            jobs,
        })
    }

    /// Asks batch by batch, keeping each that is finished; the answers in the order of the questions.
    fn ask(&self, args: &Args, askers: (&Answerer, &Asker), parts: &Parts) -> Result<Vec<Sample>> {
        let title = format!("evaluate {}", args.model.label);
        let total: usize = self
            .jobs
            .iter()
            .map(|job| self.places(job, askers.1).len())
            .sum();
        let progress = Progress::start(&title, total as u64, "answers");
        let mut answers: Vec<((usize, u32), Sample)> = Vec::new();
        for (number, job) in self.jobs.iter().enumerate() {
            let places = self.places(job, askers.1);
            let part = format!("batch-{number:06}.parquet");
            let samples = if let Some(samples) = parts.read(&part, places.len()) {
                progress.skip(places.len() as u64);
                samples
            } else {
                stop_if_asked(number, self.jobs.len())?;
                let samples = self.answer(job, askers)?;
                parts.write(&part, &samples)?;
                progress.advance(places.len() as u64);
                samples
            };
            answers.extend(places.into_iter().zip(samples));
        }
        progress.finish();
        answers.sort_by_key(|(place, _)| *place);
        Ok(answers.into_iter().map(|(_, sample)| sample).collect())
    }

    fn answer(&self, job: &Job, (answerer, asker): (&Answerer, &Asker)) -> Result<Vec<Sample>> {
        match job {
            Job::Items(numbers) => {
                let asked: Vec<&Question> = numbers
                    .iter()
                    .map(|number| &self.questions[*number])
                    .collect();
                answerer.answer(&asked)
            }
            Job::Documents(batch) => asker.answer(batch, &self.units),
        }
    }

    /// Where the answers of a batch stand among all: items first, then documents, each with its answers in order.
    fn places(&self, job: &Job, asker: &Asker) -> Vec<(usize, u32)> {
        match job {
            Job::Items(numbers) => numbers.iter().map(|number| (*number, 0)).collect(),
            Job::Documents(batch) => {
                let samples = asker.overrides.samples_of(&asker.tasks[batch.task]);
                let of_unit = |unit: &usize| {
                    let place = self.questions.len() + unit;
                    (0..samples).map(move |sample| (place, sample))
                };
                batch.units.iter().flat_map(of_unit).collect()
            }
        }
    }
}

fn stop_if_asked(done: usize, all: usize) -> Result<()> {
    if cli::stop_requested() {
        return Err(Stopped {
            done: format!("{done} of {all} batches"),
        }
        .into());
    }
    Ok(())
}
