//! `intervene run`: a model answers tasks while some of its features are switched off, turned up or added.

use crate::arms::{Arm, Operation, Plan, Reading, Set, sets};
use crate::chosen;
use crate::edit::Source;
use crate::estimate;
use crate::questions;
use crate::runner::Runner;
use crate::settings::{Args, Op, Origin};
use crate::summary;
use crate::target::{Named, Target, swap};
use anyhow::{Context, bail, ensure};
use dict::{Crosscoder, Readout};
use std::collections::BTreeMap;
use std::path::Path;
use store::Provenance;
use store::tables::Selection;

/// Runs every arm, or goes on where an earlier run was stopped.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.place()?;
    let operations = operations(args)?;
    let dictionary = Crosscoder::load(&args.dict)?;
    let target = open_target(args, &dictionary)?;
    let reading = reading(args, &dictionary, &target)?;
    let sets = read_sets(args, &dictionary)?;
    let arms = arms(args, &dictionary, &target, reading, &sets, &operations)?;
    let items = questions::read(&args.tasks, args.limit)?;
    let questions = questions(args, &items, &target)?;
    if args.dry_run {
        return cli::data(&estimate::text(args, &target, &arms, &questions)?);
    }
    let provenance = provenance(args)?;
    if is_finished(args, &provenance) {
        cli::say(&format!(
            "{} is complete: nothing to do",
            args.output.display()
        ));
        return Ok(());
    }
    let parts = store::Parts::beside(&args.output, &provenance);
    let runner = Runner::load(args, &dictionary, &target, &arms)?;
    let samples = runner.all(&arms, &questions, &parts)?;
    store::write_table(&args.output, &samples, &provenance)?;
    parts.remove()?;
    if args.output == Path::new("-") {
        return Ok(());
    }
    cli::data(&summary::text(&samples))
}

/// The operations asked for, or the best of them on other documents.
fn operations(args: &Args) -> anyhow::Result<Vec<Operation>> {
    let operations = args.operations()?;
    match &args.chosen_on {
        Some(path) => chosen::best(path, &args.model.label, operations),
        None => Ok(operations),
    }
}

fn open_target(args: &Args, dictionary: &Crosscoder) -> anyhow::Result<Target> {
    let named = Named {
        dictionary,
        path: &args.dict,
        hook: args.hook.as_deref(),
    };
    Target::open(named, &args.model, args.slot.as_deref(), &args.companions)
}

/// What `--source` means for this model with these companions.
fn reading(args: &Args, dictionary: &Crosscoder, target: &Target) -> anyhow::Result<Reading> {
    let n_models = dictionary.n_models();
    let model = target.model.slot;
    let readout = match args.source {
        Origin::Constant => return Ok(Reading::Constant),
        Origin::Projection => return Ok(Reading::Live(Source::Projection)),
        Origin::Own => Readout::SelfOnly { model },
        Origin::Swap => {
            let (readout, missed) = swap(target, n_models);
            if missed && args.op != Op::Steer {
                let last = &dictionary.labels[n_models - 1];
                cli::say(&format!(
                    "without --companion {last}=DIR the slot of `{last}` sees `{}` too",
                    args.model.label
                ));
            }
            readout
        }
        Origin::Joint => {
            let missing = (0..n_models).filter(|&slot| !target.has(slot));
            let missing: Vec<&str> = missing
                .map(|slot| dictionary.labels[slot].as_str())
                .collect();
            if !missing.is_empty() {
                bail!(cli::Usage(format!(
                    "--source joint runs every model of the dictionary in step: --companion is missing for {}",
                    missing.join(", ")
                )));
            }
            Readout::Joint
        }
    };
    ensure!(
        dictionary.accepts(readout),
        "cannot use {} with --source swap: its models differ in width; use joint or self",
        args.dict.display()
    );
    Ok(Reading::Live(Source::Encoder(readout)))
}

/// The sets of the selection, which must have been made with this dictionary.
fn read_sets(args: &Args, dictionary: &Crosscoder) -> anyhow::Result<BTreeMap<String, Set>> {
    let rows: Vec<Selection> = store::read_table(std::slice::from_ref(&args.selection))?;
    // A selection made by hand names no inputs: then the range of its features is all that can be checked.
    let inputs = store::table_provenance(&args.selection).map(|found| found.inputs);
    let inputs = inputs.unwrap_or_default();
    let given = store::Input::of(&args.dict)?;
    ensure!(
        inputs.is_empty() || inputs.iter().any(|input| input.sha256 == given.sha256),
        "cannot use {} with {}: the selection was made with another dictionary",
        args.selection.display(),
        args.dict.display()
    );
    sets(&args.selection, &rows, dictionary)
}

fn arms(
    args: &Args,
    dictionary: &Crosscoder,
    target: &Target,
    reading: Reading,
    sets: &BTreeMap<String, Set>,
    operations: &[Operation],
) -> anyhow::Result<Vec<Arm>> {
    let plan = Plan {
        dictionary,
        slot: target.model.slot,
        reading,
        sets,
        set: &args.set,
    };
    plan.arms(operations, args.controls())
        .with_context(|| format!("cannot use {}", args.selection.display()))
}

/// The questions of this shard.
fn questions(
    args: &Args,
    items: &[tasks::Item],
    target: &Target,
) -> anyhow::Result<Vec<tasks::Question>> {
    let shard = args.shard.unwrap_or_default();
    let items = &items[shard.range(items.len())];
    ensure!(
        !items.is_empty(),
        "cannot ask anything: shard {shard} has no document"
    );
    questions::prepare(items, args.samples_per_document, &target.tokenizer)
}

fn provenance(args: &Args) -> anyhow::Result<Provenance> {
    let mut provenance = Provenance::new("intervene run", args)?
        .seed(args.seed)
        .input(&args.model.path)?;
    for companion in &args.companions {
        provenance = provenance.input(&companion.path)?;
    }
    if let Some(path) = &args.chosen_on {
        provenance = provenance.input(path)?;
    }
    Ok(provenance
        .input(&args.dict)?
        .input(&args.selection)?
        .inputs(&args.tasks)?)
}

/// Whether the output is there already, made from exactly these settings and inputs.
fn is_finished(args: &Args, provenance: &Provenance) -> bool {
    args.output.is_file()
        && store::table_provenance(&args.output).is_ok_and(|found| found == *provenance)
}
