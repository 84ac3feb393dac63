//! Rotary position embedding, rotate-half as in Hugging Face.

use super::{Turn, on_slices, tensor};
use crate::Config;
use candle_core::{D, DType, Device, Result, Tensor};

/// Cosines and sines of every position, `[max_positions, d_head / 2]`.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Tables for `positions` positions; angles are computed in f32, as transformers does, unless `dtype` is f64.
    pub fn new(config: &Config, positions: usize, dtype: DType, device: &Device) -> Result<Self> {
        let frequencies = config.inverse_frequencies();
        let exact = dtype == DType::F64;
        let angle = |p: usize, f: &f64| {
            if exact {
                p as f64 * f
            } else {
                f64::from(p as f32 * *f as f32)
            }
        };
        let angles: Vec<f64> = (0..positions)
            .flat_map(|p| frequencies.iter().map(move |f| angle(p, f)))
            .collect();
        let table = |value: fn(f64) -> f64| {
            let values: Vec<f64> = angles.iter().map(|a| value(*a)).collect();
            Tensor::from_vec(values, (positions, frequencies.len()), device)?.to_dtype(dtype)
        };
        Ok(Self {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
        })
    }

    /// How many positions the tables hold.
    pub fn positions(&self) -> usize {
        self.cos.dims()[0]
    }
}

/// Rotates `x [tokens, n_heads, d_head]` by the angles of `positions [tokens]`.
pub fn rope(x: &Tensor, positions: &[u32], tables: &Rope, turn: Turn) -> Result<Tensor> {
    let (tokens, n_heads, d_head) = x.dims3()?;
    let fast = on_slices([x, &tables.cos, &tables.sin], |[x, cos, sin]| {
        let mut y = x.to_vec();
        kernels::rope::rope(&mut y, positions, (cos, sin), d_head, turn);
        y
    });
    if let Some(y) = fast {
        return tensor(y, &[tokens, n_heads, d_head], x);
    }
    let positions = Tensor::new(positions, x.device())?;
    let cos = tables.cos.index_select(&positions, 0)?.unsqueeze(1)?;
    let sin = tables.sin.index_select(&positions, 0)?.unsqueeze(1)?;
    let sin = if turn == Turn::Back { sin.neg()? } else { sin };
    let (low, high) = (
        x.narrow(D::Minus1, 0, d_head / 2)?,
        x.narrow(D::Minus1, d_head / 2, d_head / 2)?,
    );
    let turned_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let turned_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    Tensor::cat(&[turned_low, turned_high], D::Minus1)
}
