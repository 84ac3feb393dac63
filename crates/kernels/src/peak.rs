//! What this machine can do at most, to measure kernels by.

use crate::vector::vectorised;
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Multiply-adds of every chain between two looks at the clock: under a millisecond.
const ROUNDS: usize = 40_000;
/// Windows of which the best counts, so that other programs' work is not taken for this machine's limit.
const WINDOWS: usize = 200;

/// `f32` multiply-adds from registers on every thread of the pool, in 10⁹ operations (two each) per second.
///
/// `None` on machines without AVX-512, where the compiler decides what registers hold.
pub fn gigaflops() -> Option<f64> {
    let operations = multiply_adds(1)?;
    let best = |_: rayon::BroadcastContext<'_>| {
        let window = |_| {
            let start = Instant::now();
            black_box(multiply_adds(ROUNDS));
            (ROUNDS * operations) as f64 / start.elapsed().as_secs_f64()
        };
        (0..WINDOWS).map(window).fold(0.0, f64::max)
    };
    Some(rayon::broadcast(best).iter().sum::<f64>() / 1e9)
}

/// Runs `rounds` of independent multiply-adds; returns the operations of one round.
fn multiply_adds(rounds: usize) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    return crate::linear::avx512::F32::new().map(|unit| unit.multiply_adds(rounds));
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = rounds;
        None
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
            .map(|part| {
                vectorised(
                    #[inline(always)]
                    || total(part),
                )
            })
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
