//! What a training run was told, resolved: every default named, so that a rerun can be compared with it.

use crate::train::{Args, RuleName};
use dict::{Acts, Distance, Filter, Rule, Settings};
use serde::Serialize;
use store::Provenance;

/// A run's settings; they are the `settings` of the dictionary's provenance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Models, in order.
    pub models: Vec<String>,
    /// Hook.
    pub hook: String,
    /// Rows left out.
    pub filter: Filter,
    /// Rows of one optimizer step.
    pub batch: usize,
    /// Rows held in memory while they are shuffled.
    pub buffer_rows: usize,
    /// Everything the trainer is told.
    pub settings: Settings,
}

impl Plan {
    /// Resolves the arguments for these activations.
    pub fn new(args: &Args, acts: &Acts) -> Self {
        Self {
            models: acts.labels().to_vec(),
            hook: acts.hook().to_owned(),
            filter: args.filter.filter(),
            batch: args.batch as usize,
            buffer_rows: args.buffer_rows as usize,
            settings: settings(args, acts),
        }
    }

    /// Rows of the whole run.
    pub fn n_rows(&self) -> u64 {
        self.settings.steps * self.batch as u64
    }

    /// Where the dictionary comes from: this plan and the activations.
    pub fn provenance(&self, args: &Args) -> store::Result<Provenance> {
        Provenance::new("crosscode train", self)?
            .seed(args.seed)
            .inputs(&args.acts)
    }
}

/// The recipe of the rule, with what the user changed.
fn settings(args: &Args, acts: &Acts) -> Settings {
    let rule = match args.rule {
        RuleName::L1 => Rule::L1 {
            sparsity: args.sparsity,
        },
        RuleName::Topk => Rule::TopK { k: args.k as usize },
        RuleName::BatchTopk => Rule::BatchTopK { k: args.k as usize },
    };
    let widest = acts.widths().iter().copied().max().unwrap_or(1);
    let steps = (args.tokens / args.batch).max(1);
    let mut settings = Settings::new(rule, args.features as usize, widest, steps);
    let rows = steps * args.batch;
    settings.seed = args.seed;
    settings.dead_after = args
        .dead_after
        .unwrap_or_else(|| settings.dead_after.min((rows / 10).max(1)));
    settings.k_start = args.k_start.map(|k| k as usize);
    settings.k_anneal_steps = if args.k_start.is_some() {
        args.anneal_steps.unwrap_or(steps / 10)
    } else {
        0
    };
    settings.learning_rate = args.lr.unwrap_or(settings.learning_rate);
    settings.warmup_steps = args.warmup_steps.unwrap_or(settings.warmup_steps);
    settings.decay_share = args.decay.unwrap_or(settings.decay_share);
    settings.aux_coefficient = args.aux.unwrap_or(settings.aux_coefficient);
    settings.init_norm = args.init_norm.unwrap_or(settings.init_norm);
    settings.input_norm = args.input_norm.unwrap_or(settings.input_norm);
    settings.distance = args
        .distance
        .map_or(settings.distance, |squared| match squared {
            crate::train::DistanceName::Norm => Distance::Norm,
            crate::train::DistanceName::Squared => Distance::Squared,
        });
    settings
}
