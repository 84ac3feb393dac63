//! `bf16` by `bf16`, in pairs, with their dot product.

use super::super::stored::Stored;
use super::super::unit::{ACROSS, Cell, LANES, Register, Sums, Unit, WIDTH};
use super::Lanes;
use crate::isa::Isa;
use half::bf16;
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_abs_epi8, _mm512_and_si512, _mm512_cvtne2ps_pbh,
    _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_or_si512, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi16, _mm512_set1_epi8, _mm512_storeu_si512,
};
use std::mem::transmute;

/// `bf16` by `bf16`, in pairs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bf16Pairs(());

impl Bf16Pairs {
    pub(crate) fn new() -> Option<Self> {
        (Isa::detected() >= Isa::Avx512Bf16).then_some(Self(()))
    }
}

/// Bytes of a register.
const BYTES: usize = 64;

/// Lower and upper halves of 0 to 127 in `bf16`, which holds them as they are.
const HALVES: [[u8; 2 * BYTES]; 2] = {
    let mut halves = [[0; 2 * BYTES]; 2];
    let mut number = 0;
    while number < 2 * BYTES {
        let bits = (number as f32).to_bits();
        halves[0][number] = (bits >> 16) as u8;
        halves[1][number] = (bits >> 24) as u8;
        number += 1;
    }
    halves
};

/// Where the bytes of a lane's first or second pair are: lower halves in the first register, upper ones in the second.
const PAIRS: [[u8; BYTES]; 2] = {
    let mut pairs = [[0; BYTES]; 2];
    let mut byte = 0;
    while byte < BYTES {
        // Of a lane's four bytes: lower, upper half of one integer, lower, upper half of the next.
        let (lane, integer, half) = (byte / 4 * 4, byte % 4 / 2, byte % 2);
        pairs[0][byte] = (lane + integer + half * BYTES) as u8;
        pairs[1][byte] = (lane + 2 + integer + half * BYTES) as u8;
        byte += 1;
    }
    pairs
};

/// The first or second pair of the four integers in each lane.
#[inline(always)]
unsafe fn looked_up(integers: __m512i, which: usize) -> __m512i {
    // SAFETY: the caller promises the instructions; tables are whole registers.
    unsafe {
        let load =
            |table: &[u8], part: usize| _mm512_loadu_si512(table.as_ptr().add(part * BYTES).cast());
        let size = _mm512_abs_epi8(integers);
        let half = |table| _mm512_permutex2var_epi8(load(table, 0), size, load(table, 1));
        let signs = _mm512_and_si512(integers, _mm512_set1_epi8(i8::MIN));
        let (lower, upper) = (half(&HALVES[0]), half(&HALVES[1]));
        let upper = _mm512_or_si512(upper, signs);
        _mm512_permutex2var_epi8(lower, load(&PAIRS[which], 0), upper)
    }
}

impl Lanes for Bf16Pairs {
    const DEPTH: usize = 2;

    #[inline(always)]
    unsafe fn line<T: Stored>(at: *const T) -> __m512i {
        // SAFETY: as the caller promises; both types are 512 bits of anything.
        unsafe { transmute(T::round(at)) }
    }

    /// Pairs are pairs as they lie; bytes are looked up.
    #[inline(always)]
    unsafe fn cell<T: Stored>(register: __m512i, which: usize) -> __m512i {
        if size_of::<T>() == size_of::<bf16>() {
            return register;
        }
        // SAFETY: as the caller promises.
        unsafe { looked_up(register, which) }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, x: __m512i, w: __m512i) -> __m512 {
        // SAFETY: as the caller promises; both types are 512 bits of anything.
        unsafe {
            let pairs = |cells| transmute::<__m512i, __m512bh>(cells);
            _mm512_dpbf16_ps(sum, pairs(x), pairs(w))
        }
    }
}

impl Unit for Bf16Pairs {
    const DEPTH: usize = 2;

    fn cells(self, values: &[f32], cells: &mut [Cell]) {
        assert_eq!(values.len().div_ceil(2), cells.len(), "two values a cell");
        let whole = values.len() / Self::LINE;
        // SAFETY: the machine has the instructions since `self` exists; lengths were just asserted.
        unsafe { round(values.as_ptr(), cells.as_mut_ptr(), whole) };
        let rest = values[whole * Self::LINE..].chunks(2);
        for (cell, pair) in cells[whole * LANES..].iter_mut().zip(rest) {
            let half = |value: f32| u32::from(bf16::from_f32(value).to_bits());
            *cell = half(pair[0]) | pair.get(1).map_or(0, |value| half(*value) << 16);
        }
    }

    #[inline(always)]
    fn turn<T: Stored>(self, rows: [&[T]; LANES], lines: usize, to: &mut [Register], step: usize) {
        super::check_turn(&rows, lines, Self::LINE, (to.len(), step));
        // SAFETY: the machine has the instructions since `self` exists; lengths were just asserted.
        unsafe { turn(rows.map(<[T]>::as_ptr), lines, to.as_mut_ptr(), step) };
    }

    #[inline(always)]
    fn across<T: Stored>(self, rows: &[(&[T; WIDTH], f32)], to: &mut [Register; ACROSS]) {
        // SAFETY: the machine has the instructions since `self` exists.
        unsafe { across([rows[0], rows[1]], to) };
    }

    #[inline(always)]
    fn segment<const R: usize>(self, x: [&[Cell]; R], panel: &[[Register; ACROSS]]) -> Sums<R> {
        super::check_segment(&x, panel.len());
        let mut out = [[0.0; WIDTH]; R];
        let (x, registers) = (x.map(<[Cell]>::as_ptr), panel.as_ptr().cast());
        // SAFETY: the machine has the instructions since `self` exists; lengths were just asserted.
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
        // SAFETY: the machine has the instructions since `self` exists; lengths were just asserted.
        unsafe { direct(x, rows, next, lines) }
    }

    #[inline(always)]
    fn prefetch<T>(self, values: &[T]) {
        super::prefetch(values);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")]
unsafe fn turn<T: Stored>(rows: [*const T; LANES], lines: usize, to: *mut Register, step: usize) {
    // SAFETY: as the caller promises.
    unsafe { super::turn::<Bf16Pairs, T>(rows, lines, to, step) };
}

/// Where the halves of a register go so that each value of the first has its neighbour of the second behind it.
const INTERLEAVED: [u16; 32] = {
    let mut lanes = [0; 32];
    let mut lane = 0;
    while lane < 32 {
        lanes[lane] = (lane / 2 + lane % 2 * 16) as u16;
        lane += 1;
    }
    lanes
};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")]
unsafe fn across<T: Stored>(rows: [(&[T; WIDTH], f32); 2], to: &mut [Register; ACROSS]) {
    // SAFETY: `INTERLEAVED` fills a register, `v` is below `ACROSS`, and both types are 512 bits of anything.
    unsafe {
        let places = _mm512_loadu_si512(INTERLEAVED.as_ptr().cast());
        for (v, to) in to.iter_mut().enumerate() {
            let (first, second) = (super::scaled(rows[0], v), super::scaled(rows[1], v));
            let halves: __m512i = transmute(_mm512_cvtne2ps_pbh(second, first));
            let pairs = _mm512_permutexvar_epi16(places, halves);
            _mm512_storeu_si512(to.0.as_mut_ptr().cast(), pairs);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")]
unsafe fn round(values: *const f32, cells: *mut Cell, lines: usize) {
    for line in 0..lines {
        // SAFETY: the caller promises `lines` lines of values and room for their cells.
        unsafe {
            let rounded: __m512bh = Stored::round(values.add(line * 2 * LANES));
            _mm512_storeu_si512(
                cells.add(line * LANES).cast(),
                transmute::<__m512bh, __m512i>(rounded),
            );
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")]
unsafe fn segment<const R: usize>(
    x: [*const Cell; R],
    panel: *const Register,
    cells: usize,
    out: &mut Sums<R>,
) {
    // SAFETY: as the caller promises.
    unsafe { super::segment::<Bf16Pairs, R>(x, panel, cells, out) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")]
unsafe fn direct<const R: usize, T: Stored>(
    x: [*const Cell; R],
    rows: [*const T; LANES],
    next: &[T],
    lines: usize,
) -> [[f32; LANES]; R] {
    // SAFETY: as the caller promises.
    unsafe { super::direct::<Bf16Pairs, R, T>(x, rows, next, lines) }
}
