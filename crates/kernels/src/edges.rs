//! What edge attribution is made of: narrow rows of heads expanded to the width of the residual, and long rows multiplied
//! with long rows.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Values of a row multiplied at a time: a few such pieces stay in the first-level cache.
const PIECE: usize = 1024;
/// Rows of the left side that one task multiplies: few, so that all threads have work beside few rows.
const TASK: usize = 16;
/// Rows and columns of a product that registers of AVX-512 hold.
const ROWS: usize = 4;
const COLUMNS: usize = 6;
/// Columns that 16 registers hold.
const FEW: usize = 2;

/// Heads that write to, or read from, rows of `d_out` numbers.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// `[own, d_in, d_out]`: head h of n uses number h·own/n.
    pub weight: &'a [f32],
    /// Width of a head.
    pub d_in: usize,
    /// Width of the residual.
    pub d_out: usize,
    /// `[d_out]`: factors on the columns, none for 1.
    pub gamma: Option<&'a [f32]>,
    /// Rows x and factors c of which c·x is taken away; several are added up.
    pub norms: &'a [Along<'a>],
}

/// Rows x `[positions, d_out]`, and for every head a factor per position.
#[derive(Debug, Clone, Copy)]
pub struct Along<'a> {
    /// `[positions, d_out]`
    pub x: &'a [f32],
    /// `[positions, stride]`: head h's factor is at `first + h`.
    pub factors: &'a [f32],
    /// Factors of a position.
    pub stride: usize,
    /// Place of head 0.
    pub first: usize,
}

/// out ← γ ⊙ (narrow·weight) − Σ c·x, head by head: `narrow [positions, n * d_in]` → `out [n, positions, d_out]`.
///
/// # Panics
/// When the shapes disagree.
pub fn expand(out: &mut [f32], narrow: &[f32], positions: usize, heads: Heads<'_>) {
    let Heads { d_in, d_out, .. } = heads;
    let n = narrow.len() / (positions * d_in).max(1);
    let own = heads.weight.len() / (d_in * d_out).max(1);
    assert_eq!(narrow.len(), positions * n * d_in, "rows of whole heads");
    assert_eq!(
        out.len(),
        n * positions * d_out,
        "a row per head and position"
    );
    assert!(
        own > 0 && n.is_multiple_of(own),
        "heads share weights evenly"
    );
    assert!(heads.gamma.is_none_or(|gamma| gamma.len() == d_out));
    let arch = Arch::new();
    let tasks = out.par_chunks_mut((positions * d_out).max(1)).enumerate();
    tasks.for_each(|(head, out)| {
        let weight = &heads.weight[head / (n / own) * d_in * d_out..][..d_in * d_out];
        arch.dispatch(Expand {
            out: &mut *out,
            narrow: &narrow[head * d_in..],
            stride: n * d_in,
            weight,
            shape: (d_in, d_out),
        });
        crate::vector::vectorised(
            #[inline(always)]
            || finish(out, head, heads),
        );
    });
}

#[inline(always)]
fn finish(out: &mut [f32], head: usize, heads: Heads<'_>) {
    for (position, row) in out.chunks_exact_mut(heads.d_out).enumerate() {
        if let Some(gamma) = heads.gamma {
            row.iter_mut().zip(gamma).for_each(|(y, g)| *y *= g);
        }
        for along in heads.norms {
            let factor = along.factors[position * along.stride + along.first + head];
            let x = &along.x[position * heads.d_out..][..heads.d_out];
            row.iter_mut().zip(x).for_each(|(y, x)| *y -= factor * x);
        }
    }
}

/// One head: rows of `narrow` that lie `stride` apart times `weight [d_in, d_out]`.
struct Expand<'a> {
    out: &'a mut [f32],
    narrow: &'a [f32],
    stride: usize,
    weight: &'a [f32],
    shape: (usize, usize),
}

impl WithSimd for Expand<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (_, d_out) = self.shape;
        let rows = self.out.len() / d_out.max(1);
        let wide = S::F32_LANES >= 16;
        let mut done = 0;
        while rows - done >= ROWS {
            expand_rows::<S, ROWS>(
                simd,
                self.out,
                (self.narrow, self.stride),
                self.weight,
                (self.shape, done),
                wide,
            );
            done += ROWS;
        }
        while done < rows {
            expand_rows::<S, 1>(
                simd,
                self.out,
                (self.narrow, self.stride),
                self.weight,
                (self.shape, done),
                wide,
            );
            done += 1;
        }
    }
}

/// `R` rows of an expansion, column by column of a few registers.
#[inline(always)]
fn expand_rows<S: Simd, const R: usize>(
    simd: S,
    out: &mut [f32],
    (narrow, stride): (&[f32], usize),
    weight: &[f32],
    ((d_in, d_out), first): ((usize, usize), usize),
    wide: bool,
) {
    let x: [&[f32]; R] = std::array::from_fn(|r| &narrow[(first + r) * stride..][..d_in]);
    let out = &mut out[first * d_out..][..R * d_out];
    let mut column = 0;
    if wide {
        while d_out - column >= COLUMNS * S::F32_LANES {
            columns::<S, R, COLUMNS>(simd, out, x, weight, (d_out, column));
            column += COLUMNS * S::F32_LANES;
        }
    }
    while d_out - column >= FEW * S::F32_LANES {
        columns::<S, R, FEW>(simd, out, x, weight, (d_out, column));
        column += FEW * S::F32_LANES;
    }
    for (x, row) in x.iter().zip(out.chunks_exact_mut(d_out)) {
        row[column..].fill(0.0);
        for (x, weights) in x.iter().zip(weight.chunks_exact(d_out)) {
            let pairs = row[column..].iter_mut().zip(&weights[column..]);
            pairs.for_each(|(y, w)| *y += x * w);
        }
    }
}

/// `R` rows and `C` registers of columns of an expansion.
#[inline(always)]
fn columns<S: Simd, const R: usize, const C: usize>(
    simd: S,
    out: &mut [f32],
    x: [&[f32]; R],
    weight: &[f32],
    (d_out, column): (usize, usize),
) {
    let d_in = x[0].len();
    let x = x.map(|x| &x[..d_in]);
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    for (place, weights) in weight.chunks_exact(d_out).take(d_in).enumerate() {
        let (w, _) = S::as_simd_f32s(&weights[column..column + C * S::F32_LANES]);
        let w: [S::f32s; C] = std::array::from_fn(|c| w[c]);
        for (sums, x) in sums.iter_mut().zip(&x) {
            let x = simd.splat_f32s(x[place]);
            for (sum, w) in sums.iter_mut().zip(&w) {
                *sum = simd.mul_add_e_f32s(x, *w, *sum);
            }
        }
    }
    for (sums, row) in sums.iter().zip(out.chunks_exact_mut(d_out)) {
        let (row, _) = S::as_mut_simd_f32s(&mut row[column..column + C * S::F32_LANES]);
        row.copy_from_slice(sums);
    }
}

/// sums ← sums + a·bᵀ: `a [m, width]`, `b [n, width]` → `sums [m, n]`; terms in f32, sums of a thousand of them in f64.
///
/// # Panics
/// When the shapes disagree.
pub fn add_products(sums: &mut [f64], a: &[f32], b: &[f32], width: usize) {
    let (m, n) = (a.len() / width.max(1), b.len() / width.max(1));
    assert_eq!(
        (a.len(), b.len(), sums.len()),
        (m * width, n * width, m * n)
    );
    if sums.is_empty() {
        return;
    }
    let arch = Arch::new();
    let tasks = sums
        .par_chunks_mut(TASK * n)
        .zip(a.par_chunks(TASK * width));
    tasks.for_each(|(sums, a)| arch.dispatch(Products { sums, a, b, width }));
}

struct Products<'a> {
    sums: &'a mut [f64],
    a: &'a [f32],
    b: &'a [f32],
    width: usize,
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, a, b, width } = self;
        let (m, n) = (a.len() / width, b.len() / width);
        let most = if S::F32_LANES >= 16 { COLUMNS } else { FEW };
        let strips = n.div_ceil(most);
        for start in (0..width).step_by(PIECE) {
            let piece = start..(start + PIECE).min(width);
            let mut row = 0;
            while row < m {
                let rows = if m - row >= ROWS { ROWS } else { 1 };
                for strip in 0..strips {
                    let columns = strip * n / strips..(strip + 1) * n / strips;
                    let at = (row, columns, piece.clone(), width);
                    let sums = &mut sums[row * n..(row + rows) * n];
                    if rows == ROWS {
                        strip_of::<S, ROWS>(simd, sums, (a, b), at);
                    } else {
                        strip_of::<S, 1>(simd, sums, (a, b), at);
                    }
                }
                row += rows;
            }
        }
    }
}

type At = (usize, std::ops::Range<usize>, std::ops::Range<usize>, usize);

#[inline(always)]
fn strip_of<S: Simd, const R: usize>(simd: S, sums: &mut [f64], (a, b): (&[f32], &[f32]), at: At) {
    match at.1.len() {
        1 => tile::<S, R, 1>(simd, sums, (a, b), at),
        2 => tile::<S, R, 2>(simd, sums, (a, b), at),
        3 => tile::<S, R, 3>(simd, sums, (a, b), at),
        4 => tile::<S, R, 4>(simd, sums, (a, b), at),
        5 => tile::<S, R, 5>(simd, sums, (a, b), at),
        _ => tile::<S, R, COLUMNS>(simd, sums, (a, b), at),
    }
}

/// Adds the products of `R` rows and `C` columns over one piece of their width.
#[inline(always)]
fn tile<S: Simd, const R: usize, const C: usize>(
    simd: S,
    sums: &mut [f64],
    (a, b): (&[f32], &[f32]),
    (row, columns, piece, width): At,
) {
    let place = |row: usize| row * width + piece.start..row * width + piece.end;
    let a: [&[f32]; R] = std::array::from_fn(|r| &a[place(row + r)]);
    let b: [&[f32]; C] = std::array::from_fn(|c| &b[place(columns.start + c)]);
    let n = sums.len() / R;
    let (a_lines, a_rest) = (
        a.map(|a| S::as_simd_f32s(a).0),
        a.map(|a| S::as_simd_f32s(a).1),
    );
    let (b_lines, b_rest) = (
        b.map(|b| S::as_simd_f32s(b).0),
        b.map(|b| S::as_simd_f32s(b).1),
    );
    let lanes = lines(simd, a_lines, b_lines);
    for (r, lanes) in lanes.iter().enumerate() {
        for (c, lanes) in lanes.iter().enumerate() {
            let rest: f32 = a_rest[r].iter().zip(b_rest[c]).map(|(a, b)| a * b).sum();
            sums[r * n + columns.start + c] += f64::from(simd.reduce_sum_f32s(*lanes) + rest);
        }
    }
}

#[inline(always)]
fn lines<S: Simd, const R: usize, const C: usize>(
    simd: S,
    a: [&[S::f32s]; R],
    b: [&[S::f32s]; C],
) -> [[S::f32s; C]; R] {
    let n = a[0].len();
    let (a, b) = (a.map(|a| &a[..n]), b.map(|b| &b[..n]));
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    for place in 0..n {
        let b: [S::f32s; C] = std::array::from_fn(|c| b[c][place]);
        for (sums, a) in sums.iter_mut().zip(&a) {
            let a = a[place];
            for (sum, b) in sums.iter_mut().zip(&b) {
                *sum = simd.mul_add_e_f32s(a, *b, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let value = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 16) as f32;
        (0..n as u32).map(|i| value(i) / 32_768.0 - 1.0).collect()
    }

    /// The definition of a product, in f64.
    fn plain(a: &[f32], b: &[f32], width: usize) -> Vec<f64> {
        let product = |a: &[f32], b: &[f32]| -> f64 {
            let pairs = a.iter().zip(b);
            pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        let row = |a| b.chunks_exact(width).map(move |b| product(a, b));
        a.chunks_exact(width).flat_map(row).collect()
    }

    proptest! {
        #[test]
        fn long_rows_are_multiplied(m in 1usize..70, n in 1usize..15, width in 1usize..40, long in 0usize..2) {
            let width = width + long * 1100;
            let (a, b) = (values(m * width, 1), values(n * width, 2));
            let mut sums = vec![0.5; m * n];
            add_products(&mut sums, &a, &b, width);
            let mut twin = vec![0.5; m * n];
            for (sums, a) in twin.chunks_mut(TASK * n).zip(a.chunks(TASK * width)) {
                Products { sums, a, b: &b, width }.with_simd(pulp::Scalar::new());
            }
            for ((sum, twin), wanted) in sums.iter().zip(&twin).zip(plain(&a, &b, width)) {
                prop_assert!((sum - 0.5 - wanted).abs() < 1e-3 && (twin - sum).abs() < 1e-3);
            }
        }

        #[test]
        fn heads_are_expanded(positions in 1usize..10, own in 1usize..3, share in 1usize..3, d_in in 1usize..9, d_out in 1usize..300) {
            let n = own * share;
            let (narrow, weight) = (values(positions * n * d_in, 1), values(own * d_in * d_out, 2));
            let (gamma, x, c) = (values(d_out, 3), values(positions * d_out, 4), values(positions * (n + 2), 5));
            let norms = [Along { x: &x, factors: &c, stride: n + 2, first: 1 }];
            let heads = Heads { weight: &weight, d_in, d_out, gamma: Some(&gamma), norms: &norms };
            let mut out = vec![f32::NAN; n * positions * d_out];
            expand(&mut out, &narrow, positions, heads);
            let mut twin = vec![f32::NAN; positions * d_out];
            Expand { out: &mut twin, narrow: &narrow, stride: n * d_in, weight: &weight[..d_in * d_out], shape: (d_in, d_out) }
                .with_simd(pulp::Scalar::new());
            finish(&mut twin, 0, heads);
            for (place, y) in out.iter().enumerate() {
                let (head, position, column) = (place / d_out / positions, place / d_out % positions, place % d_out);
                let sum: f32 = (0..d_in)
                    .map(|i| narrow[(position * n + head) * d_in + i] * weight[((head / share) * d_in + i) * d_out + column])
                    .sum();
                let wanted = gamma[column] * sum - c[position * (n + 2) + 1 + head] * x[position * d_out + column];
                prop_assert!((y - wanted).abs() < 1e-4);
                prop_assert!(head > 0 || (twin[place] - wanted).abs() < 1e-4);
            }
        }
    }
}
