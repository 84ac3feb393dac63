//! Products of pairs of `bf16` with AVX-512.
//!
//! Nothing here is reached without a value of [`Bf16Pairs`], which exists only where the machine has the instructions.

#![expect(
    unsafe_code,
    reason = "vector instructions and pointers; every length is asserted before"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "registers are numbered by constants, so that the loops unroll"
)]

use super::avx512::{check, check_rows, folded, prefetch};
use super::stored::Stored;
use super::unit::{Aligned, InPlace, PANEL, Unit};
use crate::isa::Isa;
use half::bf16;
use std::arch::x86_64::{
    __m512bh, _MM_HINT_T1, _mm_prefetch, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_setzero_ps,
};

/// `bf16` by `bf16`, in pairs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bf16Pairs(());

impl Bf16Pairs {
    pub(crate) fn new() -> Option<Self> {
        (Isa::detected() >= Isa::Avx512Bf16).then_some(Self(()))
    }
}

impl Unit for Bf16Pairs {
    type Line = [bf16; 32];
    const ZERO: Self::Line = [bf16::ZERO; 32];
    const LANES: usize = 32;
    const CHUNK: usize = 32;
    const AS_THEY_ARE: Option<InPlace<Self::Line>> = None;

    fn lines(self, values: &[f32], lines: &mut [Self::Line]) {
        round_row(values, lines);
    }

    fn pack<T: Stored>(self, rows: [&[T]; PANEL], panel: &mut [Aligned<Self::Line>]) {
        let whole = rows[0].len() / 32;
        check_rows(&rows, rows[0].len());
        assert!(whole * PANEL <= panel.len(), "a panel for the rows");
        // SAFETY: the machine has the instructions since `self` exists; every row holds `whole` lines and the panel
        // takes them.
        unsafe { pack_pairs(rows.map(<[T]>::as_ptr), panel.as_mut_ptr().cast(), whole) };
        for (step, lines) in panel.chunks_exact_mut(PANEL).enumerate().skip(whole) {
            for (row, line) in rows.iter().zip(lines) {
                line.0 = rounded(&row[step * 32..]);
            }
        }
    }

    #[inline(always)]
    fn tile<const R: usize>(
        self,
        x: [&[Self::Line]; R],
        panel: &[Aligned<Self::Line>],
    ) -> [[f32; PANEL]; R] {
        check(&x, panel.len());
        // SAFETY: the machine has the instructions since `self` exists; all rows have as many lines as the panel.
        unsafe {
            tile_bf16(
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
        check_rows(&rows, x[0].len() * 32);
        // SAFETY: the machine has the instructions since `self` exists; all rows are of `x[0].len()` lines.
        unsafe {
            direct_bf16(
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

/// Up to 32 values as a line.
fn rounded<T: Stored>(values: &[T]) -> [bf16; 32] {
    let mut line = [bf16::ZERO; 32];
    for (to, from) in line.iter_mut().zip(values) {
        *to = bf16::from_f32(from.value());
    }
    line
}

fn round_row(row: &[f32], lines: &mut [[bf16; 32]]) {
    let (whole, rest) = row.as_chunks::<32>();
    for (line, values) in lines.iter_mut().zip(whole) {
        // SAFETY: called by `Bf16Pairs` alone, which exists only where the machine has the instructions; a line has the
        // size of a register.
        unsafe { round_line(values.as_ptr(), line.as_mut_ptr().cast()) };
    }
    if !rest.is_empty() {
        lines[whole.len()] = rounded(rest);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero_pairs() -> __m512bh {
    // SAFETY: both types are 512 bits of anything.
    unsafe { std::mem::transmute(_mm512_setzero_ps()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn load_pairs(at: *const u16) -> __m512bh {
    // SAFETY: the caller promises 32 values; both types are 512 bits of anything.
    unsafe { std::mem::transmute(_mm512_loadu_si512(at.cast())) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn tile_bf16<const R: usize>(
    x: [*const u16; R],
    panel: *const u16,
    lines: usize,
) -> [[f32; PANEL]; R] {
    let mut sums = [[_mm512_setzero_ps(); PANEL]; R];
    for step in 0..lines {
        // SAFETY: the caller promises `lines` lines behind every pointer of `x`, and eight times as many in the panel.
        unsafe {
            let mut values = [zero_pairs(); R];
            for r in 0..R {
                values[r] = load_pairs(x[r].add(step * 32));
            }
            for j in 0..PANEL {
                let w = load_pairs(panel.add((step * PANEL + j) * 32));
                for r in 0..R {
                    sums[r][j] = _mm512_dpbf16_ps(sums[r][j], values[r], w);
                }
            }
        }
    }
    folded(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn direct_bf16<const R: usize, T: Stored>(
    x: [*const u16; R],
    rows: [*const T; PANEL],
    ahead: usize,
    lines: usize,
) -> [[f32; PANEL]; R] {
    let mut sums = [[_mm512_setzero_ps(); PANEL]; R];
    for step in 0..lines {
        // SAFETY: the caller promises `lines` lines behind every pointer.
        unsafe {
            let mut values = [zero_pairs(); R];
            for r in 0..R {
                values[r] = load_pairs(x[r].add(step * 32));
            }
            for j in 0..PANEL {
                let at = rows[j].add(step * 32);
                if (step * 32 * size_of::<T>()).is_multiple_of(64) {
                    // A hint that reads nothing: the address may be anywhere.
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(ahead).cast());
                }
                let w = T::round(at);
                for r in 0..R {
                    sums[r][j] = _mm512_dpbf16_ps(sums[r][j], values[r], w);
                }
            }
        }
    }
    folded(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn pack_pairs<T: Stored>(rows: [*const T; PANEL], panel: *mut bf16, lines: usize) {
    for step in 0..lines {
        for (j, row) in rows.iter().enumerate() {
            // SAFETY: the caller promises `lines` lines behind every pointer and room for them.
            unsafe { round_line(row.add(step * 32), panel.add((step * PANEL + j) * 32)) };
        }
    }
}

/// Writes 32 values as `bf16`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn round_line<T: Stored>(from: *const T, to: *mut bf16) {
    // SAFETY: the caller promises 32 values and room for them; both types are 512 bits of anything.
    unsafe { to.cast::<__m512bh>().write_unaligned(T::round(from)) };
}
