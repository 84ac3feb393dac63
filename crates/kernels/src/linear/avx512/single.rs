//! `f32` by `f32`.

use super::super::stored::Stored;
use super::super::unit::{ACROSS, Cell, LANES, Register, Sums, Unit, WIDTH};
use super::Lanes;
use crate::isa::Isa;
use std::arch::x86_64::{
    __m512, __m512i, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_fmadd_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
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
        CHAINS * LANES * 2
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

impl Lanes for F32 {
    const DEPTH: usize = 1;

    #[inline(always)]
    unsafe fn line<T: Stored>(at: *const T) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_castps_si512(T::widen(at)) }
    }

    #[inline(always)]
    unsafe fn cell<T: Stored>(register: __m512i, which: usize) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_castps_si512(T::of_lane(register, which)) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, x: __m512i, w: __m512i) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sum) }
    }
}

impl Unit for F32 {
    const DEPTH: usize = 1;

    fn cells(self, values: &[f32], cells: &mut [Cell]) {
        cells.copy_from_slice(bytemuck::cast_slice(values));
    }

    #[inline(always)]
    fn turn<T: Stored>(self, rows: [&[T]; LANES], lines: usize, to: &mut [Register], step: usize) {
        super::check_turn(&rows, lines, Self::LINE, (to.len(), step));
        // SAFETY: the machine has AVX-512 since `self` exists; lengths were just asserted.
        unsafe { turn(rows.map(<[T]>::as_ptr), lines, to.as_mut_ptr(), step) };
    }

    #[inline(always)]
    fn across<T: Stored>(self, rows: &[(&[T; WIDTH], f32)], to: &mut [Register; ACROSS]) {
        // SAFETY: the machine has AVX-512 since `self` exists.
        unsafe { across(rows[0], to) };
    }

    #[inline(always)]
    fn segment<const R: usize>(self, x: [&[Cell]; R], panel: &[[Register; ACROSS]]) -> Sums<R> {
        super::check_segment(&x, panel.len());
        let mut out = [[0.0; WIDTH]; R];
        let (x, registers) = (x.map(<[Cell]>::as_ptr), panel.as_ptr().cast());
        // SAFETY: the machine has AVX-512 since `self` exists; lengths were just asserted.
        unsafe { segment(x, registers, panel.len(), &mut out) };
        out
    }

    #[inline(always)]
    fn direct<const R: usize, T: Stored>(
        self,
        x: [&[Cell]; R],
        rows: [&[T]; LANES],
        next: &[T],
    ) -> [[f32; LANES]; R] {
        let lines = super::check_direct(&x, &rows, Self::LINE);
        let (x, rows) = (x.map(<[Cell]>::as_ptr), rows.map(<[T]>::as_ptr));
        // SAFETY: the machine has AVX-512 since `self` exists; lengths were just asserted.
        unsafe { direct(x, rows, next, lines) }
    }

    #[inline(always)]
    fn prefetch<T>(self, values: &[T]) {
        super::prefetch(values);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn turn<T: Stored>(rows: [*const T; LANES], lines: usize, to: *mut Register, step: usize) {
    // SAFETY: as the caller promises.
    unsafe { super::turn::<F32, T>(rows, lines, to, step) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn across<T: Stored>(row: (&[T; WIDTH], f32), to: &mut [Register; ACROSS]) {
    for (v, to) in to.iter_mut().enumerate() {
        // SAFETY: `v` is below `ACROSS`; a register has room for sixteen values.
        unsafe { _mm512_storeu_ps(to.0.as_mut_ptr().cast(), super::scaled(row, v)) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn segment<const R: usize>(
    x: [*const Cell; R],
    panel: *const Register,
    cells: usize,
    out: &mut Sums<R>,
) {
    // SAFETY: as the caller promises.
    unsafe { super::segment::<F32, R>(x, panel, cells, out) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn direct<const R: usize, T: Stored>(
    x: [*const Cell; R],
    rows: [*const T; LANES],
    next: &[T],
    lines: usize,
) -> [[f32; LANES]; R] {
    // SAFETY: as the caller promises.
    unsafe { super::direct::<F32, R, T>(x, rows, next, lines) }
}
