//! Activations that are kept at half their size.

use super::{on_slices, tensor, zeros};
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor};
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
        let values = layout.contiguous_offsets();
        if let (DType::F32, Storage::Cpu(CpuStorage::BF16(all)), Some((start, end))) =
            (dtype, &*storage, values)
        {
            let values = &all[start..end];
            let mut y = zeros(end - start);
            kernels::elementwise::widened(&mut y, values);
            return tensor(y, x.dims(), x);
        }
    }
    x.to_dtype(dtype)
}
