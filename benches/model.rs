//! One side of `benches/run`: does what it is told on standard input and answers with seconds.
//!
//! `model worker f32|bf16x3|bf16|int8` makes a model of Qwen2.5-0.5B's shape with random weights, says `ready BYTES`, and
//! then for every line `prefill BATCH SEQ`, `decode BATCH PROMPT STEPS` or `train BATCH SEQ` prints the seconds that one of
//! it took (of one step, for `decode`). `memory` prints the largest memory the process had, in bytes. `model peaks` prints
//! what the machine can do; `model errors` how far each setting's logits are from those in f32.

#![expect(clippy::print_stdout, reason = "the measurement is what it prints")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark stops where something is missing"
)]

use model::loss::Scored;
use model::{Batch, Config, DType, Device, Loading, Model, Precision, Storage};
use std::io::BufRead;

/// Wall time; with `BENCH_CLOCK=cpu` the processor time of all threads, which other programs do not stretch (Linux).
struct Clock {
    wall: std::time::Instant,
    cpu: Option<u64>,
}

impl Clock {
    fn now() -> Self {
        let cpu = std::env::var("BENCH_CLOCK").is_ok_and(|clock| clock == "cpu");
        Self {
            cpu: cpu.then(nanoseconds_on_cpu),
            wall: std::time::Instant::now(),
        }
    }

    fn seconds(&self) -> f64 {
        match self.cpu {
            Some(start) => (nanoseconds_on_cpu() - start) as f64 / 1e9,
            None => self.wall.elapsed().as_secs_f64(),
        }
    }
}

/// What the threads of this program have run so far.
fn nanoseconds_on_cpu() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let run = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).ok();
    threads
        .filter_map(|t| run(t.path())?.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

const SHAPE: &str = r#"{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864, "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0, "max_position_embeddings": 32768, "tie_word_embeddings": true, "hidden_act": "silu"}"#;

/// A model directory with random weights in `bf16`, as checkpoints of this size are.
fn directory() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join("postscope-bench-qwen2.5-0.5b");
    if folder.join("model.safetensors").exists() {
        return folder;
    }
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.json"), SHAPE).unwrap();
    let model = Model::random(Config::load(&folder).unwrap(), 0, &Device::Cpu).unwrap();
    let tensors = model
        .parameters()
        .into_iter()
        .map(|(name, t)| (name, t.to_dtype(DType::BF16).unwrap()));
    let tensors: std::collections::HashMap<_, _> = tensors.collect();
    let partial = folder.join("partial");
    candle_core::safetensors::save(&tensors, &partial).unwrap();
    std::fs::rename(partial, folder.join("model.safetensors")).unwrap();
    folder
}

fn load(setting: &str) -> Model {
    let (storage, precision) = match setting {
        "f32" => (Storage::Computed, Precision::F32),
        "f32-of-bf16" => (Storage::Stored, Precision::F32),
        "bf16x3" => (Storage::Stored, Precision::Bf16x3),
        "bf16" => (Storage::Stored, Precision::Bf16),
        "int8" => (Storage::Int8, Precision::Bf16),
        "int8-f32" => (Storage::Int8, Precision::F32),
        other => panic!("unknown setting `{other}`"),
    };
    let loading = Loading {
        dtype: DType::F32,
        storage,
        precision,
    };
    Model::load_with(&directory(), &Device::Cpu, loading).unwrap()
}

fn texts(batch: usize, seq: usize) -> Batch {
    let row = |row: usize| {
        (0..seq)
            .map(|i| ((row * 7919 + i * 104_729) % 150_000) as u32)
            .collect()
    };
    Batch::right_padded(&(0..batch).map(row).collect::<Vec<_>>(), 0)
}

/// The prompts of a batch up to the logits of its last position.
fn prefill(model: &Model, batch: usize, seq: usize) -> f64 {
    let texts = texts(batch, seq);
    let start = Clock::now();
    let mut cache = model.new_cache(batch, seq).unwrap();
    std::hint::black_box(model.step(&texts, &mut cache, &mut ()).unwrap());
    start.seconds()
}

/// One token a row, greedily, after prompts of `seq` tokens; seconds of a step.
fn decode(model: &Model, batch: usize, seq: usize, steps: usize) -> f64 {
    let mut cache = model.new_cache(batch, seq + steps + 1).unwrap();
    let next = |logits: model::Tensor| -> Batch {
        let best = logits.argmax(1).unwrap().to_vec1::<u32>().unwrap();
        Batch::right_padded(&best.into_iter().map(|id| vec![id]).collect::<Vec<_>>(), 0)
    };
    let mut step = |batch: &Batch| next(model.step(batch, &mut cache, &mut ()).unwrap());
    let mut one = step(&texts(batch, seq));
    one = step(&one);
    let start = Clock::now();
    for _ in 0..steps {
        one = step(&one);
    }
    start.seconds() / steps as f64
}

/// Forward with the loss on every position, and back to the embeddings; weights frozen.
fn train(model: &Model, batch: usize, seq: usize) -> f64 {
    let texts = texts(batch, seq);
    let start = Clock::now();
    let positions = (0..batch).flat_map(|row| (0..seq - 1).map(move |position| (row, position)));
    let scored: Vec<Scored> = positions
        .map(|(row, position)| {
            let token = texts.token_ids[row * seq + position + 1];
            Scored {
                row,
                position,
                token,
                weight: 1.0 / (batch * (seq - 1)) as f64,
            }
        })
        .collect();
    let likelihood = model.likelihood(&texts, &scored, &mut ()).unwrap();
    std::hint::black_box(likelihood.backward(model, &mut ()).unwrap());
    start.seconds()
}

/// Largest resident memory so far, in bytes (Linux).
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0
}

fn worker(setting: &str) {
    let model = load(setting);
    println!("ready {}", model.matrix_bytes());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let n = |i: usize| words[i].parse::<usize>().unwrap();
        let answer = match words[0] {
            "prefill" => prefill(&model, n(1), n(2)),
            "decode" => decode(&model, n(1), n(2), n(3)),
            "train" => train(&model, n(1), n(2)),
            "memory" => peak_memory(),
            other => panic!("unknown work `{other}`"),
        };
        println!("{answer}");
    }
}

fn errors() {
    let texts = texts(2, 64);
    let logits = |setting: &str| -> Vec<f32> {
        let logits = load(setting).forward(&texts, &mut ()).unwrap();
        logits.flatten_all().unwrap().to_vec1().unwrap()
    };
    let exact = logits("f32");
    let square =
        |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let size = square(&mut exact.iter().copied());
    for setting in ["f32-of-bf16", "bf16", "int8-f32", "int8"] {
        let ours = logits(setting);
        let error = square(&mut ours.iter().zip(&exact).map(|(a, b)| a - b));
        let largest = ours
            .iter()
            .zip(&exact)
            .fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
        println!(
            "{setting}: relative error of the logits {:.1e}, largest {largest:.1e}",
            (error / size).sqrt()
        );
    }
}

fn main() {
    cli::memory::keep_pages();
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", setting] => rayon::scope(|_| worker(setting)),
        ["peaks"] => {
            let flops = kernels::peak::gigaflops().unwrap_or(f64::NAN);
            println!("{flops} {}", kernels::peak::gigabytes());
        }
        ["errors"] => errors(),
        ["directory"] => println!("{}", directory().display()),
        _ => println!("model worker SETTING | peaks | errors | directory; see benches/README.md"),
    }
}
