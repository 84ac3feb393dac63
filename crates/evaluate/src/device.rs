//! Devices and precisions by name.

use anyhow::{Context, Result};
use model::{DType, Device};
use serde::{Serialize, Serializer};

/// A device by name: `cpu`, `cuda`, `cuda:1`, `metal`.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Place(String);

impl Place {
    /// Reads the name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let place = Self(text.to_owned());
        match place.parts() {
            ("cpu", "0") | ("cuda" | "metal", _) if place.index().is_some() => Ok(place),
            _ => Err("expected cpu, cuda, cuda:N or metal".to_owned()),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or((&self.0, "0"))
    }

    fn index(&self) -> Option<usize> {
        self.parts().1.parse().ok()
    }

    /// The device itself.
    pub fn open(&self) -> Result<Device> {
        let index = self.index().unwrap_or(0);
        let device = match self.parts().0 {
            "cuda" => Device::new_cuda(index),
            "metal" => Device::new_metal(index),
            _ => Ok(Device::Cpu),
        };
        device.with_context(|| format!("cannot use device {}", self.0))
    }
}

/// A floating-point type by name.
#[derive(Debug, Clone, Copy)]
pub struct Precision(pub DType);

impl Precision {
    /// Reads the name.
    pub fn parse(text: &str) -> Result<Self, String> {
        model::parse_dtype(text)
            .map(Self)
            .ok_or_else(|| "expected f32, f16 or bf16".to_owned())
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}
