//! The three float formats activations are kept in.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Format of a stored float: `--dtype f32|f16|bf16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits, nothing lost.
    F32,
    /// 16 bits, 11 of them significant, at most 65504: large activations overflow.
    F16,
    /// 16 bits, 8 of them significant, the range of `F32`.
    Bf16,
}

impl Dtype {
    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Appends values to `out`, rounded to nearest even, little-endian.
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
        }
    }

    /// Appends the values of little-endian `bytes` to `out`, exactly.
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
        }
    }
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
            _ => Err(format!("`{text}` is not one of f32, f16, bf16")),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
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
    fn a_value_too_large_for_f16_is_seen() {
        assert_eq!(first_not_finite(&through(Dtype::Bf16, &[1.0, 1e5])), None);
        assert_eq!(first_not_finite(&through(Dtype::F16, &[1.0, 1e5])), Some(1));
    }
}
