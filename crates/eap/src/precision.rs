//! What numbers are computed in, and where.

use std::path::Path;

use anyhow::ensure;
use clap::ValueEnum;
use model::{DType, Device, Loading, Model, Names, Place};
use serde::Serialize;

/// Precision of the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single
    F32,
    /// Double: slow, for reference
    F64,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F64 => Self::F64,
        }
    }
}

/// A device with what a model is loaded for there.
#[derive(Debug, Clone)]
pub struct Computer {
    device: Device,
    loading: Loading,
}

impl Computer {
    /// Opens the device of the flags.
    ///
    /// # Errors
    /// When a name means nothing, the device is not there, or double precision is asked for with weights or products of less.
    pub fn open(compute: &cli::Compute, precision: Precision) -> anyhow::Result<Self> {
        let usage = |error: model::Error| cli::Usage(error.to_string());
        let names = Names {
            device: &compute.device,
            dtype: "f32",
            weights: &compute.weights,
            precision: &compute.precision,
        };
        let place = Place::named(names).map_err(usage)?;
        let exact = compute.weights == "stored" && compute.precision == "f32";
        ensure!(
            precision == Precision::F32 || exact,
            cli::Usage(
                "--dtype f64 is for --weights stored and --precision f32: others round before it"
                    .into()
            )
        );
        let loading = Loading {
            dtype: precision.into(),
            ..place.loading()
        };
        Ok(Self {
            device: place.open()?,
            loading,
        })
    }

    /// Loads a model directory.
    pub fn load(&self, directory: &Path) -> anyhow::Result<Model> {
        Ok(Model::load_with(directory, &self.device, self.loading)?)
    }
}
