//! The auxiliary loss that revives dead features; see the kernels' `aux`.

use super::choose::{Chosen, Part, largest_of_rows};
use super::{Task, Tensors, total};
use crate::train::history::History;
use candle_core::{Result, Tensor};

/// What the auxiliary loss adds.
pub(super) struct Revival {
    /// Its weighted value.
    pub(super) value: f64,
    /// Dead features.
    pub(super) part: Part,
    /// ∂L/∂f of their entries `[n_rows, n_features]`.
    pub(super) through: Tensor,
    /// ∂L/∂r̂ `[n_rows, d_total]`.
    pub(super) output: Tensor,
}

impl Tensors {
    /// 1 for features that are dead before this batch `[n_features]`; `None` where none is or none is to be revived.
    pub(super) fn dead(&self, task: &Task<'_>, history: &History) -> Result<Option<Tensor>> {
        let dead = history.dead(task.settings.dead_after).map(f32::from);
        let dead: Vec<f32> = dead.collect();
        if task.settings.aux_coefficient <= 0.0 || dead.iter().all(|&dead| dead == 0.0) {
            return Ok(None);
        }
        let n = dead.len();
        Tensor::from_vec(dead, n, &self.device).map(Some)
    }

    /// Reconstructs the residual from dead features; `None` when nothing is left to reconstruct.
    pub(super) fn revive(
        &self,
        task: &Task<'_>,
        (chosen, fired): (&Chosen, &[f32]),
        dead: &Tensor,
        residual: &Tensor,
    ) -> Result<Option<Revival>> {
        let centred = residual.broadcast_sub(&residual.mean_keepdim(0)?)?;
        let spread = total(&centred.sqr()?)?;
        if spread <= 0.0 {
            return Ok(None);
        }
        let kept = largest_of_rows(&chosen.ranks.broadcast_mul(dead)?, task.settings.aux_k)?;
        // Those that fired in this very batch are alive.
        let silent: Vec<f32> = fired.iter().map(|&n| f32::from(n == 0.0)).collect();
        let silent = Tensor::from_vec(silent, fired.len(), &self.device)?;
        let kept = kept.broadcast_mul(&silent)?;
        let part = Part {
            features: 0..task.settings.n_features,
            reach: 0..task.layout.d_total,
            output: 0,
            codes: chosen.activations.mul(&kept)?,
            weights: silent,
            kept,
        };
        let scale = f64::from(task.settings.aux_coefficient) / spread;
        let error = (residual + part.codes.matmul(&self.decoder.value)?)?;
        let output = (&error * (2.0 * scale))?;
        let through = output.matmul(&self.decoder.value.t()?)?.mul(&part.kept)?;
        Ok(Some(Revival {
            value: scale * total(&error.sqr()?)?,
            part,
            through,
            output,
        }))
    }
}
