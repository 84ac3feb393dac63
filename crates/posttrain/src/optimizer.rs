//! `AdamW` over every weight of a model, with clipping and learning-rate schedules.

use anyhow::{Result, ensure};
use kernels::adam::{AdamStep, adam};
use model::{Gradients, Model, Tensor};
use serde::{Deserialize, Serialize};

/// How the learning rate moves after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decay {
    /// Stays.
    Constant,
    /// Falls along half a cosine to 5 %.
    Cosine,
    /// Falls along a line to 10 %.
    Linear,
}

/// Learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Largest learning rate.
    pub peak: f64,
    /// Steps over which it rises to that.
    pub warmup: u32,
    /// What it does then.
    pub decay: Decay,
}

impl Schedule {
    /// Learning rate at `step` (from 1) of `steps`.
    pub fn at(&self, step: u32, steps: u32) -> f64 {
        if step <= self.warmup {
            return self.peak * f64::from(step) / f64::from(self.warmup);
        }
        let progress = f64::from(step - self.warmup) / f64::from((steps - self.warmup).max(1));
        self.peak
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Cosine => {
                    0.05 + 0.95 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
                }
                Decay::Linear => 1.0 - 0.9 * progress,
            }
    }
}

/// Constants of `AdamW`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Decay of the first moment, 0 to 1.
    pub beta1: f32,
    /// Decay of the second moment, 0 to 1.
    pub beta2: f32,
    /// Weight decay of matrices; vectors have none.
    pub weight_decay: f32,
    /// Largest norm of the gradient; a longer one is shortened to it.
    pub clip: f64,
}

/// `AdamW` with its moments.
#[derive(Debug)]
pub struct Optimizer {
    settings: Settings,
    /// Updates made so far.
    pub updates: u32,
    /// First and second moments of every weight, in the order of [`Model::parameters`].
    pub moments: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Optimizer {
    /// An optimizer that has made no update.
    pub fn new(model: &Model, settings: Settings) -> Self {
        let zeros = |(_, tensor): (String, Tensor)| {
            (
                vec![0.0; tensor.elem_count()],
                vec![0.0; tensor.elem_count()],
            )
        };
        Self {
            settings,
            updates: 0,
            moments: model.parameters().into_iter().map(zeros).collect(),
        }
    }

    /// Moves every weight of `model` along its gradient; returns the gradient's norm before clipping.
    pub fn update(
        &mut self,
        model: &mut Model,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<f64> {
        let norm = gradients.norm()?;
        ensure!(
            norm.is_finite(),
            "the gradient is not finite: the learning rate is too high, or a weight is broken"
        );
        self.updates += 1;
        for ((name, weight), (first, second)) in
            model.parameters_mut().into_iter().zip(&mut self.moments)
        {
            let Some(gradient) = gradients.get(&name) else {
                continue;
            };
            let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
            let mut values = weight.flatten_all()?.to_vec1::<f32>()?;
            let decays = weight.dims().len() > 1;
            let step = AdamStep {
                step: self.updates,
                learning_rate: learning_rate as f32,
                beta1: self.settings.beta1,
                beta2: self.settings.beta2,
                epsilon: 1e-8,
                weight_decay: if decays {
                    self.settings.weight_decay
                } else {
                    0.0
                },
                gradient_scale: (self.settings.clip / norm.max(self.settings.clip)) as f32,
            };
            adam(&mut values, first, second, &gradient, step);
            *weight = Tensor::from_vec(values, weight.dims(), weight.device())?;
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_rise_and_fall_as_they_say() {
        let schedule = |decay| Schedule {
            peak: 2.0,
            warmup: 4,
            decay,
        };
        assert_eq!(schedule(Decay::Constant).at(2, 10), 1.0);
        assert_eq!(schedule(Decay::Constant).at(10, 10), 2.0);
        assert!((schedule(Decay::Linear).at(10, 10) - 0.2).abs() < 1e-12);
        assert!((schedule(Decay::Cosine).at(10, 10) - 0.1).abs() < 1e-12);
        assert!((schedule(Decay::Cosine).at(7, 10) - 1.05).abs() < 1e-12);
    }
}
