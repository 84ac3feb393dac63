//! The gated MLP nonlinearity silu(gate) ⊙ up, silu(x) = x·σ(x); with gelu for silu; and soft caps.

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
        vectorised(
            #[inline(always)]
            || {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = gate * sigmoid(*gate) * up;
                }
            },
        );
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
            vectorised(
                #[inline(always)]
                || {
                    let outputs = dgate.iter_mut().zip(dup).zip(dy);
                    for ((((dgate, dup), dy), gate), up) in outputs.zip(gate).zip(up) {
                        let s = sigmoid(*gate);
                        *dgate = dy * up * s * (1.0 + gate * (1.0 - s));
                        *dup = dy * gate * s;
                    }
                },
            );
        });
}

/// 2·√(2/π)
const TWICE: f32 = 1.595_769_2;
const CUBIC: f32 = 0.044_715;

/// gelu(x)/x for gelu(x) = ½x·(1 + tanh u), u = √(2/π)·(x + 0.044715x³): ½(1 + tanh u) = σ(2u).
#[inline(always)]
fn gelu_share(x: f32) -> f32 {
    sigmoid(TWICE * x * (1.0 + CUBIC * x * x))
}

/// y ← gelu(gate) ⊙ up, all of one shape; gelu by the tangent (Gemma).
pub fn geglu(y: &mut [f32], gate: &[f32], up: &[f32]) {
    let inputs = gate.par_chunks(VALUES).zip(up.par_chunks(VALUES));
    let tasks = y.par_chunks_mut(VALUES).zip(inputs);
    tasks.for_each(|(y, (gate, up))| {
        vectorised(
            #[inline(always)]
            || {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = gate * gelu_share(*gate) * up;
                }
            },
        );
    });
}

/// Gradients of [`geglu`] by `gate` and `up` from `dy`.
pub fn geglu_backward(dgate: &mut [f32], dup: &mut [f32], dy: &[f32], gate: &[f32], up: &[f32]) {
    let outputs = dgate.par_chunks_mut(VALUES).zip(dup.par_chunks_mut(VALUES));
    let inputs = gate.par_chunks(VALUES).zip(up.par_chunks(VALUES));
    let tasks = outputs.zip(dy.par_chunks(VALUES)).zip(inputs);
    tasks.for_each(|(((dgate, dup), dy), (gate, up))| {
        vectorised(
            #[inline(always)]
            || {
                let outputs = dgate.iter_mut().zip(dup).zip(dy);
                for (((dgate, dup), dy), (gate, up)) in outputs.zip(gate.iter().zip(up)) {
                    let s = gelu_share(*gate);
                    let slope = TWICE * (1.0 + 3.0 * CUBIC * gate * gate);
                    *dgate = dy * up * s * (1.0 + gate * (1.0 - s) * slope);
                    *dup = dy * gate * s;
                }
            },
        );
    });
}

/// y ← cap·tanh(y/cap).
pub fn softcap(y: &mut [f32], cap: f32) {
    y.par_chunks_mut(VALUES).for_each(|y| {
        vectorised(
            #[inline(always)]
            || {
                for y in y {
                    *y = cap * (2.0 * sigmoid(2.0 / cap * *y) - 1.0);
                }
            },
        );
    });
}

/// dy ← dy·(1 − (y/cap)²): the gradient of [`softcap`] by its input, from what it wrote.
pub fn softcap_backward(dy: &mut [f32], y: &[f32], cap: f32) {
    let tasks = dy.par_chunks_mut(VALUES).zip(y.par_chunks(VALUES));
    tasks.for_each(|(dy, y)| {
        vectorised(
            #[inline(always)]
            || {
                for (dy, y) in dy.iter_mut().zip(y) {
                    let share = y / cap;
                    *dy *= 1.0 - share * share;
                }
            },
        );
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

    #[test]
    fn gelu_and_softcap_are_their_definitions_and_their_gradients_the_slopes() {
        let gelu = |x: f64| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        };
        for x in [-30.0, -4.0, -1.3, -0.01, 0.0, 0.7, 2.0, 30.0f32] {
            let (mut y, up, h) = ([0.0; 1], 1.7f32, 1e-4);
            geglu(&mut y, &[x], &[up]);
            assert!(
                (f64::from(y[0]) - gelu(x.into()) * f64::from(up)).abs() < 1e-5,
                "{x}"
            );
            let (mut dgate, mut dup) = ([0.0; 1], [0.0; 1]);
            geglu_backward(&mut dgate, &mut dup, &[2.0], &[x], &[up]);
            let slope = (gelu(f64::from(x) + h) - gelu(f64::from(x) - h)) / (2.0 * h);
            assert!(
                (f64::from(dgate[0]) - 2.0 * slope * f64::from(up)).abs() < 1e-5,
                "{x}"
            );
            assert!(
                (f64::from(dup[0]) - 2.0 * gelu(x.into())).abs() < 1e-5,
                "{x}"
            );
            let (mut y, mut dy) = ([x], [3.0]);
            softcap(&mut y, 5.0);
            let wanted = 5.0 * (f64::from(x) / 5.0).tanh();
            assert!((f64::from(y[0]) - wanted).abs() < 1e-5, "{x}");
            softcap_backward(&mut dy, &y, 5.0);
            let slope = 1.0 - (wanted / 5.0).powi(2);
            assert!((f64::from(dy[0]) - 3.0 * slope).abs() < 1e-5, "{x}");
        }
    }
}
