//! Numbers of a tensor as a slice, and the sum of products that a score is.

use std::ops::Range;

use model::{DType, Tensor};

/// Numbers of a tensor, flat, in the precision the model computes in.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Single precision; narrower floats are widened to it.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
}

impl Values {
    /// Copies a tensor of any floating type.
    pub fn of(tensor: &Tensor) -> model::Result<Self> {
        let flat = tensor.flatten_all()?;
        Ok(match flat.dtype() {
            DType::F64 => Self::F64(flat.to_vec1()?),
            _ => Self::F32(flat.to_dtype(DType::F32)?.to_vec1()?),
        })
    }

    /// Σ a·b over a range of both, summed in f64.
    ///
    /// # Panics
    /// When the two were computed in different precisions: a model has one.
    pub fn dot(&self, other: &Self, range: Range<usize>) -> f64 {
        match (self, other) {
            (Self::F32(a), Self::F32(b)) => dot(&a[range.clone()], &b[range]),
            (Self::F64(a), Self::F64(b)) => dot(&a[range.clone()], &b[range]),
            _ => panic!("a model computes in one precision"),
        }
    }
}

/// Eight sums side by side, so that the loop is vector code, always added up in the same order.
fn dot<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane].into() * b[lane].into();
        }
    }
    let rest: f64 = a_rest
        .iter()
        .zip(b_rest)
        .map(|(&a, &b)| a.into() * b.into())
        .sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_products_is_exact_where_f32_would_lose_it() {
        let ones = Values::F32(vec![1.0; 21]);
        let mut large: Vec<f32> = (0..21).map(|i| i as f32).collect();
        large[3] = 1e9;
        // Σ 0…20 − 3 + 1e9, of which f32 would keep the first seven digits.
        assert!((ones.dot(&Values::F32(large.clone()), 0..21) - (207.0 + 1e9)).abs() < 1e-6);
        assert!((ones.dot(&Values::F32(large), 5..21) - 200.0).abs() < 1e-9);
    }
}
