//! Soft caps: cap·tanh(x/cap).

use super::{copied, on_slices, tensor};
use candle_core::{Result, Tensor};

/// y = cap·tanh(x/cap), of any shape.
pub fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    let fast = on_slices([x], |[x]| {
        let mut y = copied(x);
        kernels::activation::softcap(&mut y, cap as f32);
        y
    });
    match fast {
        Some(y) => tensor(y, x.dims(), x),
        None => (x / cap)?.tanh()? * cap,
    }
}

/// Gradient by x from the gradient by y and y itself: dy·(1 − (y/cap)²).
pub fn softcap_backward(dy: &Tensor, y: &Tensor, cap: f64) -> Result<Tensor> {
    let fast = on_slices([dy, y], |[dy, y]| {
        let mut dx = copied(dy);
        kernels::activation::softcap_backward(&mut dx, y, cap as f32);
        dx
    });
    match fast {
        Some(dx) => tensor(dx, dy.dims(), dy),
        None => dy * (1.0 - (y / cap)?.sqr()?)?,
    }
}
