//! Linear layers over weights as they lie in memory: y = x·wᵀ, and dx = dy·w.
//!
//! # Numbers
//! A weight is row-major `[d_out, d_in]` in `f32`, `bf16` or 8-bit integers with a factor per row (`Matrix`); activations
//! are `f32`. `Precision` says what is multiplied; sums are always `f32`.
//!
//! # One order of summation
//! Every value of the result is the sum over chunks of the contraction, in order, each summed value by value from nought
//! (pair by pair with products of pairs). The order depends on neither the other rows, nor their number, nor the threads: a
//! token's activation has the same bits alone and in any batch, while it is a prompt and while it is decoded. Tiles have
//! an order of their own, of which the same is true.
//!
//! # Layout
//! - `unit`: what an instruction set must offer, and the portable form of it: the twin of the others
//! - `avx512`: the same with AVX-512, of `f32` and of `bf16` pairs; the `unsafe` code
//! - `pack`: weights and activations in the form that units read
//! - `direct`: loops and tasks around a unit for few rows of activations
//! - `blocked`: the same for many
//! - `tiled`: the same for machines with matrix tiles, with factors of one or two `bf16` parts
//! - `shared`: a result that several tasks write

mod blocked;
mod direct;
pub mod int8;
pub(crate) mod pack;
mod shared;
mod stored;
pub(crate) mod tiled;
pub(crate) mod unit;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(test)]
mod tests;

use crate::isa::Isa;
use half::bf16;

pub use int8::Int8Matrix;

/// What is multiplied; sums are `f32` in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// `f32` by `f32`.
    #[default]
    F32,
    /// As accurate as `f32` to 16 bits: products of two `bf16` parts where the machine has matrix tiles that make
    /// them faster than `f32`, and `f32` itself elsewhere.
    Bf16x3,
    /// Both factors rounded to `bf16`, 8 bits. `f32` on machines without such products.
    Bf16,
}

/// A weight `[rows, columns]`, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
    /// Integers from −127 to 127 and each row's factor, `[rows]`.
    Int8(&'a [i8], &'a [f32]),
}

impl Matrix<'_> {
    /// Values in it.
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::Int8(values, _) => values.len(),
        }
    }
}

/// One linear layer.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// `[d_out, d_in]`
    pub weight: Matrix<'a>,
    /// `[d_out]`
    pub bias: Option<&'a [f32]>,
}

/// Results `[tokens, width]` of the layers that read one input.
pub type Outputs<'a, 'b> = &'a mut [&'b mut [f32]];

/// ys ← x·wᵀ + b for every layer: `x [tokens, d_in]` → `[tokens, d_out]`.
///
/// # Panics
/// When a slice has another length than its shape.
pub fn linear(
    ys: Outputs<'_, '_>,
    x: &[f32],
    d_in: usize,
    layers: &[Layer<'_>],
    precision: Precision,
) {
    let tokens = x.len() / d_in;
    for (y, layer) in ys.iter().zip(layers) {
        let d_out = layer.weight.len() / d_in;
        assert_eq!(layer.weight.len(), d_out * d_in, "a weight of whole rows");
        assert_eq!(y.len(), tokens * d_out, "a result of [tokens, d_out]");
        assert!(
            layer.bias.is_none_or(|bias| bias.len() == d_out),
            "a bias of [d_out]"
        );
    }
    dispatch(ys, (x, d_in), layers, precision, pack::Side::Rows);
}

/// dx ← dy·w: `dy [tokens, d_out]`, `w [d_out, d_in]` → `[tokens, d_in]`.
///
/// # Panics
/// When a slice has another length than its shape.
pub fn linear_backward(
    dx: &mut [f32],
    dy: &[f32],
    d_out: usize,
    weight: Matrix<'_>,
    precision: Precision,
) {
    let (tokens, d_in) = (dy.len() / d_out, weight.len() / d_out);
    assert_eq!(weight.len(), d_out * d_in, "a weight of whole rows");
    assert_eq!(dx.len(), tokens * d_in, "a gradient of [tokens, d_in]");
    let layer = Layer { weight, bias: None };
    dispatch(
        &mut [dx],
        (dy, d_out),
        &[layer],
        precision,
        pack::Side::Columns,
    );
}

/// Chooses the unit: from the precision asked for and the machine.
fn dispatch(
    ys: Outputs<'_, '_>,
    (x, width): (&[f32], usize),
    layers: &[Layer<'_>],
    precision: Precision,
    side: pack::Side,
) {
    #[cfg(target_arch = "x86_64")]
    {
        match (precision, tiled::amx::Amx::new()) {
            (Precision::Bf16, Some(unit)) => {
                return tiled::run::<_, 1>(unit, ys, (x, width), layers, side);
            }
            (Precision::Bf16x3, Some(unit)) => {
                return tiled::run::<_, 2>(unit, ys, (x, width), layers, side);
            }
            _ => {}
        }
        if let (Precision::Bf16, Some(unit)) = (precision, avx512::Bf16Pairs::new()) {
            return by_unit(unit, ys, (x, width), layers, side);
        }
        if let Some(unit) = avx512::F32::new() {
            return by_unit(unit, ys, (x, width), layers, side);
        }
    }
    let _ = (precision, Isa::detected());
    by_unit(unit::Portable, ys, (x, width), layers, side);
}

/// Chooses the loops: from the number of rows.
fn by_unit<U: unit::Unit>(
    unit: U,
    ys: Outputs<'_, '_>,
    (x, width): (&[f32], usize),
    layers: &[Layer<'_>],
    side: pack::Side,
) {
    if direct::takes::<U>(x.len() / width, width, side) {
        direct::run(unit, ys, (x, width), layers);
    } else {
        blocked::run(unit, ys, (x, width), layers, side);
    }
}
