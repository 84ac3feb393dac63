//! Activations that are kept at half their size.

use super::{on_slices, tensor, zeros};
use candle_core::{DType, Device, Result, Storage, Tensor};
use half::bf16;

/// `x` of any shape to the nearest `bf16`.
pub fn rounded(x: &Tensor) -> Result<Tensor> {
    let fast = on_slices([x], |[x]| {
        let mut y = vec![bf16::ZERO; x.len()];
        kernels::elementwise::rounded(&mut y, x);
        y
    });
    match fast {
        Some(y) => Tensor::from_vec(y, x.dims(), &Device::Cpu),
        None => x.to_dtype(DType::BF16),
    }
}

/// `x` of any shape in `dtype`, exactly where that is wider; no copy where it is the same.
pub fn widened(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    {
        let (storage, layout) = x.storage_and_layout();
        if let (DType::F32, Storage::Cpu(cpu), Some((start, end))) =
            (dtype, &*storage, layout.contiguous_offsets())
            && let Ok(values) = cpu.as_slice::<bf16>()
        {
            let mut y = zeros(end - start);
            kernels::elementwise::widened(&mut y, &values[start..end]);
            return tensor(y, x.dims(), x);
        }
    }
    x.to_dtype(dtype)
}
