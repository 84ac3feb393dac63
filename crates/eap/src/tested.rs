//! One example under test: its scores at the clean point, and the slopes and sums they must equal.

use model::{DType, Hook, Site, Tensor, config::Norms};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    attribute::Scorer,
    exact::{Patch, Patcher},
    example::Example,
    graph::Graph,
    slope::{extrapolated, steps},
};

/// Edges and nodes tested per example; half are those with the largest scores, half are drawn.
const SAMPLED: usize = 8;
/// Share of a position's mean square below which a norm's ε is out of sight.
const NEGLIGIBLE: f64 = 1e-3;

/// Edges drawn without replacement; all of them when there are no more.
pub fn draw(graph: &Graph, n: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut edges: Vec<(usize, usize)> = graph.edges().collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let n = n.min(edges.len());
    for place in 0..n {
        let other = random.random_range(place..edges.len());
        edges.swap(place, other);
    }
    edges.truncate(n);
    edges.sort_unstable();
    edges
}

/// One example with its scores at the clean point.
pub(crate) struct Scored<'a> {
    pub(crate) scorer: &'a Scorer<'a>,
    pub(crate) example: &'a Example,
    pub(crate) patcher: Patcher<'a>,
    /// `[n_sources, n_targets]`
    pub(crate) map: Vec<f64>,
}

impl<'a> Scored<'a> {
    pub(crate) fn new(scorer: &'a Scorer<'a>, example: &'a Example) -> anyhow::Result<Self> {
        Ok(Self {
            scorer,
            example,
            patcher: Patcher::new(scorer, example)?,
            map: scorer.score(&[example])?.swap_remove(0).map,
        })
    }

    fn graph(&self) -> &Graph {
        &self.scorer.graph
    }

    pub(crate) fn score(&self, source: usize, target: usize) -> f64 {
        self.map[source * self.graph().n_targets() + target]
    }

    pub(crate) fn row_sum(&self, source: usize) -> f64 {
        (0..self.graph().n_targets())
            .map(|target| self.score(source, target))
            .sum()
    }

    /// The edges with the largest scores, and as many at random.
    pub(crate) fn sampled_edges(&self, seed: u64) -> Vec<(usize, usize)> {
        let mut edges: Vec<(usize, usize)> = self.graph().edges().collect();
        let size = |&(source, target): &(usize, usize)| self.score(source, target).abs();
        edges.sort_by(|a, b| size(b).total_cmp(&size(a)));
        edges.truncate(SAMPLED / 2);
        edges.extend(draw(self.graph(), SAMPLED / 2, seed));
        edges
    }

    /// A few sources spread over the depth, the embedding first.
    pub(crate) fn sampled_sources(&self) -> Vec<usize> {
        let n = self.graph().n_sources() - 1;
        let spread = (0..SAMPLED / 2).map(|place| 1 + place * n / (SAMPLED / 2));
        let mut sources: Vec<usize> = std::iter::once(0).chain(spread).collect();
        sources.dedup();
        sources
    }

    /// Slopes of the loss along edges.
    pub(crate) fn slopes(&self, edges: &[(usize, usize)]) -> anyhow::Result<Vec<f64>> {
        let steps = steps(self.scorer.model.dtype());
        let patches = edges.iter().flat_map(|&(source, target)| {
            let scales = steps.into_iter().flat_map(|step| [step, -step]);
            scales.map(move |scale| Patch {
                source,
                target,
                scale,
            })
        });
        let losses = self.patcher.losses(&patches.collect::<Vec<_>>())?;
        let slopes = losses.chunks(2 * steps.len());
        Ok(slopes.map(|losses| extrapolated(losses, steps)).collect())
    }

    /// Slope of the loss as a source's ΔO is added to everything after it.
    pub(crate) fn node_slope(&self, source: usize) -> anyhow::Result<f64> {
        let at = self.written_at(source);
        let steps = steps(self.scorer.model.dtype());
        let scales: Vec<f64> = steps.iter().flat_map(|&step| [step, -step]).collect();
        let difference = self.patcher.difference(source)?;
        let clean = self.patcher.clean(at);
        let rows = scales.iter().map(|&scale| clean + (&difference * scale)?);
        let rows = rows.collect::<candle_core::Result<Vec<Tensor>>>()?;
        let batch = self.patcher.batch(scales.len());
        let last = self
            .scorer
            .model
            .resume(at, Tensor::cat(&rows, 0)?, &batch, &mut ())?;
        let losses = self.patcher.read(&last, scales.len())?;
        Ok(extrapolated(&losses, steps))
    }

    /// The first residual a source is part of.
    fn written_at(&self, source: usize) -> Hook {
        match self.graph().source(source) {
            crate::node::Source::Input => Hook::new(Site::ResidPre, 0),
            crate::node::Source::Attention { layer, .. } => Hook::new(Site::ResidMid, layer),
            crate::node::Source::Mlp { layer } if layer + 1 < self.graph().n_layers => {
                Hook::new(Site::ResidPre, layer + 1)
            }
            crate::node::Source::Mlp { layer } => Hook::new(Site::ResidPost, layer),
        }
    }

    /// Largest |column sum| relative to the largest sum of magnitudes, over the targets whose norm's ε does not count; none
    /// when it counts for all.
    pub(crate) fn column_error(&self) -> anyhow::Result<Option<f64>> {
        let (mut residue, mut scale): (Option<f64>, f64) = (None, 0.0);
        for target in 0..self.graph().n_targets() {
            let sources = 0..self.graph().n_sources_before(target);
            let magnitudes = sources
                .clone()
                .map(|source| self.score(source, target).abs());
            scale = scale.max(magnitudes.sum());
            if self.scorer.model.config.rms_norm_eps < NEGLIGIBLE * self.smallest_square(target)? {
                let sum: f64 = sources.map(|source| self.score(source, target)).sum();
                residue = larger(residue, Some(sum.abs()));
            }
        }
        Ok(residue.map(|residue| if scale > 0.0 { residue / scale } else { 0.0 }))
    }

    /// Smallest mean square over the positions of what a target reads: what its norm's ε is added to. 0 when something
    /// else than the sources is part of it, a bias of the output projection, or no norm reads it.
    fn smallest_square(&self, target: usize) -> anyhow::Result<f64> {
        let config = &self.scorer.model.config;
        let logits = target + 1 == self.graph().n_targets();
        let unread = config.form.norms == Norms::After && !logits;
        if unread || config.output_bias && self.graph().heads.is_some() {
            return Ok(0.0);
        }
        let hook = match self.graph().target(target) {
            crate::node::Target::Attention { layer, .. } => Hook::new(Site::ResidPre, layer),
            crate::node::Target::Mlp { layer } => Hook::new(Site::ResidMid, layer),
            crate::node::Target::Logits => Hook::new(Site::ResidPost, self.graph().n_layers - 1),
        };
        let squares = self.patcher.clean(hook).sqr()?.mean_keepdim(1)?;
        let squares = squares
            .flatten_all()?
            .to_dtype(DType::F64)?
            .to_vec1::<f64>()?;
        Ok(squares.into_iter().fold(f64::INFINITY, f64::min))
    }
}

/// The larger of two figures that may be missing.
pub(crate) fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.zip(b).map(|(a, b)| a.max(b)).or(a).or(b)
}
