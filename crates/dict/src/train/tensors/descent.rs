//! One step of Adam on everything, with the gradient clipped.

use super::gradients::Gradients;
use super::{Learned, Task, Tensors, total};
use candle_core::{Result, Tensor};
use kernels::adam::AdamStep;

impl Tensors {
    /// Updates everything that learns; ‖gradient‖₂ before clipping.
    pub(super) fn descend(
        &mut self,
        task: &Task<'_>,
        gradients: &Gradients,
        step: u64,
    ) -> Result<f64> {
        let norm = self.norm_of(task, gradients)?;
        let options = task.adam(norm, step);
        self.encoder.step(&gradients.encoder, options)?;
        self.encoder_bias.step(&gradients.encoder_bias, options)?;
        self.decoder.step(&gradients.decoder, options)?;
        self.decoder_bias.step(&gradients.decoder_bias, options)?;
        if let (Some(thresholds), Some(gradient)) = (&mut self.thresholds, &gradients.thresholds) {
            thresholds.step(gradient, options)?;
            thresholds.value = thresholds.value.relu()?;
        }
        Ok(norm)
    }

    /// ‖gradient‖₂; a tied row counts once.
    fn norm_of(&self, task: &Task<'_>, gradients: &Gradients) -> Result<f64> {
        let mut decoder = gradients.decoder.sqr()?;
        if let Some(tied) = &self.fixed.tied {
            let copies = task.layout.models.len() as f64;
            decoder = decoder.broadcast_mul(&tied.affine(1.0 / copies - 1.0, 1.0)?)?;
        }
        let mut square = total(&decoder)? + total(&gradients.encoder.sqr()?)?;
        let small = [&gradients.encoder_bias, &gradients.decoder_bias];
        for gradient in small.into_iter().chain(&gradients.thresholds) {
            square += total(&gradient.sqr()?)?;
        }
        Ok(square.sqrt())
    }
}

impl Learned {
    fn step(&mut self, gradient: &Tensor, options: AdamStep) -> Result<()> {
        let power = |beta: f32| f64::from(beta).powi(options.step as i32);
        let [beta1, beta2] = [options.beta1, options.beta2].map(f64::from);
        let gradient = (gradient * f64::from(options.gradient_scale))?;
        self.first = ((&self.first * beta1)? + (&gradient * (1.0 - beta1))?)?;
        self.second = ((&self.second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let root = (&self.second * (1.0 / (1.0 - power(options.beta2))))?.sqrt()?;
        let rate = f64::from(options.learning_rate) / (1.0 - power(options.beta1));
        let change = (self.first.div(&(root + f64::from(options.epsilon))?)? * rate)?;
        self.value = (&self.value - change)?;
        Ok(())
    }
}
