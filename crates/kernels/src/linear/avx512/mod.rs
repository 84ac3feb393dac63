//! Products with AVX-512: of `f32`, and of pairs of `bf16`.
//!
//! What both have in common is written once over [`Lanes`] and compiled in each with its instructions. Nothing here is
//! reached without a value of a unit, which exists only where the machine has them.

#![expect(
    unsafe_code,
    reason = "vector instructions and pointers; every length is asserted by the units"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "registers are numbered by constants, so that the loops unroll"
)]

mod pairs;
mod single;

use super::stored::Stored;
use super::unit::{ACROSS, Cell, LANES, Register, Sums, WIDTH};
use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T1, _mm_prefetch, _mm512_loadu_si512, _mm512_mul_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_i32x4, _mm512_storeu_ps,
    _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};

pub(crate) use pairs::Bf16Pairs;
pub(crate) use single::F32;

/// What a register of cells is.
trait Lanes {
    /// Values in a cell.
    const DEPTH: usize;

    /// A line of a row as cells.
    ///
    /// # Safety
    /// `at` must be followed by a line of values, and the machine must have the instructions.
    unsafe fn line<T: Stored>(at: *const T) -> __m512i;

    /// The `which`-th cell of each lane of a register loaded as it lies.
    ///
    /// # Safety
    /// The machine must have the instructions.
    unsafe fn cell<T: Stored>(register: __m512i, which: usize) -> __m512i;

    /// Cells in a lane of a register loaded as it lies; 0 where a cell takes more than that.
    fn in_lane<T: Stored>() -> usize {
        size_of::<Cell>() / size_of::<T>() / Self::DEPTH
    }

    /// sum + x·w, lane by lane.
    ///
    /// # Safety
    /// The machine must have the instructions.
    unsafe fn multiply_add(sum: __m512, x: __m512i, w: __m512i) -> __m512;
}

/// Asserts what the pointers of [`turn`] rely on, with `line` values in a line and room for `to` registers.
fn check_turn<T>(rows: &[&[T]; LANES], lines: usize, line: usize, (to, step): (usize, usize)) {
    assert!(
        rows.iter().all(|row| row.len() >= lines * line),
        "rows of {lines} lines"
    );
    let last = (lines * LANES).saturating_sub(1) * step;
    assert!(lines == 0 || last < to, "room for {lines} turned lines");
}

/// Asserts what the pointers of [`segment`] rely on.
fn check_segment(x: &[&[Cell]], cells: usize) {
    assert!(
        x.iter().all(|x| x.len() >= cells),
        "a cell of activations for every cell of the panel"
    );
}

/// Asserts what the pointers of [`direct`] rely on; returns the lines.
fn check_direct<T>(x: &[&[Cell]], rows: &[&[T]; LANES], line: usize) -> usize {
    let lines = x[0].len() / LANES;
    assert!(
        x.iter().all(|x| x.len() == lines * LANES),
        "activations of whole lines"
    );
    assert!(
        rows.iter().all(|row| row.len() == lines * line),
        "rows as long as the activations"
    );
    lines
}

/// Asks memory for values.
#[inline(always)]
fn prefetch<T>(values: &[T]) {
    for line in 0..size_of_val(values).div_ceil(64) {
        let at = values.as_ptr().cast::<i8>().wrapping_add(line * 64);
        // SAFETY: a hint that reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at) };
    }
}

/// Sixteen registers, rows and lanes exchanged: neighbours, pairs, then quarters.
#[inline(always)]
unsafe fn turned(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let (mut two, mut four, mut all) = (rows, rows, rows);
    // SAFETY: the caller promises AVX-512.
    unsafe {
        for i in 0..LANES / 2 {
            two[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            two[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        for i in 0..LANES / 4 {
            for half in 0..2 {
                let (a, b) = (two[4 * i + half], two[4 * i + 2 + half]);
                four[4 * i + 2 * half] = _mm512_unpacklo_epi64(a, b);
                four[4 * i + 2 * half + 1] = _mm512_unpackhi_epi64(a, b);
            }
        }
        for c in 0..LANES / 4 {
            let even = (
                _mm512_shuffle_i32x4::<0x88>(four[c], four[4 + c]),
                _mm512_shuffle_i32x4::<0x88>(four[8 + c], four[12 + c]),
            );
            let odd = (
                _mm512_shuffle_i32x4::<0xDD>(four[c], four[4 + c]),
                _mm512_shuffle_i32x4::<0xDD>(four[8 + c], four[12 + c]),
            );
            all[c] = _mm512_shuffle_i32x4::<0x88>(even.0, even.1);
            all[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd.0, odd.1);
            all[8 + c] = _mm512_shuffle_i32x4::<0xDD>(even.0, even.1);
            all[12 + c] = _mm512_shuffle_i32x4::<0xDD>(odd.0, odd.1);
        }
    }
    all
}

/// Sixteen rows of a weight, a register of each as it lies, or a line of each where a cell takes more than that.
#[inline(always)]
unsafe fn loaded<L: Lanes, T: Stored>(
    rows: &[*const T; LANES],
    start: usize,
    as_they_lie: bool,
) -> [__m512i; LANES] {
    // SAFETY: the caller promises a line, or a register's worth, of values behind every pointer at `start`.
    unsafe {
        let mut registers = [_mm512_set1_epi32(0); LANES];
        for j in 0..LANES {
            let at = rows[j].add(start);
            registers[j] = if as_they_lie {
                _mm512_loadu_si512(at.cast())
            } else {
                L::line(at)
            };
        }
        turned(registers)
    }
}

/// See `Unit::turn`; lengths as [`check_turn`] asserts them.
#[inline(always)]
unsafe fn turn<L: Lanes, T: Stored>(
    rows: [*const T; LANES],
    lines: usize,
    to: *mut Register,
    step: usize,
) {
    let (in_lane, line) = (L::in_lane::<T>(), LANES * L::DEPTH);
    let whole = lines.checked_div(in_lane).unwrap_or(0) * in_lane;
    // SAFETY: the caller promises `lines` lines behind every pointer and room for what is written.
    unsafe {
        for first in (0..whole).step_by(in_lane.max(1)) {
            let registers = loaded::<L, T>(&rows, first * line, true);
            for lane in 0..LANES {
                for which in 0..in_lane {
                    let at = to.add((first * LANES + lane * in_lane + which) * step);
                    _mm512_storeu_si512(at.cast(), L::cell::<T>(registers[lane], which));
                }
            }
        }
        for first in whole..lines {
            let registers = loaded::<L, T>(&rows, first * line, false);
            for lane in 0..LANES {
                let at = to.add((first * LANES + lane) * step);
                _mm512_storeu_si512(at.cast(), registers[lane]);
            }
        }
    }
}

/// See `Unit::segment`; lengths as [`check_segment`] asserts them.
#[inline(always)]
unsafe fn segment<L: Lanes, const R: usize>(
    x: [*const Cell; R],
    panel: *const Register,
    cells: usize,
    out: &mut Sums<R>,
) {
    // SAFETY: the caller promises `cells` cells behind every pointer of `x` and in the panel; a row of `out` holds four
    // registers.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); ACROSS]; R];
        for cell in 0..cells {
            let mut w = [_mm512_set1_epi32(0); ACROSS];
            for v in 0..ACROSS {
                w[v] = _mm512_loadu_si512(panel.add(cell * ACROSS + v).cast());
            }
            for r in 0..R {
                let x = _mm512_set1_epi32((*x[r].add(cell)).cast_signed());
                for v in 0..ACROSS {
                    sums[r][v] = L::multiply_add(sums[r][v], x, w[v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..ACROSS {
                _mm512_storeu_ps(out[r].as_mut_ptr().add(v * LANES), sums[r][v]);
            }
        }
    }
}

/// See `Unit::direct`; lengths as [`check_direct`] asserts them.
#[inline(always)]
unsafe fn direct<L: Lanes, const R: usize, T: Stored>(
    x: [*const Cell; R],
    rows: [*const T; LANES],
    next: &[T],
    lines: usize,
) -> [[f32; LANES]; R] {
    let (in_lane, line) = (L::in_lane::<T>(), LANES * L::DEPTH);
    let whole = lines.checked_div(in_lane).unwrap_or(0) * in_lane;
    let mut out = [[0.0; LANES]; R];
    // SAFETY: the caller promises `lines` lines behind every pointer; a row of `out` holds a register.
    unsafe {
        let mut sums = [_mm512_setzero_ps(); R];
        for first in (0..whole).step_by(in_lane.max(1)) {
            prefetch_part(next, first * line, in_lane * line);
            let registers = loaded::<L, T>(&rows, first * line, true);
            for lane in 0..LANES {
                for which in 0..in_lane {
                    let w = L::cell::<T>(registers[lane], which);
                    add::<L, R>(&mut sums, x, first * LANES + lane * in_lane + which, w);
                }
            }
        }
        for first in whole..lines {
            prefetch_part(next, first * line, line);
            let registers = loaded::<L, T>(&rows, first * line, false);
            for lane in 0..LANES {
                add::<L, R>(&mut sums, x, first * LANES + lane, registers[lane]);
            }
        }
        for r in 0..R {
            _mm512_storeu_ps(out[r].as_mut_ptr(), sums[r]);
        }
    }
    out
}

/// Adds the products of one cell of each row of activations with a register.
#[inline(always)]
unsafe fn add<L: Lanes, const R: usize>(
    sums: &mut [__m512; R],
    x: [*const Cell; R],
    cell: usize,
    w: __m512i,
) {
    for r in 0..R {
        // SAFETY: the caller promises the cell behind every pointer.
        unsafe {
            let x = _mm512_set1_epi32((*x[r].add(cell)).cast_signed());
            sums[r] = L::multiply_add(sums[r], x, w);
        }
    }
}

/// Asks for as many values in a row as are read meanwhile: `count` values of each row from `start` on. In this order memory
/// gives them fastest.
#[inline(always)]
fn prefetch_part<T>(next: &[T], start: usize, count: usize) {
    let end = ((start + count) * LANES).min(next.len());
    prefetch(&next[(start * LANES).min(end)..end]);
}

/// Sixteen values of a row, times its factor.
#[inline(always)]
unsafe fn scaled<T: Stored>((row, scale): (&[T; WIDTH], f32), v: usize) -> __m512 {
    // SAFETY: the caller promises AVX-512 and `v` below `ACROSS`.
    unsafe { _mm512_mul_ps(T::widen(row.as_ptr().add(v * LANES)), _mm512_set1_ps(scale)) }
}
