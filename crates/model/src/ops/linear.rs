//! Linear layers: y = x·wᵀ + b.

use super::{on_slices, tensor, zeros};
use crate::storage::Weight;
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor};
use kernels::linear::{Layer, Matrix};
use kernels::{Int8Matrix, Precision};
use std::ops::Deref;

/// `x [tokens, d_in]`, `weight [d_out, d_in]`, `bias [d_out]` → `[tokens, d_out]`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [y] = linears(x, [(&Weight::Float(weight.clone()), bias)], Precision::F32)?;
    Ok(y)
}

/// Several linear layers of one input: `x [tokens, d_in]` → `[tokens, d_out]` each.
pub fn linears<const N: usize>(
    x: &Tensor,
    layers: [(&Weight, Option<&Tensor>); N],
    precision: Precision,
) -> Result<[Tensor; N]> {
    let (tokens, d_in) = x.dims2()?;
    if let Some(ys) = fast(x, &layers, precision) {
        let mut outputs = Vec::with_capacity(N);
        for (y, (weight, _)) in ys.into_iter().zip(&layers) {
            outputs.push(tensor(y, &[tokens, weight.rows()], x)?);
        }
        return Ok(outputs.try_into().expect("one result a layer"));
    }
    debug_assert!(layers.iter().all(|(weight, _)| weight.columns() == d_in));
    let plain = |(weight, bias): (&Weight, Option<&Tensor>)| {
        let y = x.matmul(&weight.dense(x.dtype())?.t()?)?;
        match bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    };
    let outputs = layers.into_iter().map(plain).collect::<Result<Vec<_>>>()?;
    Ok(outputs.try_into().expect("one result a layer"))
}

/// By the kernels, where everything is contiguous on the CPU, activations in `f32`.
fn fast(
    x: &Tensor,
    layers: &[(&Weight, Option<&Tensor>)],
    precision: Precision,
) -> Option<Vec<Vec<f32>>> {
    let (tokens, d_in) = x.dims2().ok()?;
    let x = Shown::of(x);
    let weights: Vec<ShownWeight<'_>> = layers
        .iter()
        .map(|(weight, _)| ShownWeight::of(weight))
        .collect();
    let biases: Vec<Option<Shown<'_>>> =
        layers.iter().map(|(_, bias)| bias.map(Shown::of)).collect();
    let mut shown = Vec::with_capacity(layers.len());
    for (weight, bias) in weights.iter().zip(&biases) {
        let bias = match bias {
            Some(bias) => Some(bias.f32()?),
            None => None,
        };
        shown.push(Layer {
            weight: weight.matrix()?,
            bias,
        });
    }
    let x = x.f32()?;
    let mut ys: Vec<Vec<f32>> = layers
        .iter()
        .map(|(weight, _)| zeros(tokens * weight.rows()))
        .collect();
    let mut slices: Vec<&mut [f32]> = ys.iter_mut().map(Vec::as_mut_slice).collect();
    kernels::linear::linear(&mut slices, x, d_in, &shown, precision);
    Some(ys)
}

/// A tensor's memory, held as long as it is read.
pub(super) struct Shown<'a> {
    memory: Box<dyn Deref<Target = Storage> + 'a>,
    /// Values, where they are adjacent.
    values: Option<(usize, usize)>,
}

impl<'a> Shown<'a> {
    pub(super) fn of(tensor: &'a Tensor) -> Self {
        let (memory, layout) = tensor.storage_and_layout();
        Self {
            memory: Box::new(memory),
            values: layout.contiguous_offsets(),
        }
    }

    pub(super) fn f32(&self) -> Option<&[f32]> {
        let (start, end) = self.values?;
        Some(&super::values_of(&self.memory)?[start..end])
    }

    fn matrix(&self) -> Option<Matrix<'_>> {
        let (start, end) = self.values?;
        match &**self.memory {
            Storage::Cpu(CpuStorage::F32(values)) => Some(Matrix::F32(&values[start..end])),
            Storage::Cpu(CpuStorage::BF16(values)) => Some(Matrix::Bf16(&values[start..end])),
            _ => None,
        }
    }
}

/// The same of a weight.
pub(super) enum ShownWeight<'a> {
    Float(Shown<'a>),
    Int8(&'a Int8Matrix),
}

impl<'a> ShownWeight<'a> {
    pub(super) fn of(weight: &'a Weight) -> Self {
        match weight {
            Weight::Float(tensor) => Self::Float(Shown::of(tensor)),
            Weight::Int8(matrix) => Self::Int8(matrix),
        }
    }

    pub(super) fn matrix(&self) -> Option<Matrix<'_>> {
        match self {
            Self::Int8(matrix) => Some(matrix.view()),
            Self::Float(shown) => shown.matrix(),
        }
    }
}

/// A matrix `[d_out, d_in]` rounded to 8-bit integers; from where it lies, if it can.
pub fn int8(matrix: &Tensor) -> Result<Int8Matrix> {
    let columns = matrix.dim(1)?;
    match Shown::of(matrix).matrix() {
        Some(Matrix::F32(values)) => Ok(Int8Matrix::new(values, columns)),
        Some(Matrix::Bf16(values)) => Ok(Int8Matrix::of_bf16(values, columns)),
        _ => {
            let values = matrix.to_dtype(DType::F32)?.flatten_all()?;
            Ok(Int8Matrix::new(&values.to_vec1::<f32>()?, columns))
        }
    }
}

/// Gradient by the input: `dy [tokens, d_out]` → `[tokens, d_in]`.
pub fn linear_backward(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    weight_backward(dy, &Weight::Float(weight.clone()), Precision::F32)
}

/// [`linear_backward`] for a weight of any storage.
pub fn weight_backward(dy: &Tensor, weight: &Weight, precision: Precision) -> Result<Tensor> {
    let (tokens, d_out) = dy.dims2()?;
    let d_in = weight.columns();
    let shown = (Shown::of(dy), ShownWeight::of(weight));
    if let (Some(dy_values), Some(matrix)) = (shown.0.f32(), shown.1.matrix()) {
        let mut dx = zeros(tokens * d_in);
        kernels::linear::linear_backward(&mut dx, dy_values, d_out, matrix, precision);
        return tensor(dx, &[tokens, d_in], dy);
    }
    dy.matmul(&weight.dense(dy.dtype())?)
}

/// Rows of an embedding: `ids [tokens]` → `[tokens, d_model]` in `dtype`.
pub fn embedding(weight: &Weight, ids: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
    match weight {
        Weight::Float(table) => table
            .index_select(&Tensor::new(ids, device)?, 0)?
            .to_dtype(dtype),
        Weight::Int8(matrix) => {
            let values: Vec<f32> = ids.iter().flat_map(|&id| matrix.row(id as usize)).collect();
            Tensor::from_vec(values, (ids.len(), matrix.shape().1), device)?.to_dtype(dtype)
        }
    }
}

/// Gradient by the weight: `dy [tokens, d_out]`, `x [tokens, d_in]` → `[d_out, d_in]`.
pub fn weight_gradient(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (tokens, d_out) = dy.dims2()?;
    let d_in = x.dim(1)?;
    let fast = on_slices([dy, x], |[dy, x]| {
        let mut dw = zeros(d_out * d_in);
        kernels::matmul_tn(&mut dw, dy, x, (d_out, d_in, tokens));
        dw
    });
    match fast {
        Some(dw) => tensor(dw, &[d_out, d_in], dy),
        None => dy.t()?.matmul(x),
    }
}

/// Gradient by the bias: `dy [tokens, d_out]` → `[d_out]`.
pub fn bias_gradient(dy: &Tensor) -> Result<Tensor> {
    let d_out = dy.dim(1)?;
    let fast = on_slices([dy], |[dy]| {
        let mut sums = vec![0.0; d_out];
        kernels::elementwise::sum_rows(&mut sums, dy);
        sums
    });
    match fast {
        Some(sums) => tensor(sums, &[d_out], dy),
        None => dy.sum(0),
    }
}
