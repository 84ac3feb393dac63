//! Speed of linear layers, beside the `gemm` crate and the machine's own bounds: `cargo bench -p kernels --bench kernels`.

#![expect(clippy::print_stdout, reason = "the measurement is what it prints")]

use half::bf16;
use kernels::linear::{Int8Matrix, Layer, Matrix, Precision, linear, linear_backward};
use std::time::Instant;

/// Tokens, `d_in`, `d_out`: the layers of Qwen2.5-0.5B.
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 896, 4864),
    (1, 4864, 896),
    (1, 896, 65_536),
    (16, 896, 4864),
    (16, 4864, 896),
    (128, 896, 4864),
    (1024, 896, 4864),
    (1024, 4864, 896),
];

/// Wall time; with `KERNELS_CLOCK=cpu`, time on the processor divided by the threads, which other programs do not stretch.
struct Clock {
    wall: Instant,
    cpu: Option<u64>,
}

impl Clock {
    fn now() -> Self {
        let cpu = std::env::var("KERNELS_CLOCK").is_ok_and(|clock| clock == "cpu");
        Self {
            cpu: cpu.then(nanoseconds_on_cpu),
            wall: Instant::now(),
        }
    }

    fn seconds(&self) -> f64 {
        match self.cpu {
            Some(start) => (nanoseconds_on_cpu() - start) as f64 / 1e9 / rayon_threads() as f64,
            None => self.wall.elapsed().as_secs_f64(),
        }
    }
}

fn rayon_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(
            std::env::var("RAYON_NUM_THREADS")
                .ok()
                .and_then(|n| n.parse().ok())
                .unwrap_or(usize::MAX),
        )
}

/// What the threads of this program have run so far (Linux).
fn nanoseconds_on_cpu() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let run = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).ok();
    threads
        .filter_map(|thread| run(thread.path())?.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// A name and what to time.
type Candidate<'a> = (&'a str, Box<dyn FnMut() + 'a>);

/// Seconds of one call, the median of several; the candidates take turns, so that all see the same machine.
fn paired(candidates: &mut [Candidate<'_>], repeats: usize) -> Vec<f64> {
    let mut times = vec![Vec::new(); candidates.len()];
    for _ in 0..repeats {
        for ((_, run), times) in candidates.iter_mut().zip(&mut times) {
            let start = Clock::now();
            run();
            times.push(start.seconds());
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    times.iter_mut().map(median).collect()
}

fn values(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 7919) % 1013) as f32 / 1013.0 - 0.5)
        .collect()
}

#[expect(clippy::too_many_lines, reason = "a list of candidates")]
fn measure((tokens, d_in, d_out): (usize, usize, usize), peaks: (f64, f64)) {
    let (x, w) = (values(tokens * d_in), values(d_out * d_in));
    // Several copies, so that a small weight does not stay in the cache as it never would between two layers.
    let copies = (1 << 26) / (4 * w.len()) + 1;
    let w_f32: Vec<Vec<f32>> = vec![w.clone(); copies];
    let w_bf16: Vec<Vec<bf16>> = vec![w.iter().map(|v| bf16::from_f32(*v)).collect(); 2 * copies];
    let w_int8: Vec<Int8Matrix> = vec![Int8Matrix::new(&w, d_in); 4 * copies];
    let mut turns = [0usize; 7];
    let [a, b, c, d, e, f, g] = &mut turns;
    let next = |turn: &mut usize, n: usize| {
        *turn += 1;
        *turn % n
    };
    let mut ys = vec![vec![0f32; tokens * d_out]; 6];
    let mut dx = vec![0f32; tokens * d_in];
    let dy = values(tokens * d_out);
    let [y0, y1, y2, y3, y4, y5] = &mut ys[..] else {
        unreachable!("six results")
    };
    let one = |y: &mut [f32], weight: Matrix<'_>, precision| {
        linear(
            &mut [y],
            &x,
            d_in,
            &[Layer { weight, bias: None }],
            precision,
        );
    };
    let mut candidates: Vec<Candidate<'_>> = vec![
        (
            "gemm f32",
            Box::new(|| kernels::matmul_nt(y0, &x, &w_f32[next(a, copies)], (tokens, d_out, d_in))),
        ),
        (
            "f32",
            Box::new(|| one(y1, Matrix::F32(&w_f32[next(b, copies)]), Precision::F32)),
        ),
        (
            "f32·bf16",
            Box::new(|| {
                one(
                    y2,
                    Matrix::Bf16(&w_bf16[next(c, 2 * copies)]),
                    Precision::F32,
                );
            }),
        ),
        (
            "bf16",
            Box::new(|| {
                one(
                    y3,
                    Matrix::Bf16(&w_bf16[next(d, 2 * copies)]),
                    Precision::Bf16,
                );
            }),
        ),
        (
            "f32·int8",
            Box::new(|| one(y4, w_int8[next(e, 4 * copies)].view(), Precision::F32)),
        ),
        (
            "bf16·int8",
            Box::new(|| one(y5, w_int8[next(f, 4 * copies)].view(), Precision::Bf16)),
        ),
        (
            "back f32",
            Box::new(|| {
                linear_backward(
                    &mut dx,
                    &dy,
                    d_out,
                    Matrix::F32(&w_f32[next(g, copies)]),
                    Precision::F32,
                );
            }),
        ),
    ];
    let flops = 2.0 * (tokens * d_in * d_out) as f64;
    let repeats = ((4e10 / flops) as usize).clamp(5, 101);
    let times = paired(&mut candidates, repeats);
    for (((name, _), time), width) in candidates.iter().zip(times).zip([4, 4, 2, 2, 1, 1, 4]) {
        let (rate, bytes) = (
            flops / time / 1e9,
            (d_in * d_out * width) as f64 / time / 1e9,
        );
        println!(
            "{tokens:>5}×{d_in}×{d_out:<6} {name:<9} {:>9.3} ms {rate:>7.1} GFLOP/s ({:>4.0} %) {bytes:>6.1} GB/s ({:>4.0} %)",
            time * 1e3,
            100.0 * rate / peaks.0,
            100.0 * bytes / peaks.1
        );
    }
}

fn main() {
    let peaks = (
        kernels::peak::gigaflops().unwrap_or(f64::NAN),
        kernels::peak::gigabytes(),
    );
    println!(
        "f32 multiply-adds {:.0} GFLOP/s, reading {:.1} GB/s, {:?}",
        peaks.0,
        peaks.1,
        kernels::isa::Isa::detected()
    );
    let wanted: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    for shape in SHAPES {
        if wanted.is_empty() || wanted.contains(&shape.0) {
            measure(shape, peaks);
        }
    }
}
