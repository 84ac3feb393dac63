//! One step of Adam on everything, with the gradient clipped.

use super::backward::Gradients;
use super::compute::Task;
use super::parameters::Parameters;
use kernels::adam::{AdamStep, adam};
use kernels::sparse::{self, Reach, update};

/// Steps without a gradient after which a row rests: momentum has fallen to 0.9¹⁹² ≈ 2e-9 of what it was.
const REST: u32 = 192;

/// Adam's moments of all parameters, as of each row's last gradient.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    /// `[n_features, d_total]`.
    pub(super) encoder: sparse::Moments,
    /// `[n_features, d_total]`.
    pub(super) decoder: sparse::Moments,
    /// First and second of the encoder's bias, the decoder's bias, the thresholds.
    pub(super) small: [[Vec<f32>; 2]; 3],
}

impl Moments {
    /// Zeros for parameters of these shapes.
    pub(super) fn zeros(parameters: &Parameters) -> Self {
        let (n_features, d_total) = (parameters.encoder_bias.len(), parameters.decoder_bias.len());
        let small = [n_features, d_total, parameters.thresholds.len()];
        Self {
            encoder: sparse::Moments::zeros(n_features, d_total),
            decoder: sparse::Moments::zeros(n_features, d_total),
            small: small.map(|n| [vec![0.0; n], vec![0.0; n]]),
        }
    }

    /// Updates every parameter.
    pub(super) fn update(
        &mut self,
        weights: &mut Parameters,
        ages: &mut [u32],
        gradients: &Gradients<'_>,
        options: AdamStep,
    ) {
        let reach = Reach { ages, rest: REST };
        gradients.encoder(|gradient| {
            update(
                &mut weights.encoder,
                &mut self.encoder,
                gradient,
                reach,
                options,
            );
        });
        gradients.decoder(|gradient| {
            update(
                &mut weights.decoder,
                &mut self.decoder,
                gradient,
                reach,
                options,
            );
        });
        for (age, touched) in ages.iter_mut().zip(&gradients.touched) {
            *age = if *touched { 0 } else { age.saturating_add(1) };
        }
        let small = [
            (&mut weights.encoder_bias, &gradients.encoder_bias),
            (&mut weights.decoder_bias, &gradients.decoder_bias),
            (&mut weights.thresholds, &gradients.thresholds),
        ];
        for ((weights, gradient), [first, second]) in small.into_iter().zip(&mut self.small) {
            adam(weights, first, second, gradient, options);
        }
        for threshold in &mut weights.thresholds {
            *threshold = threshold.max(0.0);
        }
    }
}

impl Task<'_> {
    /// What step number `step` multiplies by, the gradient clipped.
    pub(super) fn adam(&self, gradient_norm: f64, step: u64) -> AdamStep {
        let clip = f64::from(self.settings.gradient_clip) / (gradient_norm + 1e-6);
        AdamStep {
            step: step as u32,
            learning_rate: self.schedule.learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            gradient_scale: clip.min(1.0) as f32,
        }
    }
}
