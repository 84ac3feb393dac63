//! The operators of both passes.
//!
//! Each has one plain form in candle operators, for every device and dtype, and one in `kernels`, taken for `f32` on
//! the CPU. Candle's own fused softmax, RMS norm and rope have no gradient and do not say so; none is used here.

mod attention;
mod geglu;
mod head;
mod linear;
mod mlp;
mod norm;
mod rope;
mod rounded;
mod softcap;

pub use attention::{AttentionShape, attention, attention_backward};
pub use geglu::{geglu, geglu_backward, gelu_share};
pub use head::token_losses;
pub use linear::{
    bias_gradient, embedding, int8, linear, linear_backward, linears, weight_backward,
    weight_gradient,
};
pub use mlp::{swiglu, swiglu_backward};
pub use norm::{Normed, rms_norm, rms_norm_again, rms_norm_backward, rms_norm_gamma_gradient};
pub use rope::{Rope, rope};
pub use rounded::{rounded, widened};
pub use softcap::{softcap, softcap_backward};

use candle_core::{CpuStorage, DType, Result, Storage, Tensor};
use rayon::prelude::*;

/// Values from which on room is made by all threads.
const LARGE: usize = 1 << 17;

pub use kernels::rope::Turn;

/// Shows tensors as slices when all are contiguous `f32` on the CPU; `None` sends the caller to the plain form.
fn on_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    body: impl FnOnce([&[f32]; N]) -> R,
) -> Option<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let (start, end) = layout.contiguous_offsets()?;
        *slice = &values_of(storage)?[start..end];
    }
    Some(body(slices))
}

/// Values of a storage in `f32` on the CPU; asked for by type, another would cost an error with its backtrace.
fn values_of(storage: &Storage) -> Option<&[f32]> {
    match storage {
        Storage::Cpu(CpuStorage::F32(values)) => Some(values),
        _ => None,
    }
}

/// a + b, of one shape.
///
/// Candle's own sum keeps its threads spinning between calls.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let fast = on_slices([a, b], |[a, b]| {
        let mut sum = copied(a);
        kernels::elementwise::add(&mut sum, b);
        sum
    });
    match fast {
        Some(sum) => tensor(sum, a.dims(), a),
        None => a + b,
    }
}

/// a − b, of one shape.
pub fn subtract(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let fast = on_slices([a, b], |[a, b]| {
        let mut difference = copied(a);
        kernels::elementwise::subtract(&mut difference, b);
        difference
    });
    match fast {
        Some(difference) => tensor(difference, a.dims(), a),
        None => a - b,
    }
}

/// Some rows of a matrix, in any order: `x [rows, width]` → `[numbers, width]`.
pub fn select_rows(x: &Tensor, numbers: &[u32]) -> Result<Tensor> {
    let width = x.dim(1)?;
    let fast = on_slices([x], |[x]| {
        let mut y = zeros(numbers.len() * width);
        let rows = y.par_chunks_mut(width).zip(numbers).with_min_len(64);
        rows.for_each(|(to, from)| {
            to.copy_from_slice(&x[*from as usize * width..][..width]);
        });
        y
    });
    match fast {
        Some(y) => tensor(y, &[numbers.len(), width], x),
        None => x.index_select(&Tensor::new(numbers, x.device())?, 0),
    }
}

/// Rows times a factor each: `x [rows, width]`, `scale [rows, 1]`.
pub fn scale_rows(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let fast = on_slices([x, scale], |[x, scale]| {
        let mut y = copied(x);
        kernels::elementwise::scale_rows(&mut y, scale);
        y
    });
    match fast {
        Some(y) => tensor(y, x.dims(), x),
        None => x.broadcast_mul(scale),
    }
}

/// Dot products head by head: `a [tokens, own * d_head]`, `b [tokens, n * d_head]` → `[tokens, n]`; n/own heads of b share
/// one of a.
pub fn head_dots(a: &Tensor, b: &Tensor, d_head: usize) -> Result<Tensor> {
    let (tokens, own, n) = (b.dim(0)?, a.dim(1)? / d_head, b.dim(1)? / d_head);
    let fast = on_slices([a, b], |[a, b]| {
        kernels::elementwise::head_dots(a, b, (own, n, d_head))
    });
    if let Some(dots) = fast {
        return tensor(dots, &[tokens, n], b);
    }
    let apart = a.reshape((tokens, own, 1, d_head))?;
    let b = b.reshape((tokens, own, n / own, d_head))?;
    b.broadcast_mul(&apart)?.sum(3)?.reshape((tokens, n))
}

/// Sums over the heads that share one: `x [tokens, n * d_head]` → `[tokens, own * d_head]`.
pub fn sum_heads(x: &Tensor, own: usize, d_head: usize) -> Result<Tensor> {
    let (tokens, n) = (x.dim(0)?, x.dim(1)? / d_head);
    if n == own {
        return Ok(x.clone());
    }
    let fast = on_slices([x], |[x]| {
        kernels::elementwise::sum_heads(x, (own, n, d_head))
    });
    match fast {
        Some(sums) => tensor(sums, &[tokens, own * d_head], x),
        None => x
            .reshape((tokens, own, (), d_head))?
            .sum(2)?
            .reshape((tokens, own * d_head)),
    }
}

/// Σ x² in f64.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    match on_slices([x], |[x]| kernels::elementwise::sum_of_squares(x)) {
        Some(sum) => Ok(sum),
        None => x
            .flatten_all()?
            .to_dtype(DType::F64)?
            .sqr()?
            .sum_all()?
            .to_scalar(),
    }
}

/// Shows the values of a tensor in order, as `f32`; where they lie so on the CPU, without a copy.
pub(crate) fn on_values<R>(x: &Tensor, body: impl FnOnce(&[f32]) -> R) -> Result<R> {
    {
        let (storage, layout) = x.storage_and_layout();
        if let Some((start, end)) = layout.contiguous_offsets()
            && let Some(values) = values_of(&storage)
        {
            return Ok(body(&values[start..end]));
        }
    }
    let values = x.to_dtype(DType::F32)?.flatten_all()?;
    Ok(body(&values.to_vec1::<f32>()?))
}

/// Room for a result. Pages that are touched for the first time are slow, so of much room all threads touch some.
fn zeros(n: usize) -> Vec<f32> {
    if n < LARGE {
        return vec![0.0; n];
    }
    let values = (0..n).into_par_iter().with_min_len(LARGE / 4);
    values.map(|_| 0.0).collect()
}

/// A copy, made as [`zeros`] are.
fn copied(x: &[f32]) -> Vec<f32> {
    if x.len() < LARGE {
        return x.to_vec();
    }
    let values = x.par_iter().with_min_len(LARGE / 4);
    values.copied().collect()
}

/// A tensor on the CPU from what a kernel wrote.
fn tensor(values: Vec<f32>, shape: &[usize], like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, shape, like.device())
}
