//! The gated MLP nonlinearity: silu(gate) ⊙ up.

use super::{on_slices, tensor, zeros};
use candle_core::{Result, Tensor};

/// `gate, up [tokens, d_mlp]` → `[tokens, d_mlp]`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let fast = on_slices([gate, up], |[gate, up]| {
        let mut y = zeros(gate.len());
        kernels::activation::swiglu(&mut y, gate, up);
        y
    });
    match fast {
        Some(y) => tensor(y, gate.dims(), gate),
        None => gate.silu()? * up,
    }
}

/// Gradients by `gate` and `up` from `dy [tokens, d_mlp]`.
pub fn swiglu_backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<(Tensor, Tensor)> {
    let fast = on_slices([dy, gate, up], |[dy, gate, up]| {
        let (mut dgate, mut dup) = (zeros(gate.len()), zeros(gate.len()));
        kernels::activation::swiglu_backward(&mut dgate, &mut dup, dy, gate, up);
        (dgate, dup)
    });
    if let Some((dgate, dup)) = fast {
        return Ok((
            tensor(dgate, gate.dims(), gate)?,
            tensor(dup, gate.dims(), gate)?,
        ));
    }
    let sigmoid = (gate.neg()?.exp()? + 1.0)?.recip()?;
    let slope = (&sigmoid * (((gate * (1.0 - &sigmoid)?)?) + 1.0)?)?;
    Ok((((dy * up)? * slope)?, (dy * (gate * sigmoid)?)?))
}
