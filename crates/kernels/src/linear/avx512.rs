//! Products of `f32` with AVX-512.
//!
//! Nothing here is reached without a value of [`F32`], which exists only where the machine has the instructions.

#![expect(
    unsafe_code,
    reason = "vector instructions and pointers; every length is asserted before"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "registers are numbered by constants, so that the loops unroll"
)]

use super::stored::Stored;
use super::unit::{Aligned, F32_CHUNK, InPlace, PANEL, Unit, copied_lines, pack_f32, whole_lines};
use crate::isa::Isa;
use std::arch::x86_64::{
    __m256, __m512, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_permute2f128_ps,
    _mm256_shuffle_ps, _mm256_storeu_ps, _mm512_castps512_ps256, _mm512_extractf32x8_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::hint::black_box;

/// `f32` by `f32`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F32(());

impl F32 {
    pub(crate) fn new() -> Option<Self> {
        (Isa::detected() >= Isa::Avx512).then_some(Self(()))
    }

    /// `rounds` multiply-adds on each of a dozen registers, for `crate::peak`; returns the operations of one round.
    #[expect(
        clippy::unused_self,
        reason = "a value of it is the proof that the machine has AVX-512"
    )]
    pub(crate) fn multiply_adds(self, rounds: usize) -> usize {
        // SAFETY: the machine has AVX-512 since `self` exists.
        unsafe { multiply_adds(rounds) };
        CHAINS * 16 * 2
    }
}

/// Independent sums that hide the latency of a multiply-add.
const CHAINS: usize = 12;

#[target_feature(enable = "avx512f")]
fn multiply_adds(rounds: usize) {
    let (factor, term) = (
        _mm512_set1_ps(black_box(0.999)),
        _mm512_set1_ps(black_box(0.5)),
    );
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, term);
        }
    }
    black_box(sums);
}

/// Asserts what the pointers below rely on: equal lengths, whole lines.
pub(super) fn check<L, const R: usize>(x: &[&[L]; R], panel_lines: usize) {
    assert!(
        x.iter().all(|x| x.len() * PANEL == panel_lines),
        "rows as long as the panel"
    );
}

pub(super) fn check_rows<T>(rows: &[&[T]; PANEL], values: usize) {
    assert!(
        rows.iter().all(|row| row.len() == values),
        "rows of whole lines"
    );
}

impl Unit for F32 {
    type Line = [f32; 16];
    const ZERO: Self::Line = [0.0; 16];
    const LANES: usize = 16;
    const CHUNK: usize = F32_CHUNK;
    const AS_THEY_ARE: Option<InPlace<Self::Line>> = Some(whole_lines);

    fn lines(self, values: &[f32], lines: &mut [Self::Line]) {
        copied_lines(values, lines);
    }

    fn pack<T: Stored>(self, rows: [&[T]; PANEL], panel: &mut [Aligned<Self::Line>]) {
        let whole = rows[0].len() / 16;
        check_rows(&rows, rows[0].len());
        assert!(whole * PANEL <= panel.len(), "a panel for the rows");
        // SAFETY: the machine has AVX-512 since `self` exists; every row holds `whole` lines and the panel takes them.
        unsafe { pack_whole(rows.map(<[T]>::as_ptr), panel.as_mut_ptr().cast(), whole) };
        pack_f32(rows, panel, whole);
    }

    #[inline(always)]
    fn tile<const R: usize>(
        self,
        x: [&[Self::Line]; R],
        panel: &[Aligned<Self::Line>],
    ) -> [[f32; PANEL]; R] {
        check(&x, panel.len());
        // SAFETY: the machine has AVX-512 since `self` exists; all rows of activations have as many lines as the panel.
        unsafe {
            tile_f32(
                x.map(|x| x.as_ptr().cast()),
                panel.as_ptr().cast(),
                x[0].len(),
            )
        }
    }

    #[inline(always)]
    fn direct<const R: usize, T: Stored>(
        self,
        x: [&[Self::Line]; R],
        rows: [&[T]; PANEL],
        ahead: usize,
        _: &mut [Aligned<Self::Line>],
    ) -> [[f32; PANEL]; R] {
        check(&x, x[0].len() * PANEL);
        check_rows(&rows, x[0].len() * 16);
        // SAFETY: the machine has AVX-512 since `self` exists; all rows are of `x[0].len()` lines.
        unsafe {
            direct_f32(
                x.map(|x| x.as_ptr().cast()),
                rows.map(<[T]>::as_ptr),
                ahead,
                x[0].len(),
            )
        }
    }

    #[inline(always)]
    fn prefetch<T: Stored>(self, rows: [&[T]; PANEL], part: usize, parts: usize) {
        prefetch(rows, part, parts);
    }
}

/// Asks for one part of every row.
#[inline(always)]
pub(super) fn prefetch<T>(rows: [&[T]; PANEL], part: usize, parts: usize) {
    for row in rows {
        let bytes = size_of_val(row);
        let lines = bytes.div_ceil(64);
        for line in lines * part / parts..lines * (part + 1) / parts {
            // SAFETY: a hint that reads nothing; the address lies within the row.
            unsafe {
                _mm_prefetch::<_MM_HINT_T1>(row.as_ptr().cast::<i8>().wrapping_add(line * 64));
            };
        }
    }
}

/// Sums of the lanes of each register, in the order of [`super::unit::fold`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn fold(sums: &[__m512; PANEL]) -> [f32; PANEL] {
    let eight: [__m256; PANEL] = sums.map(|sum| {
        _mm256_add_ps(
            _mm512_castps512_ps256(sum),
            _mm512_extractf32x8_ps::<1>(sum),
        )
    });
    // Each register: four partial sums of one row below, four of the row four further above.
    let four: [__m256; 4] = std::array::from_fn(|j| {
        let (a, b) = (eight[j], eight[j + 4]);
        _mm256_add_ps(
            _mm256_permute2f128_ps::<0x20>(a, b),
            _mm256_permute2f128_ps::<0x31>(a, b),
        )
    });
    let two = |a: __m256, b: __m256| {
        _mm256_add_ps(
            _mm256_shuffle_ps::<0x44>(a, b),
            _mm256_shuffle_ps::<0xEE>(a, b),
        )
    };
    let (low, high) = (two(four[0], four[1]), two(four[2], four[3]));
    let one = _mm256_add_ps(
        _mm256_shuffle_ps::<0x88>(low, high),
        _mm256_shuffle_ps::<0xDD>(low, high),
    );
    let mut out = [0.0; PANEL];
    // SAFETY: eight values fill the register.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), one) };
    out
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn folded<const R: usize>(sums: [[__m512; PANEL]; R]) -> [[f32; PANEL]; R] {
    let mut out = [[0.0; PANEL]; R];
    for r in 0..R {
        out[r] = fold(&sums[r]);
    }
    out
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn tile_f32<const R: usize>(
    x: [*const f32; R],
    panel: *const f32,
    lines: usize,
) -> [[f32; PANEL]; R] {
    let mut sums = [[_mm512_setzero_ps(); PANEL]; R];
    for step in 0..lines {
        // SAFETY: the caller promises `lines` lines behind every pointer of `x`, and eight times as many in the panel.
        unsafe {
            let mut values = [_mm512_setzero_ps(); R];
            for r in 0..R {
                values[r] = _mm512_loadu_ps(x[r].add(step * 16));
            }
            for j in 0..PANEL {
                let w = _mm512_loadu_ps(panel.add((step * PANEL + j) * 16));
                for r in 0..R {
                    sums[r][j] = _mm512_fmadd_ps(values[r], w, sums[r][j]);
                }
            }
        }
    }
    folded(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn direct_f32<const R: usize, T: Stored>(
    x: [*const f32; R],
    rows: [*const T; PANEL],
    ahead: usize,
    lines: usize,
) -> [[f32; PANEL]; R] {
    let mut sums = [[_mm512_setzero_ps(); PANEL]; R];
    for step in 0..lines {
        // SAFETY: the caller promises `lines` lines behind every pointer.
        unsafe {
            let mut values = [_mm512_setzero_ps(); R];
            for r in 0..R {
                values[r] = _mm512_loadu_ps(x[r].add(step * 16));
            }
            for j in 0..PANEL {
                let at = rows[j].add(step * 16);
                if (step * 16 * size_of::<T>()).is_multiple_of(64) {
                    // A hint that reads nothing: the address may be anywhere.
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(ahead).cast());
                }
                let w = T::widen(at);
                for r in 0..R {
                    sums[r][j] = _mm512_fmadd_ps(values[r], w, sums[r][j]);
                }
            }
        }
    }
    folded(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn pack_whole<T: Stored>(rows: [*const T; PANEL], panel: *mut f32, lines: usize) {
    for step in 0..lines {
        for (j, row) in rows.iter().enumerate() {
            // SAFETY: the caller promises `lines` lines behind every pointer and room for them.
            unsafe {
                _mm512_storeu_ps(
                    panel.add((step * PANEL + j) * 16),
                    T::widen(row.add(step * 16)),
                );
            };
        }
    }
}
