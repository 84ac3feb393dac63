//! Gradients of one batch, derived by hand.
//!
//! With `g = ∂L/∂x̂` and `df = ∂L/∂f` of every entry (row, feature) that was kept, both from the forward pass,
//!
//! ```text
//! ∂L/∂d_k^m = Σ_rows f·g^m + ∂L/∂w_k · ∂w_k/∂d_k^m     ∂L/∂W_k = Σ_rows df·x     ∂L/∂b_k = Σ_rows df
//! ```
//!
//! Which features were kept is held constant, as everywhere in the literature. The sums walk the entries feature by feature
//! and the batch panel by panel; rows of features that did not fire are never touched.

use super::forward::{column_sums, is_dense};
use super::parameters::{Layout, Parameters};
use super::part::{Columns, Part};
use super::partition::Partition;
use crate::rule::CodeNormalization;
use kernels::matmul_tn;
use kernels::sparse::{Panels, Sparse, gather};

/// Gradients of all parameters; rows of features that are not touched mean nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Gradients {
    /// `[n_features, d_total]`.
    pub(super) encoder: Panels,
    /// `[n_features, d_total]`.
    pub(super) decoder: Panels,
    /// `[n_features]`.
    pub(super) encoder_bias: Vec<f32>,
    /// `[d_total]`.
    pub(super) decoder_bias: Vec<f32>,
    /// `[n_features]`; empty without thresholds.
    pub(super) thresholds: Vec<f32>,
    /// Features with a gradient `[n_features]`.
    pub(super) touched: Vec<bool>,
    /// ‖gradient‖₂ over all parameters.
    pub(super) norm: f64,
}

/// What the gradients are computed from.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a> {
    pub(super) parameters: &'a Parameters,
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

/// Panels kept from step to step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Room {
    x: Panels,
    output: Panels,
}

impl Backward<'_> {
    /// Gradients of everything.
    pub(super) fn run(
        &self,
        parts: &[Part],
        revival: Revival<'_>,
        room: &mut Room,
        out: &mut Gradients,
    ) {
        let n_features = self.parameters.encoder_bias.len();
        out.begin(
            n_features,
            self.layout.d_total,
            parts.iter().chain(revival.map(|(part, _)| part)),
        );
        let square = if is_dense(parts, n_features) && revival.is_none() {
            self.dense(&parts[0], out);
            None
        } else {
            self.sparse(parts, revival, room, out)
        };
        let sums = column_sums(
            self.output,
            self.layout.d_total,
            self.n_outputs * self.layout.d_total,
        );
        out.decoder_bias = sums.into_iter().map(|sum| sum as f32).collect();
        let changed = self.add_norm_gradients(out) | self.constrain(out);
        out.norm = out.total(square.filter(|_| !changed), self.partition, self.layout);
    }

    /// Sums over entries; Σ of squares of both matrices where it is known.
    fn sparse(
        &self,
        parts: &[Part],
        revival: Revival<'_>,
        room: &mut Room,
        out: &mut Gradients,
    ) -> Option<f64> {
        let (n_rows, d_total) = (self.x.len() / self.layout.d_total, self.layout.d_total);
        room.x.fill(self.x, n_rows, d_total, d_total);
        let mut square = 0.0;
        for (number, part) in parts.iter().enumerate() {
            let start = part.output * d_total;
            room.output.fill(
                &self.output[start..],
                n_rows,
                d_total,
                self.n_outputs * d_total,
            );
            if part.range != (0..d_total) {
                room.output.keep_columns(&part.range);
            }
            square += add_part(part, room, number > 0, out);
        }
        if let Some((part, output)) = revival {
            room.output.fill(output, n_rows, d_total, d_total);
            add_part(part, room, true, out);
        }
        (parts.len() == 1 && revival.is_none()).then_some(square)
    }

    /// The same sums by dense products, for codes that are not sparse yet.
    fn dense(&self, part: &Part, out: &mut Gradients) {
        let (n_features, d_total) = (self.parameters.encoder_bias.len(), self.layout.d_total);
        let columns = Columns::of(part, n_features);
        out.add_bias(&columns);
        let shape = (n_features, d_total, part.codes.n_rows());
        let mut rows = vec![0.0; n_features * d_total];
        matmul_tn(
            &mut rows,
            &part.codes.to_dense(n_features),
            self.output,
            shape,
        );
        out.decoder.fill(&rows, n_features, d_total, d_total);
        matmul_tn(&mut rows, &part.dense_through(n_features), self.x, shape);
        out.encoder.fill(&rows, n_features, d_total, d_total);
    }

    /// Adds `∂L/∂w_k · ∂w_k/∂d_k`, with `∂w/∂d^m = α_sum·d^m/‖d^m‖ + α_joint·d^m/‖d‖`. Returns whether there was any.
    fn add_norm_gradients(&self, out: &mut Gradients) -> bool {
        let n_models = self.layout.models.len();
        let [of_joint, of_sum] = self.normalization.shares();
        for (part, by_weight) in self.by_weight.iter().enumerate() {
            let only = self.normalization.is_decoupled().then_some(part);
            let factor = |feature: usize, model: usize| {
                let norms = &self.norms[feature * n_models..][..n_models];
                if only.is_some_and(|only| only != model) || norms[model] <= 0.0 {
                    return 0.0;
                }
                let joint = norms.iter().map(|norm| norm * norm).sum::<f32>().sqrt();
                by_weight[feature] * (of_sum / norms[model] + of_joint / joint)
            };
            let models = &self.layout.models;
            out.decoder
                .add_rows(&self.parameters.decoder, models, &out.touched, factor);
        }
        !self.by_weight.is_empty()
    }

    /// Takes the gradient from what a mask holds at 0, and gives tied rows one gradient. Returns whether there was any.
    fn constrain(&self, out: &mut Gradients) -> bool {
        if self.partition.is_masked() {
            for (features, block) in self.partition.blocks() {
                let models = self.layout.models.iter().enumerate();
                for (_, range) in models.filter(|(model, _)| !block.holds(*model)) {
                    out.encoder.clear(&features, range);
                    out.decoder.clear(&features, range);
                }
            }
        }
        if self.partition.is_tied() {
            let tied = self.partition.tied(out.touched.len());
            let wanted: Vec<bool> = tied.iter().zip(&out.touched).map(|(a, b)| a & b).collect();
            out.decoder
                .change_rows(&wanted, |_, row| Partition::tie(row, self.layout));
        }
        self.partition.is_masked() || self.partition.is_tied()
    }
}

/// Adds the sums of one part; Σ of squares of what is written.
fn add_part(part: &Part, room: &Room, add: bool, out: &mut Gradients) -> f64 {
    let columns = Columns::of(part, out.touched.len());
    out.add_bias(&columns);
    let sparse = |values| Sparse {
        starts: &columns.starts,
        rows: &columns.rows,
        values,
    };
    let Gradients {
        encoder,
        decoder,
        touched,
        ..
    } = out;
    gather(
        decoder,
        sparse(&columns.activations),
        &room.output,
        touched,
        add,
    ) + gather(encoder, sparse(&columns.through), &room.x, touched, add)
}

impl Gradients {
    /// Room for everything, and which features the parts touch.
    fn begin<'a>(
        &mut self,
        n_features: usize,
        d_total: usize,
        parts: impl Iterator<Item = &'a Part>,
    ) {
        if self.encoder.rows() != n_features || self.encoder.columns() != d_total {
            self.encoder = Panels::zeros(n_features, d_total);
            self.decoder = Panels::zeros(n_features, d_total);
        }
        self.touched.clear();
        self.touched.resize(n_features, false);
        for part in parts {
            part.codes
                .features
                .iter()
                .for_each(|&feature| self.touched[feature as usize] = true);
        }
        self.encoder_bias.clear();
        self.encoder_bias.resize(n_features, 0.0);
    }

    fn add_bias(&mut self, columns: &Columns) {
        for (feature, bias) in self.encoder_bias.iter_mut().enumerate() {
            *bias += columns.through[columns.entries(feature)]
                .iter()
                .sum::<f32>();
        }
    }

    /// ‖gradient‖₂; `square` is that of encoder and decoder where it is known. A tied row counts once.
    fn total(&self, square: Option<f64>, partition: Partition<'_>, layout: &Layout) -> f64 {
        let square = square.unwrap_or_else(|| {
            let mut decoder = self.decoder.sum_of_squares(&self.touched);
            if partition.is_tied() {
                let tied = partition.tied(self.touched.len());
                let counted: Vec<bool> =
                    tied.iter().zip(&self.touched).map(|(a, b)| a & b).collect();
                let copies = layout.models.len() as f64;
                decoder -= self.decoder.sum_of_squares(&counted) * (1.0 - 1.0 / copies);
            }
            decoder + self.encoder.sum_of_squares(&self.touched)
        });
        let small = [&self.encoder_bias, &self.decoder_bias, &self.thresholds];
        let squares = small
            .into_iter()
            .flatten()
            .map(|&value| f64::from(value).powi(2));
        (square + squares.sum::<f64>()).sqrt()
    }
}
