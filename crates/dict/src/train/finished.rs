//! From the weights as training holds them to a dictionary.

use super::compute::{Compute, DeviceError};
use super::parameters::Parameters;
use super::trainer::Trainer;
use crate::crosscoder::Crosscoder;
use crate::rule::CodeNormalization;

impl Trainer {
    /// The crosscoder as it stands.
    ///
    /// # Errors
    /// When a device does not give its weights.
    pub fn crosscoder(&self) -> Result<Crosscoder, DeviceError> {
        match &self.compute {
            Compute::Kernels(kernels) => Ok(self.crosscoder_of(&kernels.parameters)),
            Compute::Tensors(tensors) => Ok(self.crosscoder_of(&tensors.parameters()?)),
        }
    }

    fn crosscoder_of(&self, parameters: &Parameters) -> Crosscoder {
        let part = |model: usize, rows: &[f32]| -> Vec<f32> {
            let range = self.layout.models[model].clone();
            rows.chunks(self.layout.d_total)
                .flat_map(|row| &row[range.clone()])
                .copied()
                .collect()
        };
        let n_models = self.layout.models.len();
        let n_features = self.settings.n_features;
        let encoder = |model: usize| transpose(&part(model, &parameters.encoder), n_features);
        let unset = if self.settings.rule.ranks_the_batch() {
            -1.0
        } else {
            0.0
        };
        let averages: Vec<f32> = self
            .history
            .averages
            .iter()
            .map(|average| average.unwrap_or(unset))
            .collect();
        let learned = if parameters.thresholds.is_empty() {
            &averages
        } else {
            &parameters.thresholds
        };
        let mut code_normalization = self.settings.code_normalization.clone();
        if let CodeNormalization::Decoupled { thresholds } = &mut code_normalization {
            thresholds.clone_from(&averages);
        }
        Crosscoder {
            labels: self.subject.labels.clone(),
            widths: self.subject.widths.clone(),
            n_features,
            encoder: (0..n_models).map(encoder).collect(),
            encoder_bias: parameters.encoder_bias.clone(),
            decoder: (0..n_models)
                .map(|model| part(model, &parameters.decoder))
                .collect(),
            decoder_bias: (0..n_models)
                .map(|model| part(model, &parameters.decoder_bias))
                .collect(),
            normalizer: self.subject.normalizer.clone(),
            threshold: learned.iter().copied().fold(f32::INFINITY, f32::min),
            thresholds: parameters.thresholds.clone(),
            rule: self.settings.rule,
            code_normalization,
            hook: self.subject.hook.clone(),
            tokenizer_digest: self.subject.tokenizer_digest.clone(),
        }
    }

    /// Ends training. What only training needs is given back before the dictionary is laid out.
    ///
    /// # Errors
    /// As [`Trainer::crosscoder`].
    pub fn into_crosscoder(mut self) -> Result<Crosscoder, DeviceError> {
        if let Compute::Kernels(kernels) = &mut self.compute {
            kernels.forget();
        }
        self.crosscoder()
    }
}

/// `[rows, columns]` → `[columns, rows]`.
fn transpose(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    let mut out = vec![0.0; values.len()];
    for (row, values) in values.chunks(columns).enumerate() {
        for (column, value) in values.iter().enumerate() {
            out[column * rows + row] = *value;
        }
    }
    out
}
