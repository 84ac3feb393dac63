//! Gradients of one batch, derived by hand.
//!
//! With `g = ∂L/∂x̂` and `df = ∂L/∂f` of every entry (row, feature) that was kept, both from the forward pass,
//!
//! ```text
//! ∂L/∂d_k^m = Σ_rows f·g^m + ∂L/∂w_k · ∂w_k/∂d_k^m     ∂L/∂W_k = Σ_rows df·x     ∂L/∂b_k = Σ_rows df
//! ```
//!
//! Which features were kept is held constant, as everywhere in the literature. The gradients of encoder and decoder are
//! never held as matrices: [`Gradients`] knows what they are summed from, and the kernels sum them where they are needed,
//! row by row. Rows of features that did not fire are never touched.

use super::forward::{column_sums, is_dense};
use super::parameters::{Layout, Parameters};
use super::part::{Columns, Part};
use super::partition::Partition;
use super::sources::{Rows, Tied};
use crate::rule::CodeNormalization;
use kernels::matmul_tn;
use kernels::sparse::{Gradient, Source, Sparse, Term};
use std::ops::Range;
use std::sync::Arc;

/// What the gradients are computed from.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a> {
    pub(super) n_features: usize,
    pub(super) layout: &'a Layout,
    pub(super) partition: Partition<'a>,
    /// Normalised activations `[n_rows, d_total]`.
    pub(super) x: &'a [f32],
    /// What the forward pass left: `[n_rows, n_outputs, d_total]`.
    pub(super) output: &'a [f32],
    pub(super) n_outputs: usize,
    /// ∂L/∂w of each feature, by part; empty without a penalty.
    pub(super) by_weight: &'a [Vec<f32>],
    pub(super) normalization: &'a CodeNormalization,
    /// `‖d_k^m‖₂` `[n_features, n_models]`.
    pub(super) norms: &'a [f32],
}

/// Dead features that reconstruct a residual, and the gradient of their reconstruction `[n_rows, d_total]`.
pub(super) type Revival<'a> = Option<(&'a Part, &'a [f32])>;

/// Gradients of all parameters; those of encoder and decoder are summed when they are asked for.
pub(super) struct Gradients<'a> {
    layout: &'a Layout,
    encoder: Vec<Sum<'a>>,
    decoder: Vec<Sum<'a>>,
    /// Factor of the decoder's own rows in its gradient `[n_features, n_models]`; empty without a penalty on their norms.
    pulls: Vec<f32>,
    /// Whether a mask holds a model's part of a row at 0 `[n_features, n_models]`; empty without masks.
    outside: Vec<bool>,
    /// How often a decoder row's square counts: a tied one is one row for all models. `None`: once.
    share: Option<Vec<f32>>,
    /// `[n_features]`.
    pub(super) encoder_bias: Vec<f32>,
    /// `[d_total]`.
    pub(super) decoder_bias: Vec<f32>,
    /// `[n_features]`; empty without thresholds.
    pub(super) thresholds: Vec<f32>,
    /// Features with a gradient `[n_features]`.
    pub(super) touched: Vec<bool>,
}

/// entriesᵀ·source.
struct Sum<'a> {
    columns: Arc<Columns>,
    values: fn(&Columns) -> &[f32],
    source: Box<dyn Source + 'a>,
}

impl<'a> Backward<'a> {
    /// Gradients of everything but thresholds.
    pub(super) fn run(&self, parts: &[Part], revival: Revival<'a>) -> Gradients<'a> {
        let (n_features, d_total) = (self.n_features, self.layout.d_total);
        let sums = column_sums(self.output, d_total, self.n_outputs * d_total);
        let mut out = Gradients {
            layout: self.layout,
            encoder: Vec::new(),
            decoder: Vec::new(),
            pulls: self.pulls(),
            outside: self.outside(),
            share: self.share(),
            encoder_bias: vec![0.0; n_features],
            decoder_bias: sums.into_iter().map(|sum| sum as f32).collect(),
            thresholds: Vec::new(),
            touched: vec![false; n_features],
        };
        if is_dense(parts, n_features) && revival.is_none() {
            self.dense(&parts[0], &mut out);
            return out;
        }
        for part in parts {
            let start = part.output * d_total;
            let output = Rows {
                values: self.output[start..].into(),
                stride: self.n_outputs * d_total,
                reach: part.range.clone(),
            };
            self.sparse(part, output, &mut out);
        }
        if let Some((part, output)) = revival {
            self.sparse(part, Rows::whole(output, d_total), &mut out);
        }
        out
    }

    /// Adds the sums over one part's entries.
    fn sparse(&self, part: &Part, output: Rows<'a>, out: &mut Gradients<'a>) {
        let columns = Columns::of(part, self.n_features);
        out.note(&columns);
        if !self.partition.is_tied() {
            return self.add(columns, Box::new(output), out);
        }
        let tied = self.partition.tied(self.n_features);
        let all = self.layout;
        let folded = Tied {
            rows: output.clone(),
            width: all.models[0].len(),
            n_models: all.models.len(),
        };
        self.add(
            columns.kept(|feature| !tied[feature]),
            Box::new(output),
            out,
        );
        self.add(columns.kept(|feature| tied[feature]), Box::new(folded), out);
    }

    fn add(&self, columns: Columns, output: Box<dyn Source + 'a>, out: &mut Gradients<'a>) {
        let columns = Arc::new(columns);
        out.decoder.push(Sum {
            columns: Arc::clone(&columns),
            values: |columns| &columns.activations,
            source: output,
        });
        out.encoder.push(Sum {
            columns,
            values: |columns| &columns.through,
            source: Box::new(Rows::whole(self.x, self.layout.d_total)),
        });
    }

    /// The same sums by dense products, for codes that are not sparse yet: one term that says every row as it is.
    fn dense(&self, part: &Part, out: &mut Gradients<'a>) {
        let (n_features, d_total) = (self.n_features, self.layout.d_total);
        out.note(&Columns::of(part, n_features));
        let shape = (n_features, d_total, part.codes.n_rows());
        let product = |codes: Vec<f32>, rows: &[f32]| {
            let mut product = vec![0.0; n_features * d_total];
            matmul_tn(&mut product, &codes, rows, shape);
            product
        };
        let mut decoder = product(part.codes.to_dense(n_features), self.output);
        let encoder = product(part.dense_through(n_features), self.x);
        for (feature, tied) in self.partition.tied(n_features).into_iter().enumerate() {
            if tied {
                Partition::tie(&mut decoder[feature * d_total..][..d_total], self.layout);
            }
        }
        let columns = Arc::new(Columns::identity(n_features));
        for (sums, rows) in [(&mut out.encoder, encoder), (&mut out.decoder, decoder)] {
            sums.push(Sum {
                columns: Arc::clone(&columns),
                values: |columns| &columns.activations,
                source: Box::new(Rows::whole(rows, d_total)),
            });
        }
    }

    /// `∂L/∂w_k · ∂w_k/∂d_k` over `d_k^m`, with `∂w/∂d^m = α_sum·d^m/‖d^m‖ + α_joint·d^m/‖d‖`.
    fn pulls(&self) -> Vec<f32> {
        if self.by_weight.is_empty() {
            return Vec::new();
        }
        let n_models = self.layout.models.len();
        let [of_joint, of_sum] = self.normalization.shares();
        let decoupled = self.normalization.is_decoupled();
        let mut pulls = vec![0.0; self.norms.len()];
        for (feature, (pulls, norms)) in pulls
            .chunks_mut(n_models)
            .zip(self.norms.chunks(n_models))
            .enumerate()
        {
            let joint = norms.iter().map(|norm| norm * norm).sum::<f32>().sqrt();
            for (model, (pull, norm)) in pulls.iter_mut().zip(norms).enumerate() {
                let parts = self.by_weight.iter().enumerate();
                let own = parts.filter(|(part, _)| !decoupled || *part == model);
                let by_weight: f32 = own.map(|(_, by_weight)| by_weight[feature]).sum();
                if *norm > 0.0 {
                    *pull = by_weight * (of_sum / norm + of_joint / joint);
                }
            }
        }
        for (features, _) in self.partition.blocks().filter(|(_, block)| block.tied) {
            for pulls in pulls
                .chunks_mut(n_models)
                .skip(features.start)
                .take(features.len())
            {
                let sum = pulls.iter().sum();
                pulls.fill(sum);
            }
        }
        pulls
    }

    fn outside(&self) -> Vec<bool> {
        if !self.partition.is_masked() {
            return Vec::new();
        }
        let n_models = self.layout.models.len();
        let mut outside = vec![false; self.n_features * n_models];
        for (features, block) in self.partition.blocks() {
            for model in (0..n_models).filter(|model| !block.holds(*model)) {
                features
                    .clone()
                    .for_each(|feature| outside[feature * n_models + model] = true);
            }
        }
        outside
    }

    fn share(&self) -> Option<Vec<f32>> {
        let once = 1.0 / self.layout.models.len() as f32;
        let tied = self
            .partition
            .is_tied()
            .then(|| self.partition.tied(self.n_features))?;
        Some(
            tied.into_iter()
                .map(|tied| if tied { once } else { 1.0 })
                .collect(),
        )
    }
}

impl Gradients<'_> {
    /// Counts entries into the bias, and their features as touched.
    fn note(&mut self, columns: &Columns) {
        for (feature, bias) in self.encoder_bias.iter_mut().enumerate() {
            let entries = columns.entries(feature);
            self.touched[feature] |= !entries.is_empty();
            *bias += columns.through[entries].iter().sum::<f32>();
        }
    }

    /// ‖gradient‖₂ over all parameters, under the weights as they are.
    pub(super) fn norm(&self, weights: &Parameters) -> f64 {
        let mut square = 0.0;
        self.encoder(|gradient| square += gradient.sum_of_squares(&weights.encoder, None));
        self.decoder(|gradient| {
            square += gradient.sum_of_squares(&weights.decoder, self.share.as_deref());
        });
        let small = [&self.encoder_bias, &self.decoder_bias, &self.thresholds];
        let squares = small
            .into_iter()
            .flatten()
            .map(|&value| f64::from(value).powi(2));
        (square + squares.sum::<f64>()).sqrt()
    }

    /// The gradient of the encoder `[n_features, d_total]`, as a sum.
    pub(super) fn encoder(&self, mut visit: impl FnMut(&Gradient<'_>)) {
        let clear = |feature: usize, columns: Range<usize>, _: &[f32], out: &mut [f32]| {
            self.clear(feature, &columns, out);
        };
        let masked = !self.outside.is_empty();
        visit(&Gradient {
            touched: &self.touched,
            columns: self.layout.d_total,
            terms: terms(&self.encoder),
            finish: masked.then_some(&clear),
        });
    }

    /// The gradient of the decoder `[n_features, d_total]`, as a sum.
    pub(super) fn decoder(&self, mut visit: impl FnMut(&Gradient<'_>)) {
        let finish = |feature: usize, columns: Range<usize>, weights: &[f32], out: &mut [f32]| {
            self.pull(feature, &columns, weights, out);
            self.clear(feature, &columns, out);
        };
        let plain = self.outside.is_empty() && self.pulls.is_empty();
        visit(&Gradient {
            touched: &self.touched,
            columns: self.layout.d_total,
            terms: terms(&self.decoder),
            finish: (!plain).then_some(&finish),
        });
    }

    /// Adds what the penalty does to the norms of a piece of a decoder row.
    fn pull(&self, feature: usize, columns: &Range<usize>, weights: &[f32], out: &mut [f32]) {
        let n_models = self.layout.models.len();
        for (model, pull) in self
            .pulls
            .iter()
            .skip(feature * n_models)
            .take(n_models)
            .enumerate()
        {
            let inside = inside(&self.layout.models[model], columns);
            let piece = out[inside.clone()].iter_mut().zip(&weights[inside]);
            piece.for_each(|(out, weight)| *out += pull * weight);
        }
    }

    /// Takes the gradient from what a mask holds at 0.
    fn clear(&self, feature: usize, columns: &Range<usize>, out: &mut [f32]) {
        let n_models = self.layout.models.len();
        let outside = self.outside.iter().skip(feature * n_models).take(n_models);
        for (model, _) in outside.enumerate().filter(|(_, outside)| **outside) {
            out[inside(&self.layout.models[model], columns)].fill(0.0);
        }
    }
}

fn terms<'a>(sums: &'a [Sum<'_>]) -> Vec<Term<'a>> {
    let term = |sum: &'a Sum<'_>| Term {
        entries: Sparse {
            starts: &sum.columns.starts,
            rows: &sum.columns.rows,
            values: (sum.values)(&sum.columns),
        },
        source: sum.source.as_ref(),
    };
    sums.iter().map(term).collect()
}

/// Where a model's coordinates lie within some columns.
fn inside(model: &Range<usize>, columns: &Range<usize>) -> Range<usize> {
    let place = |at: usize| at.clamp(columns.start, columns.end) - columns.start;
    place(model.start)..place(model.end)
}
