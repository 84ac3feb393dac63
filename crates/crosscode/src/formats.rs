//! The formats of other programs, as the command line names them.

use dict::foreign::Format;
use serde::Serialize;

/// Formats that can be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormatName {
    /// `science-of-finetuning/crosscoder_learning`: model.safetensors and config.json, or `model_final.pt`
    CrosscoderLearning,
    /// `yzc-666/understanding-opd-crosscoders`: `model_final.pt`, models of unlike width
    Opd,
    /// `superkaiba/dfc_learning`: `model_final.pt` with exclusive features; reads `Antebe/model_diffing_crosscoders` too
    Dfc,
    /// `ckkissane/crosscoder-model-diff-replication`, `bayazitdeniz/crosscoding-through-time`: `cc_weights.pt` and cfg.json
    Ckkissane,
    /// `oli-clive-griffin/crosscode`: model.pt and `model_cfg.yaml`
    Crosscode,
    /// `OpenMOSS/Language-Model-SAEs`: `sae_weights.safetensors` and config.json
    Openmoss,
    /// `SAELens`: `sae_weights.safetensors` and cfg.json
    SaeLens,
    /// `saprmarks/dictionary_learning`: ae.pt and config.json
    DictionaryLearning,
    /// `EleutherAI/sparsify`: sae.safetensors and cfg.json
    Sparsify,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::CrosscoderLearning => Self::CrosscoderLearning,
            FormatName::Opd => Self::Opd,
            FormatName::Dfc => Self::Dfc,
            FormatName::Ckkissane => Self::Ckkissane,
            FormatName::Crosscode => Self::Crosscode,
            FormatName::Openmoss => Self::Openmoss,
            FormatName::SaeLens => Self::SaeLens,
            FormatName::DictionaryLearning => Self::DictionaryLearning,
            FormatName::Sparsify => Self::Sparsify,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_format_of_the_library_has_its_name() {
        let names: Vec<String> = FormatName::value_variants()
            .iter()
            .filter_map(|name| Some(name.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert_eq!(names, Format::ALL.map(Format::name));
        for (name, format) in FormatName::value_variants().iter().zip(Format::ALL) {
            assert_eq!(Format::from(*name), format);
        }
    }
}
