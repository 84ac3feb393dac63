//! What an instruction set must offer to the loops in [`super::blocked`], and its portable form.

use super::stored::Stored;
use crate::vector::vectorised;
use pulp::{Arch, NullaryFnOnce};

/// Rows of a weight multiplied together: a panel holds this many.
pub(crate) const PANEL: usize = 8;
/// Rows of a weight whose sums the registers of AVX2 hold.
const HALF: usize = PANEL / 2;
/// Rows of activations multiplied together.
pub(crate) const TILE: usize = 3;

/// Lines of a row in a panel of `f32`: a width of 896 is one chunk.
pub(crate) const F32_CHUNK: usize = 56;

/// A line at a cache line's boundary.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Aligned<L>(pub(crate) L);

/// Activations seen as lines, where they lie.
pub(crate) type InPlace<L> = fn(&[f32]) -> &[L];

/// Products of a few rows of activations with a panel of a weight.
///
/// A *line* holds [`Self::LANES`] neighbouring values along the contraction, in the form that is multiplied. A *panel*
/// holds at most [`Self::CHUNK`] lines of [`PANEL`] rows: all first lines, then all second lines, and so on.
pub(crate) trait Unit: Copy + Send + Sync {
    /// Neighbouring values in the form that is multiplied.
    type Line: Copy + Send + Sync;
    /// A line of zeros.
    const ZERO: Self::Line;
    /// Values in a line.
    const LANES: usize;
    /// Lines of a row in a panel: a panel stays in the first-level cache.
    const CHUNK: usize;

    /// Whether activations are lines as they are.
    const AS_THEY_ARE: Option<InPlace<Self::Line>>;

    /// Neighbouring activations as lines, the last one filled up with zeros.
    fn lines(self, values: &[f32], lines: &mut [Self::Line]);

    /// Fills a panel with rows of one length; what is missing of their last line is zero.
    fn pack<T: Stored>(self, rows: [&[T]; PANEL], panel: &mut [Aligned<Self::Line>]);

    /// Sums of products of `R` rows of activations, of as many lines as the panel has, with the rows of the panel.
    fn tile<const R: usize>(
        self,
        x: [&[Self::Line]; R],
        panel: &[Aligned<Self::Line>],
    ) -> [[f32; PANEL]; R];

    /// The same straight from rows of whole lines, for few rows of activations.
    ///
    /// What lies `ahead` values behind every row is read next; `panel` is room for a panel.
    fn direct<const R: usize, T: Stored>(
        self,
        x: [&[Self::Line]; R],
        rows: [&[T]; PANEL],
        ahead: usize,
        panel: &mut [Aligned<Self::Line>],
    ) -> [[f32; PANEL]; R] {
        let _ = ahead;
        let lines = x[0].len() * PANEL;
        self.pack(rows, &mut panel[..lines]);
        self.tile(x, &panel[..lines])
    }

    /// Asks memory for what [`Self::pack`] will read next: the `part`-th of `parts` parts of each row.
    fn prefetch<T: Stored>(self, rows: [&[T]; PANEL], part: usize, parts: usize) {
        let _ = (rows, part, parts);
    }
}

/// Σ over lanes, in halves: 8 with 8, 4 with 4, 2 with 2, 1 with 1.
#[inline(always)]
pub(crate) fn fold(lanes: &[f32; 16]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|l| lanes[l] + lanes[l + 8]);
    let four: [f32; 4] = std::array::from_fn(|l| eight[l] + eight[l + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `f32` on any machine; gives the bits that AVX-512 gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Unit for Portable {
    type Line = [f32; 16];
    const ZERO: Self::Line = [0.0; 16];
    const LANES: usize = 16;
    const CHUNK: usize = F32_CHUNK;

    const AS_THEY_ARE: Option<InPlace<Self::Line>> = Some(whole_lines);

    fn lines(self, values: &[f32], lines: &mut [Self::Line]) {
        copied_lines(values, lines);
    }

    fn pack<T: Stored>(self, rows: [&[T]; PANEL], panel: &mut [Aligned<Self::Line>]) {
        vectorised(|| pack_f32(rows, panel, 0));
    }

    fn tile<const R: usize>(
        self,
        x: [&[Self::Line]; R],
        panel: &[Aligned<Self::Line>],
    ) -> [[f32; PANEL]; R] {
        Arch::new().dispatch(Tile { x, panel })
    }
}

/// A loop too long for the compiler to inline into a closure by itself.
struct Tile<'a, const R: usize> {
    x: [&'a [[f32; 16]]; R],
    panel: &'a [Aligned<[f32; 16]>],
}

impl<const R: usize> NullaryFnOnce for Tile<'_, R> {
    type Output = [[f32; PANEL]; R];

    #[inline(always)]
    fn call(self) -> Self::Output {
        let mut out = [[0.0; PANEL]; R];
        for (out, x) in out.iter_mut().zip(self.x) {
            for (first, out) in out.chunks_exact_mut(HALF).enumerate() {
                let mut sums = [[0f32; 16]; HALF];
                accumulate(&mut sums, x, self.panel, first * HALF);
                for (out, sums) in out.iter_mut().zip(&sums) {
                    *out = fold(sums);
                }
            }
        }
        out
    }
}

/// Adds the products of one row of activations with half the rows of a panel: as many as registers of AVX2 hold.
#[inline(always)]
fn accumulate(
    sums: &mut [[f32; 16]; HALF],
    x: &[[f32; 16]],
    panel: &[Aligned<[f32; 16]>],
    first: usize,
) {
    for (x, lines) in x.iter().zip(panel.chunks_exact(PANEL)) {
        for (sums, line) in sums.iter_mut().zip(&lines[first..]) {
            for ((sum, x), w) in sums.iter_mut().zip(x).zip(&line.0) {
                *sum = x.mul_add(*w, *sum);
            }
        }
    }
}

/// Activations as lines of `f32`, where they lie.
pub(crate) fn whole_lines(x: &[f32]) -> &[[f32; 16]] {
    x.as_chunks().0
}

/// Activations as lines of `f32`, copied.
pub(crate) fn copied_lines(values: &[f32], lines: &mut [[f32; 16]]) {
    for (line, values) in lines.iter_mut().zip(values.chunks(16)) {
        line[..values.len()].copy_from_slice(values);
        line[values.len()..].fill(0.0);
    }
}

/// Fills a panel of `f32` lines from the line `start` on.
#[inline(always)]
pub(crate) fn pack_f32<T: Stored>(
    rows: [&[T]; PANEL],
    panel: &mut [Aligned<[f32; 16]>],
    start: usize,
) {
    for (step, lines) in panel.chunks_exact_mut(PANEL).enumerate().skip(start) {
        for (row, line) in rows.iter().zip(lines) {
            let values = &row[step * 16..row.len().min(step * 16 + 16)];
            line.0 = [0.0; 16];
            for (to, from) in line.0.iter_mut().zip(values) {
                *to = from.value();
            }
        }
    }
}
