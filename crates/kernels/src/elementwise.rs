//! Sums of activations.

use crate::vector::vectorised;
use rayon::prelude::*;

/// Values handled by one task.
const VALUES: usize = 1 << 14;

/// y ← y + x.
pub fn add(y: &mut [f32], x: &[f32]) {
    y.par_chunks_mut(VALUES)
        .zip(x.par_chunks(VALUES))
        .for_each(|(y, x)| {
            vectorised(|| {
                for (y, x) in y.iter_mut().zip(x) {
                    *y += x;
                }
            });
        });
}

/// Adds `bias [width]` to every row of `y [rows, width]`.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    let width = bias.len();
    y.par_chunks_mut(64 * width).for_each(|rows| {
        vectorised(|| {
            for row in rows.chunks_exact_mut(width) {
                for (y, bias) in row.iter_mut().zip(bias) {
                    *y += bias;
                }
            }
        });
    });
}

/// Σ over rows: `x [rows, width]` → `sums [width]`, in row order.
pub fn sum_rows(sums: &mut [f32], x: &[f32]) {
    sums.fill(0.0);
    vectorised(|| {
        for row in x.chunks_exact(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    });
}

/// Σ x², in f64 and in order of 1,024 values.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    x.chunks(1024)
        .map(|part| f64::from(vectorised(|| crate::vector::dot(part, part))))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_sums() {
        let mut y = [1.0, 2.0, 3.0, 4.0];
        add(&mut y, &[1.0; 4]);
        add_bias(&mut y, &[10.0, 20.0]);
        assert_eq!(y, [12.0, 23.0, 14.0, 25.0]);
        let mut sums = [0.0; 2];
        sum_rows(&mut sums, &y);
        assert_eq!(sums, [26.0, 48.0]);
        assert_eq!(sum_of_squares(&y), 144.0 + 529.0 + 196.0 + 625.0);
    }
}
