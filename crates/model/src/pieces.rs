//! Parts of a block by themselves, and the rest of a forward pass from the middle: what patching of single edges needs.

use crate::heads::repeated;
use crate::norm::{Norm, normed};
use crate::ops;
use crate::storage::Linear;
use crate::transformer::Pass;
use crate::{Batch, Error, Hook, Model, Result, Site, Tap};
use candle_core::Tensor;

/// What the heads of one block read and write with.
#[derive(Debug, Clone)]
pub struct HeadWeights {
    /// γ of the norm before attention, `[d_model]`; 1 where there is none.
    pub norm: Tensor,
    /// Projection to the queries, `[n_heads * d_head, d_model]`.
    pub q: Tensor,
    /// Projection to the keys, `[n_kv_heads * d_head, d_model]`.
    pub k: Tensor,
    /// Projection to the values, `[n_kv_heads * d_head, d_model]`.
    pub v: Tensor,
    /// Output projection, `[d_model, n_heads * d_head]`.
    pub o: Tensor,
    /// γ of the norm behind attention, `[d_model]`, where there is one.
    pub after: Option<Tensor>,
}

impl Model {
    /// Weights of a block's attention in the dtype that is computed in: copies where they are kept in another.
    ///
    /// # Panics
    /// When there is no such block.
    pub fn head_weights(&self, layer: usize) -> candle_core::Result<HeadWeights> {
        let block = &self.layers[layer];
        Ok(HeadWeights {
            norm: match &block.attention_norm {
                Some(norm) => norm.gamma()?,
                None => self.final_norm.weight.ones_like()?,
            },
            q: block.q.weight.dense(self.dtype)?,
            k: block.k.weight.dense(self.dtype)?,
            v: block.v.weight.dense(self.dtype)?,
            o: block.o.weight.dense(self.dtype)?,
            after: block
                .attention_after
                .as_ref()
                .map(Norm::gamma)
                .transpose()?,
        })
    }

    /// z times the scale of the norm behind attention, `[tokens, n_heads * d_head]`; z itself where there is none.
    ///
    /// What a block's heads add to the residual is linear in it: through `o`, then γ of that norm.
    pub fn scaled_z(&self, layer: usize, z: &Tensor) -> Result<Tensor> {
        let block = &self.layers[layer];
        Ok(match &block.attention_after {
            Some(norm) => z.broadcast_mul(&norm.forward(&block.o.forward(z)?)?.scale)?,
            None => z.clone(),
        })
    }

    /// What a block's attention adds to the residual: `z [tokens, n_heads * d_head]` → `[tokens, d_model]`.
    pub fn attention_out(&self, layer: usize, z: &Tensor) -> Result<Tensor> {
        let block = &self.layers[layer];
        Ok(normed(block.attention_after.as_ref(), &block.o.forward(z)?)?.0)
    }

    /// What a block's MLP adds to the residual it reads: `[tokens, d_model]` → the same.
    pub fn mlp_out(&self, layer: usize, resid: &Tensor) -> Result<Tensor> {
        let block = &self.layers[layer];
        let (y, _) = normed(block.mlp_norm.as_ref(), resid)?;
        let hidden = self.gated(&block.gate.forward(&y)?, &block.up.forward(&y)?)?;
        Ok(normed(block.mlp_after.as_ref(), &block.down.forward(&hidden)?)?.0)
    }

    /// Logits of residuals after the last block: `[n, d_model]` → `[n, vocab]`.
    pub fn logits_of(&self, resid: &Tensor) -> Result<Tensor> {
        self.logits_of_normed(&self.final_norm.forward(resid)?.y)
    }

    /// A block's attention when queries, keys and values, or every head of them, read a residual of their own.
    ///
    /// `reads` are the residuals of q, k and v: `[tokens, d_model]` for all heads, or `[heads, tokens, d_model]`, where k and
    /// v may have `n_kv_heads` or `n_heads` of them. Returns `z [tokens, n_heads * d_head]`.
    pub fn attend(&self, layer: usize, reads: [&Tensor; 3], batch: &Batch) -> Result<Tensor> {
        let (block, config) = (&self.layers[layer], &self.config);
        let tables = self.rotary.place(config, batch, 0)?;
        let norms = block.qk_norm.as_ref();
        let placed = |read, linear, norm: Option<&Norm>| -> Result<Tensor> {
            let (x, n) = self.projected(layer, linear, read)?;
            let norm = match norm {
                Some(norm) if config.form.qk_norm_whole => Some(self.repeated_norm(norm, n)?),
                other => other.cloned(),
            };
            let (x, _) = self.placed_heads(&x, norm.as_ref(), n, (&tables, layer))?;
            Ok(x.reshape((batch.batch, batch.seq, n, config.d_head))?)
        };
        let q = placed(reads[0], &block.q, norms.map(|norms| &norms.0))?;
        let k = placed(reads[1], &block.k, norms.map(|norms| &norms.1))?;
        let (v, n) = self.projected(layer, &block.v, reads[2])?;
        let v = v.reshape((batch.batch, batch.seq, n, config.d_head))?;
        let shared = k.dim(2)?.max(n);
        let shape = self.attention_shape(layer, 0, &batch.starts);
        let (k, v) = (repeated(&k, shared)?, repeated(&v, shared)?);
        Ok(ops::attention(&q, &k, &v, shape)?)
    }

    /// A norm over all key heads as one over `n`, each of them repeated: its scale stays what it is.
    fn repeated_norm(&self, norm: &Norm, n: usize) -> Result<Norm> {
        let rows = norm.weight.reshape((1, 1, (), self.config.d_head))?;
        Ok(Norm {
            weight: repeated(&rows, n)?.flatten_all()?,
            ..norm.clone()
        })
    }

    /// Norm and projection of what heads read → `[tokens, n * d_head]`, and n.
    fn projected(&self, layer: usize, linear: &Linear, read: &Tensor) -> Result<(Tensor, usize)> {
        let (d_model, d_head) = (self.config.d_model, self.config.d_head);
        let rows = read.reshape(((), d_model))?;
        let (y, _) = normed(self.layers[layer].attention_norm.as_ref(), &rows)?;
        let own = linear.weight.rows() / d_head;
        if read.rank() == 2 {
            return Ok((linear.forward(&y)?, own));
        }
        let (n, tokens, _) = read.dims3()?;
        let heads: Vec<u32> = (0..n).map(|head| (head / (n / own)) as u32).collect();
        let heads = Tensor::new(heads, read.device())?;
        let weight = linear.weight.dense(y.dtype())?;
        let weight = weight.reshape((own, d_head, d_model))?;
        let weight = weight
            .index_select(&heads, 0)?
            .transpose(1, 2)?
            .contiguous()?;
        let mut x = y.reshape((n, tokens, d_model))?.matmul(&weight)?;
        if let Some(bias) = &linear.bias {
            let bias = bias.reshape((own, 1, d_head))?.index_select(&heads, 0)?;
            x = x.broadcast_add(&bias)?;
        }
        let x = x.transpose(0, 1)?.contiguous()?;
        Ok((x.reshape((tokens, n * d_head))?, n))
    }

    /// The rest of a forward pass: the residual at a hook → the residual after the last block, both
    /// `[batch * seq, d_model]`.
    ///
    /// # Errors
    /// At hooks that are no residual.
    pub fn resume(
        &self,
        at: Hook,
        resid: Tensor,
        batch: &Batch,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let (mut resid, next) = match at.site {
            Site::ResidPre => (resid, at.layer),
            Site::ResidMid => {
                let mlp = self.mlp_out(at.layer, &resid)?;
                (ops::add(&resid, &mlp)?, at.layer + 1)
            }
            Site::ResidPost => (resid, at.layer + 1),
            _ => return Err(Error::Argument(format!("{at} is not a residual"))),
        };
        let placed = self.rotary.place(&self.config, batch, 0)?;
        for (index, layer) in self.layers.iter().enumerate().skip(next) {
            let mut pass = Pass::default();
            resid = self.block(layer, index, resid, (batch, &placed), &mut pass, tap)?;
        }
        Ok(resid)
    }
}
