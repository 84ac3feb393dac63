//! Where models are computed, by name.

use anyhow::{Context, bail};
use model::Device;

/// Opens `cpu`, `cuda`, `cuda:1`, `metal`, …
pub fn open(name: &str) -> anyhow::Result<Device> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let device = match (kind, index.parse()) {
        ("cpu", Ok(0)) => Ok(Device::Cpu),
        ("cuda", Ok(index)) => Device::new_cuda(index),
        ("metal", Ok(index)) => Device::new_metal(index),
        _ => bail!(cli::Usage(format!(
            "`{name}` is not a device: cpu, cuda, cuda:N or metal"
        ))),
    };
    device.with_context(|| format!("cannot use device {name}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_device_has_a_known_name() {
        assert!(super::open("cpu").is_ok());
        for name in ["", "gpu", "cpu:1", "cuda:x"] {
            assert!(super::open(name).is_err(), "{name}");
        }
    }
}
