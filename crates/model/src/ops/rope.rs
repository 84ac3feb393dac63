//! Rotary position embedding, rotate-half as in Hugging Face.

use super::{Turn, copied, on_slices, tensor};
use crate::config::Rotation;
use candle_core::{D, DType, Device, Result, Tensor};

/// Cosines and sines, `[rows, rotary_width / 2]`: one row a position, as a rule.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// One row of tables for every position with its rotation; angles are computed in f32, as transformers does, unless
    /// `dtype` is f64.
    pub fn new<'a>(
        rows: impl Iterator<Item = (u32, &'a Rotation)>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let exact = dtype == DType::F64;
        let angle = |p: u32, f: f64| {
            if exact {
                f64::from(p) * f
            } else {
                f64::from(p as f32 * f as f32)
            }
        };
        let (mut cos, mut sin, mut n_rows) = (Vec::new(), Vec::new(), 0);
        for (position, rotation) in rows {
            for frequency in &rotation.frequencies {
                let angle = angle(position, *frequency);
                cos.push(angle.cos() * rotation.factor);
                sin.push(angle.sin() * rotation.factor);
            }
            n_rows += 1;
        }
        let pairs = cos.len() / n_rows.max(1);
        let table = |values| Tensor::from_vec(values, (n_rows, pairs), device)?.to_dtype(dtype);
        Ok(Self {
            cos: table(cos)?,
            sin: table(sin)?,
        })
    }
}

/// Rotates `x [tokens, n_heads, d_head]` by the angles of `positions [tokens]`, rows of the tables; dimensions beyond the
/// tables' width stay as they are.
pub fn rope(x: &Tensor, positions: &[u32], tables: &Rope, turn: Turn) -> Result<Tensor> {
    let (tokens, n_heads, d_head) = x.dims3()?;
    let width = 2 * tables.cos.dim(1)?;
    if width < d_head {
        let turned = x.narrow(D::Minus1, 0, width)?.contiguous()?;
        let kept = x.narrow(D::Minus1, width, d_head - width)?;
        return Tensor::cat(&[rope(&turned, positions, tables, turn)?, kept], D::Minus1);
    }
    let fast = on_slices([x, &tables.cos, &tables.sin], |[x, cos, sin]| {
        let mut y = copied(x);
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
