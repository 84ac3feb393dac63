//! Dictionaries of other programs: read into ours, and ours written for them.
//!
//! A format is recognised by its tensors and settings; what it does not say (labels, hook, tokenizer, the scale of the
//! activations) the user says through [`Told`]. Pickles are read as data (`pickle`): nothing in a file is ever run.
//!
//! # Layout
//! - this file: [`Format`], [`import`], [`export`]
//! - `crosscoder_learning`, `opd`, `dfc`, `ckkissane`, `crosscode`, `openmoss`: crosscoders
//! - `sae_lens`, `dictionary_learning`, `sparsify`: one model's autoencoders, through `flat`
//! - `source`: a folder of tensors and settings; `parts`: a dictionary on its way in; `write`: one on its way out
//! - `pickle`, `torch_file`, `torch_write`: files of `torch.save`
//! - `names`: hooks in the words of others

mod ckkissane;
mod crosscode;
mod crosscoder_learning;
mod dfc;
mod dictionary_learning;
mod flat;
mod names;
mod opd;
mod openmoss;
mod parts;
mod pickle;
mod sae_lens;
mod source;
mod sparsify;
mod torch_file;
mod torch_write;
mod write;

pub use crosscoder_learning::import_crosscoder_learning;
pub use parts::Told;
pub use torch_file::read_numbers;

use crate::crosscoder::Crosscoder;
use source::Source;
use std::path::{Path, PathBuf};
use store::{Error, Provenance, Result};
use write::Export;

/// Programs whose dictionaries are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `crosscoder_learning` (science-of-finetuning, jkminder).
    CrosscoderLearning,
    /// `understanding-opd-crosscoders` (yzc-666): models of unlike width.
    Opd,
    /// `dfc_learning` (superkaiba), `model_diffing_crosscoders` (Antebe): exclusive features.
    Dfc,
    /// `crosscoder-model-diff-replication` (ckkissane), `crosscoding-through-time` (bayazitdeniz).
    Ckkissane,
    /// The Python package `crosscode` (oli-clive-griffin).
    Crosscode,
    /// Llamascopium, `OpenMOSS/Language-Model-SAEs`.
    Openmoss,
    /// `SAELens`.
    SaeLens,
    /// `dictionary_learning` (saprmarks).
    DictionaryLearning,
    /// `EleutherAI/sparsify`.
    Sparsify,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::CrosscoderLearning,
        Self::Opd,
        Self::Dfc,
        Self::Ckkissane,
        Self::Crosscode,
        Self::Openmoss,
        Self::SaeLens,
        Self::DictionaryLearning,
        Self::Sparsify,
    ];

    /// The name the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrosscoderLearning => "crosscoder-learning",
            Self::Opd => "opd",
            Self::Dfc => "dfc",
            Self::Ckkissane => "ckkissane",
            Self::Crosscode => "crosscode",
            Self::Openmoss => "openmoss",
            Self::SaeLens => "sae-lens",
            Self::DictionaryLearning => "dictionary-learning",
            Self::Sparsify => "sparsify",
        }
    }
}

/// A dictionary that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The dictionary.
    pub dictionary: Crosscoder,
    /// Program that wrote it.
    pub format: Format,
    /// What the user should know, a sentence each: what stays unknown, what was turned into something else.
    pub notes: Vec<String>,
}

/// Reads a dictionary from a folder or a file of tensors, of the format given or the one its contents show.
pub fn import(path: &Path, format: Option<Format>, told: &Told) -> Result<Imported> {
    let source = Source::open(path)?;
    let format = match format {
        Some(format) => format,
        None => recognise(&source)?,
    };
    let read = match format {
        Format::CrosscoderLearning => crosscoder_learning::read,
        Format::Opd => opd::read,
        Format::Dfc => dfc::read,
        Format::Ckkissane => ckkissane::read,
        Format::Crosscode => crosscode::read,
        Format::Openmoss => openmoss::read,
        Format::SaeLens => sae_lens::read,
        Format::DictionaryLearning => dictionary_learning::read,
        Format::Sparsify => sparsify::read,
    };
    let (dictionary, notes) = read(&source, told)?.into_crosscoder(told, source.path())?;
    Ok(Imported {
        dictionary,
        format,
        notes,
    })
}

/// The files [`import`] reads of a folder or a file: tensors first, then the configuration where there is one.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    Source::files(path)
}

/// Writes a dictionary into a folder in another program's format; returns what the format does not keep.
///
/// A dictionary the format cannot express is an error that says why.
pub fn export(
    dictionary: &Crosscoder,
    format: Format,
    folder: &Path,
    provenance: &Provenance,
) -> Result<Vec<String>> {
    let existed = folder.exists();
    std::fs::create_dir_all(folder).map_err(|source| Error::Write {
        path: folder.to_owned(),
        source,
    })?;
    let mut export = Export {
        dictionary,
        folder,
        provenance,
        notes: Vec::new(),
    };
    let write = match format {
        Format::CrosscoderLearning => crosscoder_learning::write,
        Format::Opd => opd::write,
        Format::Dfc => dfc::write,
        Format::Ckkissane => ckkissane::write,
        Format::Crosscode => crosscode::write,
        Format::Openmoss => openmoss::write,
        Format::SaeLens => sae_lens::write,
        Format::DictionaryLearning => dictionary_learning::write,
        Format::Sparsify => sparsify::write,
    };
    match write(&mut export) {
        Ok(()) => Ok(export.notes),
        Err(error) => {
            if !existed {
                // An empty folder would look like a dictionary; one with files in it stays, and is not removed by this.
                let _ = std::fs::remove_dir(folder);
            }
            Err(error)
        }
    }
}

/// The only format these tensors and settings can be of.
fn recognise(source: &Source) -> Result<Format> {
    let has = |name: &str| source.contains(name);
    let dimensions = |name: &str| source.dimensions(name);
    let found = match (dimensions("encoder.weight"), dimensions("W_enc")) {
        _ if has("encoder.projections.0.weight") => Some(Format::Opd),
        _ if has("_W_enc_XiDiL") => Some(Format::Crosscode),
        _ if has("W_E") && has("W_D") => Some(Format::Openmoss),
        (Some(3), _) if source.plain("_partition_config.dict_size").is_some() => Some(Format::Dfc),
        (Some(3), _) => Some(Format::CrosscoderLearning),
        (Some(2), _) if has("W_dec") => Some(Format::Sparsify),
        (Some(2), _) if has("activation_mean") => Some(Format::CrosscoderLearning),
        (Some(2), _) if has("decoder.weight") => Some(Format::DictionaryLearning),
        (_, Some(3)) => of_three(source)?,
        (_, Some(2)) => of_two(source)?,
        _ => None,
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = source.names().take(8).collect();
        source.fault(format!(
            "no dictionary is known with tensors like {}: name the format with --from",
            names.join(", ")
        ))
    })
}

/// `W_enc [n_models, d_model, n_features]`: told apart by masks, or by the words of the configuration.
fn of_three(source: &Source) -> Result<Option<Format>> {
    let says = |name: &str| source.setting(name).is_some();
    match (
        source.contains("dec_mask") || says("activation_dim"),
        says("d_in") || source.contains("threshold"),
    ) {
        (true, false) => Ok(Some(Format::Dfc)),
        (false, true) => Ok(Some(Format::Ckkissane)),
        _ => Err(ambiguous(source, "ckkissane and of dfc")),
    }
}

/// `W_enc [d_model, n_features]`: told apart by the words of the configuration.
fn of_two(source: &Source) -> Result<Option<Format>> {
    let sae_lens = ["d_sae", "architecture", "hook_name"]
        .iter()
        .any(|name| source.setting(name).is_some());
    let dictionary_learning = source.setting("trainer").is_some();
    match (sae_lens, dictionary_learning) {
        (true, false) => Ok(Some(Format::SaeLens)),
        (false, true) => Ok(Some(Format::DictionaryLearning)),
        _ => Err(ambiguous(source, "sae-lens and of dictionary-learning")),
    }
}

fn ambiguous(source: &Source, formats: &str) -> Error {
    let config = source.config_path().display();
    source.fault(format!("its tensors are those of {formats}, and {config} does not tell which: name the format with --from"))
}
