//! Adam's two moments of a matrix in 24 bits each.
//!
//! A moment is a running mean that is used through a quotient, so its last 8 bits decide about nothing: rounded to 24 bits
//! it is off by at most 2⁻¹⁶ of itself (the first: sign, exponent, 15 bits) or 2⁻¹⁷ (the second, which has no sign, 16
//! bits). An update uses the moments before they are rounded. Beside weights of 4 bytes that is a quarter less for the
//! moments, and for training whose gradients are not held most of what can still be saved.

use rayon::prelude::*;

/// Both moments of a matrix `[n_rows, columns]`, panel by panel, within a panel row by row. Zeros at the start; rows that
/// never had a gradient take no memory where the system gives zeroed pages late.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    n_rows: usize,
    columns: usize,
    /// Decayed sum of gradients.
    pub first: Plane,
    /// Decayed sum of their squares.
    pub second: Plane,
}

/// Numbers of 24 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plane {
    /// Upper 16 bits.
    pub high: Vec<u16>,
    /// Lower 8 bits.
    pub low: Vec<u8>,
}

/// A piece of a plane.
pub(super) type Short<'a> = (&'a mut [u16], &'a mut [u8]);

impl Plane {
    fn zeros(n: usize) -> Self {
        Self {
            high: vec![0; n],
            low: vec![0; n],
        }
    }
}

impl Moments {
    /// All zeros.
    pub fn zeros(n_rows: usize, columns: usize) -> Self {
        Self {
            n_rows,
            columns,
            first: Plane::zeros(n_rows * columns),
            second: Plane::zeros(n_rows * columns),
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.n_rows, self.columns]
    }

    /// Blocks of `rows` rows of the panel that begins at column `start` and is `width` wide: first and second moments
    /// `[rows, width]` each.
    pub(super) fn blocks(
        &mut self,
        (start, width): (usize, usize),
        rows: usize,
    ) -> impl IndexedParallelIterator<Item = [Short<'_>; 2]> {
        let place = start * self.n_rows..(start + width) * self.n_rows;
        let size = rows * width;
        let [first, second] = [&mut self.first, &mut self.second].map(|plane| {
            plane.high[place.clone()]
                .par_chunks_mut(size)
                .zip(plane.low[place.clone()].par_chunks_mut(size))
        });
        first.zip(second).map(|(first, second)| [first, second])
    }
}

/// Values of a piece with a sign.
#[inline(always)]
pub(super) fn signed((high, low): (&[u16], &[u8]), out: &mut [f32]) {
    for ((out, high), low) in out.iter_mut().zip(high).zip(low) {
        *out = f32::from_bits(u32::from(*high) << 16 | u32::from(*low) << 8);
    }
}

/// Rounds values with a sign to nearest, the larger of two as near.
#[inline(always)]
pub(super) fn set_signed((high, low): (&mut [u16], &mut [u8]), values: &[f32]) {
    for ((high, low), value) in high.iter_mut().zip(low).zip(values) {
        let bits = value.to_bits().wrapping_add(1 << 7);
        (*high, *low) = ((bits >> 16) as u16, (bits >> 8) as u8);
    }
}

/// Values of a piece without a sign.
#[inline(always)]
pub(super) fn unsigned((high, low): (&[u16], &[u8]), out: &mut [f32]) {
    for ((out, high), low) in out.iter_mut().zip(high).zip(low) {
        *out = f32::from_bits(u32::from(*high) << 15 | u32::from(*low) << 7);
    }
}

/// Rounds values that are not negative.
#[inline(always)]
pub(super) fn set_unsigned((high, low): (&mut [u16], &mut [u8]), values: &[f32]) {
    for ((high, low), value) in high.iter_mut().zip(low).zip(values) {
        let bits = value.to_bits().wrapping_add(1 << 6);
        (*high, *low) = ((bits >> 15) as u16, (bits >> 7) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(value: f32) -> [f32; 2] {
        let (mut high, mut low) = ([0; 1], [0; 1]);
        let mut out = [0.0; 2];
        set_signed((&mut high, &mut low), &[value]);
        signed((&high, &low), &mut out[..1]);
        set_unsigned((&mut high, &mut low), &[value.abs()]);
        unsigned((&high, &low), &mut out[1..]);
        out
    }

    proptest! {
        #[test]
        fn numbers_come_back_to_16_and_17_bits(mantissa in -2.0f32..2.0, exponent in -100i32..100) {
            let value = mantissa * 2f32.powi(exponent);
            let [signed, unsigned] = there_and_back(value);
            let off = |back: f32, value: f32| f64::from(back - value).abs() / f64::from(value.abs()).max(1e-300);
            prop_assert!(value == 0.0 || off(signed, value) <= 2f64.powi(-16));
            prop_assert!(value == 0.0 || off(unsigned, value.abs()) <= 2f64.powi(-17));
        }
    }

    #[test]
    fn short_numbers_are_kept_as_they_are() {
        for value in [0.0, 1.0, -1.5, 0.000_030_517_578] {
            assert_eq!(
                there_and_back(value).map(f32::to_bits),
                [value, value.abs()].map(f32::to_bits)
            );
        }
    }
}
