//! Rotary position embedding in the rotate-half convention of Hugging Face.

use crate::vector::vectorised;
use rayon::prelude::*;

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// As the forward pass does.
    Forward,
    /// Back: the reverse pass, since a rotation's transpose is its inverse.
    Back,
}

/// Rotates every head of `x [tokens, n_heads, d_head]` in place by the angles of its token's position.
///
/// `positions [tokens]` index the rows of `cos` and `sin [max_position, d_head / 2]`.
pub fn rope(
    x: &mut [f32],
    positions: &[u32],
    (cos, sin): (&[f32], &[f32]),
    d_head: usize,
    turn: Turn,
) {
    let half = d_head / 2;
    if positions.is_empty() {
        return;
    }
    let width = x.len() / positions.len();
    let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
    x.par_chunks_mut(width)
        .with_min_len(32)
        .zip(positions)
        .for_each(|(token, &position)| {
            let row = position as usize * half..(position as usize + 1) * half;
            let (cos, sin) = (&cos[row.clone()], &sin[row]);
            vectorised(
                #[inline(always)]
                || {
                    for head in token.chunks_exact_mut(d_head) {
                        let (low, high) = head.split_at_mut(half);
                        for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                            let (x, y) = (*a, *b);
                            *a = x * cos - y * (sign * sin);
                            *b = y * cos + x * (sign * sin);
                        }
                    }
                },
            );
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_swaps_the_halves_and_turning_back_restores_them() {
        let mut x = [1.0, 2.0];
        rope(&mut x, &[1], (&[1.0, 0.0], &[0.0, 1.0]), 2, Turn::Forward);
        assert_eq!(x, [-2.0, 1.0]);
        rope(&mut x, &[1], (&[1.0, 0.0], &[0.0, 1.0]), 2, Turn::Back);
        assert_eq!(x, [1.0, 2.0]);
    }
}
