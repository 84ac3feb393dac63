//! A result `[tokens, width]` that several tasks write, each its own columns.

use std::marker::PhantomData;
use std::ops::Range;

/// A result that several tasks write, each its own columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<'a> {
    data: *mut f32,
    /// Values in a row.
    pub(super) width: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

#[expect(
    unsafe_code,
    reason = "tasks write interleaved columns, which slices cannot say"
)]
// SAFETY: tasks get disjoint columns, so no value is reached from two threads.
unsafe impl Sync for Shared<'_> {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Send for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(y: &'a mut [f32], width: usize) -> Self {
        Self {
            data: y.as_mut_ptr(),
            width,
            borrowed: PhantomData,
        }
    }

    /// Part of a row.
    ///
    /// # Safety
    /// The part lies inside the result, and no other part that is alive overlaps it.
    #[expect(unsafe_code, reason = "as above")]
    #[expect(
        clippy::mut_from_ref,
        reason = "the caller promises that parts do not overlap"
    )]
    pub(super) unsafe fn part(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        // SAFETY: as the caller promises.
        unsafe {
            let start = self.data.add(row * self.width + columns.start);
            std::slice::from_raw_parts_mut(start, columns.len())
        }
    }
}

/// What follows the sums of a part of a row, columns `columns` of the result: factors of the weight's rows, then the bias.
pub(super) fn finish(
    y: &mut [f32],
    columns: &Range<usize>,
    scales: Option<&[f32]>,
    bias: Option<&[f32]>,
) {
    if let Some(scales) = scales {
        for (y, scale) in y.iter_mut().zip(&scales[columns.clone()]) {
            *y *= scale;
        }
    }
    if let Some(bias) = bias {
        for (y, bias) in y.iter_mut().zip(&bias[columns.clone()]) {
            *y += bias;
        }
    }
}
