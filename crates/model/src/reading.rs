//! Tensors of a file into memory, by all threads: pages that nobody has touched yet cost more than copying.

use candle_core::{DType, Result, Tensor, WithDType};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Values a thread reads at least.
const BLOCK: usize = 1 << 16;

/// The tensor on the CPU as `dtype`, where that is how it is stored or `f32`; `None` for anything else.
pub(crate) fn on_cpu(view: &TensorView<'_>, dtype: DType) -> Option<Result<Tensor>> {
    let (data, shape) = (view.data(), view.shape());
    Some(match (view.dtype(), dtype) {
        (Dtype::F32, DType::F32) => tensor(data, shape, f32::from_le_bytes),
        (Dtype::BF16, DType::F32) => tensor(data, shape, |b| bf16::from_le_bytes(b).to_f32()),
        (Dtype::F16, DType::F32) => tensor(data, shape, |b| f16::from_le_bytes(b).to_f32()),
        (Dtype::BF16, DType::BF16) => tensor(data, shape, bf16::from_le_bytes),
        _ => return None,
    })
}

fn tensor<const N: usize, T: WithDType>(
    data: &[u8],
    shape: &[usize],
    read: impl Fn([u8; N]) -> T + Sync,
) -> Result<Tensor> {
    let numbers = data.as_chunks::<N>().0.par_iter().with_min_len(BLOCK);
    let values: Vec<T> = numbers.map(|bytes| read(*bytes)).collect();
    Tensor::from_vec(values, shape, &candle_core::Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use candle_core::safetensors::Load;

    #[test]
    fn numbers_are_those_of_the_plain_reader() {
        let bytes: Vec<u8> = (0..4 * 300_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0xbf)
            .collect();
        for (stored, width) in [(Dtype::F32, 4), (Dtype::BF16, 2), (Dtype::F16, 2)] {
            let shape = vec![bytes.len() / width / 100, 100];
            let view = TensorView::new(stored, shape, &bytes).unwrap();
            let plain = view.load(&Device::Cpu).unwrap();
            for dtype in [DType::F32, DType::BF16] {
                let Some(ours) = on_cpu(&view, dtype) else {
                    assert!(dtype == DType::BF16 && stored != Dtype::BF16, "{stored:?}");
                    continue;
                };
                let bits = |x: &Tensor| {
                    let x = x.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                    let values = x.to_vec1::<f32>().unwrap();
                    values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let ours = ours.unwrap();
                assert_eq!(ours.dims(), plain.dims());
                assert!(bits(&ours) == bits(&plain), "{stored:?}");
            }
        }
        let view = TensorView::new(Dtype::F64, vec![bytes.len() / 8], &bytes).unwrap();
        assert!(on_cpu(&view, DType::F32).is_none());
    }
}
