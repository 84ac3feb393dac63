//! Heads of some positions as panels, the form in which units read them.

use crate::linear::pack;
use crate::linear::unit::{ACROSS, LANES, Register, Unit, WIDTH};
use std::ops::Range;

/// Registers of one panel of [`turned`] heads.
pub(super) fn depth(d_head: usize) -> usize {
    d_head.next_multiple_of(LANES) * ACROSS
}

/// Dimensions before positions: a panel for every [`WIDTH`] positions, `[panel, d_head]` of as many positions. The last
/// position stands for those that the last panel lacks.
pub(super) fn turned<'a, U: Unit>(
    unit: U,
    (head, d_head): (impl Fn(usize) -> &'a [f32], usize),
    positions: &Range<usize>,
    to: &mut Vec<Register>,
) {
    let depth = depth(d_head);
    to.resize(positions.len().div_ceil(WIDTH) * depth, Register::ZERO);
    let panels = to.chunks_exact_mut(depth);
    for (first, panel) in positions.clone().step_by(WIDTH).zip(panels) {
        for v in 0..ACROSS {
            let position = |j: usize| (first + v * LANES + j).min(positions.end - 1);
            let rows = std::array::from_fn(|j| head(position(j)));
            pack::turned(unit, rows, &mut panel[v..], ACROSS);
        }
    }
}

/// Positions before dimensions: a panel for every [`WIDTH`] dimensions, `[panel, positions]` of as many dimensions.
pub(super) fn upright<'a>(
    (head, d_head): (impl Fn(usize) -> &'a [f32], usize),
    positions: &Range<usize>,
    to: &mut Vec<Register>,
) {
    let each = positions.len() * ACROSS;
    to.resize(d_head.div_ceil(WIDTH) * each, Register::ZERO);
    for (first, panel) in (0..d_head).step_by(WIDTH).zip(to.chunks_exact_mut(each)) {
        let cells: &mut [u32] = bytemuck::cast_slice_mut(panel);
        for (position, to) in positions.clone().zip(cells.chunks_exact_mut(WIDTH)) {
            let values = &head(position)[first..(first + WIDTH).min(d_head)];
            to[..values.len()].copy_from_slice(bytemuck::cast_slice(values));
        }
    }
}
