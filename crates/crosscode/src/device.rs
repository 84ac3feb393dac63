//! Where models are computed, by name.

use anyhow::Context;
use model::Device;

/// Opens `cpu`, `cuda`, `cuda:1`, `metal`, …
pub fn open(name: &str) -> anyhow::Result<Device> {
    let wrong = || {
        cli::Usage(format!(
            "`{name}` is not a device: cpu, cuda, cuda:N or metal"
        ))
    };
    model::open_device(name)
        .ok_or_else(wrong)?
        .with_context(|| format!("cannot use device {name}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_device_has_a_known_name() {
        assert!(super::open("cpu").is_ok());
        for name in ["", "gpu", "cpu:1", "cuda:x"] {
            let error = super::open(name).unwrap_err();
            assert!(error.is::<cli::Usage>(), "{name}: {error}");
        }
    }
}
