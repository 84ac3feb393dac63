//! Gradients of one batch by dense products; formulas as in the kernels' `backward` and `penalty`.

use super::choose::{Chosen, Part};
use super::forward::Reconstructed;
use super::revive::Revival;
use super::{Task, Tensors, total};
use crate::rule::Rule;
use crate::train::settings::Penalty;
use candle_core::{DType, Result, Tensor};

/// What the penalty adds, and the activations' gradients with it.
pub(super) struct Charge {
    /// Its value.
    pub(super) value: f64,
    /// ∂L/∂f of each part's entries, 0 where nothing is kept `[n_rows, features]`.
    through: Vec<Tensor>,
    /// ∂L/∂w of each part's features `[features]`; empty without a penalty.
    by_weight: Vec<Tensor>,
    /// Of `jumprelu` `[n_features]`.
    thresholds: Option<Tensor>,
}

/// Gradients of everything that learns.
pub(super) struct Gradients {
    pub(super) encoder: Tensor,
    pub(super) encoder_bias: Tensor,
    pub(super) decoder: Tensor,
    pub(super) decoder_bias: Tensor,
    pub(super) thresholds: Option<Tensor>,
}

impl Tensors {
    /// ∂L/∂f of every feature of each part, kept or not `[n_rows, features]`.
    pub(super) fn through(
        &self,
        chosen: &Chosen,
        reconstructed: &Reconstructed,
    ) -> Result<Vec<Tensor>> {
        let one = |part: &Part| {
            let gradient = part.reached(&reconstructed.gradients[part.output])?;
            gradient.matmul(&self.rows(part)?.t()?)
        };
        chosen.parts.iter().map(one).collect()
    }

    /// Adds the sparsity penalty.
    pub(super) fn charge(
        &self,
        task: &Task<'_>,
        chosen: &Chosen,
        through: Vec<Tensor>,
    ) -> Result<Charge> {
        let sparsity = task.schedule.sparsity;
        let mut charge = Charge {
            value: 0.0,
            through: Vec::new(),
            by_weight: Vec::new(),
            thresholds: None,
        };
        if let (Rule::JumpRelu { k, bandwidth, .. }, Some(learned)) =
            (task.settings.rule, &self.thresholds)
        {
            let jump = [k as f64, f64::from(sparsity), f64::from(bandwidth)];
            let (value, gradient) = jumped(chosen, &learned.value, &through[0], jump)?;
            (charge.value, charge.thresholds) = (value, Some(gradient));
        }
        let charged = matches!(task.settings.rule, Rule::L1 { .. }) && sparsity > 0.0;
        for (part, through) in chosen.parts.iter().zip(through) {
            let mut through = through.mul(&part.kept)?;
            if charged {
                let share = f64::from(sparsity / task.n_rows as f32);
                let factors = (&self.fixed.penalties * share)?;
                let (value, slope) = priced(task.settings.penalty, part, &factors)?;
                charge.value += value;
                through = (through + slope.broadcast_mul(&part.weights)?)?;
                charge.by_weight.push(slope.mul(&part.codes)?.sum(0)?);
            }
            charge.through.push(through);
        }
        Ok(charge)
    }

    /// Gradients of everything that learns.
    pub(super) fn gradients(
        &self,
        task: &Task<'_>,
        x: &Tensor,
        (chosen, reconstructed, charge): (&Chosen, &Reconstructed, &Charge),
        revival: Option<&Revival>,
    ) -> Result<Gradients> {
        let mut gradients = Gradients {
            encoder: self.encoder.value.zeros_like()?,
            encoder_bias: self.encoder_bias.value.zeros_like()?,
            decoder: self.decoder.value.zeros_like()?,
            decoder_bias: reconstructed.gradients[0].sum(0)?,
            thresholds: charge.thresholds.clone(),
        };
        for (part, through) in chosen.parts.iter().zip(&charge.through) {
            let output = part.reached(&reconstructed.gradients[part.output])?;
            gradients.add(part, (through, x), &output)?;
        }
        if let Some(revival) = revival {
            gradients.add(&revival.part, (&revival.through, x), &revival.output)?;
        }
        self.pull(task, chosen, charge, &mut gradients)?;
        self.constrain(task, &mut gradients)?;
        Ok(gradients)
    }

    /// Adds `∂L/∂w_k · ∂w_k/∂d_k`.
    fn pull(
        &self,
        task: &Task<'_>,
        chosen: &Chosen,
        charge: &Charge,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let [of_joint, of_sum] = task.settings.code_normalization.shares().map(f64::from);
        let decoupled = task.settings.code_normalization.is_decoupled();
        let joint = chosen.norms.sqr()?.sum_keepdim(1)?.sqrt()?;
        for (number, by_weight) in charge.by_weight.iter().enumerate() {
            let mut pieces = Vec::new();
            for (model, range) in task.layout.models.iter().enumerate() {
                let rows = self.decoder.value.narrow(1, range.start, range.len())?;
                let norm = chosen.norms.narrow(1, model, 1)?;
                let own = norm.gt(0f32)?.to_dtype(DType::F32)?;
                let least = f64::from(f32::MIN_POSITIVE);
                let pull = ((norm.maximum(least)?.recip()? * of_sum)?
                    + (joint.maximum(least)?.recip()? * of_joint)?)?;
                let pull = pull.mul(&own)?.mul(&by_weight.unsqueeze(1)?)?;
                let away = f64::from(u8::from(!decoupled || number == model));
                pieces.push(rows.broadcast_mul(&(pull * away)?)?);
            }
            gradients.decoder = (&gradients.decoder + Tensor::cat(&pieces, 1)?)?;
        }
        Ok(())
    }

    /// Takes the gradient from what a mask holds at 0, and gives tied rows one gradient.
    fn constrain(&self, task: &Task<'_>, gradients: &mut Gradients) -> Result<()> {
        if let Some(mask) = &self.fixed.mask {
            gradients.encoder = gradients.encoder.mul(mask)?;
            gradients.decoder = gradients.decoder.mul(mask)?;
        }
        if let Some(tied) = &self.fixed.tied {
            let n_models = task.layout.models.len();
            let (n_features, d_total) = gradients.decoder.dims2()?;
            let by_model = gradients
                .decoder
                .reshape((n_features, n_models, d_total / n_models))?;
            let sum = by_model.sum_keepdim(1)?.broadcast_as(by_model.shape())?;
            let sum = sum.contiguous()?.reshape((n_features, d_total))?;
            let free = gradients.decoder.broadcast_mul(&(1.0 - tied)?)?;
            gradients.decoder = (free + sum.broadcast_mul(tied)?)?;
        }
        Ok(())
    }
}

impl Part {
    /// The columns it reconstructs, of `[n_rows, d_total]`.
    fn reached(&self, rows: &Tensor) -> Result<Tensor> {
        rows.narrow(1, self.reach.start, self.reach.len())?
            .contiguous()
    }
}

impl Gradients {
    /// Adds a part's sums over its entries; `output [n_rows, reach]`.
    fn add(
        &mut self,
        part: &Part,
        (through, x): (&Tensor, &Tensor),
        output: &Tensor,
    ) -> Result<()> {
        let features = part.features.clone();
        let at = (features.start, part.reach.start);
        self.decoder = added(&self.decoder, &part.codes.t()?.matmul(output)?, at)?;
        self.encoder = added(&self.encoder, &through.t()?.matmul(x)?, (features.start, 0))?;
        let bias = added(
            &self.encoder_bias.unsqueeze(1)?,
            &through.sum(0)?.unsqueeze(1)?,
            (features.start, 0),
        )?;
        self.encoder_bias = bias.squeeze(1)?;
        Ok(())
    }
}

/// `piece` added to a part of a matrix that begins at `(row, column)`.
fn added(matrix: &Tensor, piece: &Tensor, (row, column): (usize, usize)) -> Result<Tensor> {
    let ((rows, columns), (n, width)) = (matrix.dims2()?, piece.dims2()?);
    let piece = piece.pad_with_zeros(1, column, columns - column - width)?;
    matrix + piece.pad_with_zeros(0, row, rows - row - n)?
}

/// The penalty of `l1` on one part: its value, and its slope by rank value `[n_rows, features]`.
fn priced(penalty: Penalty, part: &Part, factors: &Tensor) -> Result<(f64, Tensor)> {
    let values = part.codes.broadcast_mul(&part.weights)?;
    let (cost, slope) = match penalty {
        Penalty::Linear => (values, part.kept.clone()),
        Penalty::Tanh { scale } => {
            let cost = (values * f64::from(scale))?.tanh()?;
            let slope = ((1.0 - cost.sqr()?)? * f64::from(scale))?.mul(&part.kept)?;
            (cost, slope)
        }
    };
    Ok((
        total(&cost.broadcast_mul(factors)?)?,
        slope.broadcast_mul(factors)?,
    ))
}

/// The penalty of `jumprelu` and ∂L/∂θ `[n_features]`; `through` is ∂L/∂f of all features.
fn jumped(
    chosen: &Chosen,
    thresholds: &Tensor,
    through: &Tensor,
    [k, sparsity, bandwidth]: [f64; 3],
) -> Result<(f64, Tensor)> {
    let part = &chosen.parts[0];
    let n_rows = chosen.activations.dim(0)? as f64;
    let excess = total(&part.kept)? / n_rows / k - 1.0;
    let slope = sparsity * 2.0 * excess / (k * n_rows);
    let near = chosen
        .ranks
        .broadcast_sub(thresholds)?
        .abs()?
        .lt(bandwidth / 2.0)?;
    let near = near.mul(&chosen.ranks.gt(0f32)?)?.to_dtype(DType::F32)?;
    let ratio = thresholds.div(&part.weights.maximum(f64::from(f32::MIN_POSITIVE))?)?;
    let each = (through.broadcast_mul(&ratio)? + slope)?;
    let gradient = (each.mul(&near)?.sum(0)? * (-1.0 / bandwidth))?;
    Ok((sparsity * excess * excess, gradient))
}
