//! Reconstruction, loss, and its gradient by the reconstructions.

use super::choose::Chosen;
use super::{Task, Tensors, total};
use crate::train::settings::Distance;
use candle_core::{Result, Tensor};

/// A batch reconstructed.
pub(super) struct Reconstructed {
    /// Value of the reconstruction term.
    pub(super) loss: f64,
    /// Σ over rows of ‖e^m‖² of each model, of the whole dictionary.
    pub(super) squared: Vec<f64>,
    /// x̂ − x of the whole dictionary `[n_rows, d_total]`.
    pub(super) residual: Tensor,
    /// For every output, Σ over the outputs from it on of ∂L/∂x̂ `[n_rows, d_total]`.
    pub(super) gradients: Vec<Tensor>,
}

impl Tensors {
    pub(super) fn forward(
        &self,
        task: &Task<'_>,
        x: &Tensor,
        chosen: &Chosen,
    ) -> Result<Reconstructed> {
        let mut error = self.decoder_bias.value.broadcast_sub(x)?;
        let (mut loss, mut gradients) = (0.0, Vec::new());
        let mut squared = Vec::new();
        for output in 0..task.n_outputs() {
            error = (error + self.decoded(chosen, output)?)?;
            let (value, squares, gradient) = distance(task, &error)?;
            (loss, squared) = (loss + value, squares);
            gradients.push(gradient);
        }
        // Output j also answers for what the outputs after it get wrong.
        for output in (1..gradients.len()).rev() {
            gradients[output - 1] = (&gradients[output - 1] + &gradients[output])?;
        }
        Ok(Reconstructed {
            loss,
            squared,
            residual: error,
            gradients,
        })
    }

    /// What the parts of one output add to the reconstruction `[n_rows, d_total]`.
    fn decoded(&self, chosen: &Chosen, output: usize) -> Result<Tensor> {
        let parts = chosen.parts.iter().filter(|part| part.output == output);
        let pieces: Vec<Tensor> = parts
            .map(|part| part.codes.matmul(&self.rows(part)?))
            .collect::<Result<_>>()?;
        // Parts of one output reconstruct the models in their order, or there is one.
        Tensor::cat(&pieces, 1)
    }

    /// Decoder rows of a part, where it reaches `[features, reach]`.
    pub(super) fn rows(&self, part: &super::choose::Part) -> Result<Tensor> {
        self.decoder
            .value
            .narrow(0, part.features.start, part.features.len())?
            .narrow(1, part.reach.start, part.reach.len())?
            .contiguous()
    }
}

/// Value of one output's error, Σ‖e^m‖² of each model, and the gradient by the output.
fn distance(task: &Task<'_>, error: &Tensor) -> Result<(f64, Vec<f64>, Tensor)> {
    let models = &task.layout.models;
    let n = (task.n_rows * task.n_outputs()) as f64;
    let share = 1.0 / (n * models.len() as f64);
    let (mut value, mut squared, mut gradients) = (0.0, Vec::new(), Vec::new());
    for model in models {
        let error = error.narrow(1, model.start, model.len())?;
        let squares = error.sqr()?.sum_keepdim(1)?;
        let of_model = total(&squares)?;
        let gradient = match task.settings.distance {
            Distance::Norm => {
                let length = squares.sqrt()?;
                value += share * total(&length)?;
                error.broadcast_mul(&(length.maximum(1e-12)?.recip()? * share)?)?
            }
            Distance::Squared => {
                value += of_model / n;
                (error * (2.0 / n))?
            }
        };
        squared.push(of_model);
        gradients.push(gradient);
    }
    Ok((value, squared, Tensor::cat(&gradients, 1)?))
}
