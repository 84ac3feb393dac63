//! What a machine with matrix tiles offers, and its portable twin.

use super::step::{BLOCK, DEPTH, Lines, Step, TILE};
use half::bf16;

/// Sums of a block `[token, output]`.
#[derive(Debug, Clone, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Sums(pub(super) [[f32; BLOCK]; BLOCK]);

impl Sums {
    pub(super) const ZERO: Self = Self([[0.0; BLOCK]; BLOCK]);
}

/// Products of a block of tokens with a block of outputs.
pub(crate) trait Tiles: Copy + Send + Sync {
    /// A thread's tiles, set up until this is dropped.
    type Ready;

    /// Sets up the tiles of this thread.
    fn ready(self) -> Self::Ready;

    /// sums ← x·w over steps of `X` parts of activations and `W` parts of a weight, the high part first.
    ///
    /// Of every step come low·high, high·high and high·low in this order, as far as there are such parts.
    ///
    /// # Panics
    /// When there is no step, or another number of them on either side.
    fn multiply<const X: usize, const W: usize>(
        ready: &mut Self::Ready,
        x: &[Step],
        w: &[Step],
        sums: &mut Sums,
    );

    /// Rows of a weight as a tile: pairs of values outside, outputs inside.
    fn turn(self, lines: &Lines, tile: &mut [bf16; TILE * DEPTH]) {
        for (output, line) in lines.iter().enumerate() {
            for (pair, values) in line.as_chunks::<2>().0.iter().enumerate() {
                tile[pair * DEPTH + 2 * output..][..2].copy_from_slice(values);
            }
        }
    }
}

/// How many steps there are.
pub(super) fn steps<const X: usize, const W: usize>(x: &[Step], w: &[Step]) -> usize {
    let steps = x.len() / X;
    assert!(
        steps > 0 && x.len() == steps * X && w.len() == steps * W,
        "as many steps of activations as of the weight"
    );
    steps
}

/// Tiles on any machine, by the definition of the instruction.
#[cfg(any(test, target_arch = "x86_64"))]
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

#[cfg(any(test, target_arch = "x86_64"))]
impl Tiles for Portable {
    type Ready = ();

    fn ready(self) -> Self::Ready {}

    fn multiply<const X: usize, const W: usize>(
        (): &mut Self::Ready,
        x: &[Step],
        w: &[Step],
        sums: &mut Sums,
    ) {
        steps::<X, W>(x, w);
        *sums = Sums::ZERO;
        for (x, w) in x.chunks_exact(X).zip(w.chunks_exact(W)) {
            if X == 2 {
                add(sums, &x[1], &w[0]);
            }
            add(sums, &x[0], &w[0]);
            if W == 2 {
                add(sums, &x[0], &w[1]);
            }
        }
    }
}

/// Adds the products of one part with one part: values of even and of odd number apart, then together.
#[cfg(any(test, target_arch = "x86_64"))]
fn add(sums: &mut Sums, x: &Step, w: &Step) {
    for (token, sums) in sums.0.iter_mut().enumerate() {
        let x = &x.0[token / TILE][token % TILE * DEPTH..][..DEPTH];
        for (output, sum) in sums.iter_mut().enumerate() {
            let w = &w.0[output / TILE];
            let half = |odd: usize| {
                (0..TILE).fold(0f32, |sum, pair| {
                    let w = w[pair * DEPTH + output % TILE * 2 + odd];
                    x[2 * pair + odd].to_f32().mul_add(w.to_f32(), sum)
                })
            };
            *sum += half(0) + half(1);
        }
    }
}
