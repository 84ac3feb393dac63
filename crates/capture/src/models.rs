//! The models of a capture before their weights are read, and what must agree between them.

use crate::forward::width_of;
use crate::plan::Plan;
use anyhow::{bail, ensure};
use cli::Labelled;
use model::{Config, Hook, Tokenizer};
use std::path::PathBuf;

/// A model directory with what is needed to plan a capture.
#[derive(Debug)]
pub struct Source {
    /// Role.
    pub label: String,
    /// Directory as given.
    pub path: PathBuf,
    /// Its `config.json`.
    pub config: Config,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// Opens every model; all must read text as the same tokens.
pub fn open(models: &[Labelled]) -> anyhow::Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    for model in models {
        let source = Source {
            label: model.label.clone(),
            path: model.path.clone(),
            config: Config::load(&model.path)?,
            tokenizer: Tokenizer::load(&model.path)?,
        };
        if sources.iter().any(|other| other.label == source.label) {
            bail!(cli::Usage(format!(
                "two models are called `{}`",
                source.label
            )));
        }
        if let Some(first) = sources.first() {
            ensure!(
                first.tokenizer.digest() == source.tokenizer.digest(),
                "cannot capture {} with {}: their tokenizers differ (tokenizer.json has sha256 {} and {})",
                first.path.display(),
                source.path.display(),
                short(first.tokenizer.digest()),
                short(source.tokenizer.digest())
            );
        }
        sources.push(source);
    }
    Ok(sources)
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// The hooks by their own names. A share of the depth must mean the same block in every model, and all hooks of a model must
/// have one width, since a store has.
pub fn hooks(sources: &[Source], names: &[String]) -> anyhow::Result<Vec<Hook>> {
    let mut hooks: Vec<Hook> = Vec::new();
    for name in names {
        let hook = common_hook(sources, name)?;
        if !hooks.contains(&hook) {
            hooks.push(hook);
        }
    }
    for source in sources {
        for &hook in &hooks {
            let (first, width) = (
                width_of(&source.config, hooks[0]),
                width_of(&source.config, hook),
            );
            ensure!(
                first == width,
                "cannot capture {} and {hook} into one store: {} has {first} values at one and {width} at the other",
                hooks[0],
                source.path.display()
            );
        }
    }
    Ok(hooks)
}

fn common_hook(sources: &[Source], name: &str) -> anyhow::Result<Hook> {
    let mut common: Option<(Hook, &Source)> = None;
    for source in sources {
        let hook = Hook::parse(name, source.config.n_layers);
        let hook = hook.map_err(|cause| {
            anyhow::anyhow!("cannot capture {}: {cause}", source.path.display())
        })?;
        match common {
            Some((first, other)) if first != hook => bail!(
                "cannot capture `{name}`: it is {first} in {} and {hook} in {}; name the block",
                other.path.display(),
                source.path.display()
            ),
            _ => common = Some((hook, source)),
        }
    }
    Ok(common.expect("there is at least one model").0)
}

/// Token ids that a model does not have are refused before anything is computed.
pub fn check_ids(sources: &[Source], plan: &Plan) -> anyhow::Result<()> {
    let Some((largest, document)) = plan.largest_id() else {
        return Ok(());
    };
    for source in sources {
        ensure!(
            (largest as usize) < source.config.vocab,
            "cannot read document {document} with {}: token {largest} is outside its vocabulary of {}",
            source.path.display(),
            source.config.vocab
        );
    }
    Ok(())
}
