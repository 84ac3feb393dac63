//! Which features of a batch are kept.

use super::{Task, Tensors};
use crate::rule::Rule;
use candle_core::{DType, Result, Tensor};
use std::ops::Range;

/// Entries that reconstruct the same coordinates and answer for the same errors; see the kernels' `Part`.
pub(super) struct Part {
    /// Their features.
    pub(super) features: Range<usize>,
    /// Coordinates they reconstruct.
    pub(super) reach: Range<usize>,
    /// Number of the first output they take part in.
    pub(super) output: usize,
    /// Activations, 0 where they are not kept `[n_rows, features]`.
    pub(super) codes: Tensor,
    /// 1 where they are kept `[n_rows, features]`.
    pub(super) kept: Tensor,
    /// Rank weights `[features]`.
    pub(super) weights: Tensor,
}

/// What was kept of a batch.
pub(super) struct Chosen {
    pub(super) parts: Vec<Part>,
    /// Smallest rank value kept of each code, for rules that rank the batch.
    pub(super) smallest: Vec<Option<f32>>,
    /// Activations of all features `[n_rows, n_features]`, none of them negative.
    pub(super) activations: Tensor,
    /// Rank values of all features `[n_rows, n_features]`, of the first code.
    pub(super) ranks: Tensor,
    /// `‖d_k^m‖₂` `[n_features, n_models]`.
    pub(super) norms: Tensor,
}

impl Chosen {
    /// Codes of a row.
    pub(super) fn n_codes(&self) -> usize {
        self.smallest.len()
    }

    /// How often each feature fired, in all codes together.
    pub(super) fn fired(&self) -> Result<Vec<f32>> {
        let n_features = self.activations.dim(1)?;
        let mut fired = vec![0.0; n_features];
        for part in &self.parts {
            let counts = part.kept.sum(0)?.to_vec1::<f32>()?;
            let places = fired[part.features.clone()].iter_mut();
            places.zip(counts).for_each(|(sum, n)| *sum += n);
        }
        Ok(fired)
    }
}

impl Tensors {
    /// Applies the rule.
    pub(super) fn choose(&self, task: &Task<'_>, x: &Tensor) -> Result<Chosen> {
        let product = x.matmul(&self.encoder.value.t()?)?;
        let activations = product.broadcast_add(&self.encoder_bias.value)?.relu()?;
        let norms = self.norms(task)?;
        let weights = rank_weights(task, &norms)?;
        let (mut parts, mut smallest) = (Vec::new(), Vec::new());
        let mut first_ranks = None;
        for (code, weights) in weights.into_iter().enumerate() {
            let ranks = activations.broadcast_mul(&weights)?;
            let (kept, least) = self.keep(task, &ranks)?;
            smallest.push(least);
            let whole = Part {
                features: 0..task.settings.n_features,
                reach: if task.settings.code_normalization.is_decoupled() {
                    task.layout.models[code].clone()
                } else {
                    0..task.layout.d_total
                },
                output: 0,
                codes: activations.mul(&kept)?,
                kept,
                weights,
            };
            parts.extend(whole.nested(&task.settings.groups)?);
            first_ranks.get_or_insert(ranks);
        }
        Ok(Chosen {
            parts,
            smallest,
            ranks: first_ranks.unwrap_or_else(|| activations.clone()),
            activations,
            norms,
        })
    }

    /// 1 where a rank value is kept, and the smallest of them where the batch was ranked.
    fn keep(&self, task: &Task<'_>, ranks: &Tensor) -> Result<(Tensor, Option<f32>)> {
        let k = task.schedule.k.unwrap_or(0.0);
        let kept = match task.settings.rule {
            Rule::L1 { .. } => ranks.gt(0f32)?,
            Rule::TopK { .. } => return Ok((largest_of_rows(ranks, k.round() as usize)?, None)),
            Rule::BatchTopK { .. } | Rule::Matryoshka { .. } => {
                return largest_of_all(ranks, (k * task.n_rows as f64) as usize);
            }
            Rule::JumpRelu { .. } => {
                let thresholds = self.thresholds.as_ref().map(|learned| &learned.value);
                let above = thresholds.map(|thresholds| ranks.broadcast_gt(thresholds));
                let positive = ranks.gt(0f32)?;
                above
                    .transpose()?
                    .map_or(Ok(positive.clone()), |above| above.mul(&positive))?
            }
        };
        Ok((kept.to_dtype(DType::F32)?, None))
    }

    /// `‖d_k^m‖₂` `[n_features, n_models]`.
    fn norms(&self, task: &Task<'_>) -> Result<Tensor> {
        let norm = |range: &Range<usize>| {
            let rows = self.decoder.value.narrow(1, range.start, range.len())?;
            rows.sqr()?.sum_keepdim(1)?.sqrt()
        };
        let norms: Vec<Tensor> = task.layout.models.iter().map(norm).collect::<Result<_>>()?;
        Tensor::cat(&norms, 1)
    }
}

impl Part {
    /// Cut at the ends of nested groups of features, where there are any.
    fn nested(self, ends: &[usize]) -> Result<Vec<Self>> {
        if ends.is_empty() {
            return Ok(vec![self]);
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let groups = starts.zip(ends).enumerate();
        let part = |(output, (start, &end)): (usize, (usize, &usize))| {
            let n = end - start;
            Ok(Self {
                features: start..end,
                reach: self.reach.clone(),
                output,
                codes: self.codes.narrow(1, start, n)?.contiguous()?,
                kept: self.kept.narrow(1, start, n)?.contiguous()?,
                weights: self.weights.narrow(0, start, n)?,
            })
        };
        groups.map(part).collect()
    }
}

/// Rank weights of each code `[n_features]`.
fn rank_weights(task: &Task<'_>, norms: &Tensor) -> Result<Vec<Tensor>> {
    let normalization = &task.settings.code_normalization;
    let n_models = task.layout.models.len();
    if normalization.is_decoupled() {
        let own = |model| norms.narrow(1, model, 1)?.squeeze(1)?.contiguous();
        return (0..n_models).map(own).collect();
    }
    let [of_joint, of_sum] = normalization.shares().map(f64::from);
    if (of_joint, of_sum) == (0.0, 0.0) {
        return Ok(vec![Tensor::ones(
            task.settings.n_features,
            DType::F32,
            norms.device(),
        )?]);
    }
    let joint = norms.sqr()?.sum(1)?.sqrt()?;
    Ok(vec![((joint * of_joint)? + (norms.sum(1)? * of_sum)?)?])
}

/// Bits of the largest finite number: of positive numbers the larger has the larger bits, so bits can be halved.
const LARGEST: u32 = f32::MAX.to_bits();

/// 1 for the `keep` largest positive values of a matrix, and the smallest of them. Equals of the smallest are all kept.
fn largest_of_all(values: &Tensor, keep: usize) -> Result<(Tensor, Option<f32>)> {
    let count = |bits: u32| -> Result<f64> {
        super::total(&values.ge(f32::from_bits(bits))?.to_dtype(DType::F32)?)
    };
    // `low` is reached by enough, `high` by too few.
    let (mut low, mut high) = (0, LARGEST);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if count(middle)? >= keep as f64 {
            low = middle;
        } else {
            high = middle;
        }
    }
    let floor = f32::from_bits(if keep == 0 { LARGEST } else { low.max(1) });
    let kept = values.ge(floor)?;
    let unkept = Tensor::full(f32::INFINITY, values.shape(), values.device())?;
    let least = kept
        .where_cond(values, &unkept)?
        .min(1)?
        .min(0)?
        .to_scalar::<f32>()?;
    let least = Some(least).filter(|least| least.is_finite());
    Ok((kept.to_dtype(DType::F32)?, least))
}

/// 1 for the `keep` largest positive values of every row. Equals of the smallest are all kept.
pub(super) fn largest_of_rows(values: &Tensor, keep: usize) -> Result<Tensor> {
    let n_rows = values.dim(0)?;
    if keep == 0 {
        return values.zeros_like();
    }
    let (mut low, mut high) = (vec![0u32; n_rows], vec![LARGEST; n_rows]);
    let floors = |bits: &[u32]| {
        let floors: Vec<f32> = bits
            .iter()
            .map(|&bits| f32::from_bits(bits.max(1)))
            .collect();
        Tensor::from_vec(floors, (n_rows, 1), values.device())
    };
    while low.iter().zip(&high).any(|(low, high)| high - low > 1) {
        let middle: Vec<u32> = low
            .iter()
            .zip(&high)
            .map(|(low, high)| low + (high - low) / 2)
            .collect();
        let reached = values
            .broadcast_ge(&floors(&middle)?)?
            .to_dtype(DType::F32)?;
        let counts = reached.sum(1)?.to_vec1::<f32>()?;
        for (row, (&middle, count)) in middle.iter().zip(counts).enumerate() {
            if count >= keep as f32 {
                low[row] = middle;
            } else {
                high[row] = middle;
            }
        }
    }
    values.broadcast_ge(&floors(&low)?)?.to_dtype(DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_largest_positive_values_are_kept() -> Result<()> {
        let values = Tensor::new(&[[1f32, 5.0, 0.0], [4.0, 3.0, 0.5]], &Device::Cpu)?;
        let (kept, least) = largest_of_all(&values, 3)?;
        assert_eq!(kept.to_vec2::<f32>()?, [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]);
        assert_eq!(least, Some(3.0));
        let (kept, least) = largest_of_all(&values, 100)?;
        assert_eq!(kept.to_vec2::<f32>()?, [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]);
        assert_eq!(least, Some(0.5));
        assert_eq!(largest_of_all(&values, 0)?.1, None);
        let kept = largest_of_rows(&values, 2)?;
        assert_eq!(kept.to_vec2::<f32>()?, [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]);
        Ok(())
    }
}
