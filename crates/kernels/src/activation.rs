//! The gated MLP nonlinearity silu(gate) ⊙ up, silu(x) = x·σ(x).

use crate::vector::{exp, vectorised};
use rayon::prelude::*;

/// Values handled by one task.
const VALUES: usize = 1 << 14;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// y ← silu(gate) ⊙ up, all of one shape.
pub fn swiglu(y: &mut [f32], gate: &[f32], up: &[f32]) {
    let tasks = y
        .par_chunks_mut(VALUES)
        .zip(gate.par_chunks(VALUES))
        .zip(up.par_chunks(VALUES));
    tasks.for_each(|((y, gate), up)| {
        vectorised(|| {
            for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate * sigmoid(*gate) * up;
            }
        });
    });
}

/// Gradients of [`swiglu`] by `gate` and `up` from `dy`.
pub fn swiglu_backward(dgate: &mut [f32], dup: &mut [f32], dy: &[f32], gate: &[f32], up: &[f32]) {
    let outputs = dgate
        .par_chunks_mut(VALUES)
        .zip(dup.par_chunks_mut(VALUES))
        .zip(dy.par_chunks(VALUES));
    outputs
        .zip(gate.par_chunks(VALUES))
        .zip(up.par_chunks(VALUES))
        .for_each(|((((dgate, dup), dy), gate), up)| {
            vectorised(|| {
                let outputs = dgate.iter_mut().zip(dup).zip(dy);
                for ((((dgate, dup), dy), gate), up) in outputs.zip(gate).zip(up) {
                    let s = sigmoid(*gate);
                    *dgate = dy * up * s * (1.0 + gate * (1.0 - s));
                    *dup = dy * gate * s;
                }
            });
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_slope() {
        let (gate, up, h) = ([0.7f32, -1.3], [1.1f32, 0.4], 1e-3f32);
        let value = |gate: &[f32], up: &[f32]| {
            let mut y = [0.0; 2];
            swiglu(&mut y, gate, up);
            y[0] + y[1]
        };
        let (mut dgate, mut dup) = ([0.0; 2], [0.0; 2]);
        swiglu_backward(&mut dgate, &mut dup, &[1.0, 1.0], &gate, &up);
        let slope =
            (value(&[gate[0] + h, gate[1]], &up) - value(&[gate[0] - h, gate[1]], &up)) / (2.0 * h);
        assert!((slope - dgate[0]).abs() < 1e-3);
        let slope =
            (value(&gate, &[up[0], up[1] + h]) - value(&gate, &[up[0], up[1] - h])) / (2.0 * h);
        assert!((slope - dup[1]).abs() < 1e-3);
    }
}
