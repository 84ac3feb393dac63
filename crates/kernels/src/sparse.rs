//! Products with sparse codes, and the optimizer on the rows they touch.
//!
//! The gradient of a matrix whose rows belong to features is a sum over the entries of sparse codes. It is never held:
//! [`Gradient`] says what it is summed from, and its rows are computed where they are used, once for its length
//! ([`Gradient::sum_of_squares`]) and once to update the matrix ([`update`]). Both walk the matrix in panels of [`PANEL`]
//! columns: one panel of a batch fits a core's own cache, where it can be read at random ten times as fast as from memory.

use crate::vector::vectorised;

mod gradient;
mod moments;
mod update;

pub use gradient::{Finish, Gradient, Source, Sparse, Term};
pub use moments::{Moments, Plane};
pub use update::{Reach, update};

/// Columns of a panel.
pub const PANEL: usize = 64;
/// Values tested at a time by [`scan`].
const TEST: usize = 32;

/// Appends `(first + i, a)` for every `a = product[i] + bias[i]` with `a · scale[i] ≥ floor`.
///
/// # Panics
/// When the slices differ in length.
pub fn scan(
    product: &[f32],
    (bias, scale): (&[f32], &[f32]),
    floor: f32,
    first: u32,
    out: &mut Vec<(u32, f32)>,
) {
    assert!(product.len() == bias.len() && product.len() == scale.len());
    vectorised(
        #[inline(always)]
        || {
            for (part, product) in product.chunks(TEST).enumerate() {
                let start = part * TEST;
                let (bias, scale) = (
                    &bias[start..][..product.len()],
                    &scale[start..][..product.len()],
                );
                #[expect(
                    clippy::needless_bitwise_bool,
                    reason = "without a branch the comparison is made on whole registers"
                )]
                let any = product
                    .iter()
                    .zip(bias)
                    .zip(scale)
                    .fold(false, |any, ((x, bias), scale)| {
                        any | ((x + bias) * scale >= floor)
                    });
                if !any {
                    continue;
                }
                for (place, ((x, bias), scale)) in product.iter().zip(bias).zip(scale).enumerate() {
                    if (x + bias) * scale >= floor {
                        out.push((first + (start + place) as u32, x + bias));
                    }
                }
            }
        },
    );
}

#[cfg(test)]
mod tests;
