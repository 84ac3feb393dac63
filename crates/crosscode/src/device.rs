//! Where models and dictionaries are computed, by name.

use dict::{Settings, Subject, Trainer};
use model::{Device, Names, Place};

/// The tensors of a GPU's path, on the CPU.
const PLAIN: &str = "plain";

/// Opens `cpu`, `cuda`, `cuda:1`, `metal`, …, where models are computed.
pub fn open(name: &str) -> anyhow::Result<Device> {
    let names = Names {
        device: name,
        dtype: "f32",
        weights: "stored",
        precision: "f32",
    };
    let place = Place::named(names).map_err(|error| cli::Usage(error.to_string()))?;
    Ok(place.open()?)
}

/// The same, or `plain`, where dictionaries are trained as well.
pub fn open_or_plain(name: &str) -> anyhow::Result<Device> {
    open(if name == PLAIN { "cpu" } else { name })
}

/// Whether dictionaries are trained there by the kernels of the CPU; elsewhere it is done with plain tensors.
pub fn has_kernels(name: &str) -> bool {
    matches!(name, "cpu" | "cpu:0")
}

/// A trainer with initial weights.
pub fn trainer(name: &str, settings: Settings, subject: Subject) -> anyhow::Result<Trainer> {
    if has_kernels(name) {
        return Ok(Trainer::new(settings, subject));
    }
    Ok(Trainer::on(&open_or_plain(name)?, settings, subject)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_known_name() {
        assert!(open("cpu").is_ok() && open_or_plain("plain").is_ok());
        for name in ["", "gpu", "cpu:1", "cuda:x", "plain"] {
            let error = open(name).unwrap_err();
            assert!(error.is::<cli::Usage>(), "{name}: {error}");
        }
        assert!(has_kernels("cpu") && !has_kernels("plain") && !has_kernels("cuda"));
    }
}
