//! Weights as they lie in memory.

use crate::ops;
use candle_core::{DType, Device, Result, Tensor};
use kernels::{Int8Matrix, Precision};
use std::sync::Arc;

/// How the matrices of a model are kept in memory. Vectors are kept in the dtype that is computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// In the dtype that is computed in.
    #[default]
    Computed,
    /// In `bf16` where the file holds that and `f32` is computed on the CPU, which loses nothing; as computed elsewhere.
    Stored,
    /// In `bf16`, rounded where the file holds more; on the CPU in `f32` alone.
    Bf16,
    /// As 8-bit integers with a factor per row; on the CPU in `f32` alone.
    Int8,
}

/// What a model is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loading {
    /// What activations are.
    pub dtype: DType,
    /// What weights are.
    pub storage: Storage,
    /// What is multiplied in linear layers, on the CPU in `f32`.
    pub precision: Precision,
}

impl Loading {
    /// Everything in one dtype.
    pub fn new(dtype: DType) -> Self {
        Self {
            dtype,
            storage: Storage::Computed,
            precision: Precision::F32,
        }
    }

    /// Whether [`crate::ops`] takes the kernels, which know other storages than the computed one.
    fn on_kernels(self, device: &Device) -> bool {
        device.is_cpu() && self.dtype == DType::F32
    }

    /// The dtype that a tensor of a file is read into; `stored` is the file's.
    pub(crate) fn read_as(self, stored: DType, dims: usize, device: &Device) -> DType {
        let kept = match self.storage {
            Storage::Computed => false,
            Storage::Stored | Storage::Int8 => stored == DType::BF16,
            Storage::Bf16 => true,
        };
        if kept && dims == 2 && self.on_kernels(device) {
            DType::BF16
        } else {
            self.dtype
        }
    }

    /// A matrix that was read, as it is kept.
    pub(crate) fn kept(self, matrix: Tensor) -> Result<Weight> {
        if self.storage == Storage::Int8 && self.on_kernels(matrix.device()) {
            Weight::int8(&matrix)
        } else {
            Ok(Weight::Float(matrix))
        }
    }
}

/// A matrix `[d_out, d_in]`.
#[derive(Debug, Clone)]
pub enum Weight {
    /// In the dtype that is computed in, or in `bf16` where that is `f32`.
    Float(Tensor),
    /// As 8-bit integers with a factor per row.
    Int8(Arc<Int8Matrix>),
}

impl Weight {
    /// Rounds a matrix to 8-bit integers.
    pub fn int8(matrix: &Tensor) -> Result<Self> {
        Ok(Self::Int8(Arc::new(ops::int8(matrix)?)))
    }

    /// Rows, `d_out`.
    pub fn rows(&self) -> usize {
        match self {
            Self::Float(tensor) => tensor.dims()[0],
            Self::Int8(matrix) => matrix.shape().0,
        }
    }

    /// Columns, `d_in`.
    pub fn columns(&self) -> usize {
        match self {
            Self::Float(tensor) => tensor.dims()[1],
            Self::Int8(matrix) => matrix.shape().1,
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Float(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            Self::Int8(matrix) => matrix.bytes(),
        }
    }

    /// The whole matrix in a floating dtype; no copy where it lies in that.
    pub fn dense(&self, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Float(tensor) => tensor.to_dtype(dtype),
            Self::Int8(matrix) => {
                let (rows, columns) = matrix.shape();
                let values: Vec<f32> = (0..rows).flat_map(|row| matrix.row(row)).collect();
                Tensor::from_vec(values, (rows, columns), &Device::Cpu)?.to_dtype(dtype)
            }
        }
    }

    /// The matrix as a tensor.
    ///
    /// # Errors
    /// When it is kept as integers.
    pub fn tensor(&self) -> Result<&Tensor> {
        match self {
            Self::Float(tensor) => Ok(tensor),
            Self::Int8(_) => {
                candle_core::bail!("a weight kept as 8-bit integers is no tensor of numbers")
            }
        }
    }

    /// Keeps the matrix in `dtype` from now on, and shows it.
    pub(crate) fn widened(&mut self, dtype: DType) -> Result<&mut Tensor> {
        if self.tensor().map_or(true, |tensor| tensor.dtype() != dtype) {
            *self = Self::Float(self.dense(dtype)?);
        }
        match self {
            Self::Float(tensor) => Ok(tensor),
            Self::Int8(_) => unreachable!("was just made a tensor"),
        }
    }
}

/// A linear layer: y = x·wᵀ + b.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// `[d_out, d_in]`
    pub(crate) weight: Weight,
    /// `[d_out]`
    pub(crate) bias: Option<Tensor>,
    /// What is multiplied.
    pub(crate) precision: Precision,
}

impl Linear {
    /// `[tokens, d_in]` → `[tokens, d_out]`
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [y] = Self::all([self], x)?;
        Ok(y)
    }

    /// What several layers make of one input; their precision is the first one's.
    pub(crate) fn all<const N: usize>(layers: [&Self; N], x: &Tensor) -> Result<[Tensor; N]> {
        let precision = layers
            .first()
            .map_or(Precision::F32, |layer| layer.precision);
        ops::linears(
            x,
            layers.map(|layer| (&layer.weight, layer.bias.as_ref())),
            precision,
        )
    }

    /// Gradient by the input: `[tokens, d_out]` → `[tokens, d_in]`.
    pub(crate) fn backward(&self, dy: &Tensor) -> Result<Tensor> {
        ops::weight_backward(dy, &self.weight, self.precision)
    }

    /// The part that writes `d_out` of the outputs.
    pub(crate) fn part(&self, start: usize, d_out: usize) -> Result<Self> {
        let rows = |whole: &Tensor| whole.narrow(0, start, d_out);
        Ok(Self {
            weight: Weight::Float(rows(self.weight.tensor()?)?),
            bias: self.bias.as_ref().map(rows).transpose()?,
            precision: self.precision,
        })
    }
}
