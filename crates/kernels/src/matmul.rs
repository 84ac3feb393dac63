//! Dense products over strided views.
//!
//! The product itself is the `gemm` crate's (AVX2, AVX-512 or NEON, chosen at run time); this module checks every view
//! against its slice, so that its callers need no `unsafe`.

use gemm::Parallelism;

/// A matrix inside a slice: element (i, j) is `data[i * row_stride + j * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// A matrix to write: like [`View`], columns adjacent.
#[derive(Debug)]
pub struct ViewMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

/// How far into a slice a view reaches.
fn extent(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 {
        0
    } else {
        (rows - 1) * row_stride + (columns - 1) * column_stride + 1
    }
}

impl<'a> View<'a> {
    /// `rows` rows of `columns` adjacent values, `row_stride` apart.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            extent(rows, columns, row_stride, 1) <= data.len(),
            "view {rows}×{columns} outside its slice"
        );
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The same values with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

impl<'a> ViewMut<'a> {
    /// `rows` rows of `columns` adjacent values, `row_stride` apart.
    ///
    /// # Panics
    /// When the slice is too short or rows overlap.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            extent(rows, columns, row_stride, 1) <= data.len(),
            "view {rows}×{columns} outside its slice"
        );
        assert!(
            rows < 2 || row_stride >= columns,
            "rows of a result overlap"
        );
        Self {
            data,
            rows,
            columns,
            row_stride,
        }
    }
}

/// Whether a product may use every thread, or runs inside a task that is already one of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// This thread only.
    One,
    /// The rayon pool.
    All,
}

/// c ← keep·c + scale·a·b, with `keep` 0 or 1.
///
/// # Panics
/// When the shapes disagree.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a mutable view is used up by what is written through it"
)]
pub fn matmul(c: ViewMut<'_>, keep: bool, scale: f32, a: View<'_>, b: View<'_>, threads: Threads) {
    assert_eq!(
        (c.rows, c.columns, a.columns),
        (a.rows, b.columns, b.rows),
        "shapes of a product disagree"
    );
    if c.rows == 0 || c.columns == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    #[expect(
        unsafe_code,
        reason = "gemm takes pointers; every view was checked against its slice when it was made"
    )]
    // SAFETY: `View::new` and `ViewMut::new` assert that the last element of each matrix lies inside its slice, `c` is
    // borrowed mutably and so overlaps neither operand, and its rows do not overlap one another.
    unsafe {
        gemm::gemm(
            c.rows,
            c.columns,
            a.columns,
            c.data.as_mut_ptr(),
            1,
            c.row_stride as isize,
            keep,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// y ← x·wᵀ: `[m, k]`, `[n, k]` → `[m, n]` (a linear layer).
pub fn matmul_nt(y: &mut [f32], x: &[f32], w: &[f32], (m, n, k): (usize, usize, usize)) {
    matmul(
        ViewMut::new(y, m, n, n),
        false,
        1.0,
        View::new(x, m, k, k),
        View::new(w, n, k, k).transposed(),
        Threads::All,
    );
}

/// y ← x·w: `[m, k]`, `[k, n]` → `[m, n]` (the gradient of a linear layer's input).
pub fn matmul_nn(y: &mut [f32], x: &[f32], w: &[f32], (m, n, k): (usize, usize, usize)) {
    matmul(
        ViewMut::new(y, m, n, n),
        false,
        1.0,
        View::new(x, m, k, k),
        View::new(w, k, n, n),
        Threads::All,
    );
}

/// y ← aᵀ·b: `[k, m]`, `[k, n]` → `[m, n]` (the gradient of a linear layer's weight).
pub fn matmul_tn(y: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) {
    matmul(
        ViewMut::new(y, m, n, n),
        false,
        1.0,
        View::new(a, k, m, m).transposed(),
        View::new(b, k, n, n),
        Threads::All,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f32> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
            }
        }
        c
    }

    fn transpose(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns)
            .map(|i| a[(i % rows) * columns + i / rows])
            .collect()
    }

    proptest! {
        #[test]
        fn every_layout_agrees_with_the_plain_product(m in 1usize..40, n in 1usize..40, k in 1usize..70, seed in 0u32..1000) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 65_536.0 - 0.5;
            let a: Vec<f32> = (0..m * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i + 7_919)).collect();
            let wanted = plain(&a, &b, (m, n, k));
            let mut results = vec![vec![0.0; m * n]; 3];
            matmul_nn(&mut results[0], &a, &b, (m, n, k));
            matmul_nt(&mut results[1], &a, &transpose(&b, k, n), (m, n, k));
            matmul_tn(&mut results[2], &transpose(&a, m, k), &b, (m, n, k));
            for result in results {
                for (x, y) in result.iter().zip(&wanted) {
                    prop_assert!((x - y).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "outside its slice")]
    fn a_view_that_reaches_outside_its_slice_is_refused() {
        let _ = View::new(&[0.0; 5], 2, 3, 3);
    }
}
