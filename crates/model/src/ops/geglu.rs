//! The gated MLP nonlinearity of Gemma: gelu(gate) ⊙ up with gelu(x) = ½x·(1 + tanh u), u = √(2/π)·(x + 0.044715x³).
//!
//! ½(1 + tanh u) = σ(2u), so gelu(x) = x·σ(2u) and gelu′(x) = σ(2u) + x·σ(2u)·(1 − σ(2u))·2u′.

use super::{on_slices, tensor, zeros};
use candle_core::{Result, Tensor};

/// 2·√(2/π)
const TWICE: f64 = 1.595_769_121_605_730_8;
const CUBIC: f64 = 0.044_715;

/// `gate, up [tokens, d_mlp]` → `[tokens, d_mlp]`.
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let fast = on_slices([gate, up], |[gate, up]| {
        let mut y = zeros(gate.len());
        kernels::activation::geglu(&mut y, gate, up);
        y
    });
    match fast {
        Some(y) => tensor(y, gate.dims(), gate),
        None => (gate * gelu_share(gate)?)? * up,
    }
}

/// Gradients by `gate` and `up` from `dy [tokens, d_mlp]`.
pub fn geglu_backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<(Tensor, Tensor)> {
    let fast = on_slices([dy, gate, up], |[dy, gate, up]| {
        let (mut dgate, mut dup) = (zeros(gate.len()), zeros(gate.len()));
        kernels::activation::geglu_backward(&mut dgate, &mut dup, dy, gate, up);
        (dgate, dup)
    });
    if let Some((dgate, dup)) = fast {
        return Ok((
            tensor(dgate, gate.dims(), gate)?,
            tensor(dup, gate.dims(), gate)?,
        ));
    }
    let share = gelu_share(gate)?;
    let slope = (((gate.sqr()? * (3.0 * CUBIC))? + 1.0)? * TWICE)?;
    let bend = ((gate * (1.0 - &share)?)? * slope)?;
    let dgate = ((dy * up)? * (&share * (bend + 1.0)?)?)?;
    Ok((dgate, (dy * (gate * share)?)?))
}

/// gelu(x)/x = σ(2u), in candle operators.
pub fn gelu_share(x: &Tensor) -> Result<Tensor> {
    let u = ((x.sqr()? * CUBIC)? + 1.0)?;
    let u = ((x * u)? * TWICE)?;
    (u.neg()?.exp()? + 1.0)?.recip()
}
