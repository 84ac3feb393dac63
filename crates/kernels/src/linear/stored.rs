//! Numbers as weights store them.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "loads of vectors from pointers; the units that call them hold the lengths"
    )
)]

use half::bf16;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_and_si512,
    _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_slli_epi32,
    _mm512_srai_epi32,
};

/// A number of a weight.
pub(crate) trait Stored: Copy + Send + Sync + 'static {
    /// Nought.
    const ZERO: Self;
    /// Whether a `bf16` holds every value as it is.
    const FITS_BF16: bool;

    /// Its value; the factor of an integer's row not counted.
    fn value(self) -> f32;

    /// 16 values, exactly.
    ///
    /// # Safety
    /// `at` must be followed by 16 values, and the machine must have AVX-512 F, BW and VL.
    #[cfg(target_arch = "x86_64")]
    unsafe fn widen(at: *const Self) -> __m512;

    /// The `which`-th value of each lane of a register loaded as it lies, exactly.
    ///
    /// # Safety
    /// The machine must have AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    unsafe fn of_lane(register: __m512i, which: usize) -> __m512;

    /// 32 values, to the nearest `bf16`, the first in the lowest lane.
    ///
    /// # Safety
    /// `at` must be followed by 32 values, and the machine must have AVX-512 F, BW, VL and BF16.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn round(at: *const Self) -> __m512bh {
        // SAFETY: as the caller promises.
        unsafe { _mm512_cvtne2ps_pbh(Self::widen(at.add(16)), Self::widen(at)) }
    }
}

impl Stored for f32 {
    const ZERO: Self = 0.0;
    const FITS_BF16: bool = false;

    #[inline(always)]
    fn value(self) -> f32 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn widen(at: *const Self) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe { _mm512_loadu_ps(at) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn of_lane(register: __m512i, _: usize) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe { _mm512_castsi512_ps(register) }
    }
}

impl Stored for bf16 {
    const ZERO: Self = Self::ZERO;
    const FITS_BF16: bool = true;

    #[inline(always)]
    fn value(self) -> f32 {
        self.to_f32()
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn widen(at: *const Self) -> __m512 {
        // SAFETY: as the caller promises. A bf16 is the upper half of an f32.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn of_lane(register: __m512i, which: usize) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe {
            _mm512_castsi512_ps(if which == 0 {
                _mm512_slli_epi32::<16>(register)
            } else {
                _mm512_and_si512(register, _mm512_set1_epi32(-1 << 16))
            })
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn round(at: *const Self) -> __m512bh {
        // SAFETY: as the caller promises; both types are 512 bits of anything.
        unsafe { std::mem::transmute(_mm512_loadu_si512(at.cast())) }
    }
}

impl Stored for i8 {
    const ZERO: Self = 0;
    const FITS_BF16: bool = true;

    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn widen(at: *const Self) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn of_lane(register: __m512i, which: usize) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe {
            let top = match which {
                0 => _mm512_slli_epi32::<24>(register),
                1 => _mm512_slli_epi32::<16>(register),
                2 => _mm512_slli_epi32::<8>(register),
                _ => register,
            };
            _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(top))
        }
    }
}
