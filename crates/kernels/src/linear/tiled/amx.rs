//! Tiles of AMX-BF16: sixteen rows of 64 bytes each, products of pairs of `bf16` summed in `f32`.
//!
//! The instructions have no stable intrinsics; they stand as assembly. Nothing here is reached without a value of
//! [`Amx`], which exists only where the machine has them, the system lets this process use them, and they compute what
//! their portable twin computes.

#![expect(
    unsafe_code,
    reason = "assembly and vector instructions; every length is asserted before"
)]

use super::step::{DEPTH, Lines, Step, TILE};
use super::unit::{Portable, Sums, Tiles, steps};
use crate::isa::Isa;
use half::bf16;
use std::arch::asm;
use std::arch::x86_64::{
    __m512i, _mm512_loadu_si512, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// `bf16` by `bf16`, in tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amx(());

impl Amx {
    pub(crate) fn new() -> Option<Self> {
        static CORRECT: OnceLock<bool> = OnceLock::new();
        let usable = Isa::detected() >= Isa::Amx && *CORRECT.get_or_init(|| as_twin(Self(())));
        usable.then_some(Self(()))
    }
}

/// Whether this machine has tiles for `bf16` and the system grants them to this process.
pub(crate) fn granted() -> bool {
    // Bits 22 and 24 of EDX in leaf 7: AMX-BF16 and AMX-TILE. (Their macro is not stable.)
    let edx = std::arch::x86_64::__cpuid_count(7, 0).edx;
    edx & (1 << 22) != 0 && edx & (1 << 24) != 0 && permitted()
}

/// Asks Linux for the registers: they are large, and a process has them only on request.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: isize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let result: isize;
    // SAFETY: a system call that takes two numbers and touches no memory of ours.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") REQUEST_PERMISSION, in("rsi") TILE_DATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Whether a product of small integers, which is exact, is that of the portable twin: emulators and hypervisors announce
/// more than they do.
fn as_twin(unit: Amx) -> bool {
    let steps = |factor: usize| {
        let value = |i: usize| bf16::from_f32((i * factor % 17) as f32 - 8.0);
        let step =
            |s: usize| Step([0, 1].map(|t| std::array::from_fn(|i| value(s * 1024 + t * 512 + i))));
        (0..6).map(step).collect::<Vec<_>>()
    };
    let (x, w) = (steps(5), steps(11));
    let (mut ours, mut twin) = (Sums::ZERO, Sums::ZERO);
    Amx::multiply::<2, 2>(&mut unit.ready(), &x, &w, &mut ours);
    Portable::multiply::<2, 2>(&mut Portable.ready(), &x, &w, &mut twin);
    ours == twin
}

/// The shapes of the eight tiles: sixteen rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The tiles of this thread, given back when it is dropped. It stays on its thread.
pub(crate) struct Configured(PhantomData<*mut ()>);

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the machine has tiles since `self` exists; nobody else on this thread uses them.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

impl Tiles for Amx {
    type Ready = Configured;

    fn ready(self) -> Configured {
        // SAFETY: the machine has tiles since `self` exists, and these shapes are valid.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly)) };
        Configured(PhantomData)
    }

    fn multiply<const X: usize, const W: usize>(
        _: &mut Configured,
        x: &[Step],
        w: &[Step],
        sums: &mut Sums,
    ) {
        let steps = steps::<X, W>(x, w);
        let (x, w, sums) = (x.as_ptr(), w.as_ptr(), &raw mut *sums);
        // SAFETY: the tiles are set up while there is a `Configured`; there are `steps` steps of as many parts on either
        // side, at least one, and the sums have the size of four tiles.
        unsafe {
            match (X, W) {
                (1, 1) => one_by_one(x, w, steps, sums),
                (2, 1) => two_by_one(x, w, steps, sums),
                (2, 2) => two_by_two(x, w, steps, sums),
                _ => unreachable!("activations of one or two parts, and a weight of no more"),
            }
        }
    }

    fn turn(self, lines: &Lines, tile: &mut [bf16; TILE * DEPTH]) {
        turned(lines, tile);
    }
}

/// [`Tiles::turn`] with AVX-512.
///
/// # Panics
/// On a machine without it.
pub(super) fn turned(lines: &Lines, tile: &mut [bf16; TILE * DEPTH]) {
    assert!(Isa::detected() >= Isa::Avx512, "a machine with AVX-512");
    // SAFETY: the machine has AVX-512 F; both sides are sixteen registers.
    unsafe { turn(lines.as_ptr().cast(), tile.as_mut_ptr().cast()) };
}

/// Loads two tiles, of the step and part that lie `offset` bytes behind `base`.
macro_rules! load {
    ($first:literal, $second:literal, $base:literal, $offset:literal) => {
        concat!(
            "tileloadd ",
            $first,
            ", [{",
            $base,
            "} + {row}*1 + ",
            $offset,
            "]\n",
            "tileloadd ",
            $second,
            ", [{",
            $base,
            "} + {row}*1 + ",
            $offset,
            " + 1024]\n",
        )
    };
}

/// Asks for 32 cache lines of the activations that lie `offset` bytes ahead.
macro_rules! ahead {
    ($offset:literal) => {
        concat!(
            ".irp line, 0, 64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960, ",
            "1024, 1088, 1152, 1216, 1280, 1344, 1408, 1472, 1536, 1600, 1664, 1728, 1792, 1856, 1920, 1984\n",
            "prefetcht0 [{x} + ", $offset, " + \\line]\n",
            ".endr\n",
        )
    };
}

/// Adds the products of tiles 4 and 5, of tokens, with tiles 6 and 7, of outputs.
macro_rules! products {
    () => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
        )
    };
}

/// A loop over steps: what is done in each, and the bytes of a step on either side.
macro_rules! walk {
    ($name:ident, $x_bytes:literal, $w_bytes:literal, $($line:expr),+ $(,)?) => {
        /// # Safety
        /// The tiles are set up, `steps` steps lie behind `x` and `w`, at least one, and `sums` may be written.
        unsafe fn $name(x: *const Step, w: *const Step, steps: usize, sums: *mut Sums) {
            // SAFETY: as the caller promises; what is asked for ahead is a hint that reads nothing.
            unsafe {
                asm!(
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    "2:",
                    $($line,)+
                    concat!("add {x}, ", $x_bytes),
                    concat!("add {w}, ", $w_bytes),
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{sums} + {row}*2], tmm0",
                    "tilestored [{sums} + {row}*2 + 64], tmm1",
                    "tilestored [{sums} + {row}*2 + 2048], tmm2",
                    "tilestored [{sums} + {row}*2 + 2112], tmm3",
                    x = inout(reg) x => _, w = inout(reg) w => _, steps = inout(reg) steps => _,
                    sums = in(reg) sums, row = in(reg) 64usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

walk!(
    one_by_one,
    "2048",
    "2048",
    load!("tmm6", "tmm7", "w", "0"),
    load!("tmm4", "tmm5", "x", "0"),
    ahead!("2048"),
    products!(),
);

walk!(
    two_by_one,
    "4096",
    "2048",
    load!("tmm6", "tmm7", "w", "0"),
    load!("tmm4", "tmm5", "x", "2048"),
    ahead!("6144"),
    products!(),
    load!("tmm4", "tmm5", "x", "0"),
    ahead!("4096"),
    products!(),
);

walk!(
    two_by_two,
    "4096",
    "4096",
    load!("tmm6", "tmm7", "w", "0"),
    load!("tmm4", "tmm5", "x", "2048"),
    ahead!("6144"),
    products!(),
    load!("tmm4", "tmm5", "x", "0"),
    ahead!("4096"),
    products!(),
    load!("tmm6", "tmm7", "w", "2048"),
    products!(),
);

/// Transposes sixteen registers of sixteen pairs: first within quarters of a register, then the quarters.
///
/// # Safety
/// Sixteen registers lie behind either pointer, and the machine has AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn turn(lines: *const __m512i, tile: *mut __m512i) {
    let mut rows = [_mm512_setzero_si512(); TILE];
    for (index, row) in rows.iter_mut().enumerate() {
        // SAFETY: as the caller promises.
        *row = unsafe { _mm512_loadu_si512(lines.add(index)) };
    }
    let mut pairs = rows;
    for i in (0..TILE).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    // Register 4g + c now holds, in quarter q, column 4q + c of rows 4g .. 4g + 4.
    for i in (0..TILE).step_by(4) {
        rows[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for column in 0..4 {
        let [a, b, c, d] = [0, 4, 8, 12].map(|group| rows[group + column]);
        let (low, high) = (
            _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b),
            _mm512_shuffle_i32x4::<0b01_00_01_00>(c, d),
        );
        let (low_later, high_later) = (
            _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b),
            _mm512_shuffle_i32x4::<0b11_10_11_10>(c, d),
        );
        let turned = [
            _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high),
            _mm512_shuffle_i32x4::<0b10_00_10_00>(low_later, high_later),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(low_later, high_later),
        ];
        for (quarter, line) in turned.into_iter().enumerate() {
            // SAFETY: as the caller promises: 4·3 + 3 is the last of sixteen.
            unsafe { _mm512_storeu_si512(tile.add(4 * quarter + column), line) };
        }
    }
}
