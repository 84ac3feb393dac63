//! What `--dry-run` says of memory against what a run takes. Linux tells the highest memory of a process, and forgets it on
//! demand; this file is one test, for it measures its whole process.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use eap::{
    attribute::Scorer,
    estimate::Estimate,
    example::{Example, Objective},
    graph::{Gqa, Graph, Level},
    method::{Method, Plan},
    sets::Set,
};
use model::{Config, Device, Model};
use serde_json::json;

/// A process takes a few hundredths more or less from run to run, with its threads and what its allocator keeps; an estimate
/// within a quarter says whether a machine is large enough.
const TOLERANCE: f64 = 0.25;

struct Case {
    /// Layers, width, query heads, key/value heads, width of the MLP, vocabulary.
    shape: [usize; 6],
    /// Positions and examples of a batch.
    size: (usize, usize),
    level: Level,
    method: Method,
}

fn config(shape: [usize; 6]) -> Config {
    let [layers, width, heads, shared, mlp, vocab] = shape;
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": vocab, "hidden_size": width,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": shared, "intermediate_size": mlp,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 2048,
        "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float32",
    });
    fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    Config::load(directory.path()).unwrap()
}

fn examples((positions, n): (usize, usize)) -> Vec<Example> {
    let of = |number: usize| {
        let token = |place: usize| (2 + (7919 * place + 31 * number) % 400) as u32;
        let clean: Vec<u32> = (0..positions).map(token).collect();
        let mut corrupted = clean.clone();
        corrupted[1] += 3;
        Example {
            doc_id: None,
            tokens: clean,
            corrupted: Some(corrupted),
            objective: Objective::LogitDifference {
                better: 5,
                worse: 9,
            },
        }
    };
    (0..n).map(of).collect()
}

fn status(key: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb * 1024.0
}

/// Bytes that a run takes beside the weights, weights added, and what was foretold of them.
fn run(case: &Case) -> (f64, f64) {
    let config = config(case.shape);
    let graph = Graph::of(&config, case.level, Gqa::Ungrouped);
    let (plan, examples) = (Plan::new(case.method), examples(case.size));
    let estimate = Estimate {
        config: &config,
        stored: 0,
        graph: &graph,
        plan,
        batch: case.size.1,
        width: 4,
        int8: false,
    };
    let set = Set {
        alpha: None,
        examples: examples.clone(),
    };
    let foretold = estimate.memory(&[set]).total() as f64;
    let layers = Estimate {
        graph: &Graph::layers(config.n_layers),
        ..estimate
    };
    let weights = layers.memory(&[]).weights as f64;
    let model = Model::random(config.clone(), 0, &Device::Cpu).unwrap();
    // What making the weights left behind goes back after a while.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = status("VmRSS");
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let references: Vec<&Example> = examples.iter().collect();
    let scorer = Scorer::new(&model, graph, plan, &references).unwrap();
    assert_eq!(scorer.score(&references).unwrap().len(), case.size.1);
    (status("VmHWM") - before + weights, foretold)
}

const GROUPED: [usize; 6] = [10, 384, 6, 2, 1536, 8000];
const CASES: [Case; 3] = [
    Case {
        shape: GROUPED,
        size: (192, 2),
        level: Level::Head,
        method: Method::Eap,
    },
    Case {
        shape: GROUPED,
        size: (96, 4),
        level: Level::Head,
        method: Method::EapIgInputs,
    },
    Case {
        shape: [14, 256, 4, 4, 700, 2000],
        size: (256, 3),
        level: Level::Layer,
        method: Method::CleanCorrupted,
    },
];

/// Every case runs in a process of its own, this test again: what one leaves behind is not counted for the next.
const CASE: &str = "EAP_MEMORY_CASE";

#[test]
fn a_dry_run_foretells_the_memory() {
    if let Ok(case) = std::env::var(CASE) {
        let (taken, foretold) = run(&CASES[case.parse::<usize>().unwrap()]);
        let miss = foretold / taken - 1.0;
        let said = format!(
            "{:.1} MB taken, {:.1} MB foretold: {miss:+.2}",
            taken / 1e6,
            foretold / 1e6
        );
        eprintln!("{said}");
        assert!(miss.abs() < TOLERANCE, "{said}");
        return;
    }
    for case in 0..CASES.len() {
        let again = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["a_dry_run_foretells_the_memory", "--exact", "--nocapture"])
            .env(CASE, case.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(again.status.success(), "case {case}: {said}");
    }
}
