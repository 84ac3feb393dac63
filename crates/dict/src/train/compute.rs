//! What computes a training step, and what it is told.

use super::kernels::Kernels;
use super::parameters::Layout;
use super::settings::{Schedule, Settings};
use super::tensors::Tensors;

/// What holds the weights and computes with them.
#[derive(Debug)]
pub(super) enum Compute {
    /// Hand-written kernels on the CPU, which touch active rows only.
    Kernels(Box<Kernels>),
    /// Plain tensors on a device.
    Tensors(Box<Tensors>),
}

/// A device that cannot compute: out of memory, or without an operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot train on this device: {0}")]
pub struct DeviceError(#[from] candle_core::Error);

/// One batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) settings: &'a Settings,
    pub(super) layout: &'a Layout,
    /// What the schedules say at this step.
    pub(super) schedule: Schedule,
    /// Normalised activations `[n_rows, d_total]`.
    pub(super) x: &'a [f32],
    pub(super) n_rows: usize,
}

impl Task<'_> {
    /// Reconstructions that count: 1, or the nested dictionaries.
    pub(super) fn n_outputs(&self) -> usize {
        self.settings.groups.len().max(1)
    }
}

/// What one step did.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Loss, with its sparsity and auxiliary terms.
    pub(super) loss: f64,
    /// Σ over rows of ‖e^m‖² of each model.
    pub(super) squared: Vec<f64>,
    /// Mean active features per row and code.
    pub(super) l0: f64,
    /// ‖gradient‖₂ before clipping.
    pub(super) gradient_norm: f64,
}
