//! What a training run was told, resolved: every default named, so that a rerun can be compared with it.

use crate::args::{Args, CodeNormName, DistanceName, NormalizeName, PrecisionName, RuleName};
use crate::device;
use crate::partition::blocks;
use crate::preset::{Preset, Recipe};
use crate::source::Source;
use dict::{CodeNormalization, Distance, Filter, Penalty, Precision, Rule, Settings};
use serde::Serialize;
use std::path::{Path, PathBuf};
use store::Provenance;

/// Settings of one dictionary; they are the `settings` of its provenance.
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
    /// Rows of the whole run.
    pub tokens: u64,
    /// Rows held in memory while they are shuffled.
    pub buffer_rows: usize,
    /// Seed of the order of the rows.
    pub order_seed: u64,
    /// What is brought to one size.
    pub normalize: NormalizeName,
    /// Tokens of a document that the models read at most; `None`: what they can.
    pub max_tokens: Option<usize>,
    /// Where dictionaries and models are computed.
    pub device: String,
    /// Everything the trainer is told.
    pub settings: Settings,
}

/// A dictionary to train.
#[derive(Debug, Clone)]
pub struct Job {
    /// What it is told.
    pub plan: Plan,
    /// Where it goes.
    pub output: PathBuf,
}

/// One job for each combination of `--features`, `--k` and `--seed`.
pub fn jobs(args: &Args, source: &Source) -> anyhow::Result<Vec<Job>> {
    let recipe = args.preset.map_or(Recipe::USUAL, Preset::recipe);
    let widest = source.widths().iter().copied().max().unwrap_or(1) as u64;
    let usual = match recipe.features_per_width {
        0 => recipe.features,
        factor => factor * widest,
    };
    let or = |given: &[u64], usual: u64| {
        if given.is_empty() {
            vec![usual]
        } else {
            given.to_vec()
        }
    };
    let (features, ks, seeds) = (
        or(&args.features, usual),
        or(&args.k, recipe.k),
        or(&args.seed, 0),
    );
    let mut jobs: Vec<Job> = Vec::new();
    for &n_features in &features {
        for &k in &ks {
            for &seed in &seeds {
                let plan = plan((args, &recipe), source, [n_features, k, seed, seeds[0]])?;
                let output = named(&args.output, [n_features, k, seed]);
                if jobs.iter().any(|job| job.output == output) {
                    anyhow::bail!(cli::Usage(format!(
                        "several dictionaries would be written to {}: put {{k}}, {{features}} or {{seed}} into the name",
                        output.display()
                    )));
                }
                jobs.push(Job { plan, output });
            }
        }
    }
    Ok(jobs)
}

/// The output's name with its placeholders filled.
fn named(output: &Path, [n_features, k, seed]: [u64; 3]) -> PathBuf {
    let name = output.to_string_lossy();
    let name = name.replace("{features}", &n_features.to_string());
    name.replace("{k}", &k.to_string())
        .replace("{seed}", &seed.to_string())
        .into()
}

fn plan(
    (args, recipe): (&Args, &Recipe),
    source: &Source,
    [n_features, k, seed, first_seed]: [u64; 4],
) -> anyhow::Result<Plan> {
    let batch = args.batch.unwrap_or(recipe.batch);
    let tokens = args.tokens.unwrap_or(recipe.tokens).max(1);
    let mut settings = settings((args, recipe), source, (n_features, k), (tokens, batch));
    settings.seed = seed;
    let claims = &args.recipe.partition;
    settings.partition = blocks(
        claims,
        source.labels(),
        n_features as usize,
        args.recipe.tied_penalty,
    )?;
    check(&settings, args, k)?;
    if let Some(fault) = settings.fault(source.widths()) {
        anyhow::bail!(cli::Usage(fault));
    }
    Ok(Plan {
        models: source.labels().to_vec(),
        hook: source.hook().to_owned(),
        filter: args.filter.filter(recipe.skip_first),
        batch: batch as usize,
        tokens,
        buffer_rows: args.buffer_rows as usize,
        order_seed: args.order_seed.unwrap_or(first_seed),
        normalize: args.recipe.normalize.unwrap_or(recipe.normalize.0),
        max_tokens: args.max_tokens,
        device: args.device.clone(),
        settings,
    })
}

/// Refuses settings that cannot work before any activation is read.
fn check(settings: &Settings, args: &Args, k: u64) -> anyhow::Result<()> {
    let usage = |message: String| Err(cli::Usage(message).into());
    if settings.n_features == 0 || k == 0 {
        return usage("--features and --k must be at least 1".into());
    }
    if settings.precision != Precision::F32 && !device::has_kernels(&args.device) {
        return usage(format!(
            "--precision bf16x3 and bf16 are for the CPU's kernels, --device {} multiplies in f32",
            args.device
        ));
    }
    let most = settings.k_start.unwrap_or(0).max(k as usize);
    if settings.rule.k().is_some() && most > settings.n_features {
        return usage(format!(
            "k {most} is more than the {} features there are",
            settings.n_features
        ));
    }
    let positive = [
        settings.learning_rate,
        settings.init_norm,
        settings.input_norm,
        args.recipe.bandwidth,
    ];
    let not_negative = [
        settings.aux_coefficient,
        args.sparsity.unwrap_or(0.0),
        args.recipe.tanh.unwrap_or(1.0),
    ];
    if positive.iter().any(|&value| value <= 0.0)
        || not_negative.iter().any(|&value| value < 0.0)
        || !(0.0..=1.0).contains(&settings.decay_share)
    {
        return usage(
            "--lr, --init-norm, --input-norm and --bandwidth are positive, --decay is 0 to 1, --aux, --sparsity and --tanh are not negative"
                .into(),
        );
    }
    Ok(())
}

fn rule(args: &Args, name: RuleName, k: u64) -> Rule {
    let k = k as usize;
    match name {
        RuleName::L1 => Rule::L1 {
            sparsity: args.sparsity.unwrap_or(2.0),
        },
        RuleName::Topk => Rule::TopK { k },
        RuleName::BatchTopk => Rule::BatchTopK { k },
        RuleName::Jumprelu => Rule::JumpRelu {
            k,
            sparsity: args.sparsity.unwrap_or(1.0),
            bandwidth: args.recipe.bandwidth,
        },
        RuleName::Matryoshka => Rule::Matryoshka { k },
    }
}

/// The recipe of the rule, with what the preset and the user change.
fn settings(
    (args, recipe): (&Args, &Recipe),
    source: &Source,
    (n_features, k): (u64, u64),
    (tokens, batch): (u64, u64),
) -> Settings {
    let flags = &args.recipe;
    let widest = source.widths().iter().copied().max().unwrap_or(1);
    let steps = tokens.div_ceil(batch);
    let rule = rule(args, args.rule.unwrap_or(recipe.rule), k);
    let mut settings = Settings::new(rule, n_features as usize, widest, steps);
    settings.dead_after = flags
        .dead_after
        .unwrap_or(settings.dead_after.min((tokens / 10).max(1)));
    let annealed = match flags.k_start {
        Some(start) => Some((start, flags.anneal_steps.unwrap_or(steps / 10))),
        None => recipe
            .k_start
            .filter(|_| rule.ranks_the_batch() || matches!(rule, Rule::TopK { .. })),
    };
    settings.k_start = annealed.map(|(start, _)| start as usize);
    settings.k_anneal_steps = annealed.map_or(0, |(_, over)| flags.anneal_steps.unwrap_or(over));
    settings.learning_rate = args.lr.or(recipe.lr).unwrap_or(settings.learning_rate);
    settings.warmup_steps = flags
        .warmup_steps
        .or(recipe.warmup_steps)
        .unwrap_or(settings.warmup_steps);
    settings.decay_share = flags.decay.or(recipe.decay).unwrap_or(settings.decay_share);
    settings.aux_coefficient = flags.aux.unwrap_or(settings.aux_coefficient);
    settings.init_norm = flags.init_norm.unwrap_or(settings.init_norm);
    settings.input_norm = flags
        .input_norm
        .or(recipe.normalize.1)
        .unwrap_or(settings.input_norm);
    settings.distance = match flags.distance {
        None => settings.distance,
        Some(DistanceName::Norm) => Distance::Norm,
        Some(DistanceName::Squared) => Distance::Squared,
    };
    settings.precision = match flags.precision {
        Some(PrecisionName::Bf16) => Precision::Bf16,
        Some(PrecisionName::Bf16x3) => Precision::Bf16x3,
        Some(PrecisionName::F32) | None => Precision::F32,
    };
    settings.code_normalization = code_normalization(flags.code_norm);
    settings.penalty = flags
        .tanh
        .map_or(Penalty::Linear, |scale| Penalty::Tanh { scale });
    if !flags.groups.is_empty() {
        settings.groups.clone_from(&flags.groups);
    }
    settings
}

fn code_normalization(name: Option<CodeNormName>) -> CodeNormalization {
    match name {
        None | Some(CodeNormName::Crosscoder) => CodeNormalization::Crosscoder,
        Some(CodeNormName::Sae) => CodeNormalization::Sae,
        Some(CodeNormName::Mixed) => CodeNormalization::Mixed {
            alpha_sae: 1.0,
            alpha_crosscoder: 0.1,
        },
        Some(CodeNormName::None) => CodeNormalization::None,
        Some(CodeNormName::Decoupled) => CodeNormalization::Decoupled {
            thresholds: Vec::new(),
        },
    }
}

impl Plan {
    /// Where the dictionary comes from: this plan and what was read.
    pub fn provenance(&self, args: &Args) -> store::Result<Provenance> {
        let provenance = Provenance::new("crosscode train", self)?.seed(self.settings.seed);
        let models: Vec<PathBuf> = args
            .from_models
            .iter()
            .map(|model| model.path.clone())
            .collect();
        [&args.acts, &models, &args.texts, &args.token_ids]
            .into_iter()
            .try_fold(provenance, |all, paths| all.inputs(paths))
    }
}
