//! A folder with every table, made of a seeded generator with a known structure: reinforcement learning lifts every task,
//! supervised training its own only; SFT features have a heavy tail; disabling undoes what RL did.

mod edges;
mod features;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use store::tables::*;
use store::{Provenance, Table, TensorData, write_table, write_tensors};

pub(crate) const TASKS: [&str; 8] = ["add", "clk", "cnt", "max", "par", "rel", "rev", "srt"];
pub(crate) const SELECTION: [&str; 5] = ["clk", "cnt", "max", "rev", "srt"];
const BASE: [f64; 8] = [0.04, 0.13, 0.39, 0.34, 0.5, 0.29, 0.68, 0.64];
const SFT: [f64; 8] = [0.99, 0.10, 0.30, 0.25, 0.48, 0.26, 0.45, 0.52];
const RL: [f64; 8] = [0.98, 1.0, 0.97, 0.75, 0.53, 0.99, 1.0, 0.99];

pub(crate) struct Fixture {
    folder: PathBuf,
    random: ChaCha8Rng,
    /// Number of documents per task.
    pub(crate) n_docs: usize,
}

impl Fixture {
    pub(crate) fn new(folder: &Path, n_docs: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            random: ChaCha8Rng::seed_from_u64(7),
            n_docs,
        }
    }

    /// Writes every table.
    pub(crate) fn write_all(&mut self) {
        self.suite();
        self.models();
        self.samples();
        self.crosscoders();
        self.drift();
        self.dynamics();
        self.edges();
        self.selection();
    }

    pub(crate) fn table<T: Table>(
        &self,
        name: &str,
        program: &str,
        settings: &serde_json::Value,
        from: &[&str],
        rows: &[T],
    ) {
        let path = self.place(name);
        let mut provenance = Provenance::new(program, settings).unwrap().seed(0);
        for input in from {
            provenance = provenance.input(&self.folder.join(input)).unwrap();
        }
        write_table(&path, rows, &provenance).unwrap();
    }

    fn place(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn normal(&mut self) -> f64 {
        let sum: f64 = (0..12).map(|_| self.random.random::<f64>()).sum();
        sum - 6.0
    }

    fn suite(&self) {
        let suite = json!({"suite": "lab", "trained": ["add"], "selection": SELECTION, "held_out": ["par", "rel"]});
        fs::write(self.place("tasks/suite.json"), suite.to_string()).unwrap();
    }

    fn models(&mut self) {
        for (name, stage, steps) in [
            ("base", "pretrain", 1500),
            ("sft", "sft", 280),
            ("grpo", "grpo", 60),
        ] {
            let config = json!({"model_type": "qwen2", "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 352, "vocab_size": 50});
            fs::write(
                self.place(&format!("models/{name}/config.json")),
                config.to_string(),
            )
            .unwrap();
            let tensor = TensorData::F32 {
                shape: vec![50, 128],
                values: vec![0.0; 6400],
            };
            let mut provenance = Provenance::new(
                &format!("posttrain {stage}"),
                &json!({"suite": "lab", "size": "small", "learning_rate": 3e-5}),
            )
            .unwrap()
            .seed(0);
            if name != "base" {
                provenance = provenance.input(&self.folder.join("models/base")).unwrap();
            }
            let weights = self.place(&format!("models/{name}/model.safetensors"));
            write_tensors(
                &weights,
                &[("embed".to_owned(), tensor)],
                &BTreeMap::new(),
                &provenance,
            )
            .unwrap();
            let rows: Vec<TrainingStep> = (1..=steps)
                .map(|step| self.training_step(stage, step, steps))
                .collect();
            let from: &[&str] = if name == "base" {
                &[]
            } else {
                &["models/base"]
            };
            self.table(
                &format!("models/{name}/metrics.parquet"),
                &format!("posttrain {stage}"),
                &json!({"size": "small"}),
                from,
                &rows,
            );
        }
    }

    fn training_step(&mut self, stage: &str, step: u32, steps: u32) -> TrainingStep {
        let done = f64::from(step) / f64::from(steps);
        let noise = self.normal() * 0.03;
        let is_rl = stage == "grpo";
        TrainingStep {
            stage: stage.to_owned(),
            step,
            tokens: u64::from(step) * 2048,
            loss: if is_rl {
                -0.02 + noise
            } else {
                0.3 + 2.5 * (-4.0 * done).exp() + noise
            },
            learning_rate: 1e-3 * (1.0 - done),
            gradient_norm: 1.0,
            reward: is_rl.then(|| {
                (0.1 + 0.9 / (1.0 + (-14.0 * (done - 0.3)).exp()) + noise).clamp(0.0, 1.0)
            }),
            kl_nats: is_rl.then(|| 0.08 * done + noise.abs() * 0.1),
            length: is_rl.then_some(6.0 + 9.0 * done + 10.0 * noise),
        }
    }

    fn samples(&mut self) {
        for (label, folder, rates) in [
            ("base", "base", BASE),
            ("sft", "sft", SFT),
            ("rl", "grpo", RL),
        ] {
            let rows = self.answers(label, "none", "test", rates);
            let settings = json!({"model": format!("{label}=models/{folder}"), "tasks": ["tasks/*.test.jsonl"], "temperature": 0.0});
            let model = format!("models/{folder}");
            self.table(
                &format!("{label}.samples.parquet"),
                "evaluate run",
                &settings,
                &[&model, "tasks/suite.json"],
                &rows,
            );
        }
        let disabled = [0.06, 0.2, 0.45, 0.4, 0.5, 0.35, 0.7, 0.65];
        self.arms(
            "disable.samples.parquet",
            "rl",
            "test",
            &[("disable", disabled)],
            RL,
        );
        let amplified = [0.6, 0.8, 0.85, 0.6, 0.52, 0.8, 0.95, 0.9];
        self.arms(
            "amplify.samples.parquet",
            "base",
            "test",
            &[("amplify-2", amplified)],
            BASE,
        );
        let plain = self.answers("base", "none", "tune", BASE);
        self.table(
            "base.tune.samples.parquet",
            "evaluate run",
            &json!({"model": "base=models/base"}),
            &["models/base"],
            &plain,
        );
        let weaker = amplified.map(|rate| rate * 0.8);
        let settings = [
            ("amplify-1.5", weaker),
            ("amplify-2", amplified),
            ("amplify-3", weaker),
            ("amplify-5", BASE.map(|rate| rate * 0.3)),
        ];
        self.arms(
            "amplify.tune.samples.parquet",
            "base",
            "tune",
            &settings,
            BASE,
        );
    }

    fn arms(
        &mut self,
        name: &str,
        model: &str,
        split: &str,
        arms: &[(&str, [f64; 8])],
        plain: [f64; 8],
    ) {
        let mut rows = Vec::new();
        for (arm, rates) in arms {
            rows.extend(self.answers(model, arm, split, *rates));
            for set in 0..8 {
                let shift = self.normal() * 0.02;
                let rates = plain.map(|rate| (rate + shift).clamp(0.0, 1.0));
                rows.extend(self.answers(model, &format!("{arm}/random-{set:02}"), split, rates));
            }
        }
        let settings = json!({"op": arms[0].0, "source": "joint", "positions": "all", "alpha": [1.5, 2.0, 3.0, 5.0]});
        self.table(
            name,
            "intervene run",
            &settings,
            &["models/base", "tasks/suite.json"],
            &rows,
        );
    }

    /// Answers of one arm; document `i` is the harder the larger `i`, so that arms agree on which are right.
    pub(crate) fn answers(
        &mut self,
        model: &str,
        arm: &str,
        split: &str,
        rates: [f64; 8],
    ) -> Vec<Sample> {
        let mut rows = Vec::new();
        for (task, rate) in TASKS.iter().zip(rates) {
            for doc in 0..self.n_docs {
                let ease = (doc as f64 + 0.5) / self.n_docs as f64;
                let correct = ease + 0.06 * self.normal() < rate;
                rows.push(sample(
                    model,
                    arm,
                    task,
                    &format!("{split}-{doc:04}"),
                    correct,
                ));
            }
        }
        rows
    }
}

/// A row of a samples table.
pub(crate) fn sample(model: &str, arm: &str, task: &str, doc_id: &str, correct: bool) -> Sample {
    Sample {
        model: model.to_owned(),
        arm: arm.to_owned(),
        task: task.to_owned(),
        doc_id: doc_id.to_owned(),
        sample: 0,
        prompt: format!("{task} 1+1?"),
        completion: "so 1+1=2#2".to_owned(),
        extracted: Some("2".to_owned()),
        target: "2".to_owned(),
        correct,
        n_tokens: 11,
        finish_reason: "stop".to_owned(),
        ..Sample::default()
    }
}
