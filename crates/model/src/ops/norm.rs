//! RMS normalisation: y = x / √(mean x² + ε) ⊙ γ, over the last dimension.

use super::{on_slices, tensor};
use candle_core::{D, Result, Tensor};

/// A normalised activation and what its reverse pass needs.
#[derive(Debug, Clone)]
pub struct Normed {
    /// `[tokens, width]`
    pub y: Tensor,
    /// 1/√(mean x² + ε), `[tokens, 1]`
    pub scale: Tensor,
}

/// `x [tokens, width]`, `gamma [width]`.
pub fn rms_norm(x: &Tensor, gamma: &Tensor, epsilon: f64) -> Result<Normed> {
    let (tokens, width) = x.dims2()?;
    let fast = on_slices([x, gamma], |[x, gamma]| {
        let (mut y, mut scale) = (vec![0.0; tokens * width], vec![0.0; tokens]);
        kernels::norm::rms_norm(&mut y, &mut scale, x, gamma, epsilon as f32);
        (y, scale)
    });
    if let Some((y, scale)) = fast {
        return Ok(Normed {
            y: tensor(y, &[tokens, width], x)?,
            scale: tensor(scale, &[tokens, 1], x)?,
        });
    }
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?
        .sqrt()?
        .recip()?;
    Ok(Normed {
        y: x.broadcast_mul(&scale)?.broadcast_mul(gamma)?,
        scale,
    })
}

/// Repeats [`rms_norm`] with its known `scale [tokens, 1]`.
pub fn rms_norm_again(x: &Tensor, gamma: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let fast = on_slices([x, gamma, scale], |[x, gamma, scale]| {
        let mut y = vec![0.0; tokens * width];
        kernels::norm::rms_norm_again(&mut y, x, gamma, scale);
        y
    });
    match fast {
        Some(y) => tensor(y, &[tokens, width], x),
        None => x.broadcast_mul(scale)?.broadcast_mul(gamma),
    }
}

/// Gradient by the input: dx = r·(γ⊙dy) − x·r³/width·⟨x, γ⊙dy⟩ with r the row's `scale`.
pub fn rms_norm_backward(
    dy: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    scale: &Tensor,
) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let fast = on_slices([dy, x, gamma, scale], |[dy, x, gamma, scale]| {
        let mut dx = vec![0.0; tokens * width];
        kernels::norm::rms_norm_backward(&mut dx, dy, x, gamma, scale);
        dx
    });
    if let Some(dx) = fast {
        return tensor(dx, &[tokens, width], x);
    }
    let dy = dy.broadcast_mul(gamma)?;
    let pull = ((&dy * x)?.mean_keepdim(D::Minus1)? * scale.powf(3.0)?)?;
    dy.broadcast_mul(scale)? - x.broadcast_mul(&pull)?
}

/// Gradient by γ: Σ over tokens of dy ⊙ x·r, `[width]`.
pub fn rms_norm_gamma_gradient(dy: &Tensor, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    let fast = on_slices([dy, x, scale], |[dy, x, scale]| {
        let mut dgamma = vec![0.0; width];
        kernels::norm::rms_norm_gamma_gradient(&mut dgamma, dy, x, scale);
        dgamma
    });
    match fast {
        Some(dgamma) => tensor(dgamma, &[width], x),
        None => (dy * x.broadcast_mul(scale)?)?.sum(0),
    }
}
