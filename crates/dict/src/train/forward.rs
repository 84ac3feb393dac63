//! Reconstruction, loss, and the gradient of every activation of one batch.
//!
//! Everything about a row is done while its decoder rows are in cache: its errors e, the loss, ∂L/∂x̂, and ∂L/∂f of its
//! active features.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined into `vectorised` uses its instructions"
)]

use super::parameters::{Layout, Parameters};
use super::part::Part;
use super::settings::Distance;
use crate::codes::Codes;
use kernels::vector::{Body, add_scaled, dot, vectorised};
use kernels::{matmul_nn, matmul_nt};
use rayon::prelude::*;
use std::ops::Range;

/// Rows handled by one task: fixed, so that no sum depends on the number of threads.
pub(super) const ROWS: usize = 32;
/// Above this share of active entries the dense products are faster than the sparse loops.
const DENSE_SHARE: f64 = 0.125;

/// Whether so many codes are active that dense products are faster.
pub(super) fn is_dense(parts: &[Part], n_features: usize) -> bool {
    let [Part { codes, .. }] = parts else {
        return false;
    };
    codes.len() as f64 > DENSE_SHARE * (codes.n_rows() * n_features) as f64
}

/// What a batch is reconstructed with.
#[derive(Clone, Copy)]
pub(super) struct Forward<'a> {
    pub(super) parameters: &'a Parameters,
    pub(super) layout: &'a Layout,
    /// Normalised activations `[n_rows, d_total]`.
    pub(super) x: &'a [f32],
    pub(super) distance: Distance,
    /// Reconstructions that count: 1, or the nested dictionaries.
    pub(super) n_outputs: usize,
}

/// What a batch's errors amount to.
#[derive(Debug, Default)]
pub(super) struct Loss {
    /// Value of the reconstruction term.
    pub(super) value: f64,
    /// Σ over rows of ‖e^m‖² of each model, of the whole dictionary.
    pub(super) squared: Vec<f64>,
}

impl Forward<'_> {
    fn n_rows(&self) -> usize {
        self.x.len() / self.layout.d_total
    }

    /// Fills `gradient [n_rows, n_outputs, d_total]`: for output j, Σ over the outputs from j on of ∂L/∂x̂, which is what an
    /// entry of output j answers for. Fills the entries' gradients too, and `residual [n_rows, d_total]`, where it is wanted,
    /// with e = x̂ − x of the whole dictionary.
    pub(super) fn run(
        &self,
        parts: &mut [Part],
        gradient: &mut Vec<f32>,
        residual: Option<&mut Vec<f32>>,
    ) -> Loss {
        let d_total = self.layout.d_total;
        let stride = self.n_outputs * d_total;
        gradient.resize(self.n_rows() * stride, 0.0);
        let residuals = self.blocks_of(residual);
        let dense = is_dense(parts, self.parameters.encoder_bias.len());
        if dense {
            self.dense_product(&parts[0].codes, gradient);
        }
        let (views, blocks) = views(parts, self.n_rows());
        let tasks = gradient
            .par_chunks_mut(ROWS * stride)
            .zip(residuals)
            .zip(blocks)
            .enumerate();
        let losses: Vec<Loss> = tasks
            .map(|(block, ((gradient, residual), through))| {
                let rows = Rows {
                    start: block * ROWS,
                    gradient,
                    residual,
                    through,
                };
                vectorised(Block {
                    forward: self,
                    rows,
                    views: &views,
                    dense,
                })
            })
            .collect();
        if dense {
            self.dense_through(&mut parts[0], gradient);
        }
        total(&losses, self.layout.models.len())
    }

    /// Room for the residual of every block of rows, or nothing.
    fn blocks_of<'r>(&self, residual: Option<&'r mut Vec<f32>>) -> Vec<&'r mut [f32]> {
        let n_blocks = self.n_rows().div_ceil(ROWS);
        let Some(residual) = residual else {
            return std::iter::repeat_with(|| &mut [][..])
                .take(n_blocks)
                .collect();
        };
        residual.resize(self.x.len(), 0.0);
        residual.chunks_mut(ROWS * self.layout.d_total).collect()
    }

    /// One block of rows.
    #[inline(always)]
    fn block(&self, mut rows: Rows<'_>, views: &[View<'_>], dense: bool) -> Loss {
        let d_total = self.layout.d_total;
        let mut loss = Loss {
            value: 0.0,
            squared: vec![0.0; self.layout.models.len()],
        };
        let outputs = rows.gradient.chunks_mut(self.n_outputs * d_total);
        let mut done = vec![0; views.len()];
        let mut residuals = rows.residual.chunks_mut(d_total);
        for (place, outputs) in outputs.enumerate() {
            let row = rows.start + place;
            self.errors(row, outputs, views, dense);
            if let Some(residual) = residuals.next() {
                residual.copy_from_slice(&outputs[(self.n_outputs - 1) * d_total..]);
            }
            for (output, error) in outputs.chunks_mut(d_total).enumerate() {
                let last = output + 1 == self.n_outputs;
                loss.value += self.row_loss(error, last.then_some(&mut loss.squared));
            }
            add_later_outputs(outputs, d_total);
            if dense {
                continue;
            }
            for ((view, through), done) in views.iter().zip(&mut rows.through).zip(&mut done) {
                let output = &outputs[view.output * d_total..][view.part.clone()];
                for (feature, _) in view.codes.row(row) {
                    through[*done] =
                        dot(output, view.row(&self.parameters.decoder, feature, d_total));
                    *done += 1;
                }
            }
        }
        loss
    }

    /// e = x̂ − x of one row and every output `[n_outputs, d_total]`.
    #[inline(always)]
    fn errors(&self, row: usize, outputs: &mut [f32], views: &[View<'_>], dense: bool) {
        let d_total = self.layout.d_total;
        let x = &self.x[row * d_total..][..d_total];
        for output in 0..self.n_outputs {
            let (before, rest) = outputs.split_at_mut(output * d_total);
            let error = &mut rest[..d_total];
            if output > 0 {
                error.copy_from_slice(&before[(output - 1) * d_total..]);
            } else {
                for ((error, bias), x) in error.iter_mut().zip(&self.parameters.decoder_bias).zip(x)
                {
                    *error = if dense { *error } else { 0.0 } + (bias - x);
                }
            }
            for view in views.iter().filter(|view| view.output == output && !dense) {
                for (feature, activation) in view.codes.row(row) {
                    let direction = view.row(&self.parameters.decoder, feature, d_total);
                    add_scaled(&mut error[view.part.clone()], activation, direction);
                }
            }
        }
    }

    /// The share of one row of an output in the loss; its error becomes the gradient.
    #[inline(always)]
    fn row_loss(&self, error: &mut [f32], squared: Option<&mut Vec<f64>>) -> f64 {
        let n_rows = (self.n_rows() * self.n_outputs) as f64;
        let norm_share = 1.0 / (n_rows * self.layout.models.len() as f64);
        let mut value = 0.0;
        let mut lengths = squared.map(|squared| squared.iter_mut());
        for model in &self.layout.models {
            let error = &mut error[model.clone()];
            let length = f64::from(dot(error, error));
            if let Some(sum) = lengths.as_mut().and_then(Iterator::next) {
                *sum += length;
            }
            let (share, scale) = match self.distance {
                Distance::Norm => (
                    length.sqrt() * norm_share,
                    norm_share / length.sqrt().max(1e-12),
                ),
                Distance::Squared => (length / n_rows, 2.0 / n_rows),
            };
            value += share;
            let scale = scale as f32;
            for value in error {
                *value *= scale;
            }
        }
        value
    }

    /// codes·decoder by a dense product.
    fn dense_product(&self, codes: &Codes, out: &mut [f32]) {
        let n_features = self.parameters.encoder_bias.len();
        let shape = (codes.n_rows(), self.layout.d_total, n_features);
        matmul_nn(
            out,
            &codes.to_dense(n_features),
            &self.parameters.decoder,
            shape,
        );
    }

    /// ∂L/∂f of every entry by a dense product.
    fn dense_through(&self, part: &mut Part, gradient: &[f32]) {
        let n_features = self.parameters.encoder_bias.len();
        let n_rows = self.n_rows();
        let mut through = vec![0.0; n_rows * n_features];
        let shape = (n_rows, n_features, self.layout.d_total);
        matmul_nt(&mut through, gradient, &self.parameters.decoder, shape);
        let codes = &part.codes;
        for row in 0..n_rows {
            let entries = codes.starts[row]..codes.starts[row + 1];
            let picked = codes.features[entries.clone()].iter();
            let values = &through[row * n_features..(row + 1) * n_features];
            part.through[entries]
                .iter_mut()
                .zip(picked)
                .for_each(|(out, feature)| *out = values[*feature as usize]);
        }
    }
}

/// One block of rows, to be compiled for this machine.
struct Block<'a> {
    forward: &'a Forward<'a>,
    rows: Rows<'a>,
    views: &'a [View<'a>],
    dense: bool,
}

impl Body for Block<'_> {
    type Output = Loss;

    #[inline(always)]
    fn call(self) -> Loss {
        self.forward.block(self.rows, self.views, self.dense)
    }
}

/// What one task reads of a part.
struct View<'a> {
    codes: &'a Codes,
    /// Coordinates it reconstructs.
    part: Range<usize>,
    output: usize,
}

impl View<'_> {
    /// The part's coordinates of a feature's decoder row.
    #[inline(always)]
    fn row<'d>(&self, decoder: &'d [f32], feature: u32, d_total: usize) -> &'d [f32] {
        &decoder[feature as usize * d_total..][self.part.clone()]
    }
}

/// What one task writes.
struct Rows<'a> {
    start: usize,
    gradient: &'a mut [f32],
    /// Empty where nobody wants it.
    residual: &'a mut [f32],
    /// Gradients of the entries of these rows, by part.
    through: Vec<&'a mut [f32]>,
}

/// The parts to read, and for every block of rows what to write, by part.
fn views(parts: &mut [Part], n_rows: usize) -> (Vec<View<'_>>, Vec<Vec<&mut [f32]>>) {
    let mut views = Vec::new();
    let mut blocks: Vec<Vec<&mut [f32]>> = Vec::new();
    blocks.resize_with(n_rows.div_ceil(ROWS), Vec::new);
    for part in parts {
        let pieces = cut(&mut part.through, &part.codes.starts, ROWS);
        blocks
            .iter_mut()
            .zip(pieces)
            .for_each(|(block, piece)| block.push(piece));
        views.push(View {
            codes: &part.codes,
            part: part.range.clone(),
            output: part.output,
        });
    }
    (views, blocks)
}

/// Cuts the values of entries into those of each block of `rows` rows.
pub(super) fn cut<'a>(values: &'a mut [f32], starts: &[usize], rows: usize) -> Vec<&'a mut [f32]> {
    let n_rows = starts.len() - 1;
    let mut rest = values;
    let mut pieces = Vec::new();
    for start in (0..n_rows).step_by(rows) {
        let length = starts[n_rows.min(start + rows)] - starts[start];
        let (piece, others) = rest.split_at_mut(length);
        pieces.push(piece);
        rest = others;
    }
    pieces
}

/// Output j also answers for what the outputs after it get wrong.
#[inline(always)]
fn add_later_outputs(outputs: &mut [f32], d_total: usize) {
    for output in (1..outputs.len() / d_total).rev() {
        let (before, later) = outputs.split_at_mut(output * d_total);
        add_scaled(
            &mut before[(output - 1) * d_total..],
            1.0,
            &later[..d_total],
        );
    }
}

fn total(losses: &[Loss], n_models: usize) -> Loss {
    let mut total = Loss {
        value: 0.0,
        squared: vec![0.0; n_models],
    };
    for loss in losses {
        total.value += loss.value;
        let sums = total.squared.iter_mut().zip(&loss.squared);
        sums.for_each(|(sum, value)| *sum += value);
    }
    total
}

/// Sums of the first `d_total` columns of rows `stride` apart, in an order that does not depend on the threads.
pub(super) fn column_sums(rows: &[f32], d_total: usize, stride: usize) -> Vec<f64> {
    let part = |rows: &[f32]| {
        let mut sums = vec![0f64; d_total];
        vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(stride) {
                    sums.iter_mut()
                        .zip(row)
                        .for_each(|(sum, value)| *sum += f64::from(*value));
                }
            },
        );
        sums
    };
    let parts: Vec<Vec<f64>> = rows.par_chunks(ROWS * stride).map(part).collect();
    let mut total = vec![0f64; d_total];
    for part in parts {
        total
            .iter_mut()
            .zip(part)
            .for_each(|(sum, value)| *sum += value);
    }
    total
}

/// Σ over rows of ‖row^m − mean^m‖² of each model.
pub(super) fn spread(rows: &[f32], layout: &Layout) -> Vec<f64> {
    let n_rows = (rows.len() / layout.d_total) as f64;
    let mean: Vec<f32> = column_sums(rows, layout.d_total, layout.d_total)
        .iter()
        .map(|sum| (sum / n_rows) as f32)
        .collect();
    let part = |rows: &[f32]| -> Vec<f64> {
        let mut sums = vec![0f64; layout.models.len()];
        let mut centred = vec![0f32; layout.d_total];
        vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(layout.d_total) {
                    centred
                        .iter_mut()
                        .zip(row)
                        .zip(&mean)
                        .for_each(|((out, value), mean)| *out = value - mean);
                    for (model, sum) in layout.models.iter().zip(&mut sums) {
                        *sum += f64::from(dot(&centred[model.clone()], &centred[model.clone()]));
                    }
                }
            },
        );
        sums
    };
    let parts: Vec<Vec<f64>> = rows.par_chunks(ROWS * layout.d_total).map(part).collect();
    let mut total = vec![0.0; layout.models.len()];
    for part in parts {
        total
            .iter_mut()
            .zip(part)
            .for_each(|(sum, value)| *sum += value);
    }
    total
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    /// Errors are −x: no feature, no bias.
    fn run(x: &[f32], distance: Distance) -> (Loss, Vec<f32>) {
        let layout = Layout::new(&[2, 1]);
        let parameters = Parameters::zeros(1, 3);
        let forward = Forward {
            parameters: &parameters,
            layout: &layout,
            x,
            distance,
            n_outputs: 1,
        };
        let mut gradient = Vec::new();
        let loss = forward.run(&mut [], &mut gradient, None);
        (loss, gradient)
    }

    #[test]
    fn the_loss_and_its_gradient_follow_their_definitions() {
        let x = [-3.0, -4.0, 2.0];
        let (loss, gradient) = run(&x, Distance::Norm);
        assert!((loss.value - 3.5).abs() < 1e-6);
        assert_eq!(loss.squared, [25.0, 4.0]);
        assert_eq!(gradient, [0.3, 0.4, -0.5]);
        let (loss, gradient) = run(&x, Distance::Squared);
        assert_eq!(loss.value, 29.0);
        assert_eq!(gradient, [6.0, 8.0, -4.0]);
    }

    #[test]
    fn spread_is_taken_around_the_mean() {
        let layout = Layout::new(&[1, 1]);
        assert_eq!(spread(&[1.0, 5.0, 3.0, 5.0], &layout), [2.0, 0.0]);
    }
}
