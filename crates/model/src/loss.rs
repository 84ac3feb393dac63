//! Negative log-likelihood of chosen tokens and its gradient.

use crate::{Error, Result};
use candle_core::{D, DType, Storage, Tensor};

/// One token whose likelihood counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Row of the batch.
    pub row: usize,
    /// Position whose logits predict the token.
    pub position: usize,
    /// The token.
    pub token: u32,
    /// Weight of its negative log-likelihood.
    pub weight: f64,
}

impl Scored {
    /// # Errors
    /// When it lies outside `[batch, seq, vocab]`.
    pub(crate) fn check(&self, batch: usize, seq: usize, vocab: usize) -> Result<()> {
        if self.row >= batch || self.position >= seq || self.token as usize >= vocab {
            return Err(Error::Argument(format!(
                "token {} at {}:{} is outside [{batch}, {seq}, {vocab}]",
                self.token, self.row, self.position
            )));
        }
        Ok(())
    }
}

/// What [`nll`] computes.
#[derive(Debug, Clone)]
pub struct Nll {
    /// Σ weight · nll, in nats.
    pub total: f64,
    /// Unweighted nll of every scored token, in nats, in the given order.
    pub tokens: Vec<f64>,
    /// Gradient of `total` by the logits, `[batch, seq, vocab]`.
    pub d_logits: Tensor,
}

/// Weighted negative log-likelihood of `scored` under `logits [batch, seq, vocab]`. At most one token a position.
pub fn nll(logits: &Tensor, scored: &[Scored]) -> Result<Nll> {
    let (batch, seq, vocab) = logits.dims3()?;
    let tokens = batch * seq;
    let (mut targets, mut weights) = (vec![0u32; tokens], vec![0f64; tokens]);
    for s in scored {
        s.check(batch, seq, vocab)?;
        targets[s.row * seq + s.position] = s.token;
        weights[s.row * seq + s.position] = s.weight;
    }
    let (losses, d_logits) = match fast(logits, &targets, &weights)? {
        Some(result) => result,
        None => plain(logits, &targets, &weights)?,
    };
    let per_token: Vec<f64> = scored
        .iter()
        .map(|s| losses[s.row * seq + s.position])
        .collect();
    let total = per_token
        .iter()
        .zip(scored)
        .map(|(nll, s)| nll * s.weight)
        .sum();
    Ok(Nll {
        total,
        tokens: per_token,
        d_logits,
    })
}

fn fast(logits: &Tensor, targets: &[u32], weights: &[f64]) -> Result<Option<(Vec<f64>, Tensor)>> {
    if logits.dtype() != DType::F32 {
        return Ok(None);
    }
    let flat = logits.contiguous()?;
    let (storage, layout) = flat.storage_and_layout();
    let (Storage::Cpu(cpu), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Ok(None);
    };
    let values = &cpu.as_slice::<f32>()?[start..end];
    let vocab = logits.dim(D::Minus1)?;
    let mut d_logits = values.to_vec();
    let weights: Vec<f32> = weights.iter().map(|w| *w as f32).collect();
    let losses = kernels::loss::cross_entropy(&mut d_logits, targets, &weights, vocab);
    Ok(Some((
        losses,
        Tensor::from_vec(d_logits, logits.dims(), logits.device())?,
    )))
}

fn plain(logits: &Tensor, targets: &[u32], weights: &[f64]) -> Result<(Vec<f64>, Tensor)> {
    let (device, vocab, n) = (logits.device(), logits.dim(D::Minus1)?, targets.len());
    let dtype = if logits.dtype() == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    let flat = logits.reshape((n, vocab))?.to_dtype(dtype)?;
    let shifted = flat.broadcast_sub(&flat.max_keepdim(D::Minus1)?)?;
    let log_probabilities =
        shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
    let index = Tensor::new(targets, device)?.unsqueeze(1)?;
    let losses = log_probabilities
        .gather(&index, 1)?
        .squeeze(1)?
        .neg()?
        .to_dtype(DType::F64)?
        .to_vec1::<f64>()?;
    let ones = Tensor::ones((n, 1), dtype, device)?;
    let minus_target = log_probabilities
        .exp()?
        .scatter_add(&index, &ones.neg()?, 1)?;
    let weights = Tensor::from_vec(weights.to_vec(), (n, 1), device)?.to_dtype(dtype)?;
    let d_logits = minus_target
        .broadcast_mul(&weights)?
        .to_dtype(logits.dtype())?;
    Ok((losses, d_logits.reshape(logits.dims())?))
}
