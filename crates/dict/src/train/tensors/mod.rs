//! A training step by plain tensors on a device: every product is dense, everything of a batch stays there.
//!
//! The same formulas as the kernels', without their bookkeeping of active rows. Sums that decide about the run (the loss, the
//! gradient's norm) are taken row by row on the device and added in f64 here.

mod choose;
mod descent;
mod forward;
mod gradients;
mod revive;

use super::compute::{Outcome, Task};
use super::history::History;
use super::parameters::{Layout, Parameters};
use super::partition::Partition;
use super::settings::Settings;
use super::state::{refused, same_length};
use candle_core::{Device, Result, Tensor};
use choose::Chosen;
use forward::Reconstructed;
use store::{TensorData, TensorFile};

/// Weights and moments on a device.
#[derive(Debug)]
pub(super) struct Tensors {
    device: Device,
    encoder: Learned,
    encoder_bias: Learned,
    decoder: Learned,
    decoder_bias: Learned,
    /// Of `jumprelu`.
    thresholds: Option<Learned>,
    fixed: Fixed,
}

/// A tensor in training, with what Adam remembers of it.
#[derive(Debug)]
struct Learned {
    value: Tensor,
    first: Tensor,
    second: Tensor,
}

/// What the partition says, where it says something.
#[derive(Debug)]
struct Fixed {
    /// 1 where a model takes part in a feature, 0 elsewhere `[n_features, d_total]`.
    mask: Option<Tensor>,
    /// 1 for tied features `[n_features, 1]`.
    tied: Option<Tensor>,
    /// Factor of the penalty of each feature `[n_features]`.
    penalties: Tensor,
}

impl Learned {
    fn new(value: Tensor) -> Result<Self> {
        Ok(Self {
            first: value.zeros_like()?,
            second: value.zeros_like()?,
            value,
        })
    }
}

impl Fixed {
    fn new(settings: &Settings, layout: &Layout, device: &Device) -> Result<Self> {
        let partition = Partition::new(&settings.partition);
        let (n, d_total) = (settings.n_features, layout.d_total);
        let mask = partition.is_masked().then(|| {
            let mut mask = vec![1.0; n * d_total];
            partition.mask(&mut mask, layout);
            Tensor::from_vec(mask, (n, d_total), device)
        });
        let tied = partition.is_tied().then(|| {
            let tied: Vec<f32> = partition.tied(n).into_iter().map(f32::from).collect();
            Tensor::from_vec(tied, (n, 1), device)
        });
        Ok(Self {
            mask: mask.transpose()?,
            tied: tied.transpose()?,
            penalties: Tensor::from_vec(partition.penalties(n), n, device)?,
        })
    }
}

impl Tensors {
    pub(super) fn new(
        parameters: &Parameters,
        settings: &Settings,
        layout: &Layout,
        device: &Device,
    ) -> Result<Self> {
        let matrix = |values: &[f32]| {
            let shape = (settings.n_features, layout.d_total);
            Learned::new(Tensor::from_slice(values, shape, device)?)
        };
        let vector =
            |values: &[f32]| Learned::new(Tensor::from_slice(values, values.len(), device)?);
        let thresholds = Some(&parameters.thresholds).filter(|values| !values.is_empty());
        Ok(Self {
            device: device.clone(),
            encoder: matrix(&parameters.encoder)?,
            encoder_bias: vector(&parameters.encoder_bias)?,
            decoder: matrix(&parameters.decoder)?,
            decoder_bias: vector(&parameters.decoder_bias)?,
            thresholds: thresholds.map(|values| vector(values)).transpose()?,
            fixed: Fixed::new(settings, layout, device)?,
        })
    }

    /// One optimizer step.
    pub(super) fn step(&mut self, task: &Task<'_>, history: &mut History) -> Result<Outcome> {
        let x = self.x(task)?;
        let (chosen, reconstructed) = self.reconstruct(task, &x)?;
        let dead = self.dead(task, history)?;
        let fired = chosen.fired()?;
        let active: f64 = fired.iter().map(|&n| f64::from(n)).sum();
        let ids = fired.iter().enumerate().filter(|(_, n)| **n > 0.0);
        history.note_firing(ids.map(|(feature, _)| feature), task.n_rows);
        history.average_thresholds(&chosen.smallest, task.settings);
        let revival = match dead {
            Some(dead) => self.revive(task, (&chosen, &fired), &dead, &reconstructed.residual)?,
            None => None,
        };
        let through = self.through(&chosen, &reconstructed)?;
        let charge = self.charge(task, &chosen, through)?;
        let gradients = self.gradients(
            task,
            &x,
            (&chosen, &reconstructed, &charge),
            revival.as_ref(),
        )?;
        history.steps_done += 1;
        let gradient_norm = self.descend(task, &gradients, history.steps_done)?;
        Ok(Outcome {
            loss: reconstructed.loss + charge.value + revival.map_or(0.0, |revival| revival.value),
            squared: reconstructed.squared,
            l0: active / (task.n_rows * chosen.n_codes()) as f64,
            gradient_norm,
        })
    }

    /// The reconstruction loss, nothing learned from it.
    pub(super) fn loss(&self, task: &Task<'_>) -> Result<f64> {
        let x = self.x(task)?;
        Ok(self.reconstruct(task, &x)?.1.loss)
    }

    fn x(&self, task: &Task<'_>) -> Result<Tensor> {
        Tensor::from_slice(task.x, (task.n_rows, task.layout.d_total), &self.device)
    }

    fn reconstruct(&self, task: &Task<'_>, x: &Tensor) -> Result<(Chosen, Reconstructed)> {
        let chosen = self.choose(task, x)?;
        let reconstructed = self.forward(task, x, &chosen)?;
        Ok((chosen, reconstructed))
    }

    pub(super) fn set_decoder_bias(&mut self, values: &[f32]) -> Result<()> {
        self.decoder_bias.value = Tensor::from_slice(values, values.len(), &self.device)?;
        Ok(())
    }

    /// The weights, brought here.
    pub(super) fn parameters(&self) -> Result<Parameters> {
        let here = |learned: &Learned| learned.value.flatten_all()?.to_vec1::<f32>();
        Ok(Parameters {
            encoder: here(&self.encoder)?,
            encoder_bias: here(&self.encoder_bias)?,
            decoder: here(&self.decoder)?,
            decoder_bias: here(&self.decoder_bias)?,
            thresholds: self.thresholds.as_ref().map_or(Ok(Vec::new()), here)?,
        })
    }

    /// Everything that learns, by name.
    fn learned(&mut self) -> Vec<(&'static str, &mut Learned)> {
        let mut all = vec![
            ("encoder", &mut self.encoder),
            ("encoder_bias", &mut self.encoder_bias),
            ("decoder", &mut self.decoder),
            ("decoder_bias", &mut self.decoder_bias),
        ];
        all.extend(
            self.thresholds
                .as_mut()
                .map(|thresholds| ("thresholds", thresholds)),
        );
        all
    }

    /// Weights and moments, brought here.
    pub(super) fn state(&mut self) -> Result<Vec<(String, TensorData)>> {
        let mut tensors = Vec::new();
        for (name, learned) in self.learned() {
            for (set, tensor) in learned.sets() {
                let data = TensorData::F32 {
                    shape: tensor.dims().to_vec(),
                    values: tensor.flatten_all()?.to_vec1::<f32>()?,
                };
                tensors.push((format!("{set}.{name}"), data));
            }
        }
        Ok(tensors)
    }

    /// Takes up what [`Tensors::state`] gave.
    pub(super) fn restore(&mut self, file: &TensorFile) -> store::Result<()> {
        let device = self.device.clone();
        for (name, learned) in self.learned() {
            for (set, tensor) in learned.sets() {
                let name = format!("{set}.{name}");
                let values = same_length(file, &name, file.f32(&name)?, tensor.elem_count())?;
                *tensor = Tensor::from_vec(values, tensor.shape(), &device)
                    .map_err(|cause| refused(file.path(), format!("`{name}`: {cause}")))?;
            }
        }
        Ok(())
    }
}

impl Learned {
    fn sets(&mut self) -> [(&'static str, &mut Tensor); 3] {
        [
            ("weights", &mut self.value),
            ("first", &mut self.first),
            ("second", &mut self.second),
        ]
    }
}

/// Σ of all values, row by row on the device and then in f64.
fn total(values: &Tensor) -> Result<f64> {
    let rows = match values.rank() {
        0 | 1 => values.flatten_all()?,
        _ => values.flatten_from(1)?.sum(1)?,
    };
    Ok(rows.to_vec1::<f32>()?.into_iter().map(f64::from).sum())
}
