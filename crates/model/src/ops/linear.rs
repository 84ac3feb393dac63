//! Linear layers: y = x·wᵀ + b.

use super::{on_slices, tensor};
use candle_core::{Result, Tensor};

/// `x [tokens, d_in]`, `weight [d_out, d_in]`, `bias [d_out]` → `[tokens, d_out]`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (tokens, d_in) = x.dims2()?;
    let d_out = weight.dim(0)?;
    // Without a bias the weight stands in for it, unread.
    let fast = on_slices(
        [x, weight, bias.unwrap_or(weight)],
        |[x, weight, offset]| {
            let mut y = vec![0.0; tokens * d_out];
            kernels::matmul_nt(&mut y, x, weight, (tokens, d_out, d_in));
            if bias.is_some() {
                kernels::elementwise::add_bias(&mut y, offset);
            }
            y
        },
    );
    if let Some(y) = fast {
        return tensor(y, &[tokens, d_out], x);
    }
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// Gradient by the input: `dy [tokens, d_out]` → `[tokens, d_in]`.
pub fn linear_backward(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (tokens, d_out) = dy.dims2()?;
    let d_in = weight.dim(1)?;
    let fast = on_slices([dy, weight], |[dy, weight]| {
        let mut dx = vec![0.0; tokens * d_in];
        kernels::matmul_nn(&mut dx, dy, weight, (tokens, d_in, d_out));
        dx
    });
    match fast {
        Some(dx) => tensor(dx, &[tokens, d_in], dy),
        None => dy.matmul(weight),
    }
}

/// Gradient by the weight: `dy [tokens, d_out]`, `x [tokens, d_in]` → `[d_out, d_in]`.
pub fn weight_gradient(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (tokens, d_out) = dy.dims2()?;
    let d_in = x.dim(1)?;
    let fast = on_slices([dy, x], |[dy, x]| {
        let mut dw = vec![0.0; d_out * d_in];
        kernels::matmul_tn(&mut dw, dy, x, (d_out, d_in, tokens));
        dw
    });
    match fast {
        Some(dw) => tensor(dw, &[d_out, d_in], dy),
        None => dy.t()?.matmul(x),
    }
}

/// Gradient by the bias: `dy [tokens, d_out]` → `[d_out]`.
pub fn bias_gradient(dy: &Tensor) -> Result<Tensor> {
    let d_out = dy.dim(1)?;
    let fast = on_slices([dy], |[dy]| {
        let mut sums = vec![0.0; d_out];
        kernels::elementwise::sum_rows(&mut sums, dy);
        sums
    });
    match fast {
        Some(sums) => tensor(sums, &[d_out], dy),
        None => dy.sum(0),
    }
}
