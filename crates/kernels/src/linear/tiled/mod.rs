//! Linear layers by matrix tiles: both factors cut into `bf16` parts, whose products are summed in `f32`.
//!
//! With one part each this is [`Precision::Bf16`](super::Precision::Bf16). With two, x = high + low to 16 bits, and
//! low·high + high·high + high·low is [`Precision::Bf16x3`](super::Precision::Bf16x3); what is missing, low·low, lies
//! below the last bit kept. A weight in `bf16` or in integers is its own high part, and the third product falls away.
//!
//! # One order of summation
//! A value of the result is summed along the contraction in steps of [`DEPTH`], chunk after chunk, by the same
//! instructions whatever the number of tokens: few tokens fill a block with zeros.
//!
//! # Layout
//! - `step`: numbers cut into parts, in the order that tiles read them
//! - `unit`: what a machine with tiles offers, and its portable twin
//! - `amx`: the same with AMX; the `unsafe` code

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
mod step;
#[cfg(test)]
pub(super) mod tests;
mod unit;

use super::pack::{Side, Source};
use super::shared::{Shared, finish};
use super::stored::Stored;
use super::{Layer, Matrix, Outputs};
use rayon::prelude::*;
use std::ops::Range;
use step::{BLOCK, DEPTH, Step};
use unit::{Sums, Tiles};

/// Steps of a chunk of the contraction, all parts of the activations counted: the second-level cache holds a task's
/// panels of one chunk.
const CHUNK: usize = 64;
/// Columns of a result that one task writes at most.
const COLUMNS: usize = 8 * BLOCK;

/// ys ← x·wᵀ + b of every layer, or the product with w on the other side, with activations of `X` parts.
pub(super) fn run<U: Tiles, const X: usize>(
    unit: U,
    ys: Outputs<'_, '_>,
    (x, width): (&[f32], usize),
    layers: &[Layer<'_>],
    side: Side,
) {
    let tokens = x.len() / width;
    if tokens == 0 {
        return;
    }
    let steps = step::activations::<X>(x, width);
    let x = steps.as_slice();
    let products: Vec<_> = ys
        .iter_mut()
        .zip(layers)
        .flat_map(|(y, layer)| {
            let outputs = y.len() / tokens;
            let shared = Shared::new(y, outputs);
            let product = move |columns| Product::<'_, U, X> {
                unit,
                x,
                tokens,
                width,
                y: shared,
                layer: *layer,
                columns,
            };
            tasks(outputs).map(product)
        })
        .collect();
    products.par_iter().for_each(|product| product.run(side));
}

/// Columns of a result in parts: several for every thread, but not so small that activations are read for little.
fn tasks(outputs: usize) -> impl Iterator<Item = Range<usize>> {
    let blocks = outputs.div_ceil(4 * rayon::current_num_threads() * BLOCK);
    let columns = (blocks * BLOCK).clamp(BLOCK, COLUMNS);
    (0..outputs)
        .step_by(columns)
        .map(move |start| start..(start + columns).min(outputs))
}

/// One task: some columns of the result of one layer.
struct Product<'a, U, const X: usize> {
    unit: U,
    /// See [`step::activations`].
    x: &'a [Step],
    tokens: usize,
    /// Length of the contraction.
    width: usize,
    y: Shared<'a>,
    layer: Layer<'a>,
    columns: Range<usize>,
}

impl<U: Tiles, const X: usize> Product<'_, U, X> {
    fn run(&self, side: Side) {
        match self.layer.weight {
            Matrix::F32(values) => self.stored(&self.source(values, None, side)),
            Matrix::Bf16(values) => self.stored(&self.source(values, None, side)),
            Matrix::Int8(values, scales) => {
                self.stored(&self.source(values, Some(scales), side));
            }
        }
    }

    fn source<'s, T: Stored>(
        &self,
        values: &'s [T],
        scales: Option<&'s [f32]>,
        side: Side,
    ) -> Source<'s, T> {
        Source {
            values,
            scales,
            outputs: self.y.width,
            width: self.width,
            side,
        }
    }

    /// Chooses the parts of the weight.
    fn stored<T: Stored>(&self, source: &Source<'_, T>) {
        let scaled = source.scales.is_some() && source.side == Side::Columns;
        if X == 1 || (T::FITS_BF16 && !scaled) {
            self.multiply::<T, 1>(source);
        } else {
            self.multiply::<T, 2>(source);
        }
    }

    fn multiply<T: Stored, const W: usize>(&self, source: &Source<'_, T>) {
        let (steps, chunk) = (self.width.div_ceil(DEPTH), CHUNK / X);
        let panels = self.columns.len().div_ceil(BLOCK);
        let mut packed = vec![Step::ZERO; panels * chunk.min(steps) * W];
        let mut sums = Sums::ZERO;
        let mut ready = self.unit.ready();
        for start in (0..steps).step_by(chunk) {
            let part = start..(start + chunk).min(steps);
            let panel = part.len() * W;
            let firsts = self.columns.clone().step_by(BLOCK);
            for (first, panel) in firsts.clone().zip(packed.chunks_exact_mut(panel)) {
                step::weights::<U, T, W>(self.unit, source, first, part.start, panel);
            }
            for token in (0..self.tokens).step_by(BLOCK) {
                let x = &self.x[(token / BLOCK * steps + part.start) * X..][..part.len() * X];
                for (first, panel) in firsts.clone().zip(packed.chunks_exact(panel)) {
                    U::multiply::<X, W>(&mut ready, x, panel, &mut sums);
                    self.add(source, (token, first), &part, &sums);
                }
            }
        }
    }

    /// Adds the sums of a chunk to the result; after the last chunk come factor and bias.
    fn add<T>(
        &self,
        source: &Source<'_, T>,
        (token, first): (usize, usize),
        part: &Range<usize>,
        sums: &Sums,
    ) {
        let columns = first..(first + BLOCK).min(self.columns.end);
        let last = part.end * DEPTH >= self.width;
        let scales = source.scales.filter(|_| source.side == Side::Rows);
        for (row, sums) in (token..self.tokens).zip(&sums.0) {
            #[expect(unsafe_code, reason = "see `Shared`")]
            // SAFETY: the result has `tokens` rows, of which this is one, and these columns are this task's alone.
            let y = unsafe { self.y.part(row, columns.clone()) };
            if part.start == 0 {
                y.copy_from_slice(&sums[..y.len()]);
            } else {
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum);
            }
            if last {
                finish(y, &columns, scales, self.layer.bias);
            }
        }
    }
}
