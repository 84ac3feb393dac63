//! The formats activations are kept in: three of floats, and whole numbers with a factor for each row.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Format of a stored float: `--dtype f32|f16|bf16|int8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits, nothing lost.
    F32,
    /// 16 bits, 11 of them significant, at most 65504: large activations overflow.
    F16,
    /// 16 bits, 8 of them significant, the range of `F32`.
    Bf16,
    /// 8 bits, for rows of activations: a row is its factor (an f32, largest |value| / 127) and a whole number from −127 to
    /// 127 for each value.
    Int8,
}

/// Bytes of the factor of an `Int8` row.
const FACTOR: usize = 4;

impl Dtype {
    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }

    /// Bytes of a row of `width` values.
    pub fn row_bytes(self, width: usize) -> usize {
        match self {
            Self::Int8 => FACTOR + width,
            _ => width * self.size(),
        }
    }

    /// Values the stored tensor has by row of `width` values: `Int8` counts its factor as four.
    pub(crate) fn stored_width(self, width: usize) -> usize {
        self.row_bytes(width) / self.size()
    }

    /// Appends rows of `width` values.
    pub(crate) fn encode_rows(self, values: &[f32], width: usize, out: &mut Vec<u8>) {
        match self {
            Self::Int8 => values
                .chunks_exact(width)
                .for_each(|row| self.encode(row, out)),
            _ => self.encode(values, out),
        }
    }

    /// Appends the values of rows of `width` values.
    pub(crate) fn decode_rows(self, bytes: &[u8], width: usize, out: &mut Vec<f32>) {
        match self {
            Self::Int8 => {
                let rows = bytes.chunks_exact(self.row_bytes(width));
                rows.for_each(|row| self.decode(row, out));
            }
            _ => self.decode(bytes, out),
        }
    }

    /// Σ over rows of the squared error that rounding is expected to have left: a twelfth of a step's square by value, 0
    /// for floats, whose error is too small to matter here.
    pub(crate) fn rounding(self, bytes: &[u8], width: usize) -> f64 {
        if self != Self::Int8 {
            return 0.0;
        }
        let rows = bytes.chunks_exact(self.row_bytes(width));
        let square = |row: &[u8]| f64::from(factor(row)).powi(2);
        rows.map(square).sum::<f64>() * width as f64 / 12.0
    }

    /// Appends values to `out`, rounded to nearest even, little-endian; as `Int8`, they are one row.
    pub(crate) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => append(out, values, f32::to_le_bytes),
            Self::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                append(out, &halves, f16::to_le_bytes);
            }
            Self::Bf16 => {
                let mut halves = vec![bf16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                append(out, &halves, bf16::to_le_bytes);
            }
            Self::Int8 => {
                let largest = values
                    .iter()
                    .fold(0f32, |largest, value| largest.max(value.abs()));
                // A row that is not finite keeps a factor that is not, which readers refuse.
                let factor = if values.iter().all(|value| value.is_finite()) {
                    largest / 127.0
                } else {
                    f32::NAN
                };
                let scale = if factor > 0.0 { 1.0 / factor } else { 0.0 };
                out.extend(factor.to_le_bytes());
                out.extend(
                    values
                        .iter()
                        .map(|value| (value * scale).round_ties_even() as i8 as u8),
                );
            }
        }
    }

    /// Appends the values of little-endian `bytes` to `out`, exactly; of `Int8`, those of one row.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Self::F16 => {
                let halves: Vec<f16> = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f16::from_le_bytes(*b))
                    .collect();
                let start = out.len();
                out.resize(start + halves.len(), 0.0);
                halves.convert_to_f32_slice(&mut out[start..]);
            }
            // The upper half of an f32: a shift, which compilers do sixteen at a time.
            Self::Bf16 => out.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)),
            ),
            Self::Int8 => {
                let factor = factor(bytes);
                out.extend(
                    bytes[FACTOR..]
                        .iter()
                        .map(|&byte| factor * f32::from(byte as i8)),
                );
            }
        }
    }
}

/// Factor of an `Int8` row.
fn factor(row: &[u8]) -> f32 {
    row.first_chunk()
        .map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes))
}

/// Appends `N` bytes per value: into room made at once, which compiles to a copy.
fn append<T: Copy, const N: usize>(out: &mut Vec<u8>, values: &[T], bytes: impl Fn(T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + N * values.len(), 0);
    let places = out[start..].as_chunks_mut().0;
    for (place, &value) in places.iter_mut().zip(values) {
        *place = bytes(value);
    }
}

/// Position of the first NaN or infinity.
pub(crate) fn first_not_finite(values: &[f32]) -> Option<usize> {
    // Without a way out of the loop it runs at memory speed; only a file that is wrong is searched.
    let finite = values
        .iter()
        .fold(true, |finite, value| finite & value.is_finite());
    if finite {
        return None;
    }
    values.iter().position(|value| !value.is_finite())
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(format!("`{text}` is not one of f32, f16, bf16, int8")),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(dtype: Dtype, values: &[f32]) -> Vec<f32> {
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        dtype.encode(values, &mut bytes);
        assert_eq!(bytes.len(), values.len() * dtype.size());
        dtype.decode(&bytes, &mut back);
        back
    }

    #[test]
    fn values_are_rounded_to_nearest_even() {
        // 1 + 2⁻⁸ lies halfway between two bf16, 1 + 3·2⁻⁸ too: the even neighbour is below and above.
        let values = [1.0, -2.5, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0];
        assert_eq!(through(Dtype::F32, &values), values);
        assert_eq!(through(Dtype::F16, &values), values);
        assert_eq!(
            through(Dtype::Bf16, &values),
            [1.0, -2.5, 1.0, 1.0 + 4.0 / 256.0]
        );
    }

    #[test]
    fn rows_of_int8_have_a_factor_each_and_the_error_they_say() {
        let values: Vec<f32> = (0..2000)
            .map(|i| ((i * 7919 % 2003) as f32 - 1000.0) * if i < 1000 { 1.0 } else { 1e-4 })
            .collect();
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        Dtype::Int8.encode_rows(&values, 500, &mut bytes);
        assert_eq!(bytes.len(), 4 * Dtype::Int8.row_bytes(500));
        Dtype::Int8.decode_rows(&bytes, 500, &mut back);
        for (row, found) in values.chunks(500).zip(back.chunks(500)) {
            let step = row
                .iter()
                .fold(0f32, |largest, value| largest.max(value.abs()))
                / 127.0;
            assert!(
                row.iter()
                    .zip(found)
                    .all(|(a, b)| (a - b).abs() <= 0.5001 * step)
            );
        }
        let error: f64 = values
            .iter()
            .zip(&back)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum();
        let expected = Dtype::Int8.rounding(&bytes, 500);
        assert!(
            (error / expected - 1.0).abs() < 0.1,
            "{error}, not {expected}"
        );
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        Dtype::Int8.encode_rows(&[0.0, 0.0, f32::INFINITY, 1.0], 2, &mut bytes);
        Dtype::Int8.decode_rows(&bytes, 2, &mut back);
        assert!(back[..2] == [0.0, 0.0] && first_not_finite(&back) == Some(2));
    }

    #[test]
    fn a_value_too_large_for_f16_is_seen() {
        assert_eq!(first_not_finite(&through(Dtype::Bf16, &[1.0, 1e5])), None);
        assert_eq!(first_not_finite(&through(Dtype::F16, &[1.0, 1e5])), Some(1));
    }
}
