//! Small loops over slices that the compiler turns into vector code.

pub use pulp::NullaryFnOnce as Body;

/// Runs `body` compiled for the best vector instructions of this machine.
///
/// Everything inside must be inlined for that to have an effect: a closure says `#[inline(always)]` before its bars, a
/// longer body is a type that implements [`Body`] with that on its `call`.
#[inline(always)]
pub fn vectorised<B: Body>(body: B) -> B::Output {
    pulp::Arch::new().dispatch(body)
}

/// Accumulators of a dot product: enough to hide the latency of the additions.
const LANES: usize = 32;

/// Σ aᵢ·bᵢ, summed in a fixed order.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
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
pub fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

/// ‖x‖₂.
#[inline(always)]
pub fn norm(x: &[f32]) -> f32 {
    dot(x, x).sqrt()
}

/// eˣ to about 1 ulp of `f32` between −87 and 88, clamped outside: a polynomial the compiler can vectorise.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to the nearest integer
    let x = x.clamp(-87.0, 88.0);
    let n = x.mul_add(std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let terms = [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    let p = terms
        .iter()
        .fold(1.987_569_1e-4f32, |p, term| p.mul_add(r, *term));
    let value = p.mul_add(r * r, r) + 1.0;
    value * f32::from_bits((((n as i32) + 127) << 23) as u32)
}

/// The largest value; −∞ of none.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*value, *lane);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |largest, value| larger(*value, largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library_to_two_ulps() {
        for i in -8_700..8_800 {
            let x = i as f32 / 100.0;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (ours / exact - 1.0).abs() < 3e-7,
                "exp({x}) = {ours}, not {exact}"
            );
        }
    }

    #[test]
    fn dot_counts_the_tail() {
        let a: Vec<f32> = (0..67).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &vec![2.0; 67]), 2.0 * 67.0 * 66.0 / 2.0);
    }
}
