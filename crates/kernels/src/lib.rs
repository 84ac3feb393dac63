//! Hand-written CPU code: slices in, slices out, `f32`, row-major.
//!
//! # Layout
//! - [`mod@matmul`]: dense products over strided views (the `gemm` crate behind a safe face)
//! - [`mod@linear`]: linear layers over weights in `f32`, `bf16` or 8-bit integers, and their reverse
//! - [`isa`], [`peak`]: what this machine can do
//! - [`norm`]: RMS normalisation and its reverse
//! - [`rope`]: rotary position embedding and its reverse
//! - [`mod@attention`]: causal, sliding-window and padded attention over a key/value cache, and its reverse
//! - [`activation`]: the gated MLP nonlinearity and its reverse
//! - `elementwise`: sums of activations
//! - [`edges`]: heads expanded to the residual's width, long rows times long rows
//! - [`loss`]: cross-entropy with its gradient in one pass
//! - [`adam`]: the optimizer step
//! - [`sparse`]: products with sparse codes, the search for what is largest, the optimizer on the rows they touch
//! - [`vector`]: dot products, exponentials: what the rest is made of
//!
//! Every function is deterministic whatever the number of threads: work is cut by rows, never by what is summed.
//! The vector instructions are chosen at run time (`pulp`); the same source is the scalar fallback.

#![expect(
    clippy::inline_always,
    reason = "a loop is compiled for wide vectors only where it is inlined into `vectorised`"
)]
#![cfg_attr(
    test,
    expect(clippy::float_cmp, reason = "these sums are exact in f32")
)]

pub mod activation;
pub mod adam;
pub mod attention;
pub mod edges;
pub mod elementwise;
pub mod isa;
pub mod linear;
pub mod loss;
pub mod matmul;
pub mod norm;
pub mod peak;
pub mod rope;
pub mod sparse;
pub mod vector;

pub use attention::{Attention, KeyGradients, attention, attention_backward};
pub use linear::{Int8Matrix, Matrix, Precision};
pub use matmul::{View, ViewMut, matmul, matmul_nn, matmul_nt, matmul_tn};
