//! What an instruction set must offer to the loops in [`super::blocked`] and [`super::direct`], and its portable form.

use super::stored::Stored;
use pulp::{Arch, NullaryFnOnce};

/// Lanes of a register.
pub(crate) const LANES: usize = 16;
/// Registers side by side in a panel.
pub(crate) const ACROSS: usize = 4;
/// Columns of a panel.
pub(crate) const WIDTH: usize = ACROSS * LANES;
/// Rows of activations multiplied together with a panel: their sums fill three quarters of the registers of AVX-512.
pub(crate) const ROWS: usize = 6;

/// What a lane of a register holds of the contraction, as bits: an `f32`, or a pair of `bf16`.
pub(crate) type Cell = u32;

/// One register of cells.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Register(pub(crate) [Cell; LANES]);

impl Register {
    pub(crate) const ZERO: Self = Self([0; LANES]);
}

// SAFETY: sixteen integers at a cache line's boundary: no padding, any bits.
#[expect(unsafe_code, reason = "registers seen as the integers they are")]
unsafe impl bytemuck::Zeroable for Register {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl bytemuck::Pod for Register {}

/// Sums of a few rows of activations by the columns of a panel.
pub(crate) type Sums<const R: usize> = [[f32; WIDTH]; R];

/// Products of activations with a weight.
///
/// A *cell* holds [`Self::DEPTH`] neighbouring values along the contraction in the form that is multiplied, a *line*
/// [`LANES`] cells of one row. A *panel* holds a chunk of [`WIDTH`] vectors of a weight: cell after cell, [`ACROSS`]
/// registers with that cell of sixteen vectors each.
pub(crate) trait Unit: Copy + Send + Sync {
    /// Values in a cell.
    const DEPTH: usize;
    /// Values in a line.
    const LINE: usize = LANES * Self::DEPTH;

    /// Activations as cells; what is missing of the last one is zero.
    fn cells(self, values: &[f32], cells: &mut [Cell]);

    /// The first `lines` lines of sixteen rows, rows and lanes exchanged: register `cell · step` of `to` has that cell of
    /// each row in a lane.
    fn turn<T: Stored>(self, rows: [&[T]; LANES], lines: usize, to: &mut [Register], step: usize);

    /// Cells of [`Self::DEPTH`] rows of values side by side, each row with a factor.
    fn across<T: Stored>(self, rows: &[(&[T; WIDTH], f32)], to: &mut [Register; ACROSS]);

    /// Sums over the cells of `R` rows of activations and those of a panel, one after another.
    fn segment<const R: usize>(self, x: [&[Cell]; R], panel: &[[Register; ACROSS]]) -> Sums<R>;

    /// The same sums, straight from sixteen rows of a weight in whole lines.
    ///
    /// `next` is what will be read next, as long as the rows together.
    fn direct<const R: usize, T: Stored>(
        self,
        x: [&[Cell]; R],
        rows: [&[T]; LANES],
        next: &[T],
    ) -> [[f32; LANES]; R];

    /// Asks memory for values that will be read next.
    fn prefetch<T>(self, values: &[T]) {
        let _ = values;
    }
}

/// `f32` on any machine; gives the bits that AVX-512 gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Unit for Portable {
    const DEPTH: usize = 1;

    fn cells(self, values: &[f32], cells: &mut [Cell]) {
        cells.copy_from_slice(bytemuck::cast_slice(values));
    }

    fn turn<T: Stored>(self, rows: [&[T]; LANES], lines: usize, to: &mut [Register], step: usize) {
        for (r, row) in rows.iter().enumerate() {
            for (cell, value) in row[..lines * LANES].iter().enumerate() {
                to[cell * step].0[r] = value.value().to_bits();
            }
        }
    }

    fn across<T: Stored>(self, rows: &[(&[T; WIDTH], f32)], to: &mut [Register; ACROSS]) {
        let (values, scale) = rows[0];
        let cells: &mut [Cell] = bytemuck::cast_slice_mut(to);
        for (to, value) in cells.iter_mut().zip(values) {
            *to = (value.value() * scale).to_bits();
        }
    }

    fn segment<const R: usize>(self, x: [&[Cell]; R], panel: &[[Register; ACROSS]]) -> Sums<R> {
        let mut out = [[0.0; WIDTH]; R];
        Arch::new().dispatch(Segment {
            x,
            panel,
            out: &mut out,
        });
        out
    }

    fn direct<const R: usize, T: Stored>(
        self,
        x: [&[Cell]; R],
        rows: [&[T]; LANES],
        _: &[T],
    ) -> [[f32; LANES]; R] {
        Arch::new().dispatch(Direct { x, rows })
    }
}

/// Few rows of activations with sixteen of a weight, which are turned sixteen values at a time.
struct Direct<'a, const R: usize, T> {
    x: [&'a [Cell]; R],
    rows: [&'a [T]; LANES],
}

impl<const R: usize, T: Stored> NullaryFnOnce for Direct<'_, R, T> {
    type Output = [[f32; LANES]; R];

    #[inline(always)]
    fn call(self) -> Self::Output {
        let mut sums = [[0f32; LANES]; R];
        let rows = self.rows.map(|row| row.as_chunks::<LANES>().0);
        let x = self.x.map(|x| x.as_chunks::<LANES>().0);
        for line in 0..x[0].len() {
            let mut turned = [[0f32; LANES]; LANES];
            for (r, row) in rows.iter().enumerate() {
                for (to, value) in turned.iter_mut().zip(&row[line]) {
                    to[r] = value.value();
                }
            }
            for (sums, x) in sums.iter_mut().zip(&x) {
                for (x, w) in x[line].iter().zip(&turned) {
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = f32::from_bits(*x).mul_add(*w, *sum);
                    }
                }
            }
        }
        sums
    }
}

/// A loop too long for the compiler to inline into a closure by itself.
struct Segment<'a, const R: usize> {
    x: [&'a [Cell]; R],
    panel: &'a [[Register; ACROSS]],
    out: &'a mut Sums<R>,
}

impl<const R: usize> NullaryFnOnce for Segment<'_, R> {
    type Output = ();

    /// Register by register of the panel: as many sums as registers of AVX2 hold.
    #[inline(always)]
    fn call(self) {
        let lines = self.panel.len();
        let x = self.x.map(|x| &x[..lines]);
        for v in 0..ACROSS {
            let mut sums = [[0f32; LANES]; R];
            for (line, registers) in self.panel.iter().enumerate() {
                let w: [f32; LANES] = registers[v].0.map(f32::from_bits);
                for (sums, x) in sums.iter_mut().zip(&x) {
                    let x = f32::from_bits(x[line]);
                    for (sum, w) in sums.iter_mut().zip(&w) {
                        *sum = x.mul_add(*w, *sum);
                    }
                }
            }
            for (out, sums) in self.out.iter_mut().zip(&sums) {
                out[v * LANES..][..LANES].copy_from_slice(sums);
            }
        }
    }
}
