//! Gradients by what the targets read, summed over runs and kept narrow until they are contracted.
//!
//! A head reads the residual through its projection and the norm before it: g = (γ⊙Wᵀδ)/σ − x·c, c = x·(γ⊙Wᵀδ)/(d σ³).
//! The first part is linear in δ/σ (`d_head` numbers a position) and adds up over runs; the second needs x and c of each
//! run, one number a head, and is taken from the rows when they are made wide. Nothing here is as large as positions × heads × `d_model`.

use candle_core::Result;
use model::{GradientTap, HeadGradients, KeyGradients, Target, Tensor};

use crate::{expand::Expansion, graph::Graph};

/// Sums of gradients of one batch.
#[derive(Debug, Clone)]
pub struct Reads<'a> {
    graph: &'a Graph,
    expansion: &'a Expansion,
    /// How often the run at hand counts.
    pub weight: f64,
    /// Whether the run at hand reads its norms as constants.
    pub norms_constant: bool,
    /// Whether the run at hand has no gradient by the first attention: its input was put there.
    pub skips_first_attention: bool,
    /// Per layer q, k, v: at head level δ/σ `[tokens, heads * d_head]`, at layer level the gradient `[tokens, d_model]`.
    pub attention: Vec<[Option<Tensor>; 3]>,
    /// Per layer, `[tokens, d_model]`.
    pub mlp: Vec<Option<Tensor>>,
    /// `[tokens, d_model]`
    pub logits: Option<Tensor>,
    /// The norms of every run, per layer.
    pub norms: Vec<Vec<Norm>>,
}

/// What a norm takes back: x and c.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Residual that was read, `[tokens, d_model]`.
    pub resid: Tensor,
    /// c of every head, q then k then v: `[tokens, targets]`.
    pub pull: Tensor,
}

impl<'a> Reads<'a> {
    /// Nothing read yet.
    pub fn new(graph: &'a Graph, expansion: &'a Expansion) -> Self {
        Self {
            graph,
            expansion,
            weight: 1.0,
            norms_constant: false,
            skips_first_attention: false,
            attention: vec![[const { None }; 3]; graph.n_layers],
            mlp: vec![None; graph.n_layers],
            logits: None,
            norms: vec![Vec::new(); graph.n_layers],
        }
    }

    /// Runs whose norms are kept.
    pub fn runs(&self) -> usize {
        self.norms.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Forgets every gradient: they were contracted.
    pub fn clear(&mut self) {
        *self = Self {
            norms_constant: self.norms_constant,
            ..Self::new(self.graph, self.expansion)
        };
    }

    fn skips(&self, layer: usize) -> bool {
        layer == 0 && self.skips_first_attention
    }

    /// x and c of a run: c = ⟨W·norm(x), δ⟩·weight/(d σ²), for W·norm(x) = W(γ⊙x)/σ.
    fn norm(&self, layer: usize, parts: &[Tensor; 3], heads: &HeadGradients) -> Result<Norm> {
        let d_model = heads.resid.dim(1)? as f64;
        let pull = self
            .expansion
            .pull(layer, (&heads.resid, &heads.scale), parts)?;
        let scale = (heads.scale.sqr()? * (self.weight / d_model))?;
        Ok(Norm {
            resid: heads.resid.clone(),
            pull: model::ops::scale_rows(&pull, &scale)?,
        })
    }
}

/// sum ← sum + weight·more.
#[expect(clippy::float_cmp, reason = "a weight of exactly 1 needs no product")]
fn add(sum: &mut Option<Tensor>, more: &Tensor, weight: f64) -> Result<()> {
    let more = if weight == 1.0 {
        more.clone()
    } else {
        (more * weight)?
    };
    *sum = Some(match sum.take() {
        Some(before) => model::ops::add(&before, &more)?,
        None => more,
    });
    Ok(())
}

impl GradientTap for Reads<'_> {
    fn wants(&self, target: Target) -> bool {
        match target {
            Target::Q(layer) | Target::K(layer) | Target::V(layer) => {
                self.graph.heads.is_none() && !self.skips(layer)
            }
            Target::Mlp(_) | Target::Logits => true,
        }
    }

    fn gradient(&mut self, target: Target, gradient: Tensor) -> model::Result<()> {
        let gradient = gradient.flatten(0, 1)?;
        let sum = match target {
            Target::Q(layer) => &mut self.attention[layer][0],
            Target::K(layer) => &mut self.attention[layer][1],
            Target::V(layer) => &mut self.attention[layer][2],
            Target::Mlp(layer) => &mut self.mlp[layer],
            Target::Logits => &mut self.logits,
        };
        Ok(add(sum, &gradient, self.weight)?)
    }

    fn wants_heads(&self) -> Option<KeyGradients> {
        self.graph.heads.map(|_| self.expansion.keys())
    }

    fn heads(&mut self, layer: usize, heads: HeadGradients) -> model::Result<()> {
        if self.skips(layer) {
            return Ok(());
        }
        let parts = [heads.q.clone(), heads.k.clone(), heads.v.clone()];
        if !self.norms_constant && heads.normed {
            let norm = self.norm(layer, &parts, &heads)?;
            self.norms[layer].push(norm);
        }
        for (sum, delta) in self.attention[layer].iter_mut().zip(parts) {
            let scaled = model::ops::scale_rows(&delta, &heads.scale)?;
            add(sum, &scaled, self.weight)?;
        }
        Ok(())
    }
}
