//! The files of lm-evaluation-harness, from its own answers: its own output reproduced.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

mod tiny;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evaluate::harness::ask::Overrides;
use evaluate::harness::export;
use evaluate::harness::header::Header;
use evaluate::harness::open::{self, Opened, Sources};
use evaluate::harness::units::Writing;
use model::Tokenizer;
use serde_json::{Value, json};
use store::Provenance;
use store::tables::Sample;
use tiny::{lines, model};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/lmeval")
        .join(name)
}

/// The golden tasks, opened where their data lie.
fn golden_tasks() -> Opened {
    let files = [golden("tasks/my_gen.yaml"), golden("tasks/my_group.yaml")];
    open::open(Sources {
        tasks: &files,
        include: &[],
        data: &[golden("")],
        preset: None,
        n_fewshot: None,
    })
    .unwrap()
}

/// Rows as a run leaves them, with the golden answers.
fn golden_samples() -> Vec<Sample> {
    let row = |task: &str, line: &Value, number: usize| Sample {
        model: "dummy".into(),
        arm: "none".into(),
        task: task.into(),
        doc_id: line["doc_id"].to_string(),
        sample: number as u32,
        finish_reason: "stop".into(),
        ..Sample::default()
    };
    let mut samples = Vec::new();
    for line in lines(&golden("samples_my_gen.jsonl")).iter().take(3) {
        for (number, text) in line["resps"][0].as_array().unwrap().iter().enumerate() {
            samples.push(Sample {
                completion: text.as_str().unwrap().into(),
                ..row("my_gen", line, number)
            });
        }
    }
    for line in &lines(&golden("samples_my_mc.jsonl")) {
        let choice = |one: &Value| {
            let logprob: f64 = one[0][0].as_str().unwrap().parse().unwrap();
            json!({"text": "", "logprob": logprob, "greedy": one[0][1] == "True"})
        };
        let choices: Vec<Value> = line["resps"]
            .as_array()
            .unwrap()
            .iter()
            .map(choice)
            .collect();
        samples.push(Sample {
            readings: Some(json!({"choices": choices}).to_string()),
            ..row("my_mc", line, 0)
        });
    }
    samples
}

/// The files written for the golden answers: results, and samples by task.
fn written(folder: &Path) -> (String, Value, [String; 2]) {
    model(&folder.join("m"));
    let tokenizer = Tokenizer::load(&folder.join("m")).unwrap();
    let provenance = Provenance::new("evaluate run", &()).unwrap();
    let header = Header {
        model: Path::new("m"),
        writing: Writing {
            tokenizer: &tokenizer,
            chat: false,
            multiturn: true,
            system: None,
        },
        overrides: &Overrides::default(),
        limit: None,
        batch: 1,
        device: "cpu",
        date: Duration::from_secs(1_795_188_477),
        time: "T".into(),
        seconds: 5.5,
        provenance: &provenance,
    };
    let path = export::write(
        &golden_tasks(),
        &golden_samples(),
        &header,
        &folder.join("out"),
    )
    .unwrap();
    let text = fs::read_to_string(path).unwrap();
    let samples = ["my_gen", "my_mc"].map(|task| {
        fs::read_to_string(folder.join(format!("out/m/samples_{task}_T.jsonl"))).unwrap()
    });
    (text.clone(), serde_json::from_str(&text).unwrap(), samples)
}

#[test]
fn samples_files_are_those_of_the_harness_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (_, _, samples) = written(folder.path());
    for (task, text) in ["my_gen", "my_mc"].into_iter().zip(samples) {
        let expected = fs::read_to_string(golden(&format!("samples_{task}.jsonl"))).unwrap();
        for (line, expected) in text.lines().zip(expected.lines()) {
            assert_eq!(line, expected);
        }
        assert_eq!(text, expected);
    }
}

#[test]
fn results_have_the_keys_the_figures_and_the_hashes_of_the_harness() {
    let folder = tempfile::tempdir().unwrap();
    let (text, found, _) = written(folder.path());
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(golden("results.json")).unwrap()).unwrap();
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    // Facts of the tokenizer, which the dummy model of the golden run has not, and our own key at the end.
    let extra = [
        "tokenizer_pad_token",
        "tokenizer_eos_token",
        "tokenizer_bos_token",
        "eot_token_id",
        "max_length",
        "postscope",
    ];
    let own: Vec<String> = keys(&found)
        .into_iter()
        .filter(|key| !extra.contains(&key.as_str()))
        .collect();
    assert_eq!(own, keys(&expected));
    for key in [
        "results",
        "groups",
        "group_subtasks",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
        "git_hash",
        "transformers_version",
        "lm_eval_version",
        "upper_git_hash",
        "task_hashes",
        "system_instruction",
        "system_instruction_sha",
        "fewshot_as_multiturn",
        "chat_template",
        "chat_template_sha",
    ] {
        assert_eq!(found[key].to_string(), expected[key].to_string(), "{key}");
    }
    assert_eq!(keys(&found["config"]), keys(&expected["config"]));
    let mut configs = found["configs"].clone();
    for task in ["my_gen", "my_mc"] {
        let source = configs[task]["metadata"]["config_source"].as_str().unwrap();
        assert!(source.ends_with(&format!("tasks/{task}.yaml")), "{source}");
        configs[task]["metadata"]["config_source"] = format!("tasks/{task}.yaml").into();
    }
    assert_eq!(configs.to_string(), expected["configs"].to_string());
    assert!(
        text.starts_with("{\n  \"results\": {\n    \"my_gen\": {\n      \"name\": \"my_gen\","),
        "{text}"
    );
}
