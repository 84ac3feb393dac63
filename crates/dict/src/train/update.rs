//! One step of Adam on everything, with the gradient clipped.

use super::parameters::Parameters;
use super::trainer::Trainer;
use kernels::adam::{AdamStep, adam};
use kernels::sparse::{Reach, adam_rows};

/// Steps without a gradient after which a row rests: momentum has fallen to 0.9¹⁹² ≈ 2e-9 of what it was.
const REST: u32 = 192;

/// A small set of parameters, and its gradient.
type Small<'a> = (fn(&mut Parameters) -> &mut Vec<f32>, &'a [f32]);

impl Trainer {
    /// Updates every parameter from the gradients in the scratch buffers.
    pub(super) fn update(&mut self, learning_rate: f32) {
        self.steps_done += 1;
        let options = self.options(learning_rate);
        let gradients = &self.scratch.gradients;
        let [weights, first, second] = [&mut self.parameters, &mut self.first, &mut self.second];
        let reach = Reach {
            touched: &gradients.touched,
            ages: &self.ages,
            rest: REST,
        };
        let encoder = [
            &mut weights.encoder,
            &mut first.encoder,
            &mut second.encoder,
        ];
        adam_rows(
            encoder.map(Vec::as_mut_slice),
            &gradients.encoder,
            reach,
            options,
        );
        let decoder = [
            &mut weights.decoder,
            &mut first.decoder,
            &mut second.decoder,
        ];
        adam_rows(
            decoder.map(Vec::as_mut_slice),
            &gradients.decoder,
            reach,
            options,
        );
        for (age, touched) in self.ages.iter_mut().zip(&gradients.touched) {
            *age = if *touched { 0 } else { age.saturating_add(1) };
        }
        let small: [Small<'_>; 3] = [
            (|all| &mut all.encoder_bias, &gradients.encoder_bias),
            (|all| &mut all.decoder_bias, &gradients.decoder_bias),
            (|all| &mut all.thresholds, &gradients.thresholds),
        ];
        for (of, gradient) in small {
            adam(of(weights), of(first), of(second), gradient, options);
        }
        for threshold in &mut weights.thresholds {
            *threshold = threshold.max(0.0);
        }
    }

    /// What the step multiplies by.
    fn options(&self, learning_rate: f32) -> AdamStep {
        let norm = self.scratch.gradients.norm + 1e-6;
        AdamStep {
            step: self.steps_done as u32,
            learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            gradient_scale: (f64::from(self.settings.gradient_clip) / norm).min(1.0) as f32,
        }
    }
}
