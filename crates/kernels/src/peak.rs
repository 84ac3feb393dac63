//! What this machine can do at most, to measure kernels by.

use crate::vector::vectorised;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Independent sums: enough to hide the latency of a multiply-add.
const CHAINS: usize = 8;
/// Multiply-adds of every lane between two looks at the clock: under a millisecond.
const ROUNDS: usize = 40_000;
/// Windows of which the best counts, so that other programs' work is not taken for this machine's limit.
const WINDOWS: usize = 200;

/// `f32` multiply-adds from registers on every thread of the pool, in 10⁹ operations (two each) per second.
pub fn gigaflops() -> f64 {
    let best = |_: rayon::BroadcastContext<'_>| {
        let window = |_| {
            let start = Instant::now();
            black_box(Arch::new().dispatch(MultiplyAdds));
            (ROUNDS * CHAINS * 16 * 2) as f64 / start.elapsed().as_secs_f64()
        };
        (0..WINDOWS).map(window).fold(0.0, f64::max)
    };
    rayon::broadcast(best).iter().sum::<f64>() / 1e9
}

/// A loop too long for the compiler to inline into a closure by itself.
struct MultiplyAdds;

impl NullaryFnOnce for MultiplyAdds {
    type Output = [[f32; 16]; CHAINS];

    #[inline(always)]
    fn call(self) -> Self::Output {
        let mut sums = [[0f32; 16]; CHAINS];
        let (factors, terms) = (black_box([[0.999f32; 16]; 2]), black_box([[0.5f32; 16]; 2]));
        for round in 0..ROUNDS {
            let (factor, term) = (&factors[round & 1], &terms[round & 1]);
            for sum in &mut sums {
                for ((sum, factor), term) in sum.iter_mut().zip(factor).zip(term) {
                    *sum = sum.mul_add(*factor, *term);
                }
            }
        }
        sums
    }
}

/// Reading from memory on every thread of the pool, in 10⁹ bytes per second: the best of eight passes over 512 MiB.
pub fn gigabytes() -> f64 {
    let data: Vec<u64> = (0..1 << 26).collect();
    let part = data.len().div_ceil(rayon::current_num_threads());
    let pass = |_| {
        let start = Instant::now();
        let sum: u64 = data
            .par_chunks(part)
            .map(|part| vectorised(|| total(part)))
            .sum();
        black_box(sum);
        (data.len() * 8) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..8).map(pass).fold(0.0, f64::max)
}

#[inline(always)]
fn total(part: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for chunk in part.as_chunks::<32>().0 {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*value);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}
