//! Small loops over rows, compiled for the best vector instructions of the machine when called inside [`vectorised`].

#![expect(
    clippy::inline_always,
    reason = "only what is inlined into `vectorised` uses its instructions"
)]

/// Runs `body` compiled for the best vector instructions of this machine; what it calls must be inlined into it.
#[inline(always)]
pub(crate) fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// Accumulators of a dot product: enough to hide the latency of the additions.
const LANES: usize = 32;

/// Σ aᵢ·bᵢ, summed in an order that depends on the length alone.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// y ← y + scale·x.
#[inline(always)]
pub(crate) fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

/// ‖x‖₂.
#[inline(always)]
pub(crate) fn norm(x: &[f32]) -> f32 {
    dot(x, x).sqrt()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    #[test]
    fn the_loops_count_the_tail() {
        let a: Vec<f32> = (0..67).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &vec![2.0; 67]), 2.0 * 67.0 * 66.0 / 2.0);
        let mut y = vec![1.0; 67];
        add_scaled(&mut y, 2.0, &a);
        assert_eq!(y[66], 133.0);
        assert_eq!(norm(&[3.0, 4.0]), 5.0);
    }
}
