//! The model under intervention, its companions, and everything that must fit the dictionary before a weight is read.

use anyhow::{Context, bail, ensure};
use cli::Labelled;
use dict::{Crosscoder, Readout};
use model::{Config, Hook, Site, Tokenizer};
use std::path::{Path, PathBuf};

/// A model directory that fits a slot of the dictionary.
#[derive(Debug)]
pub struct Fitting {
    /// Directory as given.
    pub path: PathBuf,
    /// Slot of the dictionary.
    pub slot: usize,
}

/// The model under intervention and what stands around it.
#[derive(Debug)]
pub struct Target {
    /// The model.
    pub model: Fitting,
    /// Where the dictionary reads.
    pub hook: Hook,
    /// The model's tokenizer.
    pub tokenizer: Tokenizer,
    /// Other models of the dictionary.
    pub companions: Vec<Fitting>,
}

/// A dictionary with the file it came from: errors name both sides.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The dictionary.
    pub dictionary: &'a Crosscoder,
    /// Its file.
    pub path: &'a Path,
    /// The hook the user names, for a dictionary that does not.
    pub hook: Option<&'a str>,
}

impl Target {
    /// Opens the model and its companions; `slot` is the label the model has in the dictionary when it is not its own.
    pub fn open(
        dictionary: Named,
        model: &Labelled,
        slot: Option<&str>,
        companions: &[Labelled],
    ) -> anyhow::Result<Self> {
        let slot = dictionary.slot(slot.unwrap_or(&model.label), &model.path)?;
        let hook = dictionary.hook(&model.path)?;
        let tokenizer = dictionary.check(&model.path, slot, hook)?;
        let mut others = Vec::new();
        for companion in companions {
            let other = dictionary.slot(&companion.label, &companion.path)?;
            if other == slot {
                bail!(cli::Usage(format!(
                    "--companion {companion} stands where --model {model} does"
                )));
            }
            let read = dictionary.check(&companion.path, other, hook)?;
            ensure!(
                read.digest() == tokenizer.digest(),
                "cannot run {} in step with {}: their tokenizers differ",
                companion.path.display(),
                model.path.display()
            );
            others.push(Fitting {
                path: companion.path.clone(),
                slot: other,
            });
        }
        Ok(Self {
            model: Fitting {
                path: model.path.clone(),
                slot,
            },
            hook,
            tokenizer,
            companions: others,
        })
    }

    /// Whether a slot's activations can be had.
    pub fn has(&self, slot: usize) -> bool {
        slot == self.model.slot || self.companions.iter().any(|other| other.slot == slot)
    }
}

impl Named<'_> {
    fn slot(&self, label: &str, model: &Path) -> anyhow::Result<usize> {
        self.dictionary.model(label).with_context(|| {
            format!(
                "cannot use {} with {}: the dictionary has no model `{label}` (it has: {})",
                self.path.display(),
                model.display(),
                self.dictionary.labels.join(", ")
            )
        })
    }

    /// Where the dictionary reads, by its own account or, when it does not know, the user's. The two must not disagree.
    fn hook(&self, model: &Path) -> anyhow::Result<Hook> {
        let n_layers = Config::load(model)?.n_layers;
        let parse = |name: &str| {
            Hook::parse(name, n_layers).map_err(|cause| {
                let (path, model) = (self.path.display(), model.display());
                anyhow::anyhow!("cannot use {path} with {model}: its hook is `{name}`: {cause}")
            })
        };
        let known = matches!(self.dictionary.hook.as_str(), "" | "unknown");
        let known = (!known).then_some(self.dictionary.hook.as_str());
        match (known, self.hook) {
            (Some(known), Some(given)) => {
                let (known, given) = (parse(known)?, parse(given)?);
                ensure!(
                    known == given,
                    "cannot use {} at {given}: it was trained on {known}",
                    self.path.display()
                );
                Ok(known)
            }
            (Some(name), None) | (None, Some(name)) => parse(name),
            (None, None) => bail!(
                "cannot use {}: it does not say which hook it was trained on; name it with --hook",
                self.path.display()
            ),
        }
    }

    /// Width and tokenizer of a model against those of its slot.
    fn check(&self, model: &Path, slot: usize, hook: Hook) -> anyhow::Result<Tokenizer> {
        let config = Config::load(model)?;
        let found = match hook.site {
            Site::Logits => config.vocab,
            Site::Z => config.n_heads * config.d_head,
            _ => config.d_model,
        };
        let wanted = self.dictionary.widths[slot];
        ensure!(
            found == wanted,
            "cannot use {} with {}: width is {wanted} in the first and {found} in the second at {hook}",
            self.path.display(),
            model.display()
        );
        let tokenizer = Tokenizer::load(model)?;
        let known = &self.dictionary.tokenizer_digest;
        ensure!(
            known.is_empty() || known == tokenizer.digest(),
            "cannot use {} with {}: the dictionary was trained on tokens of another tokenizer (sha256 {} and {})",
            self.path.display(),
            model.display(),
            short(known),
            short(tokenizer.digest())
        );
        Ok(tokenizer)
    }
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// The readout of `--source swap` for a slot: the teacher's slot keeps its own activation if the teacher runs along, and else
/// sees the model's own like every other slot. Also says whether the teacher is missed.
pub fn swap(target: &Target, n_models: usize) -> (Readout, bool) {
    let model = target.model.slot;
    match Readout::swap(model, n_models) {
        Readout::Swap { keep, .. } if keep < n_models && !target.has(keep) => {
            let keep = n_models;
            (Readout::Swap { model, keep }, true)
        }
        readout => (readout, false),
    }
}
