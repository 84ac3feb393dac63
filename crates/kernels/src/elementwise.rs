//! Sums of activations, and their shorter form.

use crate::vector::{dot, vectorised};
use half::bf16;
use rayon::prelude::*;

/// Values handled by one task.
const VALUES: usize = 1 << 14;

/// y ← y + x.
pub fn add(y: &mut [f32], x: &[f32]) {
    y.par_chunks_mut(VALUES)
        .zip(x.par_chunks(VALUES))
        .for_each(|(y, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (y, x) in y.iter_mut().zip(x) {
                        *y += x;
                    }
                },
            );
        });
}

/// y ← y − x.
pub fn subtract(y: &mut [f32], x: &[f32]) {
    y.par_chunks_mut(VALUES)
        .zip(x.par_chunks(VALUES))
        .for_each(|(y, x)| {
            vectorised(
                #[inline(always)]
                || y.iter_mut().zip(x).for_each(|(y, x)| *y -= x),
            );
        });
}

/// Rows times a factor each: `y [rows, width]`, `scales [rows]`.
pub fn scale_rows(y: &mut [f32], scales: &[f32]) {
    let width = y.len() / scales.len().max(1);
    y.par_chunks_mut((64 * width).max(1))
        .zip(scales.par_chunks(64))
        .for_each(|(rows, scales)| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, scale) in rows.chunks_exact_mut(width).zip(scales) {
                        for y in row.iter_mut() {
                            *y *= scale;
                        }
                    }
                },
            );
        });
}

/// Dot products head by head: `a [tokens, own * d_head]`, `b [tokens, n * d_head]` → `[tokens, n]`; head h of b meets
/// number h·own/n of a.
pub fn head_dots(a: &[f32], b: &[f32], (own, n, d_head): (usize, usize, usize)) -> Vec<f32> {
    let mut dots = vec![0.0; b.len() / d_head];
    dots.par_chunks_mut(n)
        .zip(a.par_chunks(own * d_head).zip(b.par_chunks(n * d_head)))
        .with_min_len(16)
        .for_each(|(dots, (a, b))| {
            vectorised(
                #[inline(always)]
                || {
                    for (head, (out, b)) in dots.iter_mut().zip(b.chunks_exact(d_head)).enumerate()
                    {
                        let a = &a[head / (n / own) * d_head..][..d_head];
                        *out = dot(a, b);
                    }
                },
            );
        });
    dots
}

/// Sums over the heads that share one: `x [tokens, n * d_head]` → `[tokens, own * d_head]`.
pub fn sum_heads(x: &[f32], (own, n, d_head): (usize, usize, usize)) -> Vec<f32> {
    let mut sums = vec![0.0; x.len() / n * own];
    sums.par_chunks_mut(own * d_head)
        .zip(x.par_chunks(n * d_head))
        .with_min_len(16)
        .for_each(|(sums, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (head, x) in x.chunks_exact(d_head).enumerate() {
                        let sum = &mut sums[head / (n / own) * d_head..][..d_head];
                        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
                    }
                },
            );
        });
    sums
}

/// Adds `bias [width]` to every row of `y [rows, width]`.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    let width = bias.len();
    y.par_chunks_mut(64 * width).for_each(|rows| {
        vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(width) {
                    for (y, bias) in row.iter_mut().zip(bias) {
                        *y += bias;
                    }
                }
            },
        );
    });
}

/// Σ over rows: `x [rows, width]` → `sums [width]`, in row order.
pub fn sum_rows(sums: &mut [f32], x: &[f32]) {
    sums.fill(0.0);
    vectorised(
        #[inline(always)]
        || {
            for row in x.chunks_exact(sums.len()) {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += x;
                }
            }
        },
    );
}

/// y ← x to the nearest `bf16`, ties to even.
pub fn rounded(y: &mut [bf16], x: &[f32]) {
    let tasks = y.par_chunks_mut(VALUES).zip(x.par_chunks(VALUES));
    tasks.for_each(|(y, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(x) {
                    let bits = x.to_bits();
                    let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
                    // Of a value that is no number, what is cut off may be all that says so.
                    let none = bits >> 16 | 0x40;
                    *y = bf16::from_bits(if x.is_nan() { none } else { nearest } as u16);
                }
            },
        );
    });
}

/// y ← x, exactly.
pub fn widened(y: &mut [f32], x: &[bf16]) {
    let tasks = y.par_chunks_mut(VALUES).zip(x.par_chunks(VALUES));
    tasks.for_each(|(y, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = f32::from_bits(u32::from(x.to_bits()) << 16);
                }
            },
        );
    });
}

/// Σ x², in f64 and in order of 1,024 values.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    x.chunks(1024)
        .map(|part| {
            f64::from(vectorised(
                #[inline(always)]
                || dot(part, part),
            ))
        })
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

    #[test]
    fn rounding_is_that_of_half() {
        let bits = (0..1 << 16).map(|i: u32| i.wrapping_mul(2_654_435_761));
        let special = [
            f32::NAN,
            f32::from_bits(0x7F80_0001),
            f32::INFINITY,
            f32::MAX,
            -0.0,
        ];
        let x: Vec<f32> = bits.map(f32::from_bits).chain(special).collect();
        let (mut short, mut long) = (vec![bf16::ZERO; x.len()], vec![0.0; x.len()]);
        rounded(&mut short, &x);
        widened(&mut long, &short);
        for ((x, short), long) in x.iter().zip(&short).zip(&long) {
            assert_eq!(short.to_bits(), bf16::from_f32(*x).to_bits(), "{x}");
            assert_eq!(long.to_bits(), short.to_f32().to_bits(), "{x}");
        }
    }

    #[test]
    fn heads_are_summed_and_multiplied_with_the_one_they_share() {
        // Two tokens, two heads of two numbers that share one.
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(sum_heads(&x, (1, 2, 2)), [4.0, 6.0, 12.0, 14.0]);
        let a = [1.0, 10.0, 2.0, 20.0];
        assert_eq!(head_dots(&a, &x, (1, 2, 2)), [21.0, 43.0, 130.0, 174.0]);
    }

    #[test]
    fn rows_are_scaled_and_subtracted() {
        let mut y = [1.0, 2.0, 3.0, 4.0];
        scale_rows(&mut y, &[2.0, -1.0]);
        assert_eq!(y, [2.0, 4.0, -3.0, -4.0]);
        subtract(&mut y, &[1.0; 4]);
        assert_eq!(y, [1.0, 3.0, -4.0, -5.0]);
    }
}
