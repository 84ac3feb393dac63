//! Time and memory of edge attribution beside a plain pass: `cargo bench -p eap --bench eap -- MODE DIR [--positions P] …`.
//!
//! Modes: `make` writes a random model of 0.4B parameters (24 layers, d 896, 14 heads on 2 key/value heads) to DIR;
//! `plain` is one forward and reverse pass with the logits of all positions, `lean` one with those the loss reads alone,
//! `weights` a plain one with the gradients of the weights; `eap`, `ig` score every edge of the head graph on one pair that
//! differs from its second token on; `parts` says where the time of `eap` goes. Side by side, and beside a peer: `python benches/peers/eap_score.py`.

#![expect(clippy::print_stdout, reason = "the measurement is what it prints")]
#![expect(
    clippy::expect_used,
    reason = "a measurement stops where it is told nonsense"
)]

use std::{fs, path::Path, time::Instant};

use eap::{
    attribute::Scorer,
    contract::Place,
    example::{Example, Objective},
    graph::{Gqa, Graph, Level},
    loss::Readout,
    method::{Method, Plan},
    reads::Reads,
    runs::{Run, Wanted, clean_batch},
};
use model::{Config, DType, Device, Gradients, Model};
use serde_json::json;

fn main() {
    // `cargo bench` adds a word of its own.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let [mode, directory, options @ ..] = words.as_slice() else {
        return println!("MODE DIR [--positions P] [--rounds N] [--level layer|head]");
    };
    let value = |name: &str, usual: &str| {
        let place = options.iter().position(|word| word == name);
        place.map_or(usual.to_owned(), |place| options[place + 1].clone())
    };
    let number = |name, usual| value(name, usual).parse::<usize>().expect("a number");
    let directory = Path::new(directory);
    if mode == "make" {
        return make(directory);
    }
    let model = Model::load(directory, &Device::Cpu, DType::F32).expect("a model made by `make`");
    let example = example(&model, number("--positions", "128"));
    let level = if value("--level", "head") == "layer" {
        Level::Layer
    } else {
        Level::Head
    };
    forget_peak();
    let loaded = peak_mb();
    let times = match mode.as_str() {
        "parts" => parts(&model, &example, number("--rounds", "3")),
        "eap" | "ig" => score(&model, &example, mode, level, number("--rounds", "3")),
        _ => pass(&model, &example, mode, number("--rounds", "3")),
    };
    println!(
        "{}",
        json!({"seconds": median(times), "peak_mb": peak_mb(), "loaded_mb": loaded})
    );
}

/// A random model in the layout of Qwen2: 0.4B parameters with a vocabulary of 64,000.
fn make(directory: &Path) {
    fs::create_dir_all(directory).expect("a folder to write to");
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 64_000, "hidden_size": 896,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 2048,
        "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float32",
    });
    fs::write(directory.join("config.json"), config.to_string()).expect("room for a file");
    let config = Config::load(directory).expect("the configuration just written");
    let model = Model::random(config, 0, &Device::Cpu).expect("a random model");
    let weights = model.serialized_weights().expect("weights are tensors");
    fs::write(directory.join("model.safetensors"), weights).expect("room for the weights");
}

fn example(model: &Model, positions: usize) -> Example {
    let vocab = model.config.vocab as u32;
    let token = |place: usize| 2 + (7919 * place as u32) % (vocab - 2);
    let clean: Vec<u32> = (0..positions).map(token).collect();
    let mut corrupted = clean.clone();
    corrupted[1] = 11;
    Example {
        doc_id: None,
        tokens: clean,
        corrupted: Some(corrupted),
        objective: Objective::LogitDifference {
            better: 100,
            worse: 200,
        },
    }
}

/// Seconds of every round after the first.
fn timed(rounds: usize, mut round: impl FnMut()) -> Vec<f64> {
    let once = |_| {
        let start = Instant::now();
        round();
        start.elapsed().as_secs_f64()
    };
    (0..=rounds).map(once).skip(1).collect()
}

fn pass(model: &Model, example: &Example, mode: &str, rounds: usize) -> Vec<f64> {
    let examples = [example];
    let batch = clean_batch(&examples);
    let readout = Readout::new(&examples, batch.seq);
    timed(rounds, || {
        if mode == "lean" {
            let (logits, trace) = model
                .forward_trace_at(&batch, &readout.rows, &mut ())
                .expect("a pass");
            let losses = readout.losses(&logits, None, &examples).expect("a loss");
            model
                .backward(&trace, &losses.d_logits, &mut (), None)
                .expect("a reverse pass");
            return;
        }
        let (logits, trace) = model.forward_trace(&batch, &mut ()).expect("a pass");
        let last = logits
            .squeeze(0)
            .expect("one sequence")
            .narrow(0, batch.seq - 1, 1)
            .expect("a row");
        let losses = readout.losses(&last, None, &examples).expect("a loss");
        let gradient = losses
            .d_logits
            .pad_with_zeros(0, batch.seq - 1, 0)
            .expect("the other rows");
        let gradient = gradient.unsqueeze(0).expect("one sequence");
        let mut gradients = Gradients::default();
        let wanted = (mode == "weights").then_some(&mut gradients);
        model
            .backward(&trace, &gradient, &mut (), wanted)
            .expect("a reverse pass");
    })
}

fn score(model: &Model, example: &Example, mode: &str, level: Level, rounds: usize) -> Vec<f64> {
    let method = if mode == "ig" {
        Method::EapIgInputs
    } else {
        Method::Eap
    };
    let graph = Graph::of(&model.config, level, Gqa::Ungrouped);
    let scorer = Scorer::new(model, graph, Plan::new(method), &[]).expect("a scorer");
    timed(rounds, || {
        scorer.score(&[example]).expect("scores");
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Counts the highest memory from here on: loading holds the file and the weights at once. Linux only.
fn forget_peak() {
    if let Err(error) = fs::write("/proc/self/clear_refs", "5") {
        println!("# the peak includes loading: {error}");
    }
}

/// Highest memory of the process so far, where the system tells it.
fn peak_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kb.unwrap_or(f64::NAN) / 1024.0
}

/// Seconds of the runs, the reverse pass and the contraction of `eap`; the median of the whole.
fn parts(model: &Model, example: &Example, rounds: usize) -> Vec<f64> {
    let graph = Graph::of(&model.config, Level::Head, Gqa::Ungrouped);
    let scorer = Scorer::new(model, graph, Plan::new(Method::Eap), &[]).expect("a scorer");
    let (examples, sources) = ([example], 0..scorer.graph.n_sources());
    let wanted = Wanted {
        clean: true,
        corrupted: false,
        read_from: example.tokens.len() - 1,
    };
    timed(rounds, || {
        let mut clock = Instant::now();
        let mut lap = || {
            std::mem::replace(&mut clock, Instant::now())
                .elapsed()
                .as_secs_f64()
        };
        let run = Run::new(scorer.setting(), &examples, wanted).expect("two runs");
        let forward = lap();
        let n = example.tokens.len() - run.start;
        let mut trace = run.clean.expect("the trace that was wanted");
        let readout = Readout::from_start(&examples, n, run.start);
        let logits = model.logits_at(&mut trace, &readout.rows).expect("logits");
        let losses = readout.losses(&logits, None, &examples).expect("a loss");
        let mut reads = Reads::new(&scorer.graph, &scorer.expansion);
        model
            .backward(&trace, &losses.d_logits, &mut reads, None)
            .expect("a reverse pass");
        let backward = lap();
        let written = run.differences.row(0, n).expect("its own sources");
        let place = Place {
            offset: 0,
            positions: 0..n,
        };
        let mut map = vec![0.0; scorer.graph.n_entries()];
        scorer
            .contraction()
            .add(&mut map, &written, &reads, &place, &sources)
            .expect("a contraction");
        println!(
            "runs {forward:.3} reverse {backward:.3} contraction {:.3}",
            lap()
        );
    })
}
