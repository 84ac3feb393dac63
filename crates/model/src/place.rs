//! Where and how a model is computed, by the names users type.

use crate::{Error, Hook, Loading, Model, Precision, Result, Storage, parse_dtype};
use candle_core::{DType, Device};
use std::path::Path;

/// The names.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// `cpu`, `cuda`, `cuda:1`, `metal`, …
    pub device: &'a str,
    /// What activations are: `f32`, `f16`, `bf16`.
    pub dtype: &'a str,
    /// How weights are kept in memory: `stored`, `int8`.
    pub weights: &'a str,
    /// What linear layers multiply: `f32`, `bf16x3`, `bf16`.
    pub precision: &'a str,
}

/// A device with what a model is loaded for there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    kind: Kind,
    index: usize,
    loading: Loading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cpu,
    Cuda,
    Metal,
}

impl Place {
    /// What the names mean.
    ///
    /// # Errors
    /// When one means nothing, or asks for what only `f32` on the CPU has.
    pub fn named(names: Names<'_>) -> Result<Self> {
        let (kind, index) = device(names.device)
            .ok_or_else(|| refused(names.device, "a device: cpu, cuda, cuda:N or metal"))?;
        let dtype = parse_dtype(names.dtype)
            .filter(|dtype| *dtype != DType::F64)
            .ok_or_else(|| refused(names.dtype, "a precision: f32, f16 or bf16"))?;
        let storage = match names.weights {
            "stored" => Storage::Stored,
            "int8" => Storage::Int8,
            other => return Err(refused(other, "a way to keep weights: stored or int8")),
        };
        let precision = match names.precision {
            "f32" => Precision::F32,
            "bf16x3" => Precision::Bf16x3,
            "bf16" => Precision::Bf16,
            other => {
                return Err(refused(
                    other,
                    "a precision of products: f32, bf16x3 or bf16",
                ));
            }
        };
        let plain = storage == Storage::Stored && precision == Precision::F32;
        if !plain && (kind != Kind::Cpu || dtype != DType::F32) {
            return Err(Error::Argument(format!(
                "weights {} and products {} are for the CPU with activations in f32, not for {} in {}",
                names.weights, names.precision, names.device, names.dtype
            )));
        }
        let loading = Loading {
            dtype,
            storage,
            precision,
        };
        Ok(Self {
            kind,
            index,
            loading,
        })
    }

    /// What a model is loaded for.
    pub fn loading(&self) -> Loading {
        self.loading
    }

    /// Opens the device.
    ///
    /// # Errors
    /// When there is none, or the program was built without it.
    pub fn open(&self) -> Result<Device> {
        let device = match self.kind {
            Kind::Cpu => Ok(Device::Cpu),
            Kind::Cuda => Device::new_cuda(self.index),
            Kind::Metal => Device::new_metal(self.index),
        };
        let name = format!("{:?}:{}", self.kind, self.index).to_lowercase();
        device.map_err(|cause| Error::Argument(format!("cannot use device {name}: {cause}")))
    }

    /// Loads a model directory onto a device that was opened.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    pub fn load(&self, directory: &Path, device: &Device) -> Result<Model> {
        Model::load_with(directory, device, self.loading)
    }

    /// Loads what a pass up to a hook needs of a model directory.
    ///
    /// # Errors
    /// Those of [`Model::load_until`].
    pub fn load_until(&self, directory: &Path, device: &Device, last: Hook) -> Result<Model> {
        Model::load_until(directory, device, self.loading, last)
    }
}

fn device(name: &str) -> Option<(Kind, usize)> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let index = index.parse().ok()?;
    match kind {
        "cpu" if index == 0 => Some((Kind::Cpu, 0)),
        "cuda" => Some((Kind::Cuda, index)),
        "metal" => Some((Kind::Metal, index)),
        _ => None,
    }
}

fn refused(name: &str, wanted: &str) -> Error {
    Error::Argument(format!("`{name}` is not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Names<'static> = Names {
        device: "cpu",
        dtype: "f32",
        weights: "stored",
        precision: "f32",
    };

    #[test]
    fn names_mean_something_or_are_refused() {
        assert!(Place::named(PLAIN).unwrap().open().unwrap().is_cpu());
        for device in ["cpu:0", "cuda", "cuda:3", "metal"] {
            assert!(Place::named(Names { device, ..PLAIN }).is_ok(), "{device}");
        }
        for device in ["", "gpu", "cpu:1", "cuda:x"] {
            let message = Place::named(Names { device, ..PLAIN })
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(&format!("`{device}` is not a device")),
                "{message}"
            );
        }
        for dtype in ["f64", "int8"] {
            assert!(Place::named(Names { dtype, ..PLAIN }).is_err());
        }
        assert!(
            Place::named(Names {
                weights: "int4",
                ..PLAIN
            })
            .is_err()
        );
        assert!(
            Place::named(Names {
                precision: "f16",
                ..PLAIN
            })
            .is_err()
        );
    }

    #[test]
    fn what_only_the_kernels_have_is_refused_elsewhere() {
        let int8 = Names {
            weights: "int8",
            ..PLAIN
        };
        assert_eq!(Place::named(int8).unwrap().loading().storage, Storage::Int8);
        let bf16 = Names {
            precision: "bf16",
            ..PLAIN
        };
        assert_eq!(
            Place::named(bf16).unwrap().loading().precision,
            Precision::Bf16
        );
        for names in [int8, bf16] {
            assert!(
                Place::named(Names {
                    dtype: "bf16",
                    ..names
                })
                .is_err()
            );
            let message = Place::named(Names {
                device: "cuda",
                ..names
            })
            .unwrap_err();
            assert!(message.to_string().contains("cuda"), "{message}");
        }
    }
}
